"""Temperature replica exchange: the ladder, the exchange step, and what is counted.

K walkers move on a ladder of temperatures T_0 < ... < T_K-1. Every ``exchange_ps`` neighbouring states exchange their
configurations with the probability of Metropolis,

    ln a = (1/kT_i - 1/kT_j) (U_i - U_j),      accepted if ln u < ln a,  u uniform in (0, 1)

even pairs (0-1, 2-3, ...) at even attempts and odd pairs at odd ones; velocities are scaled by sqrt(T_new / T_old).
The comparison is made of logarithms, so nothing overflows; an energy that is not finite is an error. OpenMM's own
ReplicaExchangeSampler computes min(1, exp(ln a)): it raises an OverflowError for ln a > 709, and accepts every exchange
with a NaN energy, because min(1, nan) is 1.

A round trip is a walker's way from the lowest to the highest temperature and back.

Symbol -> variable: K ``n_states``, T ``temperatures_K``, U ``energies``, ln a ``log_ratio``, u ``uniform``.

Reference: Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError, UnphysicalError
from mlsim.seeds import numpy_stream
from mlsim.units import kT

_BOTTOM, _TOP = 1, 2


def temperature_ladder(text: str) -> tuple[float, ...]:
    """Temperatures (K) from ``LOW:HIGH:COUNT`` (geometric, so that acceptance is about even) or ``T1,T2,...``.

    Raises
    ------
    InputError
        If the text is neither.
    """
    wrong = InputError(
        f"temperatures '{text}': expected LOW:HIGH:COUNT such as 300:450:8, or a list such as 300,330,360"
    )
    try:
        if ":" in text:
            low, high, count = text.split(":")
            if not (0 < float(low) < float(high) < math.inf and int(count) >= 2):
                raise wrong
            return tuple(float(t) for t in np.round(np.geomspace(float(low), float(high), int(count)), 3))
        return tuple(float(t) for t in text.split(","))
    except ValueError:
        raise wrong from None


def log_acceptance(temperature_i: float, temperature_j: float, energy_i: float, energy_j: float) -> float:
    """Logarithm of the Metropolis ratio for exchanging states i and j (K, kJ/mol).

    Raises
    ------
    UnphysicalError
        If an energy is not finite.
    """
    if not (math.isfinite(energy_i) and math.isfinite(energy_j)):
        raise UnphysicalError(f"exchange: expected finite energies, got {energy_i} and {energy_j} kJ/mol")
    return (1.0 / kT(temperature_i) - 1.0 / kT(temperature_j)) * (energy_i - energy_j)


def accepts(log_ratio: float, uniform: float) -> bool:
    """Metropolis: accept with probability min(1, exp(log_ratio)); a NaN is never accepted."""
    return log_ratio >= 0.0 or (uniform > 0.0 and math.log(uniform) < log_ratio)


@dataclass(frozen=True, eq=False)
class Ladder:
    """Who is where, and what happened so far.

    Attributes
    ----------
    walkers : int64 [K]
        Walker at each state.
    attempted, accepted : int64 [K - 1]
        Exchanges of states k and k + 1.
    ends : int64 [K]
        End of the ladder that each walker saw last: 0 none, 1 lowest, 2 highest after lowest.
    trips : int64 [K]
        Round trips of each walker.
    """

    walkers: NDArray[np.int64]
    attempted: NDArray[np.int64]
    accepted: NDArray[np.int64]
    ends: NDArray[np.int64]
    trips: NDArray[np.int64]

    @classmethod
    def start(cls, n_states: int) -> Ladder:
        """Walker k at state k."""
        zeros = np.zeros(n_states, dtype=np.int64)
        counts = np.zeros(n_states - 1, dtype=np.int64)
        ladder = cls(np.arange(n_states), counts, counts.copy(), zeros, zeros.copy())
        return ladder._seen()

    @property
    def n_states(self) -> int:
        """Number of temperatures K."""
        return len(self.walkers)

    def exchange(
        self, temperatures_K: Sequence[float], energies: Sequence[float], seed: int, attempt: int
    ) -> tuple[Ladder, NDArray[np.int64]]:
        """One attempt: the new ladder, and the state [K] from which each state takes its configuration.

        Parameters
        ----------
        energies : float [K], kJ/mol
            Potential energy of the configuration at each state.
        seed, attempt : int
            Root seed and number of the attempt; they alone decide the random numbers.

        Raises
        ------
        UnphysicalError
            If an energy is not finite.
        """
        source = np.arange(self.n_states)
        attempted, accepted = self.attempted.copy(), self.accepted.copy()
        uniforms = numpy_stream(seed, f"exchange {attempt}").random(self.n_states)
        for i in range(attempt % 2, self.n_states - 1, 2):
            ratio = log_acceptance(temperatures_K[i], temperatures_K[i + 1], energies[i], energies[i + 1])
            attempted[i] += 1
            if accepts(ratio, float(uniforms[i])):
                accepted[i] += 1
                source[i], source[i + 1] = i + 1, i
        moved = Ladder(self.walkers[source], attempted, accepted, self.ends, self.trips)
        return moved._seen(), source

    def _seen(self) -> Ladder:
        """Note which walkers are at the ends."""
        ends, trips = self.ends.copy(), self.trips.copy()
        low, high = self.walkers[0], self.walkers[-1]
        if ends[low] == _TOP:
            trips[low] += 1
        ends[low] = _BOTTOM
        if ends[high] == _BOTTOM:
            ends[high] = _TOP
        return Ladder(self.walkers, self.attempted, self.accepted, ends, trips)

    # ---- records ----

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the checkpoint."""
        return {f"ladder/{key}": getattr(self, key) for key in self.__dataclass_fields__}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Ladder:
        """From the arrays of a checkpoint."""
        return cls(**{key: arrays[f"ladder/{key}"] for key in cls.__dataclass_fields__})

    def describe(self) -> dict[str, Any]:
        """Acceptance per pair of neighbours (null: never tried) and round trips per walker."""
        pairs = zip(self.accepted.tolist(), self.attempted.tolist(), strict=True)
        return {
            "attempted": self.attempted.tolist(),
            "accepted": self.accepted.tolist(),
            "acceptance": [round(a / n, 4) if n else None for a, n in pairs],
            "round_trips": self.trips.tolist(),
        }
