"""Reports: surfaces and comparisons as plain text (``tables``), JSON, CSV and figures.

What: ``surface_record`` and ``comparison_record`` are JSON-able with the unit in every key; ``write_surface`` and
``write_comparison`` put everything into a directory, the texts and records only after all of it could be computed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.analysis.compare import Comparison, Row
from mlsim.analysis.occupancy import Occupancy
from mlsim.analysis.surfaces import noise
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.analysis.tables import notes, summary, table
from mlsim.analysis.uncertainty import Estimate
from mlsim.errors import StorageError
from mlsim.units import KJ_PER_KCAL

_TO_KCAL = 1.0 / KJ_PER_KCAL

__all__ = [
    "comparison_record",
    "notes",
    "summary",
    "surface_record",
    "table",
    "write_comparison",
    "write_surface",
]


def surface_record(surface: FreeEnergySurface) -> dict[str, Any]:
    """JSON-able record of a surface, grids included (``null`` where unsampled)."""
    record: dict[str, Any] = {
        "label": surface.label,
        "cv_names": list(surface.cv_names),
        "edges_rad_or_nm": [e.tolist() for e in surface.edges],
        "temperature_K": surface.temperature_K,
        "n_frames": surface.n_frames,
        "n_runs": surface.n_runs,
        "n_effective": surface.n_effective,
        "statistical_inefficiency_frames": surface.statistical_inefficiency,
        "n_blocks": surface.n_blocks,
        "noise_kcal_mol": noise.own(surface) * _TO_KCAL,
        "between_parts_kcal_mol": noise.between_parts(surface) * _TO_KCAL,
        "free_energy_kJ_mol": _nullable(surface.free_energy),
        "free_energy_kcal_mol": _nullable(surface.free_energy * _TO_KCAL),
        "stderr_kJ_mol": _nullable(surface.stderr),
        "stderr_kcal_mol": _nullable(surface.stderr * _TO_KCAL),
        "low_95_kcal_mol": _nullable(surface.band()[0] * _TO_KCAL),
        "high_95_kcal_mol": _nullable(surface.band()[1] * _TO_KCAL),
        "length_correlation_times": surface.length,
        "subject": None if surface.subject is None else surface.subject.record(),
        "provenance": surface.provenance,
    }
    if surface.basins is not None:
        record["basin_population"] = _basin_record(surface, 0.95)
    return record


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """JSON-able record of a comparison (energies in kcal/mol, populations as fractions)."""
    reference = comparison.reference
    populations = reference.basins
    return {
        "reference": {
            "label": reference.label,
            "subject": None if reference.subject is None else reference.subject.record(),
            "n_frames": reference.n_frames,
            "n_runs": reference.n_runs,
            "n_effective": reference.n_effective,
            "noise_kcal_mol": comparison.noise * _TO_KCAL,
            "between_parts_kcal_mol": comparison.split_rmse * _TO_KCAL,
            "js_between_parts_nats": comparison.js_splits,
            "bins_thin": comparison.bins_thin,
            "basin_population": {} if populations is None else _basin_record(reference, comparison.confidence),
            "provenance": reference.provenance,
        },
        "cv_names": list(reference.cv_names),
        "temperature_K": reference.temperature_K,
        "cutoff_kcal_mol": comparison.cutoff_kcal_mol,
        "confidence": comparison.confidence,
        "bins_compared": comparison.bins_compared,
        "candidates": [_row_record(row) for row in comparison.rows],
    }


def write_surface(surface: FreeEnergySurface, directory: str | Path) -> list[Path]:
    """Write ``surface.npz .json .csv .png`` and ``summary.txt`` into ``directory`` (made if needed)."""
    from mlsim.analysis import figures

    text, record, rows = summary(surface), surface_record(surface), _csv(surface)
    place = _directory(directory)
    surface.save(place / "surface.npz")
    _write_text(place / "surface.json", json.dumps(record, indent=1))
    _write_text(place / "surface.csv", rows)
    _write_text(place / "summary.txt", text + "\n")
    figure = place / "surface.png"
    if len(surface.cv_names) == 2:
        figures.panels([surface], figure)
    else:
        figures.profiles([surface], figure)
    return [place / name for name in ("surface.npz", "surface.json", "surface.csv", "summary.txt", "surface.png")]


def write_comparison(comparison: Comparison, directory: str | Path) -> list[Path]:
    """Write ``comparison.txt .json .png``, ``profiles.png`` and every surface into ``directory`` (made if needed)."""
    from mlsim.analysis import figures

    text, record = table(comparison), json.dumps(comparison_record(comparison), indent=1)
    place = _directory(directory)
    stored = _directory(place / "surfaces")
    written = [place / "comparison.txt", place / "comparison.json", place / "comparison.png"]
    _write_text(written[0], text + "\n")
    _write_text(written[1], record)
    if len(comparison.reference.cv_names) == 2:
        figures.panels(comparison.surfaces, written[2], notes(comparison))
        written.append(place / "profiles.png")
        figures.marginals(comparison.surfaces, written[3])
    else:
        figures.profiles(comparison.surfaces, written[2])
    kept = [stored / f"{name}.npz" for name in _file_names(comparison)]
    for earlier in stored.glob("*.npz"):
        if earlier not in kept:
            earlier.unlink()  # of an earlier comparison in this directory
    for surface, path in zip(comparison.surfaces, kept, strict=True):
        surface.save(path)
        written.append(path)
    return written


def _row_record(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "subject": None if row.surface.subject is None else row.surface.subject.record(),
        "rmse_kcal_mol": _estimate(row.rmse.scaled(_TO_KCAL)),
        "rmse_corrected_kcal_mol": _estimate(row.rmse_corrected.scaled(_TO_KCAL)),
        "noise_kcal_mol": row.noise * _TO_KCAL,
        "noise_taken_off_kcal_mol": _finite(row.noise_used * _TO_KCAL),
        "js_nats": _estimate(row.js),
        "js_by_noise_nats": row.js_noise,
        "bins_used": row.bins_used,
        "bins_missed": row.bins_missed,
        "population_missed": row.population_missed,
        "bins_thin": row.bins_thin,
        "n_frames": row.surface.n_frames,
        "n_runs": row.surface.n_runs,
        "n_effective": row.surface.n_effective,
        "basins": {
            basin.name: {
                "population": _estimate(basin.population if basin.population.bounded else Estimate.unbounded(np.nan)),
                "population_difference": _estimate(basin.population_difference),
                "free_energy_difference_kcal_mol": _estimate(basin.free_energy_difference.scaled(_TO_KCAL)),
                "visited": basin.visited,
                **_visits(basin.known),
            }
            for basin in row.basins
        },
        "quantities": {"_".join(filter(None, (m.name, m.quantity.unit))): _estimate(m.estimate) for m in row.others},
        "provenance": row.surface.provenance,
    }


def _estimate(value: Estimate) -> dict[str, float | None]:
    """An estimate in JSON: ``null`` for what the data do not give."""
    return {"value": _finite(value.value), "low": _finite(value.low), "high": _finite(value.high)}


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _visits(known: Occupancy) -> dict[str, Any]:
    return {"verdict": known.verdict, "entries": known.entries, "exits": known.exits, "frames_inside": known.frames}


def _basin_record(surface: FreeEnergySurface, confidence: float) -> dict[str, Any]:
    """Populations as fractions; without a value where the data do not tell it."""
    assert surface.basins is not None
    record = {}
    for name in surface.basins.names:
        known = surface.basin(name)
        found = known.interval(confidence)
        record[name] = {**_estimate(found if found.bounded else Estimate.unbounded(np.nan)), **_visits(known)}
    return record


def _nullable(values: np.ndarray) -> list[Any]:
    """Nested list with ``None`` for NaN (JSON has no NaN)."""
    return [_nullable(v) if v.ndim else (float(v) if np.isfinite(v) else None) for v in map(np.asarray, values)]


def _csv(surface: FreeEnergySurface) -> str:
    """One line per bin: centres (rad or nm), free energy, its error in both units and its 95 % interval."""
    header = [*surface.cv_names, "free_energy_kJ_mol", "stderr_kJ_mol", "free_energy_kcal_mol", "stderr_kcal_mol"]
    header += ["low_95_kcal_mol", "high_95_kcal_mol"]
    grids = np.meshgrid(*surface.centres, indexing="ij")
    energy, error = surface.free_energy, surface.stderr
    ends = [end * _TO_KCAL for end in surface.band()]
    columns = [g.ravel() for g in (*grids, energy, error, energy * _TO_KCAL, error * _TO_KCAL, *ends)]
    lines = [",".join(f"{value:.6g}" for value in row) for row in zip(*columns, strict=True)]
    return "\n".join([",".join(header), *lines]) + "\n"


def _directory(path: str | Path) -> Path:
    place = Path(path)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{place}: no directory can be made there ({error.strerror or error})") from None
    return place


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise StorageError(f"{path}: could not be written: {error.strerror or error}") from None


def _file_names(comparison: Comparison) -> list[str]:
    """A name without an ending for each surface, the reference first; no two are equal, whatever the labels hold."""
    names: list[str] = []
    for surface, prefix in zip(comparison.surfaces, ["reference-", *("" for _ in comparison.rows)], strict=True):
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in surface.label.replace(", ", "-"))
        name = (prefix + plain).strip("-.")[:100] or "surface"
        taken = {known.casefold() for known in names}
        number, unique = 1, name
        while unique.casefold() in taken:
            number += 1
            unique = f"{name}-{number}"
        names.append(unique)
    return names
