"""The extrapolation guard of a run: from its settings and potential to an observer."""

from __future__ import annotations

from mlsim.chem.molecule import Molecule
from mlsim.deploy.potential import LearnedPotential
from mlsim.errors import InputError
from mlsim.md.observers.extrapolation import ExtrapolationGuard
from mlsim.md.settings import RunSettings
from mlsim.md.signals import StopRequest
from mlsim.potentials.contract import Potential, Sum


def guards_for(
    settings: RunSettings, potential: Potential, molecule: Molecule, stop: StopRequest
) -> tuple[ExtrapolationGuard, ...]:
    """One guard, or none for ``guard: none``.

    Raises
    ------
    InputError
        If a guard is asked for and the potential has no trained region for this molecule.
    """
    if settings.guard == "none":
        return ()
    terms = potential.terms if isinstance(potential, Sum) else (potential,)
    learned = [term for term in terms if isinstance(term, LearnedPotential)]
    if not learned:
        raise InputError(f"guard '{settings.guard}': solvent '{settings.solvent}' was not trained; use guard 'none'")
    artifact = learned[0].source.artifact
    region = artifact.region()
    if region is None:
        raise InputError(
            f"guard '{settings.guard}': {artifact.name} does not say what it was trained on (no guard.npz); export it "
            "again from its training directory, or use guard 'none'"
        )
    if region.molecule_digest != molecule.digest:
        raise InputError(
            f"guard '{settings.guard}': the trained region of {artifact.name} is of another molecule than "
            f"{molecule.name}; use guard 'none'"
        )
    return (ExtrapolationGuard(region, settings.report_steps, settings.guard, settings.timestep_ps, stop),)
