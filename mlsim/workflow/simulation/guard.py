"""The extrapolation guard of a run: from its settings and potential to an observer."""

from __future__ import annotations

from mlsim.chem.molecule import Molecule
from mlsim.deploy.potential import LearnedPotential
from mlsim.errors import InputError
from mlsim.md.observers.extrapolation import ExtrapolationGuard, Region
from mlsim.md.settings import RunSettings
from mlsim.md.signals import StopRequest
from mlsim.potentials.contract import Potential, Sum


def guards_for(
    settings: RunSettings, potential: Potential, molecule: Molecule, stop: StopRequest
) -> tuple[ExtrapolationGuard, ...]:
    """One guard, or none for ``guard: none`` and, where the force field cannot tell, for ``guard: auto``.

    Raises
    ------
    InputError
        If a guard is asked for by name and the potential has no trained region for this molecule and no committee.
    """
    if settings.guard == "none" or (settings.guard == "auto" and settings.context == "shared"):
        return ()
    found = _region(potential, molecule)
    if isinstance(found, str):
        if settings.guard == "auto":
            return ()
        raise InputError(f"guard '{settings.guard}': {found}; use guard 'none'")
    action = "report" if settings.guard == "auto" else settings.guard
    return (ExtrapolationGuard(found, settings.report_steps, action, settings.timestep_ps, stop),)


def _region(potential: Potential, molecule: Molecule) -> Region | str:
    """What says where the force field is sure, or why nothing does."""
    terms = potential.terms if isinstance(potential, Sum) else (potential,)
    learned = [term for term in terms if isinstance(term, LearnedPotential)]
    if not learned:
        return f"solvent '{_named(potential)}' was not trained"
    artifact = learned[0].source.artifact
    members = artifact.members()
    if members is not None:
        return members.bind(molecule)
    region = artifact.region()
    if region is None:
        return (
            f"{artifact.name} does not say what it was trained on (no guard.npz, no committee.npz); export it again "
            "from its training directory"
        )
    if region.molecule_digest != molecule.digest:
        return f"the trained region of {artifact.name} is of another molecule than {molecule.name}"
    return region


def _named(potential: Potential) -> str:
    return str(potential.describe().get("name", "of this run"))
