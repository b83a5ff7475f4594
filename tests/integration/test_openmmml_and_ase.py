"""openmm-ml and ASE see the same energies and forces as a run of this package."""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit

import mlsim
from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system

openmmml = pytest.importorskip("openmmml", reason="LOUD SKIP: openmmml is not installed")
ase = pytest.importorskip("ase", reason="LOUD SKIP: ase is not installed")

PLATFORMS = ["Reference", "CPU"]
#: As openmm-ml's own tests compare.
RELATIVE = 1e-5


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    """The entry point of ``pyproject.toml``, loaded as openmm-ml does, also where an older installation lacks it."""
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    section = text.partition('[project.entry-points."openmmml.potentials"]')[2].partition("\n[")[0]
    found = dict(re.findall(r'^(\S+) = "(\S+)"$', section, re.MULTILINE))
    assert found.keys() == {"issnet"}
    factory = EntryPoint("issnet", found["issnet"], "openmmml.potentials").load()()
    openmmml.MLPotential.registerImplFactory("issnet", factory)


def state_of(
    system: openmm.System, positions: object, platform: str = "Reference", interpolate: float | None = None
) -> tuple[float, np.ndarray]:
    """Energy, kJ/mol, and forces, kJ/mol/nm."""
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPositions(positions)
    if interpolate is not None:
        context.setParameter("lambda_interpolate", interpolate)
    state = context.getState(energy=True, forces=True)
    return state.getPotentialEnergy()._value, np.asarray(state.getForces(asNumpy=True)._value)


@pytest.fixture(scope="module")
def expected(ala2: Molecule) -> tuple[float, np.ndarray]:
    potential = resolve("issnet", PotentialRequest(ala2))
    return state_of(build_system(ala2, potential, "none", 1.008), ala2.positions)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_openmm_ml_finds_the_solvent_by_its_name(
    platform: str, ala2: Molecule, expected: tuple[float, np.ndarray]
) -> None:
    system = openmmml.MLPotential("issnet").createSystem(ala2.topology)
    energy, forces = state_of(system, ala2.positions, platform)
    assert energy == pytest.approx(expected[0], rel=RELATIVE)
    np.testing.assert_allclose(forces, expected[1], rtol=1e-3, atol=1e-2)


def test_openmm_ml_runs_it_on_atoms_in_another_order(ala2: Molecule, expected: tuple[float, np.ndarray]) -> None:
    """openmm-ml's ``testSimulate``: ten steps, all finite."""
    order = np.random.default_rng(4).permutation(6)
    topology, made = app.Topology(), {}
    chain = topology.addChain()
    for residue in ala2.topology.residues():
        members = list(residue.atoms())
        copy = topology.addResidue(residue.name, chain)
        for k in [k for k in order if k < len(members)] + list(range(6, len(members))):
            made[members[k].index] = topology.addAtom(members[k].name, members[k].element, copy)
    for a, b in ala2.topology.bonds():
        topology.addBond(made[a.index], made[b.index])
    places = np.empty(ala2.n_atoms, dtype=int)
    for ours, atom in made.items():
        places[atom.index] = ours
    assert list(places) != sorted(places)
    system = openmmml.MLPotential("issnet").createSystem(topology)
    energy, _ = state_of(system, ala2.positions[places])
    assert energy == pytest.approx(expected[0], rel=1e-6)
    integrator = openmm.LangevinIntegrator(300.0, 1.0, 0.001)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(ala2.positions[places])
    integrator.step(10)
    assert np.isfinite(context.getState(positions=True).getPositions(asNumpy=True)._value).all()


def test_openmm_ml_mixes_and_interpolates_as_in_its_own_tests(
    ala2: Molecule, expected: tuple[float, np.ndarray]
) -> None:
    """openmm-ml's ``testCreateMixedSystem``, for the whole molecule: the ends are mechanics and learned solvent."""
    mechanics = app.ForceField("amber14-all.xml").createSystem(ala2.topology, constraints=app.HBonds)
    every = list(range(ala2.n_atoms))
    potential = openmmml.MLPotential("issnet")
    mixed = potential.createMixedSystem(ala2.topology, mechanics, every)
    between = potential.createMixedSystem(ala2.topology, mechanics, every, interpolate=True)
    bare = app.ForceField("amber14-all.xml").createSystem(ala2.topology)
    assert mixed.getNumConstraints() == 0
    assert state_of(mixed, ala2.positions)[0] == pytest.approx(expected[0], rel=RELATIVE)
    assert state_of(between, ala2.positions, interpolate=1.0)[0] == pytest.approx(expected[0], rel=RELATIVE)
    without = state_of(bare, ala2.positions)[0]
    assert abs(without - expected[0]) > 10.0
    # at zero the conventional System is back, whose constrained bonds have no energy
    assert state_of(between, ala2.positions, interpolate=0.0)[0] == pytest.approx(
        state_of(mechanics, ala2.positions)[0], rel=RELATIVE
    )


def test_a_part_of_the_molecule_is_refused_by_openmm_ml(ala2: Molecule) -> None:
    mechanics = app.ForceField("amber14-all.xml").createSystem(ala2.topology)
    with pytest.raises(InputError, match="acts on the whole molecule"):
        openmmml.MLPotential("issnet").createMixedSystem(ala2.topology, mechanics, list(range(6)))


# ---- ASE ----


def test_ase_has_the_energy_and_forces_of_a_run(ala2: Molecule, expected: tuple[float, np.ndarray]) -> None:
    atoms = mlsim.calculator(ala2, "issnet").ase_atoms()
    kj = ase.units.kJ / ase.units.mol
    assert atoms.get_potential_energy() / kj == pytest.approx(expected[0], rel=1e-9)
    np.testing.assert_allclose(atoms.get_forces() * 10.0 / kj, expected[1], rtol=1e-6, atol=1e-6)


def test_ase_s_own_tests_of_calculators_pass(ala2: Molecule, capsys: pytest.CaptureFixture[str]) -> None:
    """ASE's finite differences of a calculator, its changes of state, and its dynamics without drift."""
    from ase.calculators.fd import calculate_numerical_forces
    from ase.calculators.test import gradient_test
    from ase.md.verlet import VelocityVerlet

    atoms = mlsim.calculator(ala2, "issnet").ase_atoms()
    picked = [0, 5, 8]
    numerical = calculate_numerical_forces(atoms, eps=1e-4, iatoms=picked)
    np.testing.assert_allclose(atoms.get_forces()[picked], numerical, atol=2e-3)
    capsys.readouterr()
    gradient_test(atoms, [8])  # prints the largest difference for every step of the coordinates
    errors = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert min(errors) < 2e-4
    assert errors[1] < errors[0] / 50.0  # second order, as central differences of a right gradient are
    before = atoms.get_potential_energy()
    assert not atoms.calc.calculation_required(atoms, ["energy", "forces"])
    atoms.positions[3] += 0.05
    assert atoms.calc.check_state(atoms) == ["positions"]
    assert atoms.get_potential_energy() != before
    atoms.positions[3] -= 0.05
    noise = np.random.default_rng(2).normal(size=(len(atoms), 3))
    atoms.set_momenta(noise * np.sqrt(300 * ase.units.kB * atoms.get_masses())[:, None])
    total = atoms.get_total_energy()
    VelocityVerlet(atoms, 0.2 * ase.units.fs).run(50)
    assert abs(atoms.get_total_energy() - total) < 0.02


def test_ase_writes_and_reads_what_was_computed(ala2: Molecule, tmp_path: Path) -> None:
    """As ASE's ``test_traj``: results of the calculator are in the trajectory."""
    from ase.io import read, write

    atoms = mlsim.calculator(ala2, "gbn2").ase_atoms()
    energy = atoms.get_potential_energy()
    write(tmp_path / "one.traj", atoms)
    again = read(tmp_path / "one.traj")
    assert again.get_potential_energy() == pytest.approx(energy, rel=1e-12)


def test_atoms_that_are_not_the_molecule_are_refused(ala2: Molecule) -> None:
    atoms = mlsim.calculator(ala2, "issnet").ase_atoms()
    other = atoms[::-1]
    other.calc = atoms.calc
    with pytest.raises(InputError, match=r"take the atoms from calculator\.ase_atoms"):
        other.get_potential_energy()
    periodic = atoms.copy()
    periodic.set_cell([30, 30, 30])
    periodic.pbc = True
    periodic.calc = atoms.calc
    with pytest.raises(InputError, match="set pbc to False"):
        periodic.get_potential_energy()
    wrong = atoms.copy()
    wrong.positions /= 10.0
    wrong.calc = atoms.calc
    with pytest.raises(InputError, match="are these nanometres"):
        wrong.get_potential_energy()
    with pytest.raises(InputError, match="use a solvent without water"):
        mlsim.calculator(ala2, "tip3p")


def test_openmm_ml_drives_the_calculator_through_ase(ala2: Molecule, expected: tuple[float, np.ndarray]) -> None:
    """openmm-ml's ``TestASEPotential`` with this calculator."""
    for platform in PLATFORMS:
        system = openmmml.MLPotential("ase").createSystem(ala2.topology, calculator=mlsim.calculator(ala2, "issnet"))
        assert state_of(system, ala2.positions * unit.nanometer, platform)[0] == pytest.approx(expected[0], rel=1e-6)
