"""How sure a force field for many molecules is of a conformation: the spread of a committee that travels with it.

A force field for one molecule knows the region it was trained on (:mod:`mlsim.dataset.region`); one for any peptide has
no such region of the peptide at hand. So ``committee.npz`` holds the weights and tables of further fits, of other
seeds, to the same data, and a conformation is judged by how far their forces differ:

    s(r) = sqrt( mean_i,c var_m F_m,ic(r) )        m = 1..M with M - 1 in the denominator; kJ/mol/nm per component

A conformation is outside if s is larger than for 99.9 % of the training peptides' frames. The spread is a lower bound
of the error: what all members get wrong alike does not show.

Members are evaluated by the compiled kernel, once per report of a run and not at every step, so that they cost next to
nothing. The force that moves the atoms is the force field's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlsim import limits
from mlsim.deploy.atoms_of_model import compiled_energy
from mlsim.deploy.kernel.table import FilterTable
from mlsim.errors import ArtifactError
from mlsim.shapes import Floats

if TYPE_CHECKING:
    from pathlib import Path

    from mlsim.chem.molecule import Molecule

FILE = "committee.npz"
#: Smallest number of members: the variance of two is hardly one.
LEAST = 3
#: Share of the training peptides' frames that counts as inside.
INSIDE = 0.999


@dataclass(frozen=True, eq=False)
class Member:
    """One fit: settings of the network, its weights, its tabulated filters."""

    config: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    table: FilterTable


@dataclass(frozen=True, eq=False)
class MemberSet:
    """The members that travel with a force field of kind ``kind``; ``threshold`` in kJ/mol/nm."""

    kind: str
    members: tuple[Member, ...]
    threshold: float

    def bind(self, molecule: Molecule) -> ForceSpread:
        """The members for the solute of ``molecule``.

        Raises
        ------
        ArtifactError
            If they do not know one of its atoms.
        """
        solute = molecule.solute_molecule()
        bound = tuple(
            compiled_energy(self.kind, m.config, m.weights, m.table, solute, "float32").evaluate for m in self.members
        )
        return ForceSpread(solute.n_atoms, bound, self.threshold)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Contents of ``committee.npz``: numbers and plain text."""
        found: dict[str, NDArray[Any]] = {
            "kind": np.array(self.kind),
            "members": np.array(len(self.members)),
            "threshold": np.array(self.threshold),
        }
        for k, member in enumerate(self.members):
            found[f"{k}/config"] = np.array(json.dumps(member.config, sort_keys=True))
            found |= {f"{k}/weights/{name}": np.asarray(v, dtype=np.float32) for name, v in member.weights.items()}
            found |= {f"{k}/{name}": v for name, v in member.table.arrays().items()}
        return found

    @classmethod
    def read(cls, content: bytes, path: Path) -> MemberSet:
        """Read the content of a file called ``path``; nothing in it is executed.

        Raises
        ------
        ArtifactError
            If it is no such file.
        """
        try:
            found = limits.arrays(content, 512 * limits.MEGABYTE)
            members = tuple(_member(found, k, path) for k in range(int(found["members"])))
            threshold = float(found["threshold"])
            if len(members) < LEAST or not threshold > 0.0:
                raise ValueError(f"{len(members)} members, threshold {threshold:g}")
            return cls(str(found["kind"]), members, threshold)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ArtifactError(f"{path}: not a committee ({' '.join(str(error).split())}); export again") from None


def _member(arrays: Mapping[str, NDArray[Any]], k: int, path: Path) -> Member:
    prefix = f"{k}/weights/"
    weights = {name.removeprefix(prefix): v for name, v in arrays.items() if name.startswith(prefix)}
    if not weights or not all(np.isfinite(v).all() for v in weights.values()):
        raise ValueError(f"weights of member {k} are missing or not finite")
    table = FilterTable.of({key: arrays[f"{k}/{key}"] for key in ("values", "slopes", "cutoff_nm")}, path)
    return Member(json.loads(str(arrays[f"{k}/config"])), weights, table)


@dataclass(frozen=True, eq=False)
class ForceSpread:
    """Members of a committee for one molecule.

    Attributes
    ----------
    n_atoms : int
    evaluators : tuple of callable
        Positions [F, N, 3] (nm) -> energies [F] (kJ/mol), forces [F, N, 3] (kJ/mol/nm).
    threshold : float, kJ/mol/nm
    """

    n_atoms: int
    evaluators: tuple[Callable[[NDArray[Any]], tuple[NDArray[np.float64], NDArray[np.float64]]], ...]
    threshold: float
    column: ClassVar[str] = "force_spread_kJ_mol_nm"
    what: ClassVar[str] = "the committee's agreement"

    def forces(self, positions: Floats) -> NDArray[np.float64]:
        """Forces [M, F, N, 3] (kJ/mol/nm) of the members on conformations [F, N, 3] (nm)."""
        x = np.asarray(positions, dtype=np.float64)
        return np.stack([evaluate(x)[1] for evaluate in self.evaluators])

    def distance(self, positions: Floats) -> NDArray[np.float64]:
        """Spread s [F] (kJ/mol/nm) of conformations [F, N, 3] (nm)."""
        return np.asarray(np.sqrt(self.forces(positions).var(axis=0, ddof=1).mean(axis=(1, 2))))


def threshold_of(spreads: Sequence[NDArray[np.float64]]) -> float:
    """The spread (kJ/mol/nm) below which 99.9 % of frames lie; every peptide counts alike, whatever its frames.

    Parameters
    ----------
    spreads : sequence of float64 [F_p], kJ/mol/nm
        Of frames of each peptide.
    """
    values = np.concatenate(list(spreads))
    shares = np.concatenate([np.full(len(s), 1.0 / (len(s) * len(spreads))) for s in spreads])
    order = np.argsort(values)
    place = int(np.searchsorted(np.cumsum(shares[order]), INSIDE))
    return float(values[order][min(place, len(values) - 1)])
