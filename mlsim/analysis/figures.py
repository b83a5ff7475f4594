"""Figures: Ramachandran panels on one colour scale, and one-dimensional profiles with error bands.

What: ``panels`` draws surfaces over two CVs side by side (kcal/mol, contour lines every kcal/mol, basin borders where
the CVs are phi and psi of one residue); ``profiles`` draws surfaces over one CV into one axes. Both write a file and
keep no global matplotlib state, so that they work without a display and from threads.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mlsim.analysis import observables
from mlsim.analysis.surfaces import basins
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.errors import InputError
from mlsim.files import replacing
from mlsim.shapes import Floats
from mlsim.units import KJ_PER_KCAL

#: Top of the colour scale, kcal/mol; what lies above is drawn in the top colour.
TOP_KCAL_MOL = 5.0
_COLOURS = "YlGnBu_r"
_SYMBOLS = {"phi": "φ", "psi": "ψ", "omega": "ω"} | {f"chi{k}": f"χ{'₁₂₃₄₅'[k - 1]}" for k in range(1, 6)}
_BASIN_SYMBOLS = {
    "alphaR": "α$_R$",
    "alphaL": "α$_L$",
    "PII": "P$_{II}$",
    "C5": "C5",
    "C7eq": "C7$_{eq}$",
    "C7ax": "C7$_{ax}$",
}
_LABEL_AT = {"alphaR": (-165, -105), "PII": (-28, 158), "C5": (-165, 158), "alphaL": (18, 158)}


def panels(surfaces: Sequence[FreeEnergySurface], path: str | Path, notes: Sequence[str] = ()) -> None:
    """Write surfaces over two CVs as panels with one colour scale.

    Parameters
    ----------
    surfaces : sequence of FreeEnergySurface
        Two-dimensional, on the same CVs; the first is the reference if there is one.
    path : path
        Image file; the ending chooses the format (``.png``, ``.pdf``, ``.svg``).
    notes : sequence of str
        A second title line for each panel, or none.
    """
    _require(surfaces, 2)
    columns = min(4, len(surfaces))
    rows = -(-len(surfaces) // columns)
    engine = ConstrainedLayoutEngine(h_pad=0.1, w_pad=0.05)
    figure = Figure(figsize=(2.75 * columns + 0.9, 3.0 * rows + 0.3), layout=engine)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    mesh = None
    for index, surface in enumerate(surfaces):
        ax = axes.flat[index]
        mesh = _panel(ax, surface)
        note = notes[index] if index < len(notes) else ""
        ax.set_title(_plain(note), fontsize=8.5, color="0.3", pad=4)
        ax.annotate(
            _title(surface.label),
            (0.5, 1.0),
            (0.0, 16.0 if note else 4.0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=11 if len(surface.label) < 24 else 9,
            fontweight="bold",
        )
        if index % columns == 0:
            ax.set_ylabel(_axis_label(surface.cv_names[1]))
        if index + columns >= len(surfaces):
            ax.set_xlabel(_axis_label(surface.cv_names[0]))
            ax.tick_params(labelbottom=True)
    for ax in axes.flat[len(surfaces) :]:
        ax.set_visible(False)
    assert mesh is not None
    bar = figure.colorbar(mesh, ax=axes, extend="max", shrink=0.9 if rows == 1 else 0.6, pad=0.015, aspect=22)
    bar.set_label("free energy / kcal mol$^{-1}$")
    bar.outline.set_linewidth(0.5)
    _write(figure, Path(path))


def profiles(surfaces: Sequence[FreeEnergySurface], path: str | Path) -> None:
    """Write surfaces over one CV as curves with bands of their 95 % intervals, where they have one.

    Parameters
    ----------
    surfaces : sequence of FreeEnergySurface
        One-dimensional, on the same CV; the first is drawn in black as the reference.
    path : path
        Image file.
    """
    _require(surfaces, 1)
    figure = Figure(figsize=(5.2, 3.5), layout="constrained")
    ax = figure.subplots()
    _curves(ax, surfaces)
    ax.set_ylabel("free energy / kcal mol$^{-1}$")
    ax.legend(frameon=False, fontsize=8.5, ncols=1 + (len(surfaces) > 4))
    _write(figure, Path(path))


def marginals(surfaces: Sequence[FreeEnergySurface], path: str | Path) -> None:
    """Write the one-dimensional profiles of both CVs of two-dimensional surfaces side by side."""
    _require(surfaces, 2)
    figure = Figure(figsize=(9.6, 3.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, name in zip(axes, surfaces[0].cv_names, strict=True):
        _curves(ax, [surface.marginal(name) for surface in surfaces])
    axes[0].set_ylabel("free energy / kcal mol$^{-1}$")
    axes[1].legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    _write(figure, Path(path))


def _panel(ax: Axes, surface: FreeEnergySurface) -> QuadMesh:
    energy = surface.free_energy / KJ_PER_KCAL
    x, y = (_displayed(e, name) for e, name in zip(surface.edges, surface.cv_names, strict=True))
    ax.set_facecolor("0.93")
    mesh = ax.pcolormesh(x, y, energy.T, cmap=_COLOURS, vmin=0.0, vmax=TOP_KCAL_MOL, linewidth=0, rasterized=True)
    centres = [0.5 * (e[1:] + e[:-1]) for e in (x, y)]
    padded, values = [], energy
    for number, (centre, periodic) in enumerate(zip(centres, surface.periodic, strict=True)):
        if periodic:
            step = centre[1] - centre[0]
            centre = np.concatenate([[centre[0] - step], centre, [centre[-1] + step]])
            values = np.pad(values, [(1, 1) if a == number else (0, 0) for a in range(2)], mode="wrap")
        padded.append(centre)
    shown = np.ma.masked_invalid(values)
    ax.contour(*padded, shown.T, levels=np.arange(1.0, TOP_KCAL_MOL), colors="k", linewidths=0.6, alpha=0.75)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[0], y[-1])
    if observables.same_residue(surface.cv_names):
        _draw_basins(ax, surface.solvent)
    for axis, periodic in zip((ax.xaxis, ax.yaxis), surface.periodic, strict=True):
        if periodic:
            axis.set_ticks([-180, -90, 0, 90, 180])
    ax.tick_params(labelsize=8.5, direction="out", length=3)
    ax.set_aspect("equal" if all(surface.periodic) else "auto")
    return mesh


def _draw_basins(ax: Axes, solvent: str) -> None:
    borders = [[(0, -180), (0, 180)], [(130, -180), (130, 180)]]
    borders += [[(low, psi), (high, psi)] for psi in (-120, 50) for low, high in ((-180, 0), (130, 180))]
    borders += [[(-110, low), (-110, high)] for low, high in ((50, 180), (-180, -120))]
    ax.add_collection(LineCollection(borders, colors="0.15", linestyles=(0, (4, 3)), linewidths=0.8))
    for name, shown in zip(basins.BASINS, basins.shown(basins.BASINS, [solvent]), strict=True):
        x, y = _LABEL_AT[name]
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
        align = "right" if name == "PII" else "left"
        ax.text(x + (24 if name == "PII" else 0), y, _BASIN_SYMBOLS[shown], fontsize=8, ha=align, va="center", bbox=box)


def _curves(ax: Axes, surfaces: Sequence[FreeEnergySurface]) -> None:
    palette = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#e377c2")
    for index, surface in enumerate(surfaces):
        name = surface.cv_names[0]
        edges = _displayed(surface.edges[0], name)
        x = 0.5 * (edges[1:] + edges[:-1])
        y = surface.free_energy / KJ_PER_KCAL
        low, high = (end / KJ_PER_KCAL for end in surface.band())
        colour = "black" if index == 0 else palette[(index - 1) % len(palette)]
        ax.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
        ax.plot(
            x,
            y,
            color=colour,
            linewidth=1.8 if index == 0 else 1.3,
            label=_plain(surface.label),
            zorder=3 - (index > 0),
        )
        ax.set_xlim(edges[0], edges[-1])
        ax.set_xlabel(_axis_label(name))
        if surface.periodic[0]:
            ax.set_xticks([-180, -90, 0, 90, 180])
    ax.set_ylim(-0.15, TOP_KCAL_MOL + 1.0)
    ax.tick_params(labelsize=8.5, length=3)
    ax.spines[["top", "right"]].set_visible(False)


def _plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return text.replace("$", r"\$")


def _title(label: str) -> str:
    """A label for the width of a panel: system and solvent below each other."""
    return "\n".join(textwrap.wrap(_plain(label), 34, break_long_words=True)) or label


def _displayed(edges: Floats, name: str) -> Floats:
    """Edges in the unit shown: degrees or nm."""
    return np.degrees(edges) if observables.parse(name).periodic else edges


def _axis_label(name: str) -> str:
    observable = observables.parse(name)
    symbol = _SYMBOLS.get(observable.name, observable.name)
    if observable.name in ("function", "column"):
        symbol, selection = "", observable.selection.partition("@")[0]
    else:
        selection = observable.selection
    text = _plain(f"{symbol} {selection}".strip())
    if observable.periodic:
        return f"{text} / °"
    return f"{text} / {_plain(observable.unit)}" if observable.unit else text


def _require(surfaces: Sequence[FreeEnergySurface], dimensions: int) -> None:
    if not surfaces:
        raise InputError("figure: expected at least one surface, got none")
    for surface in surfaces:
        if len(surface.cv_names) != dimensions:
            raise InputError(
                f"figure: expected surfaces over {dimensions} CV(s), '{surface.label}' is over {len(surface.cv_names)}"
            )


def _write(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=200, format=path.suffix.removeprefix(".") or "png")
