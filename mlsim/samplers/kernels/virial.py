"""The virial kernel: a Stein kernel that sees the distribution of the energy, for any group and any number of points.

    K(x, x') = x kappa(U(x), U(x')) x'^T          U = -log p, x relative to the centre of mass

moves particles along the breathing direction x only. It is positive semi-definite and equivariant under every
orthogonal group, permutations and translations, because U and x . y are. With b = x . s and D degrees of freedom

    phi(x)   = x 1/N sum_j [ kappa (b_j + D) - kappa_2 b_j ]
    u(x, x') = (b + D)(b' + D) kappa - (b + D) b' kappa_2 - b (b' + D) kappa_1 + b b' kappa_12

Its simplest consequence is the virial theorem <b> = -D; with kappa it holds at every energy, E[g(U) (b + D) - g'(U) b]
= 0, which fixes the distribution of the energy and needs first derivatives only.

Why: kernels on positions (or distances) hardly feel whether a basin is filled to the right height. E-SVGD leaves the
energies of DW-4 too narrow at a tiny discrepancy; this kernel sees it, so that choices of step and weight can be
made, and samples be thinned, without a reference. It cannot see basin weights: use it in a sum with another kernel.

Symbols: kappa_1, kappa_2, kappa_12 its derivatives; U ``energy`` [N]; b ``virial`` [N]; D ``symmetry.freedom``.
Reference: derived for this package; the identity is the hypervirial theorem (Hirschfelder 1960).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlsim.samplers.algorithm import LogDensity
from mlsim.samplers.groups.symmetry import Symmetry
from mlsim.samplers.kernels.radial_kernel import GAUSSIAN, Radial
from mlsim.samplers.kernels.stein_kernel import Memory


@dataclass(frozen=True)
class VirialKernel:
    """x kappa(U, U') x'^T.

    Attributes
    ----------
    symmetry : Symmetry
        Group of the target; decides D and the centring.
    log_density : callable
        The target itself; the scores given to ``field`` and ``stein`` must be its gradients, not tempered ones.
    radial : Radial
        kappa; bandwidths are in units of the energy.
    """

    symmetry: Symmetry
    log_density: LogDensity
    radial: Radial = GAUSSIAN

    @property
    def name(self) -> str:
        """E.g. ``"virial rbf O(3) x S13 x T"``."""
        return f"virial {self.radial.name} {self.symmetry.name}"

    def prepare(self, positions: torch.Tensor, memory: Memory) -> Memory:
        """Nothing to keep."""
        return None

    def _energy(self, positions: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return -self.log_density(positions)

    def field(
        self, at: torch.Tensor, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float, memory: Memory
    ) -> torch.Tensor:
        """phi [M, d]; see ``kernels.SteinKernel``."""
        energy = self._energy(positions)
        here = energy if at is positions else self._energy(at)
        virial = (self.symmetry.project(positions) * scores).sum(1)
        gap = here[:, None] - energy[None, :]
        slope = -2.0 * gap * self.radial.slope(gap**2, bandwidth)
        push = self.radial.value(gap**2, bandwidth) @ (virial + self.symmetry.freedom) - slope @ virial
        return push[:, None] * self.symmetry.project(at) / len(positions)

    def stein(self, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """u [N, N]; see ``kernels.SteinKernel``."""
        energy = self._energy(positions)
        virial = (self.symmetry.project(positions) * scores).sum(1)
        excess = virial + self.symmetry.freedom
        gap = energy[:, None] - energy[None, :]
        inner = self.radial.slope(gap**2, bandwidth)
        first = 2.0 * gap * inner
        both = -2.0 * inner - 4.0 * gap**2 * self.radial.curvature(gap**2, bandwidth)
        total = excess[:, None] * excess[None, :] * self.radial.value(gap**2, bandwidth)
        total += first * (excess[:, None] * virial[None, :] - virial[:, None] * excess[None, :])
        return total + virial[:, None] * virial[None, :] * both

    def diagonal(self, positions: torch.Tensor, bandwidth: float) -> float:
        """Mean of |x|^2 / D."""
        return float((self.symmetry.project(positions) ** 2).sum(1).mean()) / self.symmetry.freedom

    def squared_distances(self, positions: torch.Tensor) -> torch.Tensor:
        """Squared energy differences, [N, N]."""
        energy = self._energy(positions)
        return (energy[:, None] - energy[None, :]) ** 2
