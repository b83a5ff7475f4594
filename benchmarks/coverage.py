r"""Do the intervals of ``mlsim fes`` and ``mlsim compare`` hold what they promise?

Exact Markov chains on the (phi, psi) torus stand for runs: four basins of 55.6, 40, 4 and 0.4 % with known residence
times, and a known density of bins inside each basin. A 95 % interval is counted as it is printed: for basin
populations, for the bins of the surface, for population and free-energy differences against a reference, and for the
corrected RMSE of a candidate that is like the reference (truth 0) and of one that is not. Where the data can tell
nothing, no interval is printed; how often one is, is the column ``given``.

    python -m benchmarks.coverage

The chain. With the flux f_i = pi_i / t_i a frame of basin i is followed by one of basin j with probability
T_ij = f_i f_j / (pi_i sum_k f_k); pi_i T_ij is symmetric, so that pi is exactly stationary. Inside a
basin a frame keeps its position with probability 1/2 and draws a new one otherwise.

Symbols: pi -> ``populations``; t -> ``residence``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.result import Claim, write_result
from mlsim.analysis.compare import Row, bins_told, compare
from mlsim.analysis.surfaces import basins
from mlsim.analysis.surfaces.pool import combine
from mlsim.analysis.surfaces.surface import FreeEnergySurface, estimate
from mlsim.analysis.uncertainty import Estimate
from mlsim.units import kT

T = 300.0
BINS = 24
KEEP = 0.5
#: Populations of ``basins.BASINS`` (alphaR, PII, C5, alphaL).
POPULATIONS = (0.4, 0.556, 0.04, 0.004)
SHIFTED = (0.5, 0.456, 0.04, 0.004)
#: t_i, frames; a basin with the share x of all flux is left after t / (1 - x) frames on average.
RESIDENCE = {"fast": (6.0, 8.0, 4.0, 3.0), "slow": (40.0, 60.0, 30.0, 10.0)}
#: Centre of each basin's density, degrees, and its width.
CENTRES = ((-75.0, -20.0), (-70.0, 145.0), (-150.0, 155.0), (60.0, 45.0))
WIDTH_DEG = 28.0
LENGTHS = {1_000: 400, 10_000: 300, 100_000: 100}


@dataclass(frozen=True)
class Chain:
    """An exact chain over four basins and the bins inside them."""

    populations: tuple[float, ...]
    residence: tuple[float, ...]

    @cached_property
    def transition(self) -> np.ndarray:
        """Transition matrix [4, 4] with ``populations`` stationary."""
        pi = np.array(self.populations)
        flux = pi / np.array(self.residence)
        c = flux / np.sqrt(flux.sum())
        matrix = np.outer(c, c) / pi[:, None]
        np.fill_diagonal(matrix, 0.0)
        np.fill_diagonal(matrix, 1.0 - matrix.sum(axis=1))
        return matrix

    @cached_property
    def inside(self) -> np.ndarray:
        """Density of bins within each basin [4, BINS, BINS], whole bins only."""
        edges = np.linspace(-np.pi, np.pi, BINS + 1)
        corners = [basins.assign(*np.meshgrid(x, y, indexing="ij")) for x in _ends(edges) for y in _ends(edges)]
        middle = np.degrees(0.5 * (edges[1:] + edges[:-1]))
        density = []
        for number, (phi, psi) in enumerate(CENTRES):
            whole = np.all([corner == number for corner in corners], axis=0)
            away = [((middle - x + 180.0) % 360.0 - 180.0) / WIDTH_DEG for x in (phi, psi)]
            bell = np.exp(-0.5 * (away[0][:, None] ** 2 + away[1][None, :] ** 2)) * whole
            density.append(bell / bell.sum())
        return np.array(density)

    @property
    def probability(self) -> np.ndarray:
        """Exact populations of the bins [BINS, BINS]."""
        return np.tensordot(np.array(self.populations), self.inside, axes=1)

    def runs(self, count: int, frames: int, generator: np.random.Generator) -> np.ndarray:
        """Stationary runs, (phi, psi) in rad [count, frames, 2]."""
        cumulative = np.cumsum(self.transition, axis=1)
        state = generator.choice(4, size=count, p=self.populations)
        states = np.empty((frames, count), dtype=np.int64)
        for t in range(frames):
            states[t] = state
            state = np.minimum((generator.random(count)[:, None] > cumulative[state]).sum(axis=1), 3)
        states = states.T.ravel()
        fresh = np.empty(len(states), dtype=np.int64)
        for number, density in enumerate(self.inside):
            mine = states == number
            flat = np.flatnonzero(density)
            fresh[mine] = generator.choice(flat, size=int(mine.sum()), p=density.ravel()[flat])
        new = generator.random(len(states)) > KEEP
        new |= np.concatenate([[True], np.diff(states) != 0])
        new[::frames] = True
        index = fresh[np.maximum.accumulate(np.where(new, np.arange(len(states)), 0))]
        step = 2.0 * np.pi / BINS
        cells = np.stack(np.divmod(index, BINS), axis=1) + generator.uniform(0.05, 0.95, size=(len(index), 2))
        return (cells * step - np.pi).reshape(count, frames, 2)


def _ends(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the bins, a little inside them."""
    return edges[:-1] + 1e-6, edges[1:] - 1e-6


def surfaces(chain: Chain, trials: int, frames: int, runs: int, seed: int) -> Iterator[FreeEnergySurface]:
    """Independent surfaces from ``runs`` runs of together ``frames`` frames."""
    generator = np.random.default_rng(seed)
    label = np.repeat(np.arange(runs), frames // runs)
    most = max(1, 4_000_000 // frames)
    done = 0
    while done < trials:
        batch = min(most, trials - done)
        for cv in chain.runs(batch * runs, frames // runs, generator).reshape(batch, -1, 2):
            yield estimate(cv, T, run=label)
        done += batch


class Count:
    """How often an interval was given, and how often it held the truth."""

    def __init__(self) -> None:
        self.trials, self.given, self.held, self.below, self.above = 0, 0, 0, 0, 0

    def add(self, found: Estimate, truth: float) -> None:
        """One interval, or its absence; an upper end at infinity is a lower bound."""
        self.trials += 1
        if np.isfinite(found.low):
            self.given += 1
            self.held += found.low <= truth <= found.high
            self.below += found.high < truth
            self.above += found.low > truth

    def row(self) -> dict[str, float]:
        """Shares of 1."""
        share = {"given": self.given / max(1, self.trials), "trials": self.trials}
        if self.given:
            share |= {name: getattr(self, name) / self.given for name in ("held", "below", "above")}
        return share


def populations(chain: Chain, frames: int, runs: int, trials: int, seed: int) -> dict[str, Count]:
    """Coverage of the populations of the 40, 4 and 0.4 % basins and of the bins."""
    counts = {name: Count() for name in ("40 %", "4 %", "0.4 %", "bins")}
    truth = chain.probability
    free = -kT(T) * np.log(np.where(truth > 0.0, truth, 1.0))
    for surface in surfaces(chain, trials, frames, runs, seed):
        for name, number in (("40 %", 0), ("4 %", 2), ("0.4 %", 3)):
            counts[name].add(surface.population(basins.BASINS[number]), chain.populations[number])
        low, high = surface.band()
        zero = -kT(T) * np.log(surface.probability.max())
        for k in np.flatnonzero((truth > 0.0).ravel()):
            counts["bins"].add(Estimate(0.0, low.flat[k], high.flat[k]), free.flat[k] - zero)
    return counts


def distances(
    chain: Chain, known: Chain, references: list[FreeEnergySurface], frames: int, runs: int, trials: int, seed: int
) -> dict[str, Count]:
    """Coverage of the corrected RMSE and of the basin differences of candidates from ``chain`` to ``known``."""
    counts = {name: Count() for name in ("rmse", "population difference", "free energy difference")}
    for k, surface in enumerate(surfaces(chain, trials, frames, runs, seed)):
        reference = references[k % len(references)]
        row = compare(reference, [surface]).rows[0]
        counts["rmse"].add(row.rmse_corrected, _distance(chain, known, reference, row))
        for number, basin in enumerate(row.basins):
            change = chain.populations[number] - known.populations[number]
            counts["population difference"].add(basin.population_difference, change)
            energies = [_energy(c, number) for c in (chain, known)]
            if basin.name != basins.ORIGIN:
                counts["free energy difference"].add(basin.free_energy_difference, energies[0] - energies[1])
    return counts


def _energy(chain: Chain, number: int) -> float:
    origin = chain.populations[basins.BASINS.index(basins.ORIGIN)]
    return -kT(T) * float(np.log(chain.populations[number] / origin))


def _distance(chain: Chain, known: Chain, reference: FreeEnergySurface, row: Row) -> float:
    """True RMSE over the bins that the row speaks of, kJ/mol."""
    used, surely = bins_told(reference, row.surface)
    used = used | surely if np.isinf(row.rmse_corrected.high) else used
    if not used.any():
        return float("nan")
    return kT(T) * float(np.std(np.log(chain.probability[used]) - np.log(known.probability[used])))


def main() -> None:
    """Fill the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="Number of trials, relative to the full table.")
    scale = parser.parse_args().scale
    rows: list[dict[str, Any]] = []
    held: list[float] = []
    for kind, residence in RESIDENCE.items():
        chain, other = Chain(POPULATIONS, residence), Chain(SHIFTED, residence)
        # one for every candidate of a cell: a few shared ones would make its trials fail together
        count = max(4, round(0.5 * max(LENGTHS.values()) * scale))
        references = [combine(list(surfaces(chain, 4, 50_000, 1, 900 + k)), "reference") for k in range(count)]
        for frames, full in LENGTHS.items():
            trials = max(8, round(full * scale))
            for runs in (1, 4):
                seed = 10 * runs + len(rows)
                found = populations(chain, frames, runs, trials, seed)
                same = distances(chain, chain, references, frames, runs, trials // 2, seed + 1)
                far = distances(other, chain, references, frames, runs, trials // 2, seed + 2)
                found |= {f"{name}, same": count for name, count in same.items()}
                found |= {f"{name}, other": count for name, count in far.items()}
                for name, count in found.items():
                    row = {"chain": kind, "frames": frames, "runs": runs, "interval": name, **count.row()}
                    rows.append(row)
                    if count.given >= 40:
                        held.append(count.held / count.given)
                    print(
                        f"{kind:5s} {frames:7d} {runs} {name:32s} given {row['given']:.2f} "
                        f"held {row.get('held', np.nan):.3f}  (truth above {row.get('below', np.nan):.3f}, "
                        f"below {row.get('above', np.nan):.3f})",
                        flush=True,
                    )
    low, high, mean = min(held), max(held), float(np.mean(held))
    write_result(
        "coverage",
        __doc__.splitlines()[0] if __doc__ else "",
        rows,
        [
            Claim("8.1", "mean coverage of 95 % intervals over all cells", mean, "0.93 to 0.98", 0.93 <= mean <= 0.98),
            Claim("8.1", "lowest coverage of a cell with at least 40 intervals", low, ">= 0.90", low >= 0.90),
            Claim("8.1", "highest coverage of a cell with at least 40 intervals", high, "<= 1", high <= 1.0),
        ],
    )


if __name__ == "__main__":
    main()
