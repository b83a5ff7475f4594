r"""How far candidate surfaces are from a reference, corrected for the noise of both.

What: ``compare(reference, candidates)`` -> ``Comparison``, one row per candidate. An interval stands only where it
holds.

Compared bins: those with F_ref < 3 kcal/mol. The RMSE is taken over those of them that both sides can tell: the
reference has at least ``LEAST_VISITS`` independent visits, as many would be expected of the candidate if it were like
the reference (p_ref times its independent samples: its own counts do not decide, they would favour lucky bins), the
bin was visited, and neither side calls the bin's basin unconverged. D = F_cand - F_ref there, its mean taken out:

    RMSE_raw^2 = mean D^2
    RMSE^2     = RMSE_raw^2 - mean e^2                     (corrected; 0 where that is negative)
    JS         = 1/2 sum_b p ln(p/m) + 1/2 sum_b q ln(q/m),  m = (p + q)/2        (nats, all bins, 0 .. ln 2)

e are bootstrap deviations of the difference, each bin's scaled up to the variance by its own correlation (``noise``).
Interval of the corrected RMSE: all true distances t for which the observed RMSE_raw is not surprising. With
u = D/|D|, the prediction for t is the distribution of mean (t u + e)^2; t belongs to the interval if RMSE_raw^2 lies
between its tails. Since e comes from few blocks, it is widened by Student's quantile over the normal one; since u has
noise of its own, the tails left out are half of what the confidence leaves. "0.00 [0.00, 0.07]" therefore says: not
told from zero, and below 0.07. The raw RMSE and JS are what was observed, without an interval: noise makes both larger
than the truth, in short runs many times.

Bins that the candidate missed are told apart (``bins_missed``, and ``population_missed``, the reference's population
there), no frame is invented for them. Where some of them should have been visited ``SURELY`` times, the distance over
all bins has no upper end: with n bins used and m missed it is at least sqrt(n / (n + m)) times that over the used ones.

Differences between basins follow from draws of both sides' distributions (``occupancy``), where both have one. Basin
free energies are relative to PII.

Symbols: D -> ``difference``; e -> ``deviations``; t -> ``distances``; p, q -> ``probability``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from mlsim.analysis import quantities as other
from mlsim.analysis.jensen_shannon import jensen_shannon, pairwise
from mlsim.analysis.occupancy import Occupancy
from mlsim.analysis.quantities import Measured, Quantity
from mlsim.analysis.surfaces import basins as basin_rules
from mlsim.analysis.surfaces import noise
from mlsim.analysis.surfaces.basins import ORIGIN
from mlsim.analysis.surfaces.histogram import CUTOFF_KCAL_MOL
from mlsim.analysis.surfaces.pool import on_grid_of
from mlsim.analysis.surfaces.subject import require_same_molecule
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.analysis.uncertainty import Estimate, percentile_interval
from mlsim.errors import InputError
from mlsim.seeds import numpy_stream
from mlsim.shapes import Floats
from mlsim.units import kT

#: Independent visits that a bin needs on both sides to enter the RMSE.
LEAST_VISITS = 5.0
#: Independent visits expected of a candidate in a bin that it surely misses if it has none.
SURELY = 8.0
_DRAWS = 20_000


@dataclass(frozen=True)
class BasinRow:
    """One basin of one candidate against the reference.

    ``population`` and ``population_difference`` are fractions of 1; ``free_energy_difference`` is
    [F_b - F_PII] of the candidate minus that of the reference, kJ/mol (exactly 0 for PII). Numbers that the data of
    either side cannot give are NaN; ``known`` and ``known_reference`` say what was seen.
    """

    name: str
    population: Estimate
    population_difference: Estimate
    free_energy_difference: Estimate
    known: Occupancy
    known_reference: Occupancy

    @property
    def visited(self) -> bool:
        """Whether the candidate has a frame in it."""
        return self.known.verdict != "never visited"


@dataclass(frozen=True)
class Row:
    """One candidate. Energies in kJ/mol, JS in nats.

    Attributes
    ----------
    rmse, rmse_corrected : Estimate
        Raw RMSE (no interval) and the noise-corrected one; NaN if fewer than two bins could be used.
    noise : float
        Candidate's own noise from independent parts.
    noise_used : float
        Noise of both sides that was taken off, from each bin's own correlation.
    js : Estimate
        Jensen-Shannon divergence from the reference (no interval).
    js_noise : float
        What the noise of both sides alone contributes to ``js``.
    bins_used : int
        Compared bins that the RMSE is over.
    bins_missed : int
        Compared bins without a single candidate frame.
    population_missed : float
        Reference population of those bins.
    bins_thin : int
        Compared bins, not missed, that one of both sides cannot tell.
    others : tuple of Measured
        Quantities that were asked for by name.
    """

    surface: FreeEnergySurface
    rmse: Estimate
    rmse_corrected: Estimate
    noise: float
    noise_used: float
    js: Estimate
    js_noise: float
    bins_used: int
    bins_missed: int
    population_missed: float
    bins_thin: int
    basins: tuple[BasinRow, ...]
    others: tuple[Measured, ...] = ()

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
    molecules: Literal["same", "any"] = "same",
    quantities: Sequence[str] = (),
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
    molecules : {"same", "any"}
        Whether candidates may be of another molecule than the reference.
    quantities : sequence of str
        Further quantities of every row, by name (:mod:`mlsim.analysis.quantities`).

    Raises
    ------
    InputError
        If there is no candidate, a grid, temperature or molecule differs, two candidates have one label, or fewer than
        two bins are left to compare.
    """
    if not candidates:
        raise InputError("compare: expected at least one candidate, got none")
    further = other.chosen(quantities)
    candidates = [on_grid_of(reference, candidate) for candidate in candidates]
    for candidate in candidates:
        if reference.subject is not None and candidate.subject is not None and molecules == "same":
            require_same_molecule(
                f"the reference '{reference.label}'",
                reference.subject,
                f"'{candidate.label}'",
                candidate.subject,
                "different molecules are compared only if that is asked for (--molecules any)",
            )
    labels = [candidate.label for candidate in candidates]
    for label in {name for name in labels if labels.count(name) > 1 and name}:
        raise InputError(f"compare: two candidates are called '{label}'; expected a name for each")
    mask = reference.populated(cutoff_kcal_mol)
    if mask.sum() < 2:
        raise InputError(f"compare: expected two or more bins with F < {cutoff_kcal_mol:g} kcal/mol, got {mask.sum()}")
    splits = pairwise(reference.splits)
    i, j = np.triu_indices(len(splits), k=1)
    return Comparison(
        reference=reference,
        rows=tuple(_row(reference, c, mask, cutoff_kcal_mol, confidence, further) for c in candidates),
        cutoff_kcal_mol=cutoff_kcal_mol,
        confidence=confidence,
        bins_compared=int(mask.sum()),
        bins_thin=int((mask & noise.thin(reference)).sum()),
        noise=noise.own(reference, mask),
        split_rmse=noise.between_parts(reference, mask),
        js_splits=float(splits[i, j].mean()),
    )


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


def bins_told(
    reference: FreeEnergySurface, candidate: FreeEnergySurface, cutoff_kcal_mol: float = CUTOFF_KCAL_MOL
) -> tuple[np.ndarray, np.ndarray]:
    """Masks [bins, ...] of the bins that the RMSE is over, and of those that the candidate surely misses."""
    mask = reference.populated(cutoff_kcal_mol)
    missed = mask & (candidate.probability <= 0.0)
    expected = reference.probability * _independent_samples(candidate)
    told = (reference.independent >= LEAST_VISITS) & (expected >= LEAST_VISITS)
    told &= _settled(reference) & _settled(candidate)
    return mask & told & ~missed, missed & (expected >= SURELY)


def _row(
    reference: FreeEnergySurface,
    candidate: FreeEnergySurface,
    mask: np.ndarray,
    cutoff: float,
    confidence: float,
    further: dict[str, Quantity],
) -> Row:
    missed = mask & (candidate.probability <= 0.0)
    used, surely_missed = bins_told(reference, candidate, cutoff)
    raw, corrected, taken_off = Estimate.unbounded(np.nan), Estimate.unbounded(np.nan), float("nan")
    if used.sum() >= 2:
        raw, corrected, taken_off = _distance(reference, candidate, used, confidence)
        surely = int(surely_missed.sum())
        if surely:
            share = float(np.sqrt(used.sum() / (used.sum() + surely)))
            corrected = Estimate(corrected.value * share, corrected.low * share, np.inf)
        if reference.too_short or candidate.too_short:
            corrected = Estimate.unbounded(corrected.value)
    js = float(jensen_shannon(candidate.probability.ravel(), reference.probability.ravel()))
    return Row(
        surface=candidate,
        rmse=raw,
        rmse_corrected=corrected,
        noise=noise.own(candidate, mask),
        noise_used=taken_off,
        js=Estimate.unbounded(js),
        js_noise=sum(noise.from_splits(pairwise(s.splits), s.split_shares) for s in (reference, candidate)),
        bins_used=int(used.sum()),
        bins_missed=int(missed.sum()),
        population_missed=float(reference.probability[missed].sum()),
        bins_thin=int((mask & ~used & ~missed).sum()),
        basins=_basin_rows(reference, candidate, confidence),
        others=other.measured(further, reference, candidate, mask),
    )


def _distance(
    reference: FreeEnergySurface, candidate: FreeEnergySurface, used: np.ndarray, confidence: float
) -> tuple[Estimate, Estimate, float]:
    """RMSE over the used bins, raw and corrected, and the noise taken off (kJ/mol)."""
    count = min(len(reference.replicates), len(candidate.replicates))
    # Replicates of the two sides are paired with an offset: equal seeds must not make equal draws.
    theirs = np.roll(noise.log_deviations(reference, used)[:count], 1, axis=0)
    deviations = noise.log_deviations(candidate, used)[:count] - theirs
    deviations -= deviations.mean(axis=1, keepdims=True)
    difference = candidate.free_energy[used] - reference.free_energy[used]
    difference -= difference.mean()
    raw_squared, noise_squared = float(np.mean(np.square(difference))), float(np.mean(np.square(deviations)))
    unit = difference / np.sqrt(raw_squared) if raw_squared > 0.0 else difference
    upper, blocks = 0.5 + 0.5 * confidence, min(reference.n_blocks, candidate.n_blocks)
    wider = float(stats.t.ppf(upper, blocks - 1) / stats.norm.ppf(upper))  # the noise itself is known from few blocks
    corrected = corrected_interval(raw_squared, unit, wider * deviations, noise_squared, 0.5 * (1.0 - upper))
    return Estimate.unbounded(float(np.sqrt(raw_squared))), corrected, float(np.sqrt(noise_squared))


def _independent_samples(surface: FreeEnergySurface) -> float:
    """Independent samples behind the bins of a surface: the median over its weight."""
    seen = surface.independent > 0.0
    if not seen.any():
        return 0.0
    samples, weight = (surface.independent[seen] / surface.probability[seen]), surface.probability[seen]
    order = np.argsort(samples)
    middle = np.searchsorted(np.cumsum(weight[order]), 0.5 * weight.sum())
    return float(samples[order][min(middle, len(order) - 1)])


def _settled(surface: FreeEnergySurface) -> np.ndarray:
    """Mask of the bins whose basin the surface can tell (all, if it has no basins)."""
    if surface.basins is None:
        return np.ones(surface.probability.shape, dtype=bool)
    region = basin_rules.masks(*np.meshgrid(*surface.centres, indexing="ij"))
    unsettled = [region[name] for name in surface.basins.unsettled]
    return ~np.any(unsettled, axis=0) if unsettled else np.ones(surface.probability.shape, dtype=bool)


def _basin_rows(reference: FreeEnergySurface, candidate: FreeEnergySurface, confidence: float) -> tuple[BasinRow, ...]:
    if reference.basins is None or candidate.basins is None:
        return ()
    rows = []
    for index, name in enumerate(candidate.basins.names):
        ours, theirs = candidate.basins.whole[index], reference.basins.whole[index]
        away = (candidate.basins.relative[index], reference.basins.relative[index])
        free = Estimate(0.0, 0.0, 0.0)
        if name != ORIGIN:
            free = _difference(*away, lambda q: -np.log(q / (1.0 - q)), confidence).scaled(kT(reference.temperature_K))
        rows.append(
            BasinRow(
                name=name,
                population=ours.interval(confidence),
                population_difference=_difference(ours, theirs, lambda p: p, confidence),
                free_energy_difference=free,
                known=ours,
                known_reference=theirs,
            )
        )
    return tuple(rows)


def _difference(ours: Occupancy, theirs: Occupancy, measure: Callable[[Floats], Floats], confidence: float) -> Estimate:
    """Difference of a measure of two populations, by draws from both; NaN unless both have a distribution."""
    if ours.verdict != "converged" or theirs.verdict != "converged":
        return Estimate.unbounded(np.nan)
    generator = numpy_stream(0, "basins")
    value = float(measure(np.array(ours.value)) - measure(np.array(theirs.value)))
    draws = [measure(found.draws(_DRAWS, generator, confidence)) for found in (ours, theirs)]
    found = percentile_interval(value, draws[0] - draws[1], confidence)
    return Estimate(value, min(value, found.low), max(value, found.high))


__all__ = ["BasinRow", "Comparison", "Row", "compare", "corrected_interval", "jensen_shannon"]
