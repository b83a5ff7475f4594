"""The bias of a sampling run, kept in the ensemble while a density is learned and left out of the model.

Frames of a run with a fixed bias V(phi, psi) are samples of exp(-u - V / kT), where exp(-u) is wanted. Two ways lead
from the one to the other:

    draw frames with weights exp(+V / kT)             the model sees exp(-u); few frames, and none on a barrier
    train u + V / kT on the frames as they are        every frame counts, flat surfaces included; then drop V

The second is done here: V is added to the energy of the learning problem, for the data, the noise and the negatives
alike, and the network that is saved is u alone. Why it matters: a bias that flattens the torsions spends most frames
where exp(-u) has hardly any weight, and the shape of a barrier and the weights of the basins on both sides of it are
learned from exactly those.

    V(phi, psi) = sum_{r,k,l} c_rkl exp(i k (phi_r + pi) + i l (psi_r + pi))      |k|, |l| < G / 2

is the trigonometric interpolation of the grid: smooth, and differentiable as often as denoising needs it. Of a sum of
Gaussians as wide as those of metadynamics only some thirty orders have an amplitude above 1e-6 kT; the others are left
out.

Symbols: G ``grid.shape[1]``, c ``coefficients``, k and l ``orders``, r residue.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlsim.errors import InputError
from mlsim.records import digest_of

#: Orders none of whose amplitudes reaches this (kT) are left out.
_SMALLEST = 1e-6


class TorsionBias:
    """V / kT of conformations in reduced lengths.

    Parameters
    ----------
    grid : float64 [R, G, G]
        Bias of each residue in units of kT, axes (residue, phi, psi), point g at -pi + 2 pi g / G.
    quadruples : int64 [R, 2, 4]
        Atoms of phi and psi of each residue.

    Raises
    ------
    InputError
        If the shapes do not fit each other.
    """

    def __init__(self, grid: NDArray[np.float64], quadruples: NDArray[np.int64]) -> None:
        if grid.ndim != 3 or grid.shape[1] != grid.shape[2] or grid.shape[1] < 3:
            raise InputError(f"bias grid: expected shape [R, G, G] with G of 3 or more, got {list(grid.shape)}")
        if quadruples.shape != (len(grid), 2, 4):
            raise InputError(
                f"bias grid: expected one residue with phi and psi per grid, got {len(grid)} grids for torsions of "
                f"shape {list(quadruples.shape)}"
            )
        points = grid.shape[1]
        self.digest = digest_of(np.ascontiguousarray(grid))
        self.atoms = torch.from_numpy(np.ascontiguousarray(quadruples.reshape(-1, 4)))
        orders = np.rint(np.fft.fftfreq(points) * points).astype(np.int64)
        found = np.fft.fft2(grid) / points**2
        size = np.abs(found)
        heard = np.maximum(size.max(axis=(0, 1)), size.max(axis=(0, 2))) > _SMALLEST
        kept = heard & (np.abs(orders) < points / 2)  # the highest order of an even grid has no phase of its own
        self.orders = torch.from_numpy(orders[kept])
        self.coefficients = torch.from_numpy(found[:, kept][:, :, kept])

    def __call__(self, points: Tensor) -> Tensor:
        """V / kT [B] of points [B, N, 3], in any unit of length."""
        angles = torsions(points, self.atoms).reshape(len(points), -1, 2)
        phases = (angles + torch.pi).unsqueeze(-1) * self.orders.to(points.dtype)
        waves = torch.complex(phases.cos(), phases.sin())
        coefficients = self.coefficients.to(waves.dtype)
        return torch.einsum("brk,rkl,brl->b", waves[:, :, 0], coefficients, waves[:, :, 1]).real


def torsions(points: Tensor, quadruples: Tensor) -> Tensor:
    """Dihedral angles [B, K] (rad, IUPAC sign) of points [B, N, 3] for atoms int64 [K, 4]; differentiable."""
    p0, p1, p2, p3 = (points[:, quadruples[:, k]] for k in range(4))
    b0, b1, b2 = p1 - p0, p2 - p1, p3 - p2
    n0, n1 = torch.linalg.cross(b0, b1), torch.linalg.cross(b1, b2)
    x = (n0 * n1).sum(-1)
    y = (torch.linalg.cross(n0, n1) * b1).sum(-1) / torch.linalg.vector_norm(b1, dim=-1)
    return torch.atan2(y, x)
