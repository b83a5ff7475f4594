"""``mlsim export``, ``mlsim verify``, ``mlsim energy``: from a training to a force field that may be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mlsim.chem.molecule import Molecule
    from mlsim.dataset.region import TrainedRegion
    from mlsim.deploy.card import Measured
    from mlsim.deploy.verify import VerifyReport
    from mlsim.records import FitRecord


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command("export")(export)
    app.command("verify")(verify)
    app.command("energy")(energy)


def export(
    fit: Annotated[Path, typer.Argument(help="Training directory, as mlsim train writes it.")],
    name: Annotated[str, typer.Option(help="Name of the force field.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of force fields.")] = Path("forcefields"),
    system: Annotated[
        str | None, typer.Option(help="Molecule it is for. [default: the known system it was trained on]")
    ] = None,
    scope: Annotated[
        str, typer.Option(help="molecule: for this one only; types: for any made of the atom types it was trained on.")
    ] = "molecule",
    compress: Annotated[
        str, typer.Option(help="Grid of the filter table: auto (as fine as needed) or a number of intervals.")
    ] = "auto",
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the training data, K, if they do not say.")
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "MIT",
    frames: Annotated[
        Path | None, typer.Option(help="Training frames, for the guard, if the training directory has no guard.npz.")
    ] = None,
    notes: Annotated[str, typer.Option(help="Anything a user of the force field should know.")] = "",
) -> None:
    """Write a trained model as a force field: mlsim export DIR --name NAME -o forcefields/."""
    from mlsim.deploy.card import Description, Training
    from mlsim.deploy.export import export as write
    from mlsim.errors import InputError
    from mlsim.models import weights
    from mlsim.records import FitRecord

    if not name or Path(name).name != name or name.startswith("."):
        raise InputError(f"--name: expected a plain name without slashes, got '{name}'")
    intervals = _intervals(compress)
    result = FitRecord.read(fit)
    model = weights.load(fit)
    molecule = _molecule(system, result.molecule_digest, fit / "molecule.pdb")
    test = fit / "test.json"
    training = Training(
        data_digest=result.train_digest,
        data=result.data or f"{result.n_train} frames of {molecule.name}",
        frames=result.n_train,
        atom_types=tuple(sorted(set(molecule.atom_types))),
        settings_digest=result.identity,
        seed=result.settings.get("seed"),
        held_out=tuple(_held_out(_json(test) if test.is_file() else result.held_out, result)),
        notes=notes,
    )
    told = {"scope": scope, "temperature_K": _temperature(fit, result, temperature), "licence": licence}
    told |= {"force_field": result.force_field or molecule.force_field[0], "water": result.water or "unknown"}
    description = Description.parse(told | {"role": model.role, "training": training}, "command line")
    trained = _region(fit, frames, molecule)
    artifact = write(model, molecule, output / name, description, intervals, trained)
    table = artifact.card.table
    if table is not None:
        print(
            f"filters tabulated on {table.intervals} intervals, relative error {table.value_error:.1e} (value), "
            f"{table.slope_error:.1e} (slope); forces change by {table.force_change:.1e} relative"
        )
    print(f"{artifact.directory}: written; before it can be used, run: mlsim verify {artifact.directory}")


def verify(
    forcefield: Annotated[str, typer.Argument(help="Name of a force field, or its directory.")],
    system: Annotated[
        str | None, typer.Option(help="Check it on another molecule (the card is then left as it is).")
    ] = None,
) -> None:
    """Check that every way to compute a force field gives the same, right numbers; exit code 2 if not."""
    from mlsim.chem.catalog import forcefield_directory, load_system
    from mlsim.deploy.artifact import ForceFieldArtifact
    from mlsim.deploy.verify import verify as examine
    from mlsim.errors import ArtifactError, StorageError

    artifact = ForceFieldArtifact.read(forcefield_directory(forcefield))
    report = examine(artifact, None if system is None else load_system(system))
    _print(report)
    if system is None:
        try:
            artifact.with_verification(report.record())
        except StorageError as error:
            print(f"the card was not changed: {error}")
    if not report.passed:
        failed = ", ".join(check.name for check in report.checks if not check.passed)
        raise ArtifactError(f"{artifact.name}: verification failed: {failed}")
    print(f"{artifact.name}: all {len(report.checks)} checks passed ({artifact.digest})")


def energy(
    trajectory: Annotated[Path, typer.Argument(help="Trajectory in any format that mdtraj reads.")],
    forcefield: Annotated[str, typer.Option(help="Name of a force field, or its directory.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write (CSV).")],
    top: Annotated[Path | None, typer.Option(help="PDB file of the solute. [default: topology.pdb beside it]")] = None,
    stride: Annotated[int, typer.Option(min=1, help="Use every n-th frame.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
) -> None:
    """Energies of a force field along a trajectory: mlsim energy run.xtc --top run.pdb --forcefield NAME -o e.csv."""
    import numpy as np

    from mlsim.chem.catalog import forcefield_directory, read_structure
    from mlsim.deploy.bind import load_forcefield
    from mlsim.errors import MissingError
    from mlsim.runs.restart import storage, write_atomically
    from mlsim.workflow.conformations import of_molecule

    pdb = trajectory.parent / "topology.pdb" if top is None else top
    for path in (trajectory, pdb):
        if not path.is_file():
            raise MissingError(f"{path}: no such file" + ("; name the PDB file with --top" if path == pdb else ""))
    molecule = read_structure(pdb)
    bound = load_forcefield(forcefield_directory(forcefield)).bind(molecule)
    positions, time_ps = of_molecule(trajectory, pdb, molecule, stride)
    energies, forces = bound.evaluate(positions, threads)
    rms = np.sqrt((forces**2).mean(axis=(1, 2)))
    times = [""] * len(energies) if time_ps is None else [f"{t:.6g}" for t in time_ps]
    rows = zip(range(0, len(energies) * stride, stride), times, energies, rms, strict=True)
    text = "frame,time_ps,energy_kJ_mol,rms_force_kJ_mol_nm\n"
    text += "".join(f"{k},{t},{e:.8f},{f:.6f}\n" for k, t, e, f in rows)
    with storage(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(output, text)
    print(
        f"{output}: {len(energies)} frames, energy {energies.mean():.3f} kJ/mol on average, "
        f"standard deviation {energies.std():.3f}"
    )


def _intervals(compress: str) -> int | None:
    from mlsim.errors import InputError

    if compress == "auto":
        return None
    if not compress.isdigit() or not 8 <= int(compress) <= 65536:
        raise InputError(f"--compress: expected 'auto' or a number of intervals from 8 to 65536, got '{compress}'")
    return int(compress)


def _json(path: Path) -> dict[str, Any]:
    from mlsim.errors import InputError

    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def _molecule(system: str | None, digest: str, kept: Path) -> Molecule:
    """The molecule asked for, which must be the one trained on; or the one kept with it; or the known system."""
    from mlsim.chem.catalog import load_system, systems
    from mlsim.errors import InputError

    if system is not None:
        molecule = load_system(system)
        if digest and molecule.digest != digest:
            raise InputError(f"--system {system}: the model was trained on another molecule (digest {digest})")
        return molecule
    if kept.is_file():
        return load_system(kept)
    for entry in systems():
        molecule = entry.load()
        if molecule.digest == digest:
            return molecule
    raise InputError(f"no known system is the one trained on (digest {digest}); name it with --system")


def _region(fit: Path, frames: Path | None, molecule: Molecule) -> TrainedRegion | None:
    """What the training directory says it was trained on; else the frames given, a tenth of them held out."""
    from mlsim.dataset import region
    from mlsim.dataset.frames import ForceFrames
    from mlsim.dataset.split import by_block
    from mlsim.errors import InputError

    if frames is None:
        kept = fit / region.FILE
        return region.TrainedRegion.load(kept) if kept.is_file() else None
    found = ForceFrames.load(frames)
    if found.molecule_digest != molecule.digest:
        raise InputError(f"--frames {frames}: of another molecule than {molecule.name}")
    parts = by_block(found, (0.9, 0.1, 0.0), 100.0, 1)
    return region.TrainedRegion.of(parts.train, parts.valid, 1)


def _temperature(fit: Path, result: FitRecord, given: float | None) -> float:
    """Temperature of the training data, K: what the fit recorded; only where it could not, what is given."""
    from mlsim.errors import InputError

    if result.temperature_K is None:
        if given is None:
            raise InputError(f"{fit}: its data do not say their temperature; name it with --temperature")
        return given
    if given is not None and given != result.temperature_K:
        raise InputError(
            f"--temperature {given:g}: {fit} was trained at {result.temperature_K:g} K; leave the option away"
        )
    return result.temperature_K


def _held_out(errors: dict[str, Any], result: FitRecord) -> list[Measured]:
    from mlsim.deploy.card import Measured

    if result.held_out_error is not None:  # of a density, which has no force labels
        return [Measured(quantity=result.held_out_unit, value=result.held_out_error)]
    return [
        Measured(quantity=f"{what} force error of {row['predictor']}", unit=errors.get("unit", ""), **row[what])
        for row in errors.get("rows", [])
        for what in ("projected", "raw")
    ]


def _print(report: VerifyReport) -> None:
    width = max(len(check.name) for check in report.checks)
    for check in report.checks:
        mark = "ok " if check.passed else "BAD"
        note = f"  ({check.note})" if check.note else ""
        print(f"{mark} {check.name:<{width}}  {check.value:9.2e} <= {check.bound:.0e} {check.unit}{note}")
