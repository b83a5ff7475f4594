"""ForceFrames: conformations of a molecule with the mean or instantaneous force of the solvent on it.

The label of a frame is the solvent-induced force

    f = F_explicit - F_vacuum            on the solute atoms, kJ/mol/nm

with every bias on the solute left out. A bias V(r) on the solute alone changes which conformations r are seen but not
how the solvent is distributed around each, so labels from biased runs need no reweighting; the bias is kept
beside them for those who want populations.

Frames carry the run they come from and their time in it, because neighbouring frames are correlated: splits and
error bars work on blocks of time within a run, never on single frames. Averaged labels (solute held, solvent
sampled) may carry the covariance of their error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.dataset import conditions
from mlsim.errors import InputError
from mlsim.records import digest_of_all
from mlsim.shapes import Floats, Ints, require_shape


@dataclass(frozen=True, eq=False)
class ForceFrames:
    """Frames of one molecule with force labels.

    Attributes
    ----------
    positions : float32 or float64 [F, N, 3], nm
    forces : same type [F, N, 3], kJ/mol/nm
        Solvent-induced force, bias excluded.
    atom_types : tuple of str, length N
        Force field classes, e.g. Amber ff14SB's.
    charges : float64 [N], e
    elements : tuple of str, length N
    molecule_digest : str
        Digest of the molecule that the frames belong to.
    cv_names : tuple of str, length C
    cvs : float64 [F, C], rad
    bias : float64 [F], kJ/mol
        Energy of the bias on the solute at the frame (zero without one).
    run : int64 [F]
        Index of the run the frame comes from.
    time_ps : float64 [F]
        Time in that run.
    provenance : dict
        What made the frames; must be expressible as JSON.
    covariance : float [F, 3N, 3N] or None, (kJ/mol/nm)^2
        Covariance of the error of an averaged label.
    stderr : float [F, N, 3] or None, kJ/mol/nm
        Standard error of an averaged label.
    """

    positions: Floats
    forces: Floats
    atom_types: tuple[str, ...]
    charges: Floats
    elements: tuple[str, ...]
    molecule_digest: str
    cv_names: tuple[str, ...]
    cvs: Floats
    bias: Floats
    run: Ints
    time_ps: Floats
    provenance: dict[str, Any] = field(default_factory=dict)
    covariance: Floats | None = None
    stderr: Floats | None = None

    def __post_init__(self) -> None:
        n_atoms = len(self.atom_types)
        positions = require_shape(self.positions, (None, n_atoms, 3), "positions (nm)")
        n_frames = len(positions)
        if n_frames == 0 or n_atoms == 0:
            raise InputError(f"force frames: expected at least one frame and atom, got {n_frames} and {n_atoms}")
        if len(self.elements) != n_atoms:
            raise InputError(f"elements: expected {n_atoms}, one per atom, got {len(self.elements)}")
        shapes: dict[str, tuple[tuple[int | None, ...], str]] = {
            "forces": ((n_frames, n_atoms, 3), "kJ/mol/nm"),
            "charges": ((n_atoms,), "e"),
            "cvs": ((n_frames, len(self.cv_names)), "rad"),
            "bias": ((n_frames,), "kJ/mol"),
            "run": ((n_frames,), "index"),
            "time_ps": ((n_frames,), "ps"),
            "covariance": ((n_frames, 3 * n_atoms, 3 * n_atoms), "(kJ/mol/nm)^2"),
            "stderr": ((n_frames, n_atoms, 3), "kJ/mol/nm"),
        }
        single = np.asarray(self.positions).dtype == np.float32
        wide = np.float32 if single else np.float64
        object.__setattr__(self, "positions", _frozen(positions, wide))
        for name, (shape, unit) in shapes.items():
            given = getattr(self, name)
            if given is None:
                continue
            values = require_shape(given, shape, f"{name} ({unit})")
            kind: Any = np.int64 if name == "run" else np.float64
            object.__setattr__(self, name, _frozen(values, wide if name in _LIKE_POSITIONS else kind))
        try:
            json.dumps(self.provenance)
        except (TypeError, ValueError) as error:
            raise InputError(f"provenance: expected values that JSON can hold, got {error}") from None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_atoms(self) -> int:
        """Number N of atoms."""
        return len(self.atom_types)

    @cached_property
    def digest(self) -> str:
        """Content digest: 16 hex digits over the atoms and every array (not the provenance)."""
        parts: list[str | Any] = []
        names = [list(self.atom_types), list(self.elements), self.molecule_digest, list(self.cv_names)]
        parts.append(json.dumps(names))
        for name in ARRAYS:
            values = getattr(self, name)
            if values is not None:
                parts += [f"{name}{values.dtype.str}{values.shape}", np.ascontiguousarray(values)]
        return digest_of_all(parts)

    def take(self, index: Any) -> ForceFrames:
        """The frames at ``index`` (integers, a boolean mask or a slice), in that order."""
        chosen = {name: getattr(self, name)[index] for name in PER_FRAME if getattr(self, name) is not None}
        return replace(self, **chosen)

    def save(self, path: str | Path) -> Path:
        """Write to an HDF5 file, see :func:`mlsim.dataset.storage.save`."""
        from mlsim.dataset import storage  # the file format knows the frames, not the other way round

        return storage.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> ForceFrames:
        """Read an HDF5 file, see :func:`mlsim.dataset.storage.load`."""
        from mlsim.dataset import storage

        return storage.load(path)

    def rounded(self, position_step_nm: float, force_step: float) -> ForceFrames:
        """Positions and forces rounded to the powers of two next below the given steps.

        Thermal noise makes the last digits of both meaningless; without them the files compress to about half.

        Parameters
        ----------
        position_step_nm : float, nm
        force_step : float, kJ/mol/nm
        """
        steps = [2.0 ** np.floor(np.log2(step)) for step in (position_step_nm, force_step)]
        return replace(
            self,
            positions=(np.round(self.positions / steps[0]) * steps[0]).astype(self.positions.dtype),
            forces=(np.round(self.forces / steps[1]) * steps[1]).astype(self.forces.dtype),
            provenance={**self.provenance, "rounded_to": {"positions_nm": steps[0], "forces_kJ_mol_nm": steps[1]}},
        )


def concatenate(parts: Sequence[ForceFrames]) -> ForceFrames:
    """Join frames of one molecule; runs of different parts stay different runs.

    Raises
    ------
    InputError
        If the parts differ in atoms, charges, molecule, collective variables or conditions (temperature, force field,
        water), or only some carry error bars.
    """
    if not parts:
        raise InputError("concatenate: expected at least one set of frames, got none")
    head = parts[0]
    for part in parts[1:]:
        for name in ("molecule_digest", "atom_types", "elements", "cv_names"):
            if getattr(part, name) != getattr(head, name):
                raise InputError(
                    f"cannot join frames with different {name}: {getattr(head, name)} and {getattr(part, name)}"
                )
        if not np.allclose(part.charges, head.charges, atol=1e-6):
            raise InputError("cannot join frames with different charges")
    conditions.require_alike([part.provenance for part in parts])
    if len(parts) == 1:
        return head
    joined: dict[str, Any] = {}
    for name in PER_FRAME:
        arrays = [getattr(part, name) for part in parts]
        if all(a is None for a in arrays):
            continue
        if any(a is None for a in arrays):
            raise InputError(f"cannot join frames: only some have '{name}'")
        joined[name] = np.concatenate(arrays)
    runs, offset = [], 0
    for part in parts:
        _, local = np.unique(part.run, return_inverse=True)
        runs.append(local + offset)
        offset += int(local.max()) + 1
    joined["run"] = np.concatenate(runs)
    sources = [{**part.provenance, "digest": part.digest} for part in parts]
    return replace(head, provenance={"joined": sources}, **joined)


def _frozen(values: Floats, dtype: Any) -> Any:
    """A read-only C-contiguous view or copy of ``values`` in ``dtype``."""
    array = np.ascontiguousarray(values, dtype=dtype).view()
    array.flags.writeable = False
    return array


_LIKE_POSITIONS = ("forces", "covariance", "stderr")
#: Arrays with one entry per frame.
PER_FRAME = ("positions", "forces", "cvs", "bias", "run", "time_ps", "covariance", "stderr")
#: All arrays, in the order of the digest.
ARRAYS = (*PER_FRAME, "charges")
