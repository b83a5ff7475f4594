"""From a training directory to a force field: the model, the molecule it is for, and what it was trained on.

    DIR of mlsim train -> card (training, conditions, errors), model.pt, parameters, guard -> FORCEFIELDS/NAME

A potential of mean force holds for one temperature, force field and water. They are those that the training recorded;
where its data did not say, they must be given, and nothing is taken to be what it usually is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from mlsim.chem.catalog import load_system, systems
from mlsim.chem.molecule import Molecule
from mlsim.dataset import region
from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.split import by_block
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.card import Description, Measured, Training
from mlsim.deploy.export import export as write
from mlsim.errors import InputError
from mlsim.models import weights
from mlsim.records import FitRecord, read_json
from mlsim.workflow.force_fields.committee_of_fits import committee_of
from mlsim.workflow.force_fields.field_settings import ExportSettings
from mlsim.workflow.training.peptide_solvent_fit import VALIDATION

#: Errors on the test frames, as ``mlsim train`` leaves them.
TEST = "test.json"
#: Share of the frames, when they are given for the guard, that set its threshold, and the split of them.
_HELD, _BLOCK_PS, _SEED = 0.1, 100.0, 1


def export(fit: str | Path, directory: str | Path, settings: ExportSettings) -> ForceFieldArtifact:
    """Write a trained model as a force field.

    Parameters
    ----------
    fit : str or Path
        Training directory, as ``mlsim train`` writes it.
    directory : str or Path
        Directory of force fields; the new one is ``directory / settings.name``.
    settings : ExportSettings

    Returns
    -------
    ForceFieldArtifact
        Not verified: before it can be used, call :func:`mlsim.workflow.force_fields.verify_field.verify`.

    Raises
    ------
    MissingError, InputError
        No finished training; a molecule, temperature, force field or water that nothing says, or that is given and
        differs from what the training says.
    OccupiedError
        If the force field exists.
    """
    fit, directory = Path(fit), Path(directory)
    record = FitRecord.read(fit)
    model = weights.load(fit)
    molecule = _molecule(settings.system, record.molecule_digest, fit / "molecule.pdb")
    if record.peptides:
        molecule = replace(molecule, name=next(iter(record.peptides)))
    test = fit / TEST
    training = Training(
        data_digest=record.train_digest,
        data=record.data or f"{record.n_train} frames of {molecule.name}",
        frames=record.n_train,
        atom_types=() if record.peptides else tuple(sorted(set(molecule.atom_types))),
        settings_digest=record.identity,
        seed=record.settings.get("seed"),
        held_out=tuple(
            _many_held_out(record.held_out, read_json(fit / VALIDATION) if (fit / VALIDATION).is_file() else {})
            if record.peptides
            else _held_out(read_json(test) if test.is_file() else record.held_out, record)
        ),
        notes=settings.notes,
    )
    description = Description(
        role=model.role,
        scope=settings.scope,
        temperature_K=float(_fact(fit, "temperature_K", record.temperature_K, settings.temperature_K)),
        force_field=str(_fact(fit, "force_field", record.force_field, settings.force_field)),
        water=str(_fact(fit, "water", record.water, settings.water)),
        training=training,
        licence=settings.licence,
    )
    committee = None
    if settings.members:
        committee = committee_of(settings.members, settings.frames, description)
    trained = None if settings.members else _region(fit, settings.frames, molecule)
    return write(model, molecule, directory / settings.name, description, settings.intervals, trained, committee)


def _fact(fit: Path, key: str, recorded: Any, given: Any) -> Any:
    """A fact about the training data: what the fit recorded; only where it could not, what is given."""
    option = "--" + key.replace("_", "-")
    if recorded is None:
        if given is None:
            what = key.removesuffix("_K").replace("_", " ")
            raise InputError(f"{fit}: its data do not say their {what}; name it with {option}")
        return given
    if given is not None and given != recorded:
        raise InputError(f"{option} {given}: {fit} was trained with {recorded}; leave the option away")
    return recorded


def _molecule(system: str | None, digest: str, kept: Path) -> Molecule:
    """The molecule asked for, which must be the one trained on; or the one kept with it; or the known system."""
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


def _region(fit: Path, frames: Path | None, molecule: Molecule) -> region.TrainedRegion | None:
    """What the training directory says it was trained on; else the frames given, a tenth of them held out."""
    if frames is None:
        kept = fit / region.FILE
        return region.TrainedRegion.load(kept) if kept.is_file() else None
    found = ForceFrames.load(frames)
    if found.molecule_digest != molecule.digest:
        raise InputError(f"--frames {frames}: of another molecule than {molecule.name}")
    parts = by_block(found, (1 - _HELD, _HELD, 0.0), _BLOCK_PS, _SEED)
    return region.TrainedRegion.of(parts.train, parts.valid, _SEED)


def _many_held_out(training: dict[str, Any], validation: dict[str, Any]) -> list[Measured]:
    """Errors of a fit to many peptides: root of the mean over peptides; single frames, so mostly their noise.

    Differences of squared errors tell the models apart: the noise is common to all and cancels.
    """
    found = []
    for what, errors in (("held-out frames", training), ("validation peptides", validation)):
        peptides = errors.get("peptides", [])
        for predictor in peptides[0]["rms"] if peptides else ():
            square = sum(p["rms"][predictor]["value"] ** 2 for p in peptides) / len(peptides)
            quantity = f"force error of {predictor} on {what}, noise of single frames included"
            found.append(Measured(quantity=quantity, value=round(square**0.5, 3), unit="kJ/mol/nm"))
    return found


def _held_out(errors: dict[str, Any], record: FitRecord) -> list[Measured]:
    if record.held_out_error is not None:  # of a density, which has no force labels
        return [Measured(quantity=record.held_out_unit, value=record.held_out_error)]
    return [
        Measured(quantity=f"{what} force error of {row['predictor']}", unit=errors.get("unit", ""), **row[what])
        for row in errors.get("rows", [])
        for what in ("projected", "raw")
    ]
