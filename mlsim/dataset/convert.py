"""Converters: force data made by other programs, as ForceFrames.

``from_metad_npz`` reads a NumPy archive of a well-tempered metadynamics run with the keys

    x [F, N, 3] nm, f [F, N, 3] kJ/mol/nm, cv [F, 2] rad (phi, psi), total_bias [n_psi, n_phi] kJ/mol,
    bias_factor, dt_ps

The archive does not know the force field, so atom types, charges and elements come from the caller, in the
archive's atom order. The bias of a frame is that of the *final* bias surface (periodic grid on [-pi, pi], both ends
included), bilinear between grid points.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsim import limits
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError, MissingError
from mlsim.shapes import Floats, require_shape

_KEYS = ("x", "f", "cv", "total_bias", "bias_factor", "dt_ps")


def from_metad_npz(
    path: str | Path,
    atom_types: Sequence[str],
    charges: Floats,
    elements: Sequence[str],
    molecule_digest: str,
    provenance: dict[str, Any] | None = None,
) -> ForceFrames:
    """Read a metadynamics archive.

    Parameters
    ----------
    path : path of the ``.npz``
    atom_types, elements : sequences of str, length N
    charges : array [N], e
    molecule_digest : str
    provenance : dict, optional
        Facts about the run to be kept with the frames.

    Raises
    ------
    MissingError, InputError
        If the file is not there, lacks a key, or does not fit the atoms.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a metadynamics archive (.npz)")
    try:
        data = limits.arrays(path)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not readable as a NumPy archive: {error}") from None
    missing = [key for key in _KEYS if key not in data]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; expected the keys {', '.join(_KEYS)}")
    n_atoms = len(atom_types)
    positions = require_shape(data["x"], (None, n_atoms, 3), f"{path}: x (nm)")
    cvs = require_shape(data["cv"], (len(positions), 2), f"{path}: cv (rad)")
    surface = require_shape(data["total_bias"], (None, None), f"{path}: total_bias (kJ/mol)")
    facts = {
        "source": path.name,
        "sampling": "well-tempered metadynamics",
        "bias_factor": float(data["bias_factor"]),
        "bias": "final bias surface at the frame",
        **(provenance or {}),
    }
    return ForceFrames(
        positions=positions,
        forces=data["f"],
        atom_types=tuple(atom_types),
        charges=charges,
        elements=tuple(elements),
        molecule_digest=molecule_digest,
        cv_names=("phi", "psi"),
        cvs=cvs,
        bias=on_periodic_grid(surface, cvs[:, 0], cvs[:, 1]),
        run=np.zeros(len(positions), dtype=np.int64),
        time_ps=float(data["dt_ps"]) * np.arange(1, len(positions) + 1),
        provenance=facts,
    )


def on_periodic_grid(surface: Floats, phi: Floats, psi: Floats) -> Floats:
    """Bilinear values [F] of ``surface`` [n_psi, n_phi], a grid on [-pi, pi] with both ends, at angles [F] (rad)."""
    lower, weight = [], []
    for angle, n_points in ((psi, surface.shape[0]), (phi, surface.shape[1])):
        scaled = np.mod(angle + np.pi, 2 * np.pi) / (2 * np.pi) * (n_points - 1)
        cell = np.minimum(scaled.astype(np.int64), n_points - 2)
        lower.append(cell)
        weight.append(scaled - cell)
    (i, j), (a, b) = lower, weight
    values: Floats = (
        surface[i, j] * (1 - a) * (1 - b)
        + surface[i + 1, j] * a * (1 - b)
        + surface[i, j + 1] * (1 - a) * b
        + surface[i + 1, j + 1] * a * b
    )
    return values
