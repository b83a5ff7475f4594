"""The double pendulum with friction: the test problem of rules with a dial, integrated here.

State (theta_1, omega_1, theta_2, omega_2), angles from the downward vertical, masses m_1, m_2 on rods of length 1:

    A (omega_1', omega_2') = c,   D = theta_1 - theta_2
    A   = [[m_1 + m_2, m_2 cos D], [m_2 cos D, m_2]]
    c_1 = -m_2 sin D omega_2^2 - (m_1 + m_2) g sin theta_1 - b omega_1
    c_2 = +m_2 sin D omega_1^2 -         m_2 g sin theta_2 - b omega_2
    E   = (m_1 + m_2) omega_1^2 / 2 + m_2 omega_2^2 / 2 + m_2 omega_1 omega_2 cos D
          - (m_1 + m_2) g cos theta_1 - m_2 g cos theta_2

    dE/dt = -b (omega_1^2 + omega_2^2) <= 0

One long trajectory is integrated at 200 Hz and thinned to 10 Hz. The first 60 % of the time are for training, the next
10 % for validation, the rest for the test, so that the test is at lower energy than the training. The task is the state
``ahead_s`` later, the rule that the energy of the predicted state is not above that of the given one. Inputs carry
noise of 0.01 during training; the energy lost in one step is much smaller than what this noise does to the energy.

Why ``ahead_s`` is a choice: the article says that data were thinned to 10 Hz, its published program predicts the next
state of the 200 Hz trajectory, 5 ms later. Both are here.

Units of this file: kg, m, s, rad, J.

Symbols: m_1, m_2 ``masses``, b ``friction``, g ``GRAVITY``.

Reference: Seo et al., NeurIPS 2021 (arXiv:2106.07804), section 4.1; masses, friction, start, noise and split as in the
program that the authors published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from mlsim.errors import InputError, UnphysicalError
from mlsim.repr.deepctrl.rules import Inequality

GRAVITY = 9.81
FINE_HZ, COARSE_HZ = 200, 10
#: Standard deviation of the noise on inputs.
NOISE = 0.01
_PARTS = (0.6, 0.7)


@dataclass(frozen=True)
class Pendulum:
    """The trajectory and what is predicted from it.

    Attributes
    ----------
    masses : (float, float)
        kg.
    friction : float
        b, kg/s on rods of 1 m.
    start : (float, float)
        Angles at time zero, at rest, rad.
    seconds : float
        Length of the trajectory.
    ahead_s : float
        How far ahead the target is; a multiple of 5 ms.
    """

    masses: tuple[float, float] = (1.0, 5.0)
    friction: float = 0.001
    start: tuple[float, float] = (0.4725, 0.3449)
    seconds: float = 3000.0
    ahead_s: float = 0.1

    def __post_init__(self) -> None:
        steps = self.ahead_s * FINE_HZ
        if min(self.masses) <= 0 or self.friction < 0:
            raise InputError(f"pendulum: expected positive masses and no negative friction, got {self}")
        if steps < 1 or abs(steps - round(steps)) > 1e-9:
            raise InputError(f"ahead_s: expected a multiple of {1 / FINE_HZ} s, got {self.ahead_s}")
        if self.seconds < 10 * (self.ahead_s + 1 / COARSE_HZ):
            raise InputError(f"seconds: expected at least ten steps, got {self.seconds}")

    def parts(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Training, validation and test: states x and those ``ahead_s`` later y, float32 [n, 4] each, no noise."""
        states = self.trajectory()
        ahead, every = round(self.ahead_s * FINE_HZ), FINE_HZ // COARSE_HZ
        index = np.arange(0, len(states) - ahead, every)
        x, y = (torch.from_numpy(states[k].astype(np.float32)) for k in (index, index + ahead))
        first, second = (round(share * len(index)) for share in _PARTS)
        return (x[:first], y[:first]), (x[first:second], y[first:second]), (x[second:], y[second:])

    def trajectory(self) -> NDArray[np.float64]:
        """States [n, 4] at 200 Hz.

        Raises
        ------
        UnphysicalError
            If the integration fails.
        """
        times = np.linspace(0.0, self.seconds, round(self.seconds * FINE_HZ) + 1)
        start = np.array([self.start[0], 0.0, self.start[1], 0.0])
        solved = solve_ivp(
            lambda _, state: self.derivative(state), (0.0, self.seconds), start, "DOP853", times, rtol=1e-8, atol=1e-10
        )
        if not solved.success:
            raise UnphysicalError(f"pendulum: the integration failed: {solved.message}")
        return np.asarray(solved.y.T)

    def derivative(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """Time derivative [4] of a state [4]."""
        one, spin_one, two, spin_two = state
        light, heavy = self.masses
        both, sine, cosine = light + heavy, np.sin(one - two), np.cos(one - two)
        first = -heavy * sine * spin_two**2 - both * GRAVITY * np.sin(one) - self.friction * spin_one
        second = heavy * sine * spin_one**2 - heavy * GRAVITY * np.sin(two) - self.friction * spin_two
        determinant = heavy * (both - heavy * cosine**2)
        return np.array(
            [
                spin_one,
                heavy * (first - cosine * second) / determinant,
                spin_two,
                (both * second - heavy * cosine * first) / determinant,
            ]
        )

    def energy(self, state: Tensor) -> Tensor:
        """Energy [...] of states [..., 4], J."""
        one, spin_one, two, spin_two = state.unbind(-1)
        light, heavy = self.masses
        both = light + heavy
        kinetic = 0.5 * both * spin_one**2 + 0.5 * heavy * spin_two**2
        kinetic = kinetic + heavy * spin_one * spin_two * torch.cos(one - two)
        return kinetic - GRAVITY * (both * torch.cos(one) + heavy * torch.cos(two))

    def rule(self) -> Inequality:
        """The energy of the predicted state is not above that of the given one, J."""
        return Inequality(lambda x, y: self.energy(y) - self.energy(x))
