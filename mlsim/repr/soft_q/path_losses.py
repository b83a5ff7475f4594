"""Path consistencies of soft Q-learning, and the two losses it is compared with.

At the soft optimum of a problem with reward r at the end only and temperature one, for every sequence of actions
x_1 ... x_T, with V_t = log sum_a exp Q_t(a) and V_{T+1} := r,

    log pi_t          = V_{t+1} - V_t                 (one step)
    sum_{l>=t} log pi_l = r - V_t                     (all the steps that are left)

on *any* data, whoever wrote it: that is what makes off-policy learning possible. The losses are the squared
residuals with V from a slowly following target network V', summed over t, averaged over the batch:

    vanilla      (Q_t - V'_{t+1})^2                   temporal difference; one reward step per visit
    single       (log pi_t - V'_{t+1} + V'_t)^2
    multi        (sum_{l>=t} log pi_l - r + V'_t)^2   the reward reaches all positions at once
    combined     (single + multi) / 2

Why ``value_gradient``: ``single`` and ``multi`` see the policy alone. A constant added to all Q_t leaves log pi, and so
the loss, as it is; V is never told the reward and must drift to it through pi. The option adds ``multi`` with its
gradient in the online V instead (log pi held), so that V learns from the same residuals.

Symbols: Q ``logits``, V' from ``target_logits``, r ``reward``, log pi ``log_policy``.

References: Guo, Tan, Liu, Xing and Hu, "Efficient (Soft) Q-Learning for Text Generation with Limited Good Data",
Findings of EMNLP 2022 (arXiv:2106.07704); Nachum et al., "Bridging the gap between value and policy based reinforcement
learning", NeurIPS 2017 (path consistency). Policy gradient: Williams, Machine Learning 8, 229 (1992).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Consistency = Literal["vanilla", "single", "multi", "combined"]


def consistency(
    kind: Consistency, logits: Tensor, target_logits: Tensor, actions: Tensor, taken: Tensor, reward: Tensor
) -> Tensor:
    """One of the path-consistency losses.

    Parameters
    ----------
    kind : "vanilla", "single", "multi" or "combined"
    logits, target_logits : Tensor [B, T, A]
        Q-values of the network and of its target; minus infinity marks impossible actions.
    actions : int64 Tensor [B, T]
    taken : bool Tensor [B, T]
        Positions at which an action was taken; true first, then false.
    reward : Tensor [B]
        Shaped reward of the whole sequence.

    Returns
    -------
    Tensor, scalar
    """
    value = target_logits.logsumexp(-1).detach()
    following = _following(value, taken, reward)
    if kind == "vanilla":
        chosen = logits.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        return _mean_of_squares(chosen - following, taken)
    log_policy = log_policy_of(logits, actions, taken)
    single = log_policy - (following - value)
    if kind == "single":
        return _mean_of_squares(single, taken)
    multi = _sum_from_here(log_policy) - (reward.unsqueeze(1) - value)
    if kind == "multi":
        return _mean_of_squares(multi, taken)
    return 0.5 * (_mean_of_squares(single, taken) + _mean_of_squares(multi, taken))


def value_gradient(logits: Tensor, actions: Tensor, taken: Tensor, reward: Tensor) -> Tensor:
    """The multi-step residual with its gradient in V; same arguments as :func:`consistency`."""
    remaining = _sum_from_here(log_policy_of(logits, actions, taken).detach())
    return _mean_of_squares(remaining - (reward.unsqueeze(1) - logits.logsumexp(-1)), taken)


def likelihood(logits: Tensor, actions: Tensor, taken: Tensor) -> Tensor:
    """Negative log-likelihood of the sequences, mean over the batch (maximum likelihood)."""
    return -log_policy_of(logits, actions, taken).sum(1).mean()


def policy_gradient(logits: Tensor, actions: Tensor, taken: Tensor, advantage: Tensor, entropy_weight: float) -> Tensor:
    """REINFORCE with a bonus for entropy: ``-mean(advantage log pi(x) + entropy_weight sum_t H_t)``.

    Only right for sequences drawn from the present policy. ``advantage`` [B] is the reward less a baseline.
    """
    steps = log_policy_of(logits, actions, taken)
    spread = (entropy(logits) * taken).sum(1)
    return -(advantage * steps.sum(1) + entropy_weight * spread).mean()


def log_policy_of(logits: Tensor, actions: Tensor, taken: Tensor) -> Tensor:
    """log pi [B, T] of the actions; zero where none was taken."""
    chosen = logits.log_softmax(-1).gather(-1, actions.unsqueeze(-1)).squeeze(-1)
    return torch.where(taken, chosen, torch.zeros_like(chosen))


def entropy(logits: Tensor) -> Tensor:
    """Entropy [B, T] of the policy at every position, nats."""
    log_pi = logits.log_softmax(-1)
    return -(log_pi.exp() * log_pi.masked_fill(torch.isinf(log_pi), 0.0)).sum(-1)


def _following(value: Tensor, taken: Tensor, reward: Tensor) -> Tensor:
    """V_{t+1} [B, T], which is the reward behind the last action."""
    following = torch.cat([value[:, 1:], reward.unsqueeze(1)], dim=1)
    last = taken & ~torch.cat([taken[:, 1:], torch.zeros_like(taken[:, :1])], dim=1)
    return torch.where(last, reward.unsqueeze(1), following)


def _sum_from_here(steps: Tensor) -> Tensor:
    return steps.flip(1).cumsum(1).flip(1)


def _mean_of_squares(residual: Tensor, taken: Tensor) -> Tensor:
    return torch.where(taken, residual, torch.zeros_like(residual)).square().sum(1).mean()
