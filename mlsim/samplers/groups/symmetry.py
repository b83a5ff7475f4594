"""Symmetry of a target as an object: rotations x permutations within species x translations.

A configuration is n points in R^s, flattened to [n s]. An element g = (R, pi) acts as (g x)_k = R x_pi(k);
translations are handled by living in the zero-centre-of-mass subspace (``project``). Points may be exchanged only
within a species: a kernel that permutes across elements would mix chemically different configurations.

    symmetry = orthogonal(2, points=4) * permutations((0, 0, 0, 0), space=2) * translations(2, points=4)

Symbols: n ``points``; s ``space``; R ``rotation`` [s, s]; pi ``permutation`` [n].
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch

from mlsim.errors import InputError
from mlsim.samplers.groups.planar import PlanarOrthogonal, PlanarRotations
from mlsim.samplers.groups.rotations import (
    FiniteRotations,
    Rotations,
    cyclic_rotations,
    dihedral_rotations,
    finite,
    no_rotations,
)
from mlsim.samplers.groups.spatial import SpatialOrthogonal, SpatialRotations

#: Largest group that is summed over element by element.
ENUMERABLE = 1024


class Element(NamedTuple):
    """One group element: a rotation [s, s] and a permutation [n]."""

    rotation: torch.Tensor
    permutation: torch.Tensor


@dataclass(frozen=True)
class Symmetry:
    """A group acting on configurations of n points in R^s.

    Attributes
    ----------
    points, space : int
        n and s; a configuration is a vector of n s numbers.
    rotations : Rotations
        The spatial group.
    species : tuple of int
        Label of each point; points with the same label may be exchanged.
    centred : bool
        Whether translations are symmetries: configurations then have zero centre of mass.
    """

    points: int
    space: int
    rotations: Rotations
    species: tuple[int, ...]
    centred: bool

    def __post_init__(self) -> None:
        if self.points < 1 or self.space < 1:
            raise InputError(f"symmetry: expected at least one point and dimension, got {self.points}, {self.space}")
        if len(self.species) != self.points:
            raise InputError(f"symmetry: expected {self.points} species labels, got {len(self.species)}")
        if self.rotations.space != self.space:
            raise InputError(f"symmetry: {self.rotations.name} does not act on {self.space} dimensions")

    def __mul__(self, other: Symmetry) -> Symmetry:
        """Product of two groups on the same points."""
        if (self.points, self.space) != (other.points, other.space):
            raise InputError(
                f"symmetry: cannot combine {self.points} points in {self.space}D with "
                f"{other.points} points in {other.space}D"
            )
        return Symmetry(
            self.points,
            self.space,
            _combine(self.rotations, other.rotations),
            _coarser(self.species, other.species),
            self.centred or other.centred,
        )

    @property
    def name(self) -> str:
        """E.g. ``"O(2) x S4 x T"``; ``"none"`` for the trivial group."""
        counts = [self.species.count(label) for label in sorted(set(self.species))]
        parts = [] if self.rotations.name == "none" else [self.rotations.name]
        parts += [f"S{count}" for count in counts if count > 1]
        parts += ["T"] if self.centred else []
        return " x ".join(parts) or "none"

    @property
    def dimension(self) -> int:
        """Length n s of a configuration vector."""
        return self.points * self.space

    @property
    def freedom(self) -> int:
        """Dimension of the subspace configurations live in: n s, or (n - 1) s when centred."""
        return (self.points - 1) * self.space if self.centred else self.dimension

    @property
    def permutation_count(self) -> int:
        """Number of permutations within species."""
        return math.prod(math.factorial(self.species.count(label)) for label in set(self.species))

    @property
    def order(self) -> int | None:
        """Number of elements, translations aside; None for a continuous group."""
        return None if self.rotations.order is None else self.rotations.order * self.permutation_count

    def shaped(self, positions: torch.Tensor) -> torch.Tensor:
        """[..., n s] as points [..., n, s]."""
        if positions.shape[-1] != self.dimension:
            raise InputError(
                f"positions: expected {self.points} points in {self.space}D = {self.dimension} numbers per particle, "
                f"got {positions.shape[-1]}"
            )
        return positions.reshape(*positions.shape[:-1], self.points, self.space)

    def project(self, vectors: torch.Tensor) -> torch.Tensor:
        """Remove the mean over points when translations are symmetries; positions, scores and noise alike."""
        if not self.centred:
            return vectors
        points = self.shaped(vectors)
        return (points - points.mean(-2, keepdim=True)).reshape(vectors.shape)

    def permutations(self) -> torch.Tensor:
        """All permutations within species, int64 [P, n].

        Raises
        ------
        InputError
            If there are more than ``ENUMERABLE``; use alignment or pull-back kernels then.
        """
        if self.permutation_count > ENUMERABLE:
            raise InputError(
                f"{self.name}: {self.permutation_count} permutations are too many to sum over; "
                "use an alignment or pull-back kernel"
            )
        labels = sorted(set(self.species))
        groups = [[i for i, label in enumerate(self.species) if label == wanted] for wanted in labels]
        rows = []
        for choice in itertools.product(*(itertools.permutations(group) for group in groups)):
            row = [0] * self.points
            for group, image in zip(groups, choice, strict=True):
                for i, j in zip(group, image, strict=True):
                    row[i] = j
            rows.append(row)
        return torch.tensor(rows, dtype=torch.int64)

    def elements(self, dtype: torch.dtype) -> list[Element]:
        """All elements of a finite group."""
        if not isinstance(self.rotations, FiniteRotations):
            raise InputError(f"{self.name}: a continuous group has no list of elements")
        matrices = self.rotations.elements(dtype)
        return [Element(matrix, row) for row in self.permutations() for matrix in matrices]

    def act(self, element: Element, vectors: torch.Tensor) -> torch.Tensor:
        """g applied to positions or scores [..., n s]."""
        moved = self.shaped(vectors)[..., element.permutation, :] @ element.rotation.mT
        return moved.reshape(vectors.shape)

    def draw(self, generator: torch.Generator, dtype: torch.dtype) -> Element:
        """One element from the Haar measure (uniform within-species permutation)."""
        permutation = torch.arange(self.points)
        for label in sorted(set(self.species)):
            members = torch.tensor([i for i, other in enumerate(self.species) if other == label])
            permutation[members] = members[torch.randperm(len(members), generator=generator)]
        return Element(self.rotations.draw(generator, dtype), permutation)


def _combine(first: Rotations, second: Rotations) -> Rotations:
    """Smallest group on offer that contains both."""
    if isinstance(first, FiniteRotations) and isinstance(second, FiniteRotations):
        if first.order == 1:
            return second
        if second.order == 1:
            return first
        both = torch.cat([first.elements(torch.float64), second.elements(torch.float64)])
        return finite(f"<{first.name}, {second.name}>", both)
    mirrored = any(
        bool((torch.linalg.det(group.elements(torch.float64)) < 0).any())
        if isinstance(group, FiniteRotations)
        else group.name.startswith("O")
        for group in (first, second)
    )
    return _continuous(first.space, "O" if mirrored else "SO")


def _coarser(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Labels of the partition generated by both partitions."""
    labels = list(range(len(first)))
    for species in (first, second):
        for i, j in itertools.combinations(range(len(species)), 2):
            if species[i] == species[j] and labels[i] != labels[j]:
                old, new = labels[j], labels[i]
                labels = [new if label == old else label for label in labels]
    return tuple(labels)


def _continuous(space: int, kind: str) -> Rotations:
    groups: dict[tuple[str, int], Rotations] = {
        ("SO", 2): PlanarRotations(),
        ("O", 2): PlanarOrthogonal(),
        ("SO", 3): SpatialRotations(),
        ("O", 3): SpatialOrthogonal(),
    }
    if (kind, space) not in groups:
        raise InputError(f"{kind}({space}): expected 2 or 3 dimensions")
    return groups[kind, space]


def _rigid(rotations: Rotations, points: int) -> Symmetry:
    return Symmetry(points, rotations.space, rotations, tuple(range(points)), False)


def trivial(space: int, points: int = 1) -> Symmetry:
    """No symmetry: E-SVGD then is SVGD."""
    return _rigid(no_rotations(space), points)


def cyclic(order: int, points: int = 1) -> Symmetry:
    """C_n in the plane."""
    return _rigid(cyclic_rotations(order), points)


def dihedral(order: int, points: int = 1) -> Symmetry:
    """D_n in the plane (2 n elements)."""
    return _rigid(dihedral_rotations(order), points)


def point_group(name: str, generators: torch.Tensor, points: int = 1) -> Symmetry:
    """Any finite group of orthogonal matrices from its generators [K, s, s], e.g. the 48 elements of the cube."""
    return _rigid(finite(name, generators), points)


def special_orthogonal(space: int, points: int = 1) -> Symmetry:
    """SO(2) or SO(3)."""
    return _rigid(_continuous(space, "SO"), points)


def orthogonal(space: int, points: int = 1) -> Symmetry:
    """O(2) or O(3)."""
    return _rigid(_continuous(space, "O"), points)


def permutations(species: tuple[int, ...], space: int) -> Symmetry:
    """Exchange of points with the same label (S_n by species)."""
    return Symmetry(len(species), space, no_rotations(space), tuple(species), False)


def translations(space: int, points: int) -> Symmetry:
    """Translations of all points: zero centre of mass."""
    return Symmetry(points, space, no_rotations(space), tuple(range(points)), True)
