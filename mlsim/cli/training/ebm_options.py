"""``mlsim train ebm``: an energy-based model from conformations alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.cli.training import fit_options
from mlsim.workflow.training.fit_settings import EbmSettings


@generated(EbmSettings, short={**fit_options.SHORT, "temperature_K": "--temperature"}, file=fit_options.FILE)
def ebm(
    source: Annotated[
        str, typer.Argument(help="dw4, lj13, force frames (.h5), a run directory or a trajectory; forces are not used.")
    ],
    output: Annotated[Path, fit_options.OUTPUT],
    *,
    given: Given,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Learn an energy from conformations alone: mlsim train ebm dw4 -o DIR; then mlsim export, verify, run."""
    from mlsim.workflow.requests import COMMAND_LINE
    from mlsim.workflow.training.ebm_fit import train_ebm

    settings = EbmSettings.parse(given, COMMAND_LINE)
    found = train_ebm(source, output, settings, "auto", "resume" if resume else "new")
    print(f"{found.facts['data']} (worth {found.facts['effective_frames']:g} independent weights)")
    how = fit_options.STOPPED[found.fit.stopped]
    print(f"{found.fit.epochs} epochs ({how}), held-out denoising error {found.fit.held_out:.4f} (1: no score)")
    print(f"model in {output}; make it a force field with: mlsim export {output} --name NAME -o forcefields/")
