"""The balance rho between rule and task, from the losses of the untrained network.

    L = alpha L_rule + rho (1 - alpha) L_task,     rho = L_rule,0 / L_task,0

so that neither loss drowns the other whatever their units are.

Why a clamp and a warning: the ratio is one of two random numbers. If the untrained network happens to obey the rule, as
a pendulum predicted at rest does, rho becomes 1e-3 or less, the task is not learnt at any alpha and the error stays
that of the untrained network; re-estimating rho in every epoch makes it worse, since a network that obeys has L_rule
near 0. rho is therefore fixed at the start and kept in [``low``, ``high``], and a ratio below ``low`` is said aloud.

Symbols: rho ``rho``, L_rule,0 ``rule_loss``, L_task,0 ``task_loss``.

Reference: Seo et al., NeurIPS 2021 (arXiv:2106.07804), section 3 ("scale parameter").
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from mlsim.errors import InputError


class BalanceWarning(UserWarning):
    """The rule was (nearly) obeyed before training, so that the balance had to be clamped."""


@dataclass(frozen=True)
class Balance:
    """The balance that is used, and what the first losses alone would have given."""

    rho: float
    unclamped: float


def initial(rule_loss: float, task_loss: float, low: float, high: float) -> Balance:
    """Balance from the losses of the untrained network.

    Parameters
    ----------
    rule_loss, task_loss : float
        At alpha = 1 and at alpha = 0, each at least 0.
    low, high : float
        Clamp, 0 < low <= high.

    Warns
    -----
    BalanceWarning
        If the ratio is below ``low``.

    Raises
    ------
    InputError
        If the clamp is not an interval of positive numbers or a loss is negative or no number.
    """
    if not 0 < low <= high:
        raise InputError(f"balance: expected 0 < low <= high, got {low} and {high}")
    if not (rule_loss >= 0 and task_loss >= 0):
        raise InputError(f"balance: expected losses of at least 0, got rule {rule_loss}, task {task_loss}")
    ratio = rule_loss / task_loss if task_loss > 0 else float("inf")
    rho = min(max(ratio, low), high)
    if ratio < low:
        warnings.warn(
            f"the untrained network nearly obeys the rule: rho = {ratio:.2g} would switch the task off and was raised "
            f"to {low:g}; use output='residual', rescale the rule, or give rho a number",
            BalanceWarning,
            stacklevel=3,
        )
    return Balance(rho, ratio)
