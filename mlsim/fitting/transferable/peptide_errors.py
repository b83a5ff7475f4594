"""Held-out force errors over many peptides: by peptide, by kind of residue, against other solvents.

The label of a frame is the force at one instant; most of every error is its scatter about the mean force, which is the
same for all predictors. What can be compared are therefore differences of squares, in which it cancels:

    gain = < |f - F_reference|^2 > - < |f - F|^2 >  =  (error of reference)^2 - (error of model)^2

in the mean force, (kJ/mol/nm)^2 per component, net force and torque left out. Intervals (95 %) resample blocks of
time, the same ones for both. A gain can be no larger than the reference's own squared error: two solvents are ranked by
it, and labels averaged over held solutes (``train.solvent.mean_force_error``) give the errors themselves.

Symbols: f ``labels``, F ``forces``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mlsim.fitting.solvent.bootstrap import BlockBootstrap, Interval
from mlsim.fitting.solvent.projection import remove_rigid
from mlsim.fitting.transferable.peptide_arrays import PeptideFrames
from mlsim.shapes import Floats


@dataclass(frozen=True)
class PeptideErrors:
    """Errors on one peptide.

    Attributes
    ----------
    name : str
    n_frames : int
    rms : dict of Interval
        Root-mean-square error by predictor, noise included, kJ/mol/nm.
    gain : dict of Interval
        Squared error of each reference less that of ``model``, (kJ/mol/nm)^2.
    """

    name: str
    n_frames: int
    rms: dict[str, Interval]
    gain: dict[str, Interval]


@dataclass(frozen=True)
class SetErrors:
    """Errors over a set of peptides.

    Attributes
    ----------
    peptides : tuple of PeptideErrors
    gain : dict of float
        Mean over peptides of the gain over each reference, (kJ/mol/nm)^2.
    residues : dict of dict of float
        Gain over each reference by residue name, (kJ/mol/nm)^2, frames of all peptides pooled.
    """

    peptides: tuple[PeptideErrors, ...]
    gain: dict[str, float]
    residues: dict[str, dict[str, float]]
    unit: str = "rms: kJ/mol/nm; gain: (kJ/mol/nm)^2"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def set_errors(
    peptides: Sequence[PeptideFrames],
    predicted: Sequence[Mapping[str, Floats]],
    block_ps: float,
    seed: int = 1,
) -> SetErrors:
    """Compare solvents on held-out frames.

    Parameters
    ----------
    peptides : sequence of PeptideFrames
        Held-out frames.
    predicted : sequence of mapping of float [F, N, 3], kJ/mol/nm
        Forces by predictor, one mapping per peptide; ``model`` and any references.
    block_ps : float
        Length of the resampled blocks, ps.
    seed : int
        Root seed of the resampling.
    """
    rows: list[PeptideErrors] = []
    pooled: dict[str, dict[str, list[float]]] = {}
    for peptide, forces in zip(peptides, predicted, strict=True):
        frames = peptide.frames
        blocks = BlockBootstrap(frames, block_ps, seed, "train.peptide_errors")
        labels = np.asarray(frames.forces, dtype=np.float64)
        squares = {n: np.square(remove_rigid(labels - f, frames.positions)).mean(-1) for n, f in forces.items()}
        rms = {name: blocks.interval(per_atom.mean(axis=1)) for name, per_atom in squares.items()}
        gains = {name: per_atom - squares["model"] for name, per_atom in squares.items() if name != "model"}
        gain = {name: blocks.interval(values.mean(axis=1), _same) for name, values in gains.items()}
        rows.append(PeptideErrors(peptide.name, len(frames), rms, gain))
        for name, values in gains.items():
            for residue, change in zip(peptide.residues, values.mean(axis=0).tolist(), strict=True):
                pooled.setdefault(residue, {}).setdefault(name, []).append(change)
    names = rows[0].gain if rows else {}
    mean = {name: float(np.mean([row.gain[name].value for row in rows])) for name in names}
    residues = {r: {n: float(np.mean(values)) for n, values in of.items()} for r, of in sorted(pooled.items())}
    return SetErrors(tuple(rows), mean, residues)


def _same(values: Any) -> Any:
    return values
