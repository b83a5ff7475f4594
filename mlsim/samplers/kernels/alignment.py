"""Alignment kernels: only the group element that brings two configurations closest, for groups too large to sum over.

    g* = argmin_g |x - g x'|     K(x, x') = k(x, g* x') R_g*

g* = (R, pi) is found by alternating the Hungarian assignment within species (pi for fixed R) with Kabsch (R for fixed
pi) from every matching of the principal axes, so that the search itself is equivariant. Permutations are cached
between steps and improved from where they are every ``refresh`` steps; rotations are always fresh. This is the limit
h -> 0 of the group integral. It is equivariant, but not guaranteed positive semi-definite, and it jumps where g*
switches; the derivative of R_g* is left out of the divergence. It therefore has a field but no Stein discrepancy.

Symbols: x ``at`` [M, n, s]; x' ``others`` [N, n, s]; pi ``permutations`` [M, N, n]; A = sum_k x_k x'_pi(k)^T
``overlap``.
References: Kabsch 1976; Kuhn 1955 (Hungarian method, scipy's implementation of Crouse 2016).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment

from mlsim.errors import InputError
from mlsim.samplers.groups.rotations import FiniteRotations
from mlsim.samplers.groups.symmetry import Symmetry
from mlsim.samplers.kernels.radial_kernel import GAUSSIAN, Radial
from mlsim.samplers.kernels.stein_kernel import Memory

_ROUNDS = 6


class Alignment(NamedTuple):
    """Cached assignments [N, N, n] and the number of steps since they were last improved."""

    permutations: torch.Tensor
    age: int


@dataclass(frozen=True)
class AlignmentKernel:
    """k(x, g* x') R_g* with g* from Hungarian + Kabsch.

    Attributes
    ----------
    symmetry : Symmetry
        Any group.
    radial : Radial
        Scalar kernel k.
    refresh : int
        Steps between improvements of the cached permutations.
    """

    symmetry: Symmetry
    radial: Radial = GAUSSIAN
    refresh: int = 10

    @property
    def name(self) -> str:
        """E.g. ``"alignment rbf O(3) x S13 x T"``."""
        return f"alignment {self.radial.name} {self.symmetry.name}"

    def prepare(self, positions: torch.Tensor, memory: Memory) -> Memory:
        """First alignment, an improved one every ``refresh`` steps, else the cached one."""
        points = self.symmetry.shaped(positions)
        if memory is None:
            return Alignment(self.align(points, points), 0)
        if memory.age + 1 < self.refresh:
            return Alignment(memory.permutations, memory.age + 1)
        return Alignment(self._improve(points, points, memory.permutations), 0)

    def align(self, at: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """Best permutations [M, N, n] over all principal-axes starts."""
        best_reach = at.new_full((len(at), len(others)), -torch.inf)
        best = torch.arange(self.symmetry.points).expand(len(at), len(others), -1).clone()
        for rotation in self._starts(at, others):
            found = self._improve(at, others, self._assign(at, others, rotation))
            reach, _ = self._turn(at, others, found)
            better = reach > best_reach + 1e-9
            best_reach = torch.where(better, reach, best_reach)
            best = torch.where(better[..., None], found, best)
        return best

    def field(
        self, at: torch.Tensor, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float, memory: Memory
    ) -> torch.Tensor:
        """phi [M, d]; see ``kernels.SteinKernel``. Without ``memory`` the alignment is solved afresh."""
        x, y, s = self.symmetry.shaped(at), self.symmetry.shaped(positions), self.symmetry.shaped(scores)
        chosen = memory.permutations if memory is not None else self.align(x, y)
        reach, rotation = self._turn(x, y, chosen)
        squared = self._squared(x, y, reach)
        weight = self.radial.value(squared, bandwidth)
        slope = 2.0 * self.radial.slope(squared, bandwidth)
        columns = torch.arange(len(y))[None, :, None].expand_as(chosen)
        pulls = weight[..., None, None] * s[columns, chosen] + slope[..., None, None] * y[columns, chosen]
        velocity = torch.einsum("abij,ijkb->ika", rotation, pulls) - slope.sum(1)[:, None, None] * x
        return (velocity / len(y)).reshape(at.shape)

    def stein(self, positions: torch.Tensor, scores: torch.Tensor, bandwidth: float) -> torch.Tensor:
        """Not defined for an alignment kernel.

        Raises
        ------
        InputError
            Always: use ``IntegratedKernel`` (few permutations) or ``PullbackKernel`` for a Stein discrepancy.
        """
        raise InputError(
            f"{self.name}: an alignment kernel is not positive semi-definite and has no Stein discrepancy; "
            "use an integrated or pull-back kernel for it"
        )

    def diagonal(self, positions: torch.Tensor, bandwidth: float) -> float:
        """1: every particle is aligned with itself."""
        return 1.0

    def squared_distances(self, positions: torch.Tensor) -> torch.Tensor:
        """Smallest squared distance over the group, [N, N]."""
        points = self.symmetry.shaped(positions)
        reach, _ = self._turn(points, points, self.align(points, points))
        return self._squared(points, points, reach)

    def _turn(self, at: torch.Tensor, others: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """tr(A^T R) [M, N] and R [s, s, M, N] of the best rotation for given permutations."""
        columns = torch.arange(len(others))[None, :, None].expand_as(chosen)
        overlap = torch.einsum("ika,ijkb->abij", at, others[columns, chosen])
        rotation = self.symmetry.rotations.best(overlap)
        return (rotation * overlap).sum((0, 1)), rotation

    def _assign(self, at: torch.Tensor, others: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
        """Best within-species permutations [M, N, n] for given rotations [s, s, M, N]."""
        gain = torch.einsum("ika,abij,jlb->ijkl", at, rotation, others).cpu().numpy()
        members = [
            [k for k, label in enumerate(self.symmetry.species) if label == wanted]
            for wanted in sorted(set(self.symmetry.species))
        ]
        chosen = torch.empty((len(at), len(others), self.symmetry.points), dtype=torch.int64)
        table = chosen.numpy()
        for group in members:
            if len(group) == 1:
                table[:, :, group[0]] = group[0]
                continue
            block = gain[:, :, group][:, :, :, group]
            for i, j in itertools.product(range(len(at)), range(len(others))):
                table[i, j, group] = [group[k] for k in linear_sum_assignment(block[i, j], maximize=True)[1]]
        return chosen

    def _improve(self, at: torch.Tensor, others: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """Alternate Kabsch and assignment until nothing changes."""
        if self.symmetry.permutation_count == 1:
            return chosen
        for _ in range(_ROUNDS):
            _, rotation = self._turn(at, others, chosen)
            fresh = self._assign(at, others, rotation)
            if bool((fresh == chosen).all()):
                break
            chosen = fresh
        return chosen

    def _starts(self, at: torch.Tensor, others: torch.Tensor) -> list[torch.Tensor]:
        """Rotations [s, s, M, N] to start from: all elements, or all matchings of principal axes."""
        rotations = self.symmetry.rotations
        if isinstance(rotations, FiniteRotations):
            shape = (self.symmetry.space, self.symmetry.space, len(at), len(others))
            return [element[:, :, None, None].expand(shape) for element in rotations.elements(at.dtype)]
        left, right = torch.linalg.eigh(at.mT @ at)[1], torch.linalg.eigh(others.mT @ others)[1]
        starts = []
        for signs in itertools.product((1.0, -1.0), repeat=self.symmetry.space):
            flip = torch.tensor(signs, dtype=at.dtype)
            candidate = torch.einsum("iac,c,jbc->abij", left, flip, right)
            if rotations.name.startswith("S"):
                sign = torch.linalg.det(candidate.movedim((0, 1), (-2, -1))).sign()
                if signs[-1] < 0:
                    continue
                last = torch.einsum("ia,jb->abij", left[..., -1], right[..., -1]) * signs[-1]
                candidate = candidate + (sign - 1.0) * last
            starts.append(candidate)
        return starts

    @staticmethod
    def _squared(at: torch.Tensor, others: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
        norms = (at**2).sum((-2, -1))[:, None] + (others**2).sum((-2, -1))[None, :]
        return (norms - 2.0 * reach).clamp_(min=0.0)
