"""Peptide: a sequence becomes a simulation-ready molecule.

Heavy atoms are laid out by PeptideBuilder from internal coordinates (caps are glycines that lose the atoms they do
not have), hydrogens are placed by OpenMM's Modeller at pH 7 with ff14SB, clashes are removed by a short minimisation,
and the result must pass :mod:`mlsim.chem.checks`. Should a chain run into itself, other backbone basins and side
chain rotamers are tried, in an order fixed by the sequence: the same sequence always gives the same molecule.

The minimisation is not done in plain vacuum, where a charged peptide folds into a knot of salt bridges: a first one
divides all Coulomb terms by a dielectric constant, a second, shorter one uses the OBC2 implicit solvent. The result
is a start for a simulation, not a prediction of the fold. Cysteines with a disulfide bond are first drawn together by
weaker springs than that bond, which would tear the chain apart.

Reference: Tien, Sydykova, Meyer, Wilke, PeerJ 1:e80 (2013), PeptideBuilder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from collections.abc import Sequence as ListOf

import numpy as np
from numpy.typing import NDArray
from openmm import (
    Context,
    HarmonicBondForce,
    LocalEnergyMinimizer,
    NonbondedForce,
    OpenMMException,
    Platform,
    System,
    VerletIntegrator,
    app,
)
from PeptideBuilder import Geometry, PeptideBuilder

from mlsim.chem import checks
from mlsim.chem.assembly import assemble
from mlsim.chem.molecule import Molecule
from mlsim.chem.sequence import C_CAPS, N_CAP, ONE_TO_THREE, Sequence, parse
from mlsim.errors import InputError
from mlsim.seeds import numpy_stream
from mlsim.settings import Settings
from mlsim.units import ANGSTROM_PER_NM

#: Dielectric constant of the first minimisation.
SCREENING = 10.0
#: Most iterations of the screened and of the implicit solvent minimisation.
SCREENED_STEPS, SOLVATED_STEPS = 500, 100
#: Stiffness of the springs between cysteines that become bonded, one after the other, kJ/mol/nm^2.
SPRINGS = (20.0, 100.0, 1000.0, 10000.0)
#: Largest root-mean-square force at which a minimisation ends, kJ/mol/nm.
TOLERANCE = 10.0
#: How many starting conformations are tried.
ATTEMPTS = 16

_ONE_LETTER = {three: one for one, three in ONE_TO_THREE.items()}
#: Backbone basins (phi, psi) in degrees for the attempts after the first: C5, PII, beta, alpha-R.
_BASINS = ((-150.0, 155.0), (-70.0, 150.0), (-110.0, 130.0), (-65.0, -42.0))
_PROLINE_PHI = -65.0


class Torsions(Settings):
    """Torsions of one residue, degrees; an angle that the residue lacks is ignored.

    Attributes
    ----------
    phi, psi : float
        Backbone.
    omega : float
        Peptide bond before the residue.
    chi : tuple of float
        Side chain, chi1 first; those not given keep the most common rotamer.
    """

    phi: float = -120.0
    psi: float = 140.0
    omega: float = 180.0
    chi: tuple[float, ...] = ()


def build(sequence: str, name: str | None = None, torsions: ListOf[Torsions] | None = None) -> Molecule:
    """Build a peptide from its sequence.

    Parameters
    ----------
    sequence : str
        For example ``"ACE-ALA-NME"`` or ``"YYDPETGTWY"``; see :mod:`mlsim.chem.sequence`.
    name : str, optional
        Name of the molecule; the sequence if not given.
    torsions : list of Torsions, optional
        One per residue, caps included; an extended chain if not given.

    Returns
    -------
    Molecule
        All atoms in Amber order, minimised, every check passed.

    Raises
    ------
    InputError
        If the sequence cannot be read, or no attempt passes the checks.
    """
    residues = parse(sequence)
    if torsions is not None and len(torsions) != len(residues):
        raise InputError(f"torsions: expected one per residue, {len(residues)} with caps, got {len(torsions)}")
    starts = [torsions] if torsions is not None else _conformations(residues)
    failure = "no attempt made"
    for start in starts:
        try:
            title = name or residues.text
            rough = Molecule.create(title, *assemble(title, residues, place_heavy_atoms(residues, start)))
            rough = _drawn_together(rough, residues.bridges)
            screened = minimise(rough, _screened(rough.system_template(app.NoCutoff)), SCREENED_STEPS)
            if not checks.check(screened).passed:
                failure = _first_failure(screened)
                continue
            system = screened.system_template(app.NoCutoff, ("implicit/obc2.xml",))
            molecule = minimise(screened, system, SOLVATED_STEPS)
        except OpenMMException as error:
            failure = f"minimisation failed: {' '.join(str(error).split())}"
            continue
        if checks.check(molecule).passed:
            return molecule
        failure = _first_failure(molecule)
    raise InputError(f"{residues.text}: no structure passed the checks; the last one failed at {failure}")


def minimise(molecule: Molecule, system: System, steps: int) -> Molecule:
    """Minimise the energy of ``system`` for at most ``steps`` iterations, on the Reference platform."""
    context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
    context.setPositions(molecule.positions)
    LocalEnergyMinimizer.minimize(context, TOLERANCE, steps)
    return molecule.with_positions(context.getState(positions=True).getPositions(asNumpy=True)._value)


def _drawn_together(molecule: Molecule, bridges: tuple[tuple[int, int], ...]) -> Molecule:
    """Minimised under disulfide bonds that grow stiff in steps; as it came where there are none."""
    residues = list(molecule.topology.residues())
    sulfurs = [{a.index for k in pair for a in residues[k].atoms() if a.name == "SG"} for pair in bridges]
    for stiffness in SPRINGS if bridges else ():
        system = _screened(molecule.system_template(app.NoCutoff))
        bonds = next(f for f in system.getForces() if isinstance(f, HarmonicBondForce))
        for index in range(bonds.getNumBonds()):
            i, j, length, _ = bonds.getBondParameters(index)
            if {i, j} in sulfurs:
                bonds.setBondParameters(index, i, j, length, stiffness)
        molecule = minimise(molecule, system, SCREENED_STEPS)
    return molecule


def place_heavy_atoms(sequence: Sequence, torsions: ListOf[Torsions]) -> list[dict[str, NDArray[np.float64]]]:
    """Heavy atoms from internal coordinates with PeptideBuilder's bond lengths and angles.

    Returns
    -------
    list of dict from atom name to float64 [3], nm
        One per residue, under OpenMM's names.
    """
    geometries = []
    for k, (residue, angles) in enumerate(zip(sequence.residues, torsions, strict=True)):
        geometry = Geometry.geometry(_ONE_LETTER.get(residue, "G"))
        geometry.phi, geometry.omega = angles.phi, angles.omega
        geometry.psi_im1 = torsions[k - 1].psi if k else 0.0
        _turn_side_chain(geometry, angles.chi)
        geometries.append(geometry)
    structure = PeptideBuilder.make_structure_from_geos(geometries)
    if sequence.states[-1] not in C_CAPS:
        PeptideBuilder.add_terminal_OXT(structure)
    placed = []
    for state, residue in zip(sequence.states, structure[0]["A"], strict=True):
        xyz = {a.get_name(): np.asarray(a.get_coord(), dtype=np.float64) / ANGSTROM_PER_NM for a in residue}
        if state == N_CAP:
            xyz = {"CH3": xyz["CA"], "C": xyz["C"], "O": xyz["O"]}
        elif state in C_CAPS:
            xyz = {"N": xyz["N"], "C": xyz["CA"]} if state == "NME" else {"N": xyz["N"]}
        placed.append(xyz)
    return placed


def _turn_side_chain(geometry: Geometry.Geo, chi: tuple[float, ...]) -> None:
    """Set chi1, chi2, ...; all atoms on the same bond turn together, so that no centre changes hand."""
    trail = ("N", "CA", "CB")
    for angle in chi:
        names = [k for k in vars(geometry) if k.endswith("_diangle") and tuple(k.split("_")[:3]) == trail]
        if not names:
            return
        shift = angle - getattr(geometry, names[0])
        for key in names:
            setattr(geometry, key, getattr(geometry, key) + shift)
        trail = tuple(names[0].split("_")[1:4])


def _conformations(sequence: Sequence) -> Iterator[list[Torsions]]:
    """The extended chain, then chains with basins and rotamers drawn from a stream named by the sequence."""
    yield [Torsions(phi=_PROLINE_PHI) if r == "PRO" else Torsions() for r in sequence.residues]
    generator = numpy_stream(0, f"peptide/{sequence.text}")
    for _ in range(ATTEMPTS - 1):
        chain = []
        for residue in sequence.residues:
            phi, psi = _BASINS[int(generator.integers(len(_BASINS)))]
            chi1 = float(generator.choice((-65.0, 60.0, 180.0)))
            if residue == "PRO":
                chain.append(Torsions(phi=_PROLINE_PHI, psi=psi))
            else:
                chain.append(Torsions(phi=phi, psi=psi, chi=(chi1,)))
        yield chain


def _screened(system: System) -> System:
    """Divide the Coulomb energy of a System (1-4 pairs included) by the dielectric constant."""
    scale = 1.0 / math.sqrt(SCREENING)
    for force in system.getForces():
        if isinstance(force, NonbondedForce):
            for i in range(force.getNumParticles()):
                charge, sigma, epsilon = force.getParticleParameters(i)
                force.setParticleParameters(i, charge * scale, sigma, epsilon)
            for k in range(force.getNumExceptions()):
                i, j, product, sigma, epsilon = force.getExceptionParameters(k)
                force.setExceptionParameters(k, i, j, product * scale**2, sigma, epsilon)
    return system


def _first_failure(molecule: Molecule) -> str:
    failed = next(c for c in checks.check(molecule).checks if not c.passed)
    return f"{failed.name}: {failed.detail}"
