"""Rewards of peptide sequences that cost nothing: charge and the amphipathic moment; and how to combine rewards.

    charge           q  = n_K + n_R - n_D - n_E                              at pH 7, ends capped, His neutral
    moment           mu = | sum_n h_n exp(i n delta) | / n,  delta = 100 deg   (an alpha helix; 160-180 for a strand)

with the Eisenberg consensus scale h. A helix with one oily and one polar face has a large moment: the mark of many
antimicrobial and membrane-active peptides.

``window`` turns a number into a reward that is 100 inside an interval and falls off linearly outside; ``weighted`` adds
rewards, so that a free one and an expensive one can be one objective.

Symbols: h ``EISENBERG``, delta ``angle_deg``.

Reference: Eisenberg, Weiss and Terwilliger, PNAS 81, 140 (1984).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mlsim.errors import InputError
from mlsim.repr.soft_q.rewards import Reward

#: Hydrophobicity, consensus scale (no unit).
# fmt: off
EISENBERG = {
    "A": 0.62, "R": -2.53, "N": -0.78, "D": -0.90, "C": 0.29, "Q": -0.85, "E": -0.74, "G": 0.48, "H": -0.40, "I": 1.38,
    "L": 1.06, "K": -1.50, "M": 0.64, "F": 1.19, "P": 0.12, "S": -0.18, "T": -0.05, "W": 0.81, "Y": 0.26, "V": 1.08,
}
# fmt: on
_CHARGES = {"K": 1, "R": 1, "D": -1, "E": -1}


def charge(sequence: str) -> int:
    """Net charge, e."""
    return sum(_CHARGES.get(letter, 0) for letter in sequence)


def amphipathic_moment(sequence: str, angle_deg: float = 100.0) -> float:
    """Length of the mean hydrophobic moment vector per residue.

    Raises
    ------
    InputError
        For an unknown letter or an empty sequence.
    """
    unknown = sorted(set(sequence) - set(EISENBERG))
    if unknown or not sequence:
        raise InputError(f"sequence '{sequence}': expected one-letter codes of the 20 amino acids, got {unknown}")
    phases = np.exp(1j * np.radians(angle_deg) * np.arange(len(sequence)))
    return float(abs(np.sum(np.array([EISENBERG[letter] for letter in sequence]) * phases)) / len(sequence))


def window(measure: Callable[[str], float], low: float, high: float, slope: float) -> Reward:
    """100 where ``low <= measure <= high``; ``slope`` points less per unit outside, never below 0."""
    if not (low <= high and slope > 0):
        raise InputError(f"window: expected low <= high and a positive slope, got {low}, {high}, {slope}")

    def reward(sequences: list[str]) -> list[float]:
        values = [measure(s) for s in sequences]
        return [max(0.0, 100.0 - slope * max(low - v, v - high, 0.0)) for v in values]

    return reward


def scaled(measure: Callable[[Sequence[str]], Sequence[float]], worst: float, best: float) -> Reward:
    """0 at ``worst``, 100 at ``best``, linear between and clipped; ``best`` may be the smaller number."""
    if worst == best:
        raise InputError(f"scaled: expected two different numbers, got {worst} twice")

    def reward(sequences: list[str]) -> list[float]:
        return [100.0 * min(1.0, max(0.0, (v - worst) / (best - worst))) for v in measure(sequences)]

    return reward


def weighted(rewards: Sequence[Reward], weights: Sequence[float]) -> Reward:
    """Weighted mean of several rewards."""
    if not rewards or len(rewards) != len(weights) or min(weights) <= 0:
        raise InputError(f"weighted: expected one positive weight per reward, got {len(rewards)} and {list(weights)}")
    total = sum(weights)

    def reward(sequences: list[str]) -> list[float]:
        columns = [list(one(sequences)) for one in rewards]
        return [
            sum(w * v for w, v in zip(weights, values, strict=True)) / total for values in zip(*columns, strict=True)
        ]

    return reward
