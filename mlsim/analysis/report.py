"""Reports: surfaces and comparisons as plain text, JSON, CSV and figures.

What: ``summary`` and ``table`` are the texts that the command line prints (kcal/mol, nats, per cent);
``surface_record`` and ``comparison_record`` are JSON-able with the unit in every key; ``write_surface`` and
``write_comparison`` put everything into a directory, the texts and records only after all of it could be computed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlsim.analysis.compare import Comparison, Row
from mlsim.analysis.surfaces import noise
from mlsim.analysis.surfaces.basins import ORIGIN
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.analysis.uncertainty import Estimate
from mlsim.errors import StorageError
from mlsim.units import KJ_PER_KCAL

_TO_KCAL = 1.0 / KJ_PER_KCAL


def summary(surface: FreeEnergySurface) -> str:
    """A surface in a few lines of text."""
    populated = surface.populated()
    lines = [
        f"{surface.label}: free energy over {' '.join(surface.cv_names)} at {surface.temperature_K:g} K",
        _amount(surface),
        f"noise {noise.own(surface) * _TO_KCAL:.2f} kcal/mol over {populated.sum()} bins with F < 3 kcal/mol "
        f"(independent parts differ by {noise.between_parts(surface) * _TO_KCAL:.2f}); "
        f"median error per bin {np.nanmedian(surface.stderr[populated]) * _TO_KCAL:.2f}",
    ]
    if surface.basins is not None:
        lines.append("basin populations, % [95 % interval]")
        parts = [(name, surface.population(name).scaled(100.0)) for name in surface.basins.names]
        lines += [f"  {name:7s} {_bracket(value, 1)}" for name, value in parts]
    return "\n".join(lines)


def table(comparison: Comparison) -> str:
    """A comparison as aligned plain text."""
    reference = comparison.reference
    lines = [
        f"reference {reference.label}: {_amount(reference)}",
        f"its noise: {comparison.noise * _TO_KCAL:.3f} kcal/mol (independent parts differ by "
        f"{comparison.split_rmse * _TO_KCAL:.3f} kcal/mol and JS {comparison.js_splits:.4f} nats)",
        f"compared: {comparison.bins_compared} bins with F < {comparison.cutoff_kcal_mol:g} kcal/mol over "
        f"{' '.join(reference.cv_names)} at {reference.temperature_K:g} K, constant taken out; "
        f"[{100 * comparison.confidence:g} % intervals]",
        "",
    ]
    rows = [["", "RMSE kcal/mol", "noise-corrected", "own noise", "JS nats", "JS by noise", "missed", "eff. frames"]]
    for row in comparison.rows:
        rows.append(
            [
                row.label,
                _bracket(row.rmse.scaled(_TO_KCAL), 2),
                _bracket(row.rmse_corrected.scaled(_TO_KCAL), 2),
                f"{row.noise * _TO_KCAL:.2f}",
                _bracket(row.js, 3),
                f"{row.js_noise:.3f}",
                f"{row.bins_missed}" + (f" ({100 * row.population_missed:.1f} %)" if row.bins_missed else ""),
                f"{row.surface.n_effective:.0f} of {row.surface.n_frames}",
            ]
        )
    lines += _aligned(rows)
    if reference.basins is not None and all(row.basins for row in comparison.rows):
        names = reference.basins.names
        lines += ["", "basin populations, %"]
        own = [_bracket(reference.population(n, comparison.confidence).scaled(100.0), 1) for n in names]
        body = [[reference.label, *own]]
        body += [[r.label, *(_bracket(b.population.scaled(100.0), 1) for b in r.basins)] for r in comparison.rows]
        lines += _aligned([["", *names], *body])
        lines += ["", f"basin free energies relative to {ORIGIN}, candidate minus reference, kcal/mol"]
        others = [n for n in names if n != ORIGIN]
        lines += _aligned([["", *others], *([r.label, *_basin_cells(r, reference)] for r in comparison.rows)])
    lines += _remarks(comparison)
    return "\n".join(lines)


def notes(comparison: Comparison) -> list[str]:
    """One line per panel: the reference's noise, then each candidate's corrected RMSE (kcal/mol)."""
    first = f"noise {comparison.noise * _TO_KCAL:.2f}"
    return [
        first,
        *(f"corrected RMSE {_bracket(r.rmse_corrected.scaled(_TO_KCAL), 2)}" for r in comparison.rows),
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
        "provenance": surface.provenance,
    }
    if surface.basins is not None:
        record["basin_population"] = {n: _estimate(surface.population(n)) for n in surface.basins.names}
    return record


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """JSON-able record of a comparison (energies in kcal/mol, populations as fractions)."""
    reference = comparison.reference
    populations = reference.basins
    return {
        "reference": {
            "label": reference.label,
            "n_frames": reference.n_frames,
            "n_runs": reference.n_runs,
            "n_effective": reference.n_effective,
            "noise_kcal_mol": comparison.noise * _TO_KCAL,
            "between_parts_kcal_mol": comparison.split_rmse * _TO_KCAL,
            "js_between_parts_nats": comparison.js_splits,
            "bins_thin": comparison.bins_thin,
            "basin_population": {}
            if populations is None
            else {n: _estimate(reference.population(n, comparison.confidence)) for n in populations.names},
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
    for surface, name in zip(comparison.surfaces, ["reference", *(r.label for r in comparison.rows)], strict=True):
        path = stored / f"{_file_name(name)}.npz"
        surface.save(path)
        written.append(path)
    return written


def _amount(surface: FreeEnergySurface) -> str:
    runs = "run" if surface.n_runs == 1 else "runs"
    return (
        f"{surface.n_runs} {runs}, {surface.n_frames} frames ({surface.n_effective:.0f} effective, "
        f"statistical inefficiency {surface.statistical_inefficiency:.0f} frames, {surface.n_blocks} bootstrap blocks)"
    )


def _basin_cells(row: Row, reference: FreeEnergySurface) -> list[str]:
    cells = []
    for basin in row.basins:
        value = basin.free_energy_difference.scaled(_TO_KCAL)
        if basin.name == ORIGIN:
            continue
        if reference.population(basin.name).value == 0.0:
            cells.append("not in reference")
        else:
            bound = f" (> {value.value:+.2f})" if value.value > 0.0 else ""
            cells.append(_bracket(value, 2, "+") if basin.visited else f"never visited{bound}")
    return cells


def _remarks(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.bins_thin:
        lines.append(
            f"note: {comparison.bins_thin} of {comparison.bins_compared} compared bins have fewer than 4 independent "
            "visits of the reference"
        )
    for row in comparison.rows:
        if row.bins_thin:
            lines.append(
                f"note: {row.bins_thin} of {comparison.bins_compared} compared bins have fewer than 4 independent "
                f"visits of {row.label} ({row.bins_missed} have none): its corrected RMSE is an upper estimate"
            )
    return ["", *lines] if lines else []


def _row_record(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "rmse_kcal_mol": _estimate(row.rmse.scaled(_TO_KCAL)),
        "rmse_corrected_kcal_mol": _estimate(row.rmse_corrected.scaled(_TO_KCAL)),
        "noise_kcal_mol": row.noise * _TO_KCAL,
        "noise_bootstrap_kcal_mol": row.noise_bootstrap * _TO_KCAL,
        "js_nats": _estimate(row.js),
        "js_by_noise_nats": row.js_noise,
        "bins_missed": row.bins_missed,
        "population_missed": row.population_missed,
        "bins_thin": row.bins_thin,
        "n_frames": row.surface.n_frames,
        "n_runs": row.surface.n_runs,
        "n_effective": row.surface.n_effective,
        "basins": {
            basin.name: {
                "population": _estimate(basin.population),
                "population_difference": _estimate(basin.population_difference),
                "free_energy_difference_kcal_mol": _estimate(basin.free_energy_difference.scaled(_TO_KCAL)),
                "visited": basin.visited,
            }
            for basin in row.basins
        },
        "provenance": row.surface.provenance,
    }


def _estimate(value: Estimate) -> dict[str, float]:
    return {"value": value.value, "low": value.low, "high": value.high}


def _bracket(value: Estimate, digits: int, sign: str = "") -> str:
    return f"{value.value:{sign}.{digits}f} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _nullable(values: np.ndarray) -> list[Any]:
    """Nested list with ``None`` for NaN (JSON has no NaN)."""
    return [_nullable(v) if v.ndim else (float(v) if np.isfinite(v) else None) for v in map(np.asarray, values)]


def _csv(surface: FreeEnergySurface) -> str:
    """One line per bin: centres (rad or nm), free energy and its error in both units."""
    header = [*surface.cv_names, "free_energy_kJ_mol", "stderr_kJ_mol", "free_energy_kcal_mol", "stderr_kcal_mol"]
    grids = np.meshgrid(*surface.centres, indexing="ij")
    energy, error = surface.free_energy, surface.stderr
    columns = [g.ravel() for g in (*grids, energy, error, energy * _TO_KCAL, error * _TO_KCAL)]
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


def _file_name(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in label) or "surface"
