"""Turning the dial: how often the rule holds, the error beside it, and which strength to use.

    verification ratio(alpha) = (inputs whose prediction obeys the rule) / (inputs to which it applies)

Three ways to choose alpha: the smallest error on validation data (labels of this domain); the smallest error among the
strengths with a wanted ratio; or, in another domain without labels, the strength whose ratio *there* is the ratio that
was best *here* (``match_ratio``): how well a rule should hold is carried over, how strongly it must be pushed is not.

Reference: Seo et al., NeurIPS 2021 (arXiv:2106.07804), section 4.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from mlsim.errors import InputError
from mlsim.repr.deepctrl.dial_network import RuleControlled
from mlsim.repr.deepctrl.rules import Rule
from mlsim.seeds import torch_stream


@dataclass(frozen=True)
class Setting:
    """One position of the dial: strength, verification ratio, mean absolute and root mean square error."""

    alpha: float
    ratio: float
    mae: float
    rmse: float

    def row(self) -> dict[str, float]:
        """As a dict, for tables."""
        return asdict(self)


@torch.no_grad()
def verification_ratio(
    network: RuleControlled, rule: Rule, x: Tensor, alpha: float, seed: int = 0, tolerance: float = 0.0
) -> float:
    """Share of the inputs x [n, D] at which the rule holds at strength ``alpha``.

    Parameters
    ----------
    seed : int
        Of the perturbations; the same for every strength, so that ratios can be compared.
    tolerance : float
        Violations up to this count as obeyed.

    Raises
    ------
    InputError
        If the rule applies to none of the inputs.
    """
    generator = torch_stream(seed, "deepctrl.ratio")
    amount, applies = rule.violation(lambda z: network(z, alpha), x, network(x, alpha), generator)
    if not applies.any():
        raise InputError(f"verification ratio: the rule applies to none of the {len(x)} inputs")
    return float((amount[applies] <= tolerance).double().mean())


@torch.no_grad()
def sweep(
    network: RuleControlled,
    rule: Rule,
    x: Tensor,
    y: Tensor,
    alphas: Sequence[float],
    seed: int = 0,
    tolerance: float = 0.0,
) -> list[Setting]:
    """Ratio and errors, in the unit of y [n, O], at each of the strengths ``alphas``."""
    if not alphas:
        raise InputError("sweep: expected at least one strength, got none")
    found = []
    for alpha in alphas:
        error = network(x, alpha) - y
        ratio = verification_ratio(network, rule, x, alpha, seed, tolerance)
        found.append(Setting(float(alpha), ratio, float(error.abs().mean()), float(error.square().mean().sqrt())))
    return found


def select_alpha(settings: Sequence[Setting], min_ratio: float = 0.0) -> Setting:
    """The position with the smallest mean absolute error among those whose ratio is at least ``min_ratio``.

    Raises
    ------
    InputError
        If no position has that ratio; the message says the best one.
    """
    good = [s for s in settings if s.ratio >= min_ratio]
    if not good:
        best = max((s.ratio for s in settings), default=0.0)
        raise InputError(f"no strength has a ratio of {min_ratio}; the highest of the sweep is {best:.3f}")
    return min(good, key=lambda s: s.mae)


def match_ratio(
    network: RuleControlled,
    rule: Rule,
    x: Tensor,
    ratio: float,
    alphas: Sequence[float],
    seed: int = 0,
    tolerance: float = 0.0,
) -> float:
    """The strength of ``alphas`` whose verification ratio on x, which needs no labels, is nearest to ``ratio``."""
    if not alphas:
        raise InputError("match_ratio: expected at least one strength, got none")
    found = [verification_ratio(network, rule, x, alpha, seed, tolerance) for alpha in alphas]
    return float(alphas[int(np.argmin(np.abs(np.array(found) - ratio)))])


def is_monotone(ratios: Sequence[float], slack: float) -> bool:
    """Whether the ratios never fall by more than ``slack`` from one strength to the next."""
    return all(after >= before - slack for before, after in itertools.pairwise(ratios))
