"""What a transferable solvent was trained on, and the refusal of anything else.

The domain is chemical: the kinds of atoms, and for each kind the range of charges that were seen. Another force field,
scaled charges or a modified residue shows in one of the two and is refused by name; nothing is guessed from a similar
kind. (Whether a *conformation* is like those of the training is another question, answered during a run by a guard or a
committee.)

A model says how many shells of neighbours its kinds have. With two, every chemical surrounding is a kind of its own,
and most residues at a free end, or before proline, are met only if the training has just them there. With one, an atom
is known by its bonded neighbours alone, and some hundred peptides have every kind that the amino acids, their caps and
free ends can have; what lies further is seen by the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import ArtifactError

#: How far a charge may lie outside those that were trained on, e, by the shells of a kind: at a free end the charges of
#: a residue differ by up to 0.1 e from those inside, which a network that is told the charge can follow.
MARGINS = {1: 0.1, 2: 0.02}
#: How far the charges may be from adding up to a whole number, e.
WHOLE = 0.02


def reduced(kinds: Sequence[str], shells: int) -> tuple[str, ...]:
    """Kinds of :func:`mlsim.chem.kinds.chemical_kinds` (two shells) with ``shells`` of them, 1 or 2.

    ``C3(C4(C4 H1 N3) N3(C4 H1) O1)`` has one shell as ``C3(C4 N3 O1)``.
    """
    if shells == 2:
        return tuple(kinds)
    return tuple(_without_second(kind) for kind in kinds)


def _without_second(kind: str) -> str:
    depth, kept = 0, []
    for letter in kind:
        depth += letter == "("
        if depth < 2:
            kept.append(letter)
        depth -= letter == ")"
    return "".join(kept)


def domain_of(kinds: Sequence[Sequence[str]], charges: Sequence[NDArray[Any]]) -> dict[str, tuple[object, ...]]:
    """Vocabulary and ranges of charges (settings of a model) that cover molecules.

    Parameters
    ----------
    kinds : sequence of (sequence of str)
        Chemical kinds, one sequence per molecule.
    charges : sequence of float [N], e
    """
    found: dict[str, list[float]] = {}
    for names, values in zip(kinds, charges, strict=True):
        for kind, charge in zip(names, np.round(values, 6).tolist(), strict=True):
            found.setdefault(kind, []).append(charge)
    known = tuple(sorted(found))
    return {
        "vocabulary": known,
        "lowest_charge": tuple(min(found[kind]) for kind in known),
        "highest_charge": tuple(max(found[kind]) for kind in known),
    }


def kind_indices(
    vocabulary: Sequence[str],
    lowest: Sequence[float],
    highest: Sequence[float],
    kinds: Sequence[str],
    charges: NDArray[Any],
    name: str,
    margin: float = MARGINS[2],
) -> NDArray[np.int64]:
    """Places of ``kinds`` [N] in ``vocabulary``, if all that is known covers them.

    Parameters
    ----------
    lowest, highest : sequence of float, e
        Range of charges of each kind of the vocabulary.
    charges : float [N], e
    name : str
        Of the molecule, for messages.
    margin : float, e
        How far a charge may lie outside its range.

    Raises
    ------
    ArtifactError
        Naming the kinds that are unknown, or the atom whose charge lies outside the range of its kind; or if the
        charges do not add up to a whole number.
    """
    place = {kind: index for index, kind in enumerate(vocabulary)}
    unknown = sorted({kind for kind in kinds if kind not in place})
    if unknown:
        raise ArtifactError(
            f"{name}: atoms of kinds {', '.join(unknown)} are outside what this solvent was trained on "
            f"({len(place)} kinds); train it on a molecule that has them, or use a generalized-Born model"
        )
    indices = np.array([place[kind] for kind in kinds], dtype=np.int64)
    for number, (k, charge) in enumerate(zip(indices.tolist(), np.asarray(charges).tolist(), strict=True)):
        if not lowest[k] - margin <= charge <= highest[k] + margin:
            raise ArtifactError(
                f"{name}: atom {number} of kind {vocabulary[k]} has charge {charge:.3f} e; this solvent was trained on "
                f"{lowest[k]:.3f} to {highest[k]:.3f} e: another force field or scaled charges need a solvent of their "
                "own"
            )
    total = float(np.sum(charges))
    if abs(total - round(total)) > WHOLE:
        raise ArtifactError(
            f"{name}: the charges add up to {total:.3f} e, expected a whole number: scaled charges, or a part of a "
            "molecule; this solvent was trained on whole peptides"
        )
    return indices
