"""Pull-back kernels: an ordinary kernel on invariant features, carried back to positions by their Jacobian.

    K(x, x') = J(x)^T kappa(f(x), f(x')) J(x')

is positive semi-definite and exactly equivariant, with no alignment and no sum over the group: the kernel for S_n x
O(s) with many points. With a = J s + Lap f and G = J J^T,

    phi(x)  = J(x)^T 1/N sum_j [ kappa a_j + G_j grad_j kappa ]
    u(x,x') = kappa a.a' + a.(G' grad' kappa) + a'.(G grad kappa) + tr(G grad grad'^T kappa G')

It moves particles only along gradients of the features, which is weaker than the exact group integral where that is
affordable (measured on DW-4 in ``benchmarks/samplers.py``).

Symbols: f ``values`` [N, m]; J ``jacobian`` [N, m, d]; a ``drive`` [N, m]; G ``metric`` [N, m, m]; Delta = f - f'.
Reference: derived for this package (vector-valued RKHS pulled back along f).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlsim.samplers.groups.symmetry import Symmetry
from mlsim.samplers.kernels.features import Described, Features
from mlsim.samplers.kernels.radial_kernel import GAUSSIAN, Radial
from mlsim.samplers.kernels.stein_kernel import Memory, squared_distances


@dataclass(frozen=True)
class PullbackKernel:
    """J(x)^T kappa(f(x), f(x')) J(x') for invariant features f.

    Attributes
    ----------
    features : Features
        Invariant features with Jacobian and Laplacian.
    radial : Radial
        Kernel kappa in feature space; bandwidths are in units of the features.
    """

    features: Features
    radial: Radial = GAUSSIAN

    @property
    def symmetry(self) -> Symmetry:
        """The group of the features."""
        return self.features.symmetry

    @property
    def name(self) -> str:
        """E.g. ``"pullback rbf O(3) x S13 x T"``."""
        return f"pullback {self.radial.name} {self.symmetry.name}"

    def prepare(self, positions: torch.Tensor, memory: Memory) -> Memory:
        """Nothing to keep."""
        return None

    def field(
        self, at: torch.Tensor, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float, memory: Memory
    ) -> torch.Tensor:
        """phi [M, d]; see ``kernels.SteinKernel``."""
        source = self.features.describe(positions)
        here = source if at is positions else self.features.describe(at)
        squared = squared_distances(here.values, source.values)
        slope = 2.0 * self.radial.slope(squared, bandwidth)
        velocity = self.radial.value(squared, bandwidth) @ _drive(source, scores)
        velocity += slope @ _metric_times(source, source.values)
        velocity -= _spread(slope, here.values, source)
        return torch.einsum("mkd,mk->md", here.jacobian, velocity) / len(positions)

    def stein(self, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """u [N, N]; see ``kernels.SteinKernel``."""
        source = self.features.describe(positions)
        values, drive = source.values, _drive(source, scores)
        squared = squared_distances(values, values)
        metric = source.jacobian @ source.jacobian.mT
        difference = values[:, None] - values[None, :]
        here = torch.einsum("ikl,ijl->ijk", metric, difference)
        there = torch.einsum("jkl,ijl->ijk", metric, difference)
        slope = 2.0 * self.radial.slope(squared, bandwidth)
        bend = 4.0 * self.radial.curvature(squared, bandwidth)
        flat = metric.flatten(1)
        total = self.radial.value(squared, bandwidth) * (drive @ drive.mT)
        total += slope * (torch.einsum("jk,ijk->ij", drive, here) - torch.einsum("ik,ijk->ij", drive, there))
        return total - slope * (flat @ flat.mT) - bend * (here * there).sum(-1)

    def diagonal(self, positions: torch.Tensor, bandwidth: float) -> float:
        """Mean of tr(J^T J) / freedom."""
        jacobian = self.features.describe(positions).jacobian
        return float((jacobian**2).sum((1, 2)).mean()) / self.symmetry.freedom

    def squared_distances(self, positions: torch.Tensor) -> torch.Tensor:
        """Squared distance in feature space, [N, N]."""
        values = self.features.describe(positions).values
        return squared_distances(values, values)


def _drive(source: Described, scores: torch.Tensor) -> torch.Tensor:
    """a = J s + Lap f, [N, m]."""
    return torch.einsum("nkd,nd->nk", source.jacobian, scores) + source.laplacian


def _metric_times(source: Described, vectors: torch.Tensor) -> torch.Tensor:
    """G_j v_j = J_j (J_j^T v_j), [N, m]."""
    return torch.einsum("nkd,nd->nk", source.jacobian, torch.einsum("nkd,nk->nd", source.jacobian, vectors))


def _spread(slope: torch.Tensor, values: torch.Tensor, source: Described) -> torch.Tensor:
    """sum_j slope_ij G_j f_i without forming G: [M, m]."""
    back = torch.einsum("jkd,ik->ijd", source.jacobian, values) * slope[..., None]
    return torch.einsum("ijd,jkd->ik", back, source.jacobian)
