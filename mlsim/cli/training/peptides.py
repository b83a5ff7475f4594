"""``mlsim train peptides``: one solvent for any peptide, from packed force data of many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlsim.cli.training import fit_options


def peptides(
    data: Annotated[Path, typer.Argument(help="Directory of packed force frames (mlsim data pack).")],
    output: Annotated[Path, fit_options.OUTPUT],
    settings: Annotated[Path | None, typer.Option(help="Path of a YAML file with settings of the fit.")] = None,
    form: Annotated[str | None, typer.Option(help="What the network gives. [default: screened+additive]")] = None,
    cutoff_nm: Annotated[float | None, typer.Option(help="Range of the network, nm. [default: 0.6]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of passes over the training frames. [default: 8]")] = None,
    seed: Annotated[int, typer.Option(help="Root seed of weights, split and batches.")] = 1,
    threads: Annotated[int | None, fit_options.THREADS] = None,
    max_minutes: Annotated[float | None, fit_options.MAX_MINUTES] = None,
    resume: Annotated[bool, fit_options.RESUME] = False,
) -> None:
    """Fit one solvent to many peptides: mlsim train peptides DATA -o DIR; then mlsim export, verify."""
    from mlsim.fitting.solvent.engine import use_threads
    from mlsim.settings import read_yaml
    from mlsim.workflow.training.peptide_solvent_fit import PeptideSolventSettings, train_peptides

    given = {"form": form, "cutoff_nm": cutoff_nm, "epochs": epochs, "seed": seed, "max_minutes": max_minutes}
    values = {} if settings is None else read_yaml(settings)
    chosen = PeptideSolventSettings.parse(
        values | {key: value for key, value in given.items() if value is not None}, "command line"
    )
    if threads is not None:
        use_threads(threads)
    found = train_peptides(data, output, chosen, "auto", "resume" if resume else "new")
    how = fit_options.STOPPED[found.fit.stopped]
    print(f"{found.fit.epochs} epochs ({how}), best {found.fit.best_epoch}, {found.fit.frames_per_s:.0f} frames/s")
    if found.validation is not None:
        print("validation peptides; squared error of each model less that of this one, (kJ/mol/nm)^2 per component:")
        for row in found.validation.peptides:
            print(f"  {row.name}: " + ", ".join(f"{name} {gain.value:.0f}" for name, gain in row.gain.items()))
    print(f"model in {output}; make it a force field with: mlsim export {output} --name NAME --scope types")
