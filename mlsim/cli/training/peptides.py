"""``mlsim train peptides`` and ``peptide-populations``: one solvent for any peptide, from packed frames of many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.cli.training import fit_options
from mlsim.workflow.training.peptide_settings import PeptideSolventSettings


@generated(PeptideSolventSettings, short=fit_options.SHORT, file=fit_options.FILE)
def peptides(
    data: Annotated[Path, typer.Argument(help="Directory of packed force frames (mlsim data pack).")],
    output: Annotated[Path, fit_options.OUTPUT],
    *,
    given: Given,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Fit one solvent to many peptides: mlsim train peptides DATA -o DIR; then mlsim export, verify."""
    from mlsim.workflow.requests import COMMAND_LINE
    from mlsim.workflow.training.peptide_solvent_fit import train_peptides

    settings = PeptideSolventSettings.parse(given, COMMAND_LINE)
    found = train_peptides(data, output, settings, "auto", "resume" if resume else "new")
    how = fit_options.STOPPED[found.fit.stopped]
    print(f"{found.fit.epochs} epochs ({how}), best {found.fit.best_epoch}, {found.fit.frames_per_s:.0f} frames/s")
    if found.validation is not None:
        print("validation peptides; squared error of each model less that of this one, (kJ/mol/nm)^2 per component:")
        for row in found.validation.peptides:
            print(f"  {row.name}: " + ", ".join(f"{name} {gain.value:.0f}" for name, gain in row.gain.items()))
    print(f"model in {output}; make it a force field with: mlsim export {output} --name NAME --scope types")


def peptide_populations(
    fit: Annotated[Path, typer.Argument(help="Training directory of mlsim train peptides.")],
    data: Annotated[Path, typer.Option(help="Directory of packed force frames that FIT was fitted to.")],
    equilibrium: Annotated[
        Path, typer.Option(help="Directory of packed frames of long runs, NAME/start-*.h5 and NAME/bias.npz.")
    ],
    output: Annotated[Path, fit_options.OUTPUT],
    settings: Annotated[Path | None, typer.Option(help="Path of a YAML file with settings of the fit.")] = None,
    seed: Annotated[int | None, typer.Option(help="Root seed of runs, batches and pairs. [default: 1]")] = None,
    threads: Annotated[int | None, fit_options.THREADS] = None,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Correct the populations of a solvent for any peptide: mlsim train peptide-populations FIT --data DATA -o DIR.

    Runs with the model of FIT are made first, in DIR-runs; the same command with --resume continues the training.
    """
    from mlsim.settings import read_yaml
    from mlsim.workflow.training.peptide_populations import PeptidePopulationSettings, match_populations
    from mlsim.workflow.training.solvent_fits import use_threads

    values = {} if settings is None else read_yaml(settings)
    chosen = PeptidePopulationSettings.parse(values | ({} if seed is None else {"seed": seed}), "command line")
    if threads is not None:
        use_threads(threads)
    found = match_populations(fit, data, equilibrium, output, chosen, "auto", "resume" if resume else "new")
    how = fit_options.STOPPED[found.fit.stopped]
    print(f"{found.fit.epochs} epochs ({how}), best {found.fit.best_epoch}; held-out pair loss (0.6931: alike before):")
    for name, loss in found.pair_losses.items():
        print(f"  {name}: {loss:.4f}")
    print(f"model in {output}; make it a force field with: mlsim export {output} --name NAME --scope types")
