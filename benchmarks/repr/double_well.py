"""A slow double well hidden under fast noise, for testing whether a method finds what is slow.

    dx = -a x (x^2 - 1) dt + sqrt(2 D dt) n       one slow coordinate, two states at x = -1 and 1
    y_k                                            eight Ornstein-Uhlenbeck processes, correlation time 3 frames, std 2
    features = tanh(A [x, y])                      A [20, 9] random, std 1/3

Most of the variance is fast, and the mixing is nonlinear: PCA must fail, and a linear method can only come close.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Substeps per frame, their length, force constant, diffusion.
SUBSTEPS, DT, FORCE, DIFFUSION = 10, 0.02, 2.0, 0.175
#: Fast processes: number, correlation time in frames, standard deviation.
FAST, CORRELATION, SPREAD = 8, 3.0, 2.0
N_FEATURES = 20


@dataclass(frozen=True)
class Hidden:
    """Trajectories of one system: ``features`` [K][T, 20] and the slow coordinate ``x`` [K, T]."""

    features: list[NDArray[np.float64]]
    x: NDArray[np.float64]

    def rows(self) -> NDArray[np.float64]:
        """All frames [K T, 20]."""
        return np.concatenate(self.features)

    def states(self) -> NDArray[np.int64]:
        """State of every frame, 0 or 1 [K T]."""
        return (self.x.reshape(-1) > 0).astype(np.int64)


def sample(seed: int, role: str, trajectories: int = 40, frames: int = 1000) -> Hidden:
    """Trajectories of the system number ``seed``; ``role`` ("train", "test") chooses the noise, not the system."""
    mixing = np.random.default_rng([seed, 0]).standard_normal((1 + FAST, N_FEATURES)) / 3.0
    rng = np.random.default_rng([seed, {"train": 1, "test": 2}[role]])
    x = rng.choice([-1.0, 1.0], trajectories)
    y = rng.standard_normal((trajectories, FAST))
    memory = np.exp(-1.0 / CORRELATION)
    slow = np.empty((trajectories, frames))
    fast = np.empty((trajectories, frames, FAST))
    for t in range(frames):
        for _ in range(SUBSTEPS):
            push = FORCE * x * (1 - x * x) * DT
            x = x + push + np.sqrt(2 * DIFFUSION * DT) * rng.standard_normal(trajectories)
        y = memory * y + np.sqrt(1 - memory**2) * rng.standard_normal(y.shape)
        slow[:, t], fast[:, t] = x, y
    mixed = np.tanh(np.concatenate([slow[..., None], SPREAD * fast], axis=2) @ mixing)
    return Hidden(list(mixed), slow)
