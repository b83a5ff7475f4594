r"""How far candidate surfaces are from a reference, corrected for the noise of both.

What: ``compare(reference, candidates)`` -> ``Comparison``, one row per candidate, every number with an interval.

Compared bins: those with F_ref < 3 kcal/mol. D = F_cand - F_ref there, its mean taken out (free energies have no zero):

    RMSE_raw^2 = mean D^2
    RMSE^2     = RMSE_raw^2 - noise_ref^2 - noise_cand^2        (corrected; 0 where that is negative)
    JS         = 1/2 sum_b p ln(p/m) + 1/2 sum_b q ln(q/m),  m = (p + q)/2        (nats, all bins, 0 .. ln 2)

with each noise from independent runs or halves (``noise.own``, over the same bins). Intervals:

* raw RMSE^2 and JS: bootstrap replicates of both sides, re-centred on the estimate (a replicate has the noise twice);
* corrected RMSE: all true distances t for which the observed RMSE_raw is not surprising. With u = D/|D| and e_b the
  b-th bootstrap deviation of the difference, the prediction for t is the distribution of mean (t u + e_b)^2; t belongs
  to the interval if RMSE_raw^2 lies between its tails. The deviations are scaled up where independent runs show more
  noise than the bootstrap. "0.00 [0.00, 0.07]" therefore says: not told from zero, and below 0.07.

A reference bin that the candidate missed counts by the rule of ``histogram`` (one typical sample, but at least the
cutoff), so it enlarges the distance; ``bins_missed`` and ``population_missed`` (the reference's population there) say
how much was missed. That part of the distance is never taken for noise: it stays in the corrected RMSE.
Basin free energies are relative to PII; a basin never visited counts with one effective frame.

Symbols: D -> ``difference``; e_b -> ``deviations``; t -> ``distances``; p, q -> ``probability``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlsim.analysis.surfaces import noise
from mlsim.analysis.surfaces.basins import ORIGIN
from mlsim.analysis.surfaces.histogram import CUTOFF_KCAL_MOL
from mlsim.analysis.surfaces.pool import require_same_grid
from mlsim.analysis.surfaces.surface import FreeEnergySurface, Populations
from mlsim.analysis.uncertainty import Estimate, percentile_interval, recentred_interval
from mlsim.errors import InputError
from mlsim.shapes import Floats
from mlsim.units import kT


@dataclass(frozen=True)
class BasinRow:
    """One basin of one candidate against the reference.

    ``population`` and ``population_difference`` are fractions of 1; ``free_energy_difference`` is
    [F_b - F_PII] of the candidate minus that of the reference, kJ/mol (exactly 0 for PII).
    """

    name: str
    population: Estimate
    population_difference: Estimate
    free_energy_difference: Estimate
    visited: bool


@dataclass(frozen=True)
class Row:
    """One candidate. Energies in kJ/mol, JS in nats.

    Attributes
    ----------
    rmse, rmse_corrected : Estimate
        Raw and noise-corrected RMSE.
    noise : float
        Candidate's own noise from independent parts.
    noise_bootstrap : float
        The same from the block bootstrap (a check: it should agree within its scatter).
    js : Estimate
        Jensen-Shannon divergence from the reference.
    js_noise : float
        What the noise of both sides alone contributes to ``js``.
    bins_missed : int
        Compared bins without a single candidate frame.
    population_missed : float
        Reference population of those bins.
    bins_thin : int
        Compared bins without four independent visits of the candidate (missed ones included): many of them make
        the corrected RMSE too large.
    """

    surface: FreeEnergySurface
    rmse: Estimate
    rmse_corrected: Estimate
    noise: float
    noise_bootstrap: float
    js: Estimate
    js_noise: float
    bins_missed: int
    population_missed: float
    bins_thin: int
    basins: tuple[BasinRow, ...]

    @property
    def label(self) -> str:
        """Name of the candidate."""
        return self.surface.label


@dataclass(frozen=True)
class Comparison:
    """Candidates against one reference.

    ``noise`` and ``split_rmse`` are the reference's own (kJ/mol): its error, and the RMSE between its independent
    parts; ``js_splits`` is the JS between them; ``cutoff_kcal_mol`` and ``bins_compared`` define the compared region,
    of which ``bins_thin`` bins lack four independent visits of the reference.
    """

    reference: FreeEnergySurface
    rows: tuple[Row, ...]
    cutoff_kcal_mol: float
    confidence: float
    bins_compared: int
    bins_thin: int
    noise: float
    split_rmse: float
    js_splits: float

    @property
    def surfaces(self) -> tuple[FreeEnergySurface, ...]:
        """Reference first, then the candidates."""
        return (self.reference, *(row.surface for row in self.rows))


def compare(
    reference: FreeEnergySurface,
    candidates: Sequence[FreeEnergySurface],
    *,
    cutoff_kcal_mol: float = CUTOFF_KCAL_MOL,
    confidence: float = 0.95,
) -> Comparison:
    """Compare candidate surfaces with a reference.

    Parameters
    ----------
    reference : FreeEnergySurface
        The truth as far as it is known; several seeds are pooled first (``pool.combine`` or one ``estimate``).
    candidates : sequence of FreeEnergySurface
        Same CVs, bins and temperature.
    cutoff_kcal_mol : float
        Bins with a reference free energy below this are compared, kcal/mol.
    confidence : float
        Central probability of every interval.

    Raises
    ------
    InputError
        If there is no candidate, a grid or temperature differs, or fewer than two bins are left to compare.
    """
    if not candidates:
        raise InputError("compare: expected at least one candidate, got none")
    for candidate in candidates:
        require_same_grid(reference, candidate)
    mask = reference.populated(cutoff_kcal_mol)
    if mask.sum() < 2:
        raise InputError(f"compare: expected two or more bins with F < {cutoff_kcal_mol:g} kcal/mol, got {mask.sum()}")
    splits = pairwise(reference.splits)
    i, j = np.triu_indices(len(splits), k=1)
    return Comparison(
        reference=reference,
        rows=tuple(_row(reference, c, mask, cutoff_kcal_mol, confidence) for c in candidates),
        cutoff_kcal_mol=cutoff_kcal_mol,
        confidence=confidence,
        bins_compared=int(mask.sum()),
        bins_thin=int((mask & noise.thin(reference)).sum()),
        noise=noise.own(reference, mask),
        split_rmse=noise.between_parts(reference, mask),
        js_splits=float(splits[i, j].mean()),
    )


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon divergence, nats, of histograms [..., bins]; what a total lacks of 1 is an extra, outer bin."""
    p, q = _completed(p), _completed(q)
    middle = 0.5 * (p + q)
    return 0.5 * (_relative_entropy(p, middle) + _relative_entropy(q, middle))


def pairwise(parts: Floats) -> Floats:
    """JS divergence between all pairs of histograms [S, bins, ...] -> [S, S], nats."""
    flat = parts.reshape(len(parts), -1)
    return np.asarray(jensen_shannon(flat[:, None, :], flat[None, :, :]))


def corrected_interval(
    raw_squared: float, unit: Floats, deviations: Floats, noise_squared: float, tail: float
) -> Estimate:
    """Noise-corrected RMSE and the interval of true distances that agree with the raw one.

    Parameters
    ----------
    raw_squared : float
        Observed mean squared difference.
    unit : [n]
        Direction of the observed difference, mean square 1 (zeros if there is none).
    deviations : [R, n]
        Bootstrap deviations of the difference.
    noise_squared : float
        Sum of both squared noises from independent parts.
    tail : float
        Probability left out on each side.

    Returns
    -------
    Estimate
        In the unit of the square root of ``raw_squared``; the interval always holds the value.
    """
    bootstrap = float(np.mean(np.square(deviations)))
    if 0.0 < bootstrap < noise_squared:
        deviations = deviations * np.sqrt(noise_squared / bootstrap)
    along, own = (deviations * unit).mean(axis=1), np.square(deviations).mean(axis=1)
    value = float(np.sqrt(max(0.0, raw_squared - noise_squared)))
    top = 2.0 * np.sqrt(raw_squared) + 4.0 * np.sqrt(own.max())
    distances = np.linspace(0.0, top, 1001)
    predicted = np.square(distances)[:, None] + 2.0 * distances[:, None] * along + own
    low, high = np.quantile(predicted, [tail, 1.0 - tail], axis=1)
    accepted = distances[(low <= raw_squared) & (raw_squared <= high)]
    if len(accepted) == 0:  # closer than the noise allows: nothing below the noise can be told apart
        accepted = np.array([0.0, np.sqrt(noise_squared)])
    return Estimate(value, min(value, float(accepted.min())), max(value, float(accepted.max())))


def _row(
    reference: FreeEnergySurface, candidate: FreeEnergySurface, mask: np.ndarray, cutoff: float, confidence: float
) -> Row:
    count = min(len(reference.replicates), len(candidate.replicates))
    ours = noise.deviations(candidate, candidate.replicates[:count], mask)
    # Replicates of the two sides are paired with an offset: equal seeds must not make equal draws.
    deviations = ours - np.roll(noise.deviations(reference, reference.replicates[:count], mask), 1, axis=0)
    difference = _masked(candidate, mask, cutoff) - _masked(reference, mask, cutoff)
    raw_squared = float(np.mean(np.square(difference)))
    unit = difference / np.sqrt(raw_squared) if raw_squared > 0.0 else difference
    noise_reference, noise_candidate = noise.own(reference, mask), noise.own(candidate, mask)
    tail = 0.5 * (1.0 - confidence)

    squared = recentred_interval(raw_squared, np.square(difference + deviations).mean(axis=1), confidence)
    flat = [s.reshape(len(s), -1) for s in (candidate.replicates[:count], np.roll(reference.replicates[:count], 1, 0))]
    js = float(jensen_shannon(candidate.probability.ravel(), reference.probability.ravel()))
    missed = mask & (candidate.probability <= 0.0)
    return Row(
        surface=candidate,
        rmse=Estimate(*(float(np.sqrt(v)) for v in (squared.value, squared.low, squared.high))),
        rmse_corrected=corrected_interval(raw_squared, unit, deviations, noise_reference**2 + noise_candidate**2, tail),
        noise=noise_candidate,
        noise_bootstrap=float(np.sqrt(np.mean(np.square(ours)))),
        js=recentred_interval(js, jensen_shannon(*flat), confidence),
        js_noise=sum(noise.from_splits(pairwise(s.splits), s.split_shares) for s in (reference, candidate)),
        bins_missed=int(missed.sum()),
        population_missed=float(reference.probability[missed].sum()),
        bins_thin=int((mask & noise.thin(candidate)).sum()),
        basins=_basin_rows(reference, candidate, confidence),
    )


def _masked(surface: FreeEnergySurface, mask: np.ndarray, cutoff: float) -> Floats:
    """Free energies [n] of the compared bins, kJ/mol, mean zero."""
    values = surface.filled(surface.probability[None], cutoff_kcal_mol=cutoff)[0][mask]
    return values - values.mean()


def _basin_rows(reference: FreeEnergySurface, candidate: FreeEnergySurface, confidence: float) -> tuple[BasinRow, ...]:
    if reference.basins is None or candidate.basins is None:
        return ()
    ours, theirs = candidate.basins, reference.basins
    count = min(len(ours.replicates), len(theirs.replicates))
    energy = [_basin_energy(candidate, ours, ours.replicates[:count]), _basin_energy(candidate, ours, ours.value[None])]
    other = [_basin_energy(reference, theirs, theirs.replicates[:count])]
    other += [_basin_energy(reference, theirs, theirs.value[None])]
    rows = []
    for index, name in enumerate(ours.names):
        p, q = ours.replicates[:count, index], np.roll(theirs.replicates[:count, index], 1)
        free = energy[0][:, index] - np.roll(other[0][:, index], 1)
        rows.append(
            BasinRow(
                name=name,
                population=candidate.population(name, confidence),
                population_difference=percentile_interval(ours.value[index] - theirs.value[index], p - q, confidence),
                free_energy_difference=percentile_interval(energy[1][0, index] - other[1][0, index], free, confidence),
                visited=bool(ours.value[index] > 0.0),
            )
        )
    return tuple(rows)


def _basin_energy(surface: FreeEnergySurface, populations: Populations, values: Floats) -> Floats:
    """Basin free energies [K, B] relative to PII, kJ/mol."""
    least = np.maximum(values, 1.0 / surface.n_effective)
    energy = -kT(surface.temperature_K) * np.log(least)
    return np.asarray(energy - energy[:, [populations.names.index(ORIGIN)]])


def _completed(p: Floats) -> Floats:
    rest = np.clip(1.0 - p.sum(axis=-1, keepdims=True), 0.0, None)
    return np.concatenate([p, np.where(rest > 1e-9, rest, 0.0)], axis=-1)


def _relative_entropy(p: Floats, q: Floats) -> Floats:
    ratio = np.where(p > 0.0, p, 1.0) / np.where(p > 0.0, q, 1.0)
    return np.asarray((p * np.log(ratio)).sum(axis=-1))


__all__ = ["BasinRow", "Comparison", "Row", "compare", "corrected_interval", "jensen_shannon"]
