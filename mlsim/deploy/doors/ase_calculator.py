"""A calculator of ASE: ``atoms = mlsim.calculator(molecule, "issnet").ase_atoms()``.

Energy in eV and forces in eV/Angstrom of the whole potential (mechanics and solvent, no constraints), computed by
OpenMM on the Reference platform in double precision. ASE knows elements and positions only, so the calculator belongs
to one molecule and refuses Atoms that are not it: other elements, a periodic cell, impossible bonds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from openmm import Context, OpenMMException, Platform, VerletIntegrator

from mlsim.chem.molecule import Molecule
from mlsim.chem.readers.positions import require_sound
from mlsim.deploy.bind import SLACK_NM
from mlsim.errors import DependencyError, InputError
from mlsim.potentials import callback
from mlsim.potentials.contract import PotentialRequest, terms_of
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system
from mlsim.units import ANGSTROM_PER_NM

try:
    from ase import Atoms
    from ase.calculators.calculator import Calculator, all_changes
    from ase.units import kJ, mol
except ImportError:
    raise DependencyError('mlsim.calculator needs ase; install it with: pip install "mlsim[ase]"') from None


class SolventCalculator(Calculator):  # type: ignore[misc]
    """Energy and forces of a molecule in a solvent, for ASE.

    Parameters
    ----------
    molecule : Molecule
        Without box.
    solvent : str
        As after ``mlsim run --solvent``.

    Raises
    ------
    InputError
        If the solvent needs a box of water, or there is none of that name.
    """

    implemented_properties: list[str] = ["energy", "forces"]  # noqa: RUF012 - as ASE declares it

    def __init__(self, molecule: Molecule, solvent: str) -> None:
        super().__init__()
        potential = resolve(solvent, PotentialRequest(molecule))
        explicit = any(getattr(term, "part", None) == "explicit" for term in terms_of(potential))
        if molecule.is_periodic or explicit:
            raise InputError(
                f"mlsim.calculator: {molecule.name} in '{solvent}' is periodic; use a solvent without water"
            )
        self.molecule, self.solvent = molecule, solvent
        system = build_system(molecule, potential, "none", float(molecule.masses.min()))
        self._context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))

    def ase_atoms(self) -> Atoms:
        """The molecule as ASE Atoms that this calculator is attached to."""
        return Atoms(self.molecule.elements, self.molecule.positions * ANGSTROM_PER_NM, calculator=self)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill ``results``, as ASE asks.

        Raises
        ------
        InputError
            If ``atoms`` are not this molecule.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        given, expected = self.atoms, self.molecule.elements
        if given is None or tuple(given.get_chemical_symbols()) != expected:
            got = "nothing" if given is None else given.get_chemical_formula()
            raise InputError(
                f"mlsim.calculator: made for {self.molecule.name} ({len(expected)} atoms in template order), got "
                f"{got} in another order or number; take the atoms from calculator.ase_atoms()"
            )
        if given.pbc.any():
            raise InputError("mlsim.calculator: a solvent without water has no periodic cell; set pbc to False")
        x = given.positions / ANGSTROM_PER_NM
        require_sound(x[None], self.molecule.bonds, expected, f"positions of {self.molecule.name}", SLACK_NM)
        self._context.setPositions(x)
        try:
            state = self._context.getState(energy=True, forces=True)
        except OpenMMException as error:
            cause = callback.take()
            raise (error if cause is None else cause) from None
        forces = np.asarray(state.getForces(asNumpy=True)._value, dtype=np.float64)
        unit = kJ / mol
        self.results = {"energy": state.getPotentialEnergy()._value * unit, "forces": forces * unit / ANGSTROM_PER_NM}


def calculator(molecule: Molecule, solvent: str) -> SolventCalculator:
    """A calculator for ASE.

    Parameters
    ----------
    molecule : Molecule
    solvent : str
        As after ``mlsim run --solvent``.

    Returns
    -------
    SolventCalculator
        ``calculator.ase_atoms()`` are the Atoms it belongs to.
    """
    return SolventCalculator(molecule, solvent)
