"""The course of a training run, as a table and as a figure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mlsim.files import replacing

COLUMNS = ("epoch", "step", "learning_rate", "train", "valid", "frames_per_s", "seconds")
TABLE = "history.csv"
FIGURE = "learning-curve.png"


def write_table(history: Sequence[dict[str, float]], directory: Path) -> Path:
    """Write ``history.csv``, one row per epoch, replacing an earlier one."""
    path = directory / TABLE
    with replacing(path) as partial, open(partial, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for row in history:
            writer.writerow({name: f"{row[name]:.8g}" for name in COLUMNS})
    return path


def draw(history: Sequence[dict[str, float]], directory: Path, quantity: str, levels: dict[str, float]) -> Path:
    """Draw ``learning-curve.png``: training and held-out error over epochs.

    Parameters
    ----------
    history : sequence of dict
    directory : Path
    quantity : str
        Axis label with unit.
    levels : dict
        Horizontal lines by name, e.g. the error of no force at all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    epochs = [row["epoch"] for row in history]
    axes.plot(epochs, [row["train"] for row in history], label="training", color="tab:gray")
    axes.plot(epochs, [row["valid"] for row in history], label="held out", color="tab:blue", marker=".")
    for index, (name, level) in enumerate(levels.items()):
        axes.axhline(level, linestyle=":", color=f"C{index + 2}", label=name)
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.legend(frameon=False)
    path = directory / FIGURE
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)
    return path
