"""Pairs of conformations for a network that moves a molecule forward in time.

    x = conformation at t,   y = conformation at t + lag,   both superposed on one reference

Superposition takes out overall motion, which no network could predict from x alone. What is left is predicted as a
change of Cartesian coordinates, and the mean over what may happen is no possible conformation: averaged methyl
hydrogens lie on their axis, with bonds that are far too short. That is what a rule about geometry is for.

Symbols: lag ``lag``.
"""

from __future__ import annotations

import mdtraj
import numpy as np
import torch
from torch import Tensor

from mlsim.errors import InputError
from mlsim.shapes import Floats, Ints, require_shape


def lagged_pairs(positions: Floats, reference: Floats, atoms: Ints, lag: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, float32 [F - lag, 3 N] each (nm).

    Parameters
    ----------
    positions : [F, N, 3], nm
        Frames of one trajectory in order.
    reference : [N, 3], nm
        Conformation to superpose on.
    atoms : int [K]
        Atoms that are superposed, three at least.
    lag : int
        Frames between input and target.

    Raises
    ------
    InputError
        If there are no more frames than ``lag``, or the shapes do not fit.
    """
    frames = require_shape(positions, (None, None, 3), "positions (nm)")
    target = require_shape(reference, (frames.shape[1], 3), "reference (nm)")
    index = np.asarray(atoms)
    if not 1 <= lag < len(frames):
        raise InputError(f"lag: expected 1 to {len(frames) - 1} frames, got {lag}")
    if index.ndim != 1 or len(index) < 3 or index.min() < 0 or index.max() >= frames.shape[1]:
        raise InputError(f"atoms: expected at least three indices below {frames.shape[1]}, got {index.tolist()}")
    moving = mdtraj.Trajectory(frames.astype(np.float32), None)
    moving.superpose(mdtraj.Trajectory(target[None].astype(np.float32), None), atom_indices=index)
    flat = torch.from_numpy(np.array(moving.xyz, dtype=np.float32).reshape(len(frames), -1))
    return flat[:-lag], flat[lag:]
