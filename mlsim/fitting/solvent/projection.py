"""Rigid-body projection of forces: what a function of the internal geometry alone can explain.

An invariant energy exerts no net force and no net torque. The solvent does, at every instant, and all of it is noise
for such a model. The projection

    P f = f - A (A^T A)^-1 A^T f,     A [3N, 6]: three translations, three rotations about the centre

removes it. With the origin at the centroid the two parts separate:

    P f_i = f_i - mean(f) - w x r_i,     I w = sum_i r_i x f_i,     I = sum_i (|r_i|^2 1 - r_i r_i^T)

The forces F of the model lie in the range of P, hence |f - F|^2 = |P f - F|^2 + |f - P f|^2 for every frame: projecting
the labels lowers the loss by a constant and leaves its gradient as it is. So it is no trick to learn better, but
it makes reported errors and losses easier to read: less of them is noise.

Symbols: f ``forces``, r ``arms``, w ``rotation``, I ``inertia``.
"""

from __future__ import annotations

import numpy as np

from mlsim.shapes import Floats


def remove_rigid(forces: Floats, positions: Floats) -> Floats:
    """Forces without net force and torque.

    Parameters
    ----------
    forces : float [F, N, 3], kJ/mol/nm
    positions : float [F, N, 3], nm

    Returns
    -------
    float [F, N, 3], in the type of ``forces``
        Computed in double precision. Directions that do not turn the molecule (a linear one about its axis) are left.
    """
    f = np.asarray(forces, dtype=np.float64)
    arms = np.asarray(positions, dtype=np.float64)
    arms = arms - arms.mean(axis=1, keepdims=True)
    f = f - f.mean(axis=1, keepdims=True)
    torque = np.cross(arms, f).sum(axis=1)
    square = np.einsum("fni,fni->f", arms, arms)
    inertia = square[:, None, None] * np.eye(3) - np.einsum("fni,fnj->fij", arms, arms)
    rotation = np.einsum("fij,fj->fi", np.linalg.pinv(inertia, rcond=1e-9, hermitian=True), torque)
    projected: Floats = (f - np.cross(rotation[:, None, :], arms)).astype(np.asarray(forces).dtype)
    return projected
