"""Surfaces and comparisons as plain text: what the command line prints.

What: ``summary`` of a surface and ``table`` of a comparison (kcal/mol, nats, per cent). A population or distance that
the data cannot tell is not a number here: the cell says "not converged" or "never visited", and a line below says what
was seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlsim.analysis.compare import Comparison, Row
from mlsim.analysis.occupancy import LEAST_LENGTH, Occupancy
from mlsim.analysis.surfaces import basins as basin_rules
from mlsim.analysis.surfaces import noise
from mlsim.analysis.surfaces.basins import ORIGIN
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.analysis.uncertainty import Estimate
from mlsim.units import KJ_PER_KCAL

_TO_KCAL = 1.0 / KJ_PER_KCAL


def summary(surface: FreeEnergySurface) -> str:
    """A surface in a few lines of text."""
    populated = surface.populated()
    lines = [
        f"{surface.label}: free energy over {' '.join(surface.cv_names)} at {surface.temperature_K:g} K",
        *_amount(surface),
        f"noise {noise.own(surface) * _TO_KCAL:.2f} kcal/mol over {populated.sum()} bins with F < 3 kcal/mol "
        f"(independent parts differ by {noise.between_parts(surface) * _TO_KCAL:.2f})",
        f"{_bin_errors(surface, populated)}",
        *(f"{key.replace('_', ' ')}: {text}" for key, text in _reweighting(surface)),
    ]
    if surface.basins is not None:
        lines.append("basin populations, % [95 % interval]")
        names = dict(zip(surface.basins.names, basin_rules.shown(surface.basins.names, [surface.solvent]), strict=True))
        lines += [f"  {names[n]:7s} {_population(surface.basin(n), 0.95)}" for n in surface.basins.names]
        lines += _of_the_visited(surface, list(names.values()))
    return "\n".join(lines)


def table(comparison: Comparison) -> str:
    """A comparison as aligned plain text."""
    reference = comparison.reference
    lines = [
        f"reference {reference.label}: {'; '.join(_amount(reference))}",
        f"its noise: {comparison.noise * _TO_KCAL:.3f} kcal/mol (independent parts differ by "
        f"{comparison.split_rmse * _TO_KCAL:.3f} kcal/mol and JS {comparison.js_splits:.4f} nats)",
        f"compared: {comparison.bins_compared} bins with F < {comparison.cutoff_kcal_mol:g} kcal/mol over "
        f"{' '.join(reference.cv_names)} at {reference.temperature_K:g} K, constant taken out; "
        f"[{100 * comparison.confidence:g} % intervals]",
        "",
    ]
    rows = [
        [
            *("", "RMSE kcal/mol", "noise-corrected", "bins", "missed", "own noise"),
            *("JS nats", "JS by noise", "eff. frames"),
            *(other.quantity.heading for other in comparison.rows[0].others),
        ]
    ]
    for row in comparison.rows:
        rows.append(
            [
                row.label,
                f"{row.rmse.value * _TO_KCAL:.2f}" if row.bins_used >= 2 else "too few bins",
                _corrected(row),
                f"{row.bins_used} of {comparison.bins_compared}",
                f"{row.bins_missed}" + (f" ({100 * row.population_missed:.1f} %)" if row.bins_missed else ""),
                f"{row.noise * _TO_KCAL:.2f}",
                f"{row.js.value:.3f}",
                f"{row.js_noise:.3f}",
                f"{row.surface.n_effective:.0f} of {row.surface.n_frames}",
                *(_other(measured.estimate, measured.quantity.digits) for measured in row.others),
            ]
        )
    lines += _aligned(rows)
    if reference.basins is not None and all(row.basins for row in comparison.rows):
        names = reference.basins.names
        shown = basin_rules.shown(names, [surface.solvent for surface in comparison.surfaces])
        lines += ["", "basin populations, %"]
        body = [[s.label, *(_cell(s.basin(n), comparison.confidence) for n in names)] for s in comparison.surfaces]
        lines += _aligned([["", *shown], *body])
        origin = shown[names.index(ORIGIN)]
        lines += ["", f"basin free energies relative to {origin}, candidate minus reference, kcal/mol"]
        others = [s for n, s in zip(names, shown, strict=True) if n != ORIGIN]
        lines += _aligned([["", *others], *([r.label, *_basin_cells(r)] for r in comparison.rows)])
    lines += _remarks(comparison)
    return "\n".join(lines)


def notes(comparison: Comparison) -> list[str]:
    """One line per panel: the reference's noise, then each candidate's corrected RMSE (kcal/mol)."""
    first = f"noise {comparison.noise * _TO_KCAL:.2f}"
    return [
        first,
        *(f"corrected RMSE {_corrected(row)}" for row in comparison.rows),
    ]


def _bin_errors(surface: FreeEnergySurface, populated: np.ndarray) -> str:
    """The typical error of a bin, and how many bins have one."""
    told = populated & surface.told
    if not told.any():
        return "no bin has been visited often enough for an error"
    return (
        f"median error per bin {np.median(surface.stderr[told]) * _TO_KCAL:.2f} kcal/mol "
        f"({told.sum()} of {populated.sum()} bins visited often enough for one)"
    )


def _reweighting(surface: FreeEnergySurface) -> list[tuple[str, str]]:
    """Remarks of the reweighting that belong beside the numbers."""
    found = surface.provenance.get("reweighting", {})
    return list(found.items()) if isinstance(found, dict) else []


def _population(known: Occupancy, confidence: float) -> str:
    """Population in per cent with its interval, or what is known without one."""
    found = known.interval(confidence)
    return f"{_bracket(found.scaled(100.0), 1)}  ({known.seen})" if found.bounded else known.seen


def _of_the_visited(surface: FreeEnergySurface, shown: Sequence[str]) -> list[str]:
    assert surface.basins is not None
    if not surface.basins.unsettled or len(surface.basins.unsettled) == len(surface.basins.names):
        return []
    names = [s for n, s in zip(surface.basins.names, shown, strict=True) if n in surface.basins.unsettled]
    return [f"  not known for {', '.join(names)}: the other populations are shares of what was visited"]


def _shared_runs(first: FreeEnergySurface, other: FreeEnergySurface) -> int:
    if first.subject is None or other.subject is None:
        return 0
    return len(set(first.subject.sources) & set(other.subject.sources))


def _cell(known: Occupancy, confidence: float) -> str:
    found = known.interval(confidence)
    return _bracket(found.scaled(100.0), 1) if found.bounded else _unsettled(known)


def _unsettled(known: Occupancy) -> str:
    """The verdict in a table's cell; the counts are in the remarks."""
    return "not converged" if known.verdict == "too short" else known.verdict


def _corrected(row: Row) -> str:
    """The corrected RMSE with its interval, its lower bound, or why there is none."""
    found = row.rmse_corrected.scaled(_TO_KCAL)
    if found.bounded:
        return _bracket(found, 2)
    if np.isfinite(found.low):
        return f"> {found.low:.2f}"
    return "not converged"


def _amount(surface: FreeEnergySurface) -> list[str]:
    runs = "run" if surface.n_runs == 1 else "runs"
    lines = [
        f"{surface.n_runs} {runs}, {surface.n_frames} frames ({surface.n_effective:.0f} effective, "
        f"statistical inefficiency {surface.statistical_inefficiency:.0f} frames, {surface.n_blocks} bootstrap blocks)"
    ]
    if surface.too_short:
        lines.append(
            f"too short for intervals: {surface.length:.0f} correlation times of its slowest basin or variable, "
            f"expected {LEAST_LENGTH:g} or more"
        )
    return lines


def _basin_cells(row: Row) -> list[str]:
    cells = []
    for basin in row.basins:
        if basin.name == ORIGIN:
            continue
        value = basin.free_energy_difference.scaled(_TO_KCAL)
        if value.bounded:
            cells.append(_bracket(value, 2, "+"))
        elif basin.known_reference.verdict != "converged":
            cells.append(f"reference {_unsettled(basin.known_reference)}")
        else:
            cells.append(_unsettled(basin.known) if basin.known.verdict != "converged" else "not converged")
    return cells


def _remarks(comparison: Comparison) -> list[str]:
    lines = []
    if comparison.bins_thin:
        lines.append(
            f"note: {comparison.bins_thin} of {comparison.bins_compared} compared bins have fewer than 4 independent "
            "visits of the reference"
        )
    for row in comparison.rows:
        shared = _shared_runs(comparison.reference, row.surface)
        if shared:
            lines.append(f"note: {row.label} shares {shared} run(s) with the reference: it is no independent candidate")
        if row.surface.too_short:
            lines.append(f"note: {row.label}: {_amount(row.surface)[1]}")
        if row.bins_thin:
            lines.append(
                f"note: {row.label}: {row.bins_thin} compared bins are left out of its RMSE: one side has too few "
                f"independent visits there{', or does not know their basin' if row.basins else ''}"
            )
        if row.bins_missed:
            lines.append(
                f"note: {row.label}: {row.bins_missed} compared bins ({100 * row.population_missed:.1f} % of the "
                "reference) were never visited and are in no RMSE; '>' is a lower bound because of them"
                if np.isinf(row.rmse_corrected.high)
                else f"note: {row.label}: {row.bins_missed} compared bins were never visited and are in no RMSE"
            )
    for surface in comparison.surfaces:
        if surface.basins is not None:
            for name in surface.basins.unsettled:
                shown = basin_rules.shown([name], [s.solvent for s in comparison.surfaces])[0]
                lines.append(f"note: {surface.label}: {shown} {surface.basin(name).seen}")
    lines += [f"note: {s.label}: {key}: {text}" for s in comparison.surfaces for key, text in _reweighting(s)]
    return ["", *lines] if lines else []


def _other(value: Estimate, digits: int) -> str:
    """A further quantity: with its interval where it has one."""
    if not np.isfinite(value.value):
        return "not known"
    return _bracket(value, digits) if value.bounded else f"{value.value:.{digits}f}"


def _bracket(value: Estimate, digits: int, sign: str = "") -> str:
    return f"{value.value:{sign}.{digits}f} [{value.low:{sign}.{digits}f}, {value.high:{sign}.{digits}f}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
