"""Joint learning problems of small images: digits and their quarter turns.

The symmetry of an image with n x n pixels under C4 is a group of permutation matrices of R^(n n), which the Stein
kernels take like any other finite group. Negatives start at uniform noise over the range of the pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.digits.image_energy import PooledImageNetwork, quarter_turns
from mlsim.fitting.density.problem import Problem
from mlsim.samplers import Symmetry
from mlsim.samplers.groups.rotations import finite, no_rotations


def image_problem(
    network: PooledImageNetwork,
    energy_of: Callable[[Tensor], Tensor],
    train: Tensor,
    valid: Tensor,
    length: float = 1.0,
) -> Problem:
    """The density part of a joint problem.

    Parameters
    ----------
    network : PooledImageNetwork
    energy_of : callable
        Outputs [B, K] -> u [B], e.g. ``models.ebm.joint_outputs.class_energy``.
    train, valid : Tensor [F, side^2]
        Images.
    length : float
        Characteristic length of a pixel's value.
    """
    low, high = float(train.min()), float(train.max())
    pixels = network.config.side**2

    def start(count: int, generator: torch.Generator) -> Tensor:
        return low + (high - low) * torch.rand((count, pixels), generator=generator, dtype=train.dtype)

    return Problem(
        network, lambda images: energy_of(network(images)), pixel_symmetry(network), train, valid, start, length
    )


def pixel_symmetry(network: PooledImageNetwork) -> Symmetry:
    """C4 or nothing, acting on the pixels."""
    side = network.config.side
    turns = finite("C4", quarter_turns(side)[None]) if network.turns == 4 else no_rotations(side * side)
    return Symmetry(1, side * side, turns, (0,), False)


def turned_at_random(side: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    """An augmentation: every image of a batch by a random number of quarter turns."""

    def turn(images: Tensor, generator: torch.Generator) -> Tensor:
        square = images.reshape(-1, side, side)
        turns = torch.randint(4, (len(images),), generator=generator)
        copies = torch.stack([torch.rot90(square, k, (1, 2)) for k in range(4)])
        return copies[turns, torch.arange(len(images))].reshape(images.shape)

    return turn
