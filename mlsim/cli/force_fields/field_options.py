"""``mlsim export``, ``mlsim verify``, ``mlsim energy``: from a training to a force field that may be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlsim.cli.options import Given, generated
from mlsim.workflow.force_fields.field_settings import EnergySettings, ExportSettings

if TYPE_CHECKING:
    from mlsim.workflow.force_fields.verify_field import VerifyReport


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("export")(export)
    app.command("verify")(verify)
    app.command("energy")(energy)


@generated(ExportSettings, short={"temperature_K": "--temperature"})
def export(
    fit: Annotated[Path, typer.Argument(help="Training directory, as mlsim train writes it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of force fields.")] = Path("forcefields"),
    *,
    given: Given,
) -> None:
    """Write a trained model as a force field: mlsim export DIR --name NAME -o forcefields/."""
    from mlsim.workflow.force_fields.export_fit import export as write
    from mlsim.workflow.requests import COMMAND_LINE

    artifact = write(fit, output, ExportSettings.parse(given, COMMAND_LINE))
    table = artifact.card.table
    if table is not None:
        print(
            f"filters tabulated on {table.intervals} intervals, relative error {table.value_error:.1e} (value), "
            f"{table.slope_error:.1e} (slope); forces change by {table.force_change:.1e} relative"
        )
    print(f"{artifact.directory}: written; before it can be used, run: mlsim verify {artifact.directory}")


def verify(
    forcefield: Annotated[str, typer.Argument(help="Name of a force field, or its directory.")],
    system: Annotated[str | None, typer.Option(help="Molecule to check it on; the card is then left as it is.")] = None,
) -> None:
    """Check that every way to compute a force field gives the same, right numbers; exit code 2 if not."""
    from mlsim.errors import ArtifactError
    from mlsim.workflow.force_fields.verify_field import verify as examine

    found = examine(forcefield, system)
    _print(found.report)
    if found.replaced:
        print(
            "model.pt was not the program of these weights and settings (another version wrote it, or it was changed): "
            "made anew; the old one was not run"
        )
    if found.unwritten is not None:
        print(f"the card was not changed: {found.unwritten}")
    if not found.report.passed:
        failed = ", ".join(check.name for check in found.report.checks if not check.passed)
        raise ArtifactError(f"{found.artifact.name}: verification failed: {failed}")
    print(f"{found.artifact.name}: all {len(found.report.checks)} checks passed ({found.artifact.digest})")


@generated(EnergySettings)
def energy(
    trajectory: Annotated[Path, typer.Argument(help="Trajectory in any format that mdtraj reads.")],
    forcefield: Annotated[str, typer.Option(help="Name of a force field, or its directory.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Path of the table to write (CSV).")],
    *,
    given: Given,
) -> None:
    """Energies of a force field along a trajectory: mlsim energy run.xtc --top run.pdb --forcefield NAME -o e.csv."""
    from mlsim.workflow.force_fields.energies import energy as compute
    from mlsim.workflow.requests import COMMAND_LINE

    energies = compute(trajectory, forcefield, output, EnergySettings.parse(given, COMMAND_LINE)).energies
    print(
        f"{output}: {len(energies)} frames, energy {energies.mean():.3f} kJ/mol on average, "
        f"standard deviation {energies.std():.3f}"
    )


def _print(report: VerifyReport) -> None:
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        mark = "ok " if check.passed else "BAD"
        note = f"  ({check.note})" if check.note else ""
        print(f"{mark} {check.name:<{width}}  {check.value:9.2e} <= {check.bound:.0e} {check.unit}{note}")
