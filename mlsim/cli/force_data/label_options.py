"""``mlsim label``: frozen-solute mean forces with error bars."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.requests import LabelSettings


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("label")(label)


@generated(
    LabelSettings,
    leave=("system",),
    short={"temperature_K": "--temperature", "stderr_kJ_mol_nm": "--stderr"},
    file="Path of a YAML file with settings.",
)
def label(
    conformations: Annotated[
        Path, typer.Argument(help="Run directory, force frames (.h5) or trajectory to choose conformations from.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Label directory; continued if it exists.")],
    system: Annotated[str, typer.Option(help="Shipped system, directory of mlsim build, PDB file or sequence.")],
    *,
    given: Given,
    box: Annotated[
        Path | None,
        typer.Option(help="Directory of a run in explicit water whose box is taken. [default: one is equilibrated]"),
    ] = None,
    top: Annotated[
        Path | None, typer.Option(help="Path of the PDB file of a trajectory. [default: topology.pdb beside it]")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Number of labels at the same time.")] = 1,
    max_hours: Annotated[float | None, typer.Option(help="Maximum wall time of this call, hours.")] = None,
) -> None:
    """Average the force of water on held conformations: mlsim label RUN --system S -o DIR.

    The conformations are spread evenly over the backbone torsions. Writes DIR/labels.h5 (ForceFrames with stderr and
    covariance). The same command continues after a kill; finished labels are never made again. With --engine gromacs
    RUN is a run of mlsim reference --engine gromacs.
    """
    from mlsim.workflow.conformations import of_system
    from mlsim.workflow.force_data import label as work
    from mlsim.workflow.requests import COMMAND_LINE, listening
    from mlsim.workflow.simulation.places import absolute

    settings = LabelSettings.parse(absolute({**given, "system": system}, Path.cwd()), COMMAND_LINE)
    source = of_system(conformations, system, top)
    if settings.engine == "gromacs":
        box = conformations
    finished = work.finished(settings, output)
    with listening() as stop, LabelBar(settings.count, finished, work.UNITS_PER_LABEL) as bar:
        path = work.label(
            settings, source, output, box=box, processes=processes, max_hours=max_hours, progress=bar, stop=stop
        )
    if path is None:
        print("no label is finished yet")
    else:
        summarise(work.labels_in(path), settings.count)
        print(f"labels in {path}")
    if stop.reason is not None:
        print(f"stopped ({stop.reason}); the same command continues")
        sys.exit(stop.exit_code)


def summarise(frames: Any, count: int) -> None:
    """Print what labels cost and how good they are."""
    import numpy as np

    sampled = np.array(frames.provenance["sampled_ps"])
    error = np.sqrt((frames.stderr**2).mean(axis=(1, 2)))
    print(
        f"{len(frames)} of {count} labels, {sampled.sum():.0f} ps averaged and {frames.provenance['moved_ps']:.0f} ps "
        f"spent on getting there; {frames.provenance['wall_seconds'] / len(frames):.1f} s a label"
    )
    print(
        f"standard error {np.sqrt((error**2).mean()):.2f} kJ/mol/nm (best {error.min():.2f}, worst {error.max():.2f}), "
        f"{sampled.mean():.0f} ps a label (from {sampled.min():.0f} to {sampled.max():.0f})"
    )


class LabelBar:
    """Labels done and time left: a bar on a terminal, else a line a minute."""

    def __init__(self, count: int, finished: int, units: int) -> None:
        from mlsim.progress_bar import Bar

        self._units, self._count = units, count
        layout = "{percentage:3.0f}% |{bar:30}| {desc} [{elapsed}<{remaining}]"
        self._bar = Bar(count * units, finished * units, "labels", layout=layout)

    def __enter__(self) -> LabelBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, steps: int) -> None:
        """Count parts of a label."""
        self._bar.describe(f"{round(self._bar.n + steps) // self._units} of {self._count} labels")
        self._bar.update(steps)
