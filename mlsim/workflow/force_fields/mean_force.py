"""The error of force fields, trainings and GB models in the mean force, on the same frozen-solute labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlsim.chem.catalog import forcefield_directory
from mlsim.chem.molecule import Molecule
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.bind import load_forcefield
from mlsim.errors import InputError
from mlsim.fitting.solvent.force_error import predict
from mlsim.fitting.solvent.mean_force_error import MeanForceErrors, mean_force_errors
from mlsim.models import weights
from mlsim.potentials.born import GB_MODELS
from mlsim.shapes import Floats
from mlsim.workflow.training.baseline import born_forces, molecule_of


def compare(
    labels: ForceFrames,
    molecule: Molecule,
    born: Sequence[str],
    fields: Sequence[str],
    fits: Sequence[Path],
    block_ps: float,
    seed: int = 1,
) -> MeanForceErrors:
    """Noise-corrected force errors of everything named, each with the baseline that it stands on.

    Parameters
    ----------
    labels : ForceFrames
        With covariance; none of the trainings may have seen them.
    born : names of GB models
    fields : names of force fields
    fits : training directories

    Raises
    ------
    InputError
        If a GB model is unknown, or the labels have no covariance.
    """
    predicted: dict[str, Floats] = {}
    for model in born:
        if model not in GB_MODELS:
            raise InputError(f"GB model '{model}': expected one of {', '.join(GB_MODELS)}")
        predicted[model] = born_forces(model, molecule, labels.positions)
    for name in fields:
        bound = load_forcefield(forcefield_directory(name)).bind(molecule)
        forces = bound.evaluate(labels.positions)[1]
        predicted[bound.field.name] = forces + _under(bound.field.artifact.card.baseline, molecule, labels)
    for fit in fits:
        network = weights.load(fit)
        under = _under(str(getattr(network.config, "baseline", "none")), molecule, labels)
        predicted[fit.name] = predict(network, labels) + under
    return mean_force_errors(labels, predicted, block_ps, seed)


def compare_on(
    labels: str | Path,
    born: Sequence[str],
    fields: Sequence[str],
    fits: Sequence[Path],
    system: str | None = None,
    block_ps: float = 100.0,
) -> MeanForceErrors:
    """As :func:`compare`, on a file of labels, of the molecule ``system`` or the known one that fits."""
    frames = ForceFrames.load(labels)
    return compare(frames, molecule_of(frames, system), born, fields, fits, block_ps)


def _under(baseline: str, molecule: Molecule, labels: ForceFrames) -> Floats | float:
    return 0.0 if baseline == "none" else born_forces(baseline, molecule, labels.positions)
