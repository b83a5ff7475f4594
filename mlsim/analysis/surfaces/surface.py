r"""Free-energy surfaces over one or two collective variables, with everything needed to know how sure they are.

What: ``estimate`` turns weighted frames into a ``FreeEnergySurface``: a histogram on uniform bins,

    p_b = sum_{t in b} w_t / sum_t w_t,      F_b = -kT ln p_b   (kJ/mol, lowest bin 0, NaN where no frame fell)

Why it keeps more than F: every basin and every bin has a variance by its own correlation and a count of its visits
(``occupancy``, ``bin_errors``), from which its interval comes, or none; ``replicates`` are the same histogram from
resampled blocks (``uncertainty``), ``splits`` from independent parts of the data (runs, or halves of one run). So every
later number gets its interval without the trajectory: a reference can be shipped and compared with years later.

A frame outside the edges of a non-periodic CV still counts in the denominator: the histogram then sums to less than 1.
Lengths have no Jacobian taken out: F(r) = -kT ln p(r).

What an empty bin counts for in comparisons is told in ``histogram``.

Symbols: p -> ``probability``; w -> ``exp(log_weights)``; F -> ``free_energy``; kT -> ``units.kT(temperature_K)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.analysis import observables, uncertainty
from mlsim.analysis.occupancy import LEAST_LENGTH, Occupancy
from mlsim.analysis.surfaces import basins as basin_rules
from mlsim.analysis.surfaces import bin_errors, histogram, slowest
from mlsim.analysis.surfaces.basin_populations import Populations
from mlsim.analysis.surfaces.histogram import CUTOFF_KCAL_MOL
from mlsim.analysis.surfaces.subject import Subject
from mlsim.analysis.uncertainty import Estimate
from mlsim.errors import InputError
from mlsim.seeds import numpy_stream
from mlsim.settings import Settings
from mlsim.shapes import Floats, Ints, require_shape
from mlsim.units import KJ_PER_KCAL, kT


class SurfaceSettings(Settings):
    """How a surface is estimated."""

    #: Bins per collective variable.
    bins: int = 24
    #: Bootstrap replicates.
    replicates: int = 200
    #: Block length in frames; None: from the statistical inefficiency.
    block_frames: int | None = None
    #: Root seed of the bootstrap.
    seed: int = 1


@dataclass(frozen=True)
class FreeEnergySurface:
    """A free-energy surface with its bootstrap and its independent parts.

    Attributes
    ----------
    label : str
        What it is of, e.g. ``tip3p``.
    cv_names : tuple of str
        C collective variables (1 or 2).
    edges : tuple of [bins + 1]
        Uniform bin edges, rad or nm.
    temperature_K : float
        Temperature, K.
    probability : [bins, ...]
        Fraction of the weight in each bin.
    replicates : [R, bins, ...]
        Bootstrap replicates of ``probability``.
    splits : [S, bins, ...]
        ``probability`` of independent parts of the data.
    split_shares : [S]
        Share of the data in each part.
    n_frames, n_blocks, n_runs : int
        Frames, bootstrap blocks and independent runs behind it.
    n_effective : float
        Kish's effective number of frames (equal to ``n_frames`` without reweighting).
    statistical_inefficiency : float
        Frames per independent sample of the slowest basin or CV.
    variance : [bins, ...]
        Variance of ``probability`` by each bin's own correlation (see ``bin_errors``).
    entries : [bins, ...]
        How often each bin was entered.
    marginals : tuple of ([bins], [bins])
        Variance and entries of the bins of each CV alone (empty for one CV).
    basins : Populations or None
        Populations of alphaR, PII, C5, alphaL where the CVs are phi and psi of one residue.
    subject : Subject or None
        Molecule, potential and runs; None for data that are of no molecule.
    provenance : dict
        JSON-able: where it came from.
    sampled_ps : float
        Simulated time behind it, ps; NaN where the data do not say.
    """

    label: str
    cv_names: tuple[str, ...]
    edges: tuple[Floats, ...]
    temperature_K: float
    probability: Floats
    replicates: Floats
    splits: Floats
    split_shares: Floats
    n_frames: int
    n_effective: float
    statistical_inefficiency: float
    n_blocks: int
    n_runs: int
    variance: Floats
    entries: Ints
    marginals: tuple[tuple[Floats, Ints], ...] = ()
    basins: Populations | None = None
    subject: Subject | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    sampled_ps: float = float("nan")

    @property
    def solvent(self) -> str:
        """Solvent as the user named it; empty for data of no molecule."""
        return "" if self.subject is None else self.subject.solvent

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Which CVs are angles."""
        return tuple(observables.parse(name).periodic for name in self.cv_names)

    @property
    def centres(self) -> tuple[Floats, ...]:
        """Bin centres per CV, rad or nm."""
        return tuple(0.5 * (e[1:] + e[:-1]) for e in self.edges)

    @cached_property
    def free_energy(self) -> Floats:
        """Free energy [bins, ...], kJ/mol, lowest bin 0, NaN where unsampled."""
        return self._minus_log(self.probability) - self._lowest

    @property
    def _lowest(self) -> float:
        return float(np.nanmin(self._minus_log(self.probability)))

    @property
    def length(self) -> float:
        """Length of the data in correlation times of its slowest observable."""
        return 2.0 * self.n_frames / self.statistical_inefficiency

    @property
    def too_short(self) -> bool:
        """Whether the data are too short for any interval."""
        return self.length < LEAST_LENGTH

    @cached_property
    def independent(self) -> Floats:
        """Independent visits of each bin [bins, ...]."""
        return bin_errors.independent(self.probability, self.variance)

    @cached_property
    def told(self) -> np.ndarray:
        """Mask of the bins that have an interval: entered often enough, in data that are long enough."""
        return bin_errors.told(self.independent, self.entries) & (not self.too_short)

    @cached_property
    def stderr(self) -> Floats:
        """Standard error of F [bins, ...], kJ/mol; NaN where the bin has no interval."""
        values = kT(self.temperature_K) / np.sqrt(np.maximum(self.independent, 1e-9))
        return np.where(self.told, values, np.nan)

    def band(self, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Interval of F at fixed normalisation, lower and upper end [bins, ...], kJ/mol; NaN where there is none."""
        low, high = bin_errors.bounds(self.probability, self.independent, self.entries, confidence)
        values = [self._minus_log(np.where(self.told, end, 0.0)) - self._lowest for end in (high, low)]
        return values[0], values[1]

    def populated(self, cutoff_kcal_mol: float = CUTOFF_KCAL_MOL) -> np.ndarray:
        """Mask of the bins with F below the cutoff (kcal/mol) [bins, ...]."""
        return np.nan_to_num(self.free_energy, nan=np.inf) < cutoff_kcal_mol * KJ_PER_KCAL

    def filled(
        self, probability: Floats, share: float | Floats = 1.0, cutoff_kcal_mol: float = CUTOFF_KCAL_MOL
    ) -> Floats:
        """Free energies of histograms [K, bins, ...] of this surface's data, every bin given a number (kJ/mol).

        Parameters
        ----------
        probability : [K, bins, ...]
            Histograms, e.g. ``replicates``.
        share : float or [K]
            Share of the data behind each histogram.
        """
        n_effective = self.n_effective * np.asarray(share)
        return histogram.filled_free_energy(probability, n_effective, self.temperature_K, cutoff_kcal_mol)

    def labelled(
        self, label: str, provenance: dict[str, Any] | None = None, subject: Subject | None = None
    ) -> FreeEnergySurface:
        """The same surface under another name (and with this provenance and subject, if given)."""
        kept = self.provenance if provenance is None else provenance
        return replace(self, label=label, provenance=kept, subject=subject or self.subject)

    def population(self, basin: str, confidence: float = 0.95) -> Estimate:
        """Population of a basin with its interval, or without where the data give none.

        Raises
        ------
        InputError
            If the CVs are not phi and psi of one residue.
        """
        return self.basin(basin).interval(confidence)

    def basin(self, name: str) -> Occupancy:
        """What is known of a basin.

        Raises
        ------
        InputError
            If the CVs are not phi and psi of one residue.
        """
        if self.basins is None:
            raise InputError(f"basins: expected phi and psi of one residue, got {' '.join(self.cv_names)}")
        return self.basins.whole[self.basins.names.index(name)]

    def marginal(self, name: str) -> FreeEnergySurface:
        """The one-dimensional surface of one CV."""
        axis = self.cv_names.index(name)
        others = tuple(a for a in range(len(self.cv_names)) if a != axis)
        shifted = tuple(a + 1 for a in others)
        return replace(
            self,
            cv_names=(name,),
            edges=(self.edges[axis],),
            probability=self.probability.sum(axis=others),
            replicates=self.replicates.sum(axis=shifted),
            splits=self.splits.sum(axis=shifted),
            variance=self.marginals[axis][0],
            entries=self.marginals[axis][1],
            basins=None,
        )

    def save(self, path: str | Path) -> None:
        """Write the surface, its bootstrap and its provenance to one ``.npz`` file."""
        from mlsim.analysis.surfaces import surface_file

        surface_file.save(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> FreeEnergySurface:
        """Read a surface written by ``save`` (nothing is unpickled)."""
        from mlsim.analysis.surfaces import surface_file

        return surface_file.load(Path(path))

    def _minus_log(self, probability: Floats) -> Floats:
        safe = np.where(probability > 0.0, probability, np.nan)
        return -kT(self.temperature_K) * np.log(safe)


def estimate(
    cv: Floats,
    temperature_K: float,
    *,
    cv_names: Sequence[str] = ("phi", "psi"),
    bias: Floats | None = None,
    log_weights: Floats | None = None,
    run: Ints | None = None,
    edges: tuple[Floats, ...] | None = None,
    settings: SurfaceSettings | None = None,
) -> FreeEnergySurface:
    """Estimate a free-energy surface from (weighted) frames.

    Parameters
    ----------
    cv : [F, C]
        Collective variables, rad or nm, C = 1 or 2.
    temperature_K : float
        Temperature of the ensemble the surface is of, K.
    cv_names : sequence of str
        C specs, see ``observables``.
    bias : [F] or None
        Static bias energy at each frame, kJ/mol: weights exp(+bias/kT).
    log_weights : [F] or None
        Any other log weights (give one of the two, or neither).
    run : [F] or None
        Index of the independent run of each frame, grouped; None: one run.
    edges : tuple of arrays or None
        Uniform bin edges to use instead of ``settings.bins``.
    settings : SurfaceSettings or None
        Bins, blocks and bootstrap.

    Returns
    -------
    FreeEnergySurface
        Without a name; see ``FreeEnergySurface.labelled``.

    Raises
    ------
    InputError
        On wrong shapes, weights given twice, too few frames, or no weight inside the edges.
    """
    settings = settings or SurfaceSettings()
    cv = require_shape(cv, (None, len(cv_names)), "collective variables (rad or nm)")
    n_frames = len(cv)
    if len(cv_names) not in (1, 2) or n_frames < 4:
        raise InputError(f"surface: expected 1 or 2 CVs and at least 4 frames, got {len(cv_names)} and {n_frames}")
    log_w = _log_weights(n_frames, temperature_K, bias, log_weights)
    runs = np.zeros(n_frames, dtype=np.int64) if run is None else np.asarray(run, dtype=np.int64)
    if runs.shape != (n_frames,):
        raise InputError(f"run: expected shape [{n_frames}], got {list(runs.shape)}")
    edges = histogram.uniform_edges(cv, cv_names, settings.bins) if edges is None else edges
    shape = tuple(len(e) - 1 for e in edges)

    weights = np.exp(log_w - log_w.max())
    n_effective = uncertainty.effective_samples(log_w)
    index = histogram.bin_index(cv, edges, cv_names)
    if not weights[index >= 0].sum() > 0.0:
        raise InputError(f"surface: no frame lies inside the edges of {', '.join(cv_names)}")
    region = basin_rules.assign(cv[:, 0], cv[:, 1]) if observables.same_residue(cv_names) else None

    known = None if region is None else Populations.of(region, basin_rules.BASINS, weights, runs)
    inefficiency = slowest.inefficiency(cv, cv_names, weights, runs, known)
    known = known and known.withheld(2.0 * n_frames / inefficiency)
    block_frames = settings.block_frames or uncertainty.choose_block_frames(inefficiency, n_frames)
    blocks = uncertainty.block_labels(runs, block_frames)
    n_blocks = int(blocks.max()) + 1
    counts = uncertainty.block_counts(n_blocks, settings.replicates, numpy_stream(settings.seed, "bootstrap"))
    parts = uncertainty.split_labels(runs)
    shares = np.bincount(parts) / n_frames

    def histograms(bins_of: Ints, size: int) -> tuple[Floats, Floats, Floats]:
        """Normalised histogram of all data, of the replicates and of the splits."""
        by_block = histogram.block_table(blocks, n_blocks, bins_of, size, weights)
        by_part = histogram.block_table(parts, len(shares), bins_of, size, weights)
        everything = np.concatenate([by_block.sum(axis=0, keepdims=True), counts @ by_block, by_part])
        totals = everything.sum(axis=1, keepdims=True)
        if not (totals > 0.0).all():
            raise InputError(
                f"surface: nearly all weight lies in one block of frames ({n_effective:.1f} effective frames); "
                "the sampled and the wanted ensemble do not overlap"
            )
        everything = everything / totals
        return everything[0], everything[1 : 1 + len(counts)], everything[1 + len(counts) :]

    size = int(np.prod(shape))
    whole, replicates, splits = histograms(np.where(index < 0, size, index), size + 1)
    if not (splits[:, :-1].sum(axis=1) > 0.0).all():
        raise InputError("surface: one of the independent parts has no frame inside the edges; give longer runs")
    flat = np.where(index < 0, size, index)
    variance, entries = bin_errors.variances(flat, size + 1, weights, runs)
    marginals = bin_errors.marginals(cv, cv_names, edges, weights, runs) if len(cv_names) == 2 else ()
    return FreeEnergySurface(
        label="",
        cv_names=tuple(cv_names),
        edges=edges,
        temperature_K=float(temperature_K),
        probability=whole[:-1].reshape(shape),
        replicates=replicates[:, :-1].reshape(-1, *shape),
        splits=splits[:, :-1].reshape(-1, *shape),
        split_shares=shares,
        n_frames=n_frames,
        n_effective=n_effective,
        statistical_inefficiency=inefficiency,
        n_blocks=n_blocks,
        n_runs=len(np.unique(runs)),
        variance=np.maximum(variance, replicates.var(axis=0, ddof=1))[:-1].reshape(shape),
        entries=entries[:-1].reshape(shape),
        marginals=marginals,
        basins=known,
    )


def _log_weights(n_frames: int, temperature_K: float, bias: Floats | None, log_weights: Floats | None) -> Floats:
    if bias is not None and log_weights is not None:
        raise InputError("surface: expected bias or log_weights, got both")
    if not temperature_K > 0.0:
        raise InputError(f"temperature: expected K > 0, got {temperature_K:g}")
    if bias is not None:
        return require_shape(bias, (n_frames,), "bias (kJ/mol)").astype(np.float64) / kT(temperature_K)
    if log_weights is not None:
        return require_shape(log_weights, (n_frames,), "log weights").astype(np.float64)
    return np.zeros(n_frames)
