"""Rules: how much a prediction breaks what must hold, and whether it holds.

A rule looks at a batch of inputs and at the function that predicts from them, and says by how much it is broken:

    inequality      r(x, y) <= tau                      violation  max(r(x, y) - tau, 0)
    perturbation    y(x + dx) above (below) y(x)         violation  max(-+(y(x + dx) - y(x)), 0)

Why the predicting function and not only the prediction: a rule about a trend ("a higher temperature never lowers the
energy") or a step ("above 130 the risk is higher") has no derivative at one point. It is checked on a pair of inputs,
and both predictions must come from the same rule strength.

A rule counts where it applies: pairs that cannot be compared are left out of loss and ratio.

Symbols: tau ``bound``, dx from ``perturb``.

Reference: Seo, Arik, Yoon, Zhang, Sohn and Pfister, "Controlling neural networks with rule representations", NeurIPS
2021 (arXiv:2106.07804), sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from mlsim.errors import InputError

#: Inputs [B, D] to predictions [B, O], at a fixed rule strength.
Predict = Callable[[Tensor], Tensor]


class Rule(Protocol):
    """What a network can be told to obey."""

    def violation(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Amounts [B], at least 0 and exactly 0 where the rule holds, and where it applies (bool [B]).

        Parameters
        ----------
        predict : callable
        x : Tensor [B, D]
            Inputs.
        y : Tensor [B, O]
            ``predict(x)``.
        generator : torch.Generator
            For rules that look at perturbed inputs.
        """
        ...


@dataclass(frozen=True)
class Inequality:
    """``measure(x, y) <= bound`` for a differentiable ``measure`` -> [B]."""

    measure: Callable[[Tensor, Tensor], Tensor]
    bound: float = 0.0

    def violation(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Rule`."""
        amount = torch.relu(self.measure(x, y) - self.bound)
        return amount, torch.ones_like(amount, dtype=torch.bool)


@dataclass(frozen=True)
class Perturbation:
    """The prediction must move in one direction when the input is changed in a given way.

    Attributes
    ----------
    perturb : callable (x [B, D], generator) -> (changed x [B, D], valid bool [B])
    direction : "up" or "down"
        Where the prediction must not fail to go; standing still is allowed.
    output : int
        Column of the prediction.
    """

    perturb: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
    direction: Literal["up", "down"] = "up"
    output: int = 0

    def violation(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Rule`."""
        changed, valid = self.perturb(x, generator)
        difference = predict(changed)[:, self.output] - y[:, self.output]
        amount = torch.relu(-difference if self.direction == "up" else difference)
        return torch.where(valid, amount, torch.zeros_like(amount)), valid


@dataclass(frozen=True)
class All:
    """Several rules at once: amounts are added with weights, and it holds where all of them hold."""

    rules: Sequence[Rule]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if not self.rules or len(self.rules) != len(self.weights) or min(self.weights) <= 0:
            raise InputError(
                f"rules: expected one positive weight per rule, got {len(self.rules)} rules, {list(self.weights)}"
            )

    def violation(self, predict: Predict, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`Rule`."""
        total = torch.zeros_like(y[:, 0])
        applies = torch.zeros_like(total, dtype=torch.bool)
        for rule, weight in zip(self.rules, self.weights, strict=True):
            amount, valid = rule.violation(predict, x, y, generator)
            total = total + weight * amount
            applies = applies | valid
        return total, applies


def raised(column: int, largest: float, scale: float | None = None) -> Callable[..., tuple[Tensor, Tensor]]:
    """A perturbation that raises one input: x_k += g s with g uniform in (0, ``largest``).

    Parameters
    ----------
    column : int
    largest : float
    scale : float, optional
        s, in the unit of the input; |x_k| if not given (the published choice, useless where x_k crosses zero).

    Raises
    ------
    InputError
        If ``largest`` is not positive.
    """
    if not largest > 0:
        raise InputError(f"perturbation: expected a positive size, got {largest}")

    def perturb(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        share = largest * torch.rand(len(x), generator=generator, dtype=x.dtype)
        size = x[:, column].abs() if scale is None else torch.full_like(share, scale)
        changed = x.clone()
        changed[:, column] += share * size
        return changed, share * size > 0

    return perturb


def lifted_over(column: int, threshold: float, span: float) -> Callable[..., tuple[Tensor, Tensor]]:
    """A perturbation that moves inputs below ``threshold`` to a uniform place in (threshold, threshold + ``span``].

    Inputs that are above already cannot be compared and do not count. With this a rule about a step, which has no
    derivative anywhere, becomes a rule about pairs.
    """
    if not span > 0:
        raise InputError(f"perturbation: expected a positive span, got {span}")

    def perturb(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        moved = threshold + span * (1.0 - torch.rand(len(x), generator=generator, dtype=x.dtype))
        below = x[:, column] <= threshold
        changed = x.clone()
        changed[:, column] = torch.where(below, moved, x[:, column])
        return changed, below

    return perturb
