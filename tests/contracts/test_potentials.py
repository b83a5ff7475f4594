"""Every potential that mlsim ships fulfils the contract."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from openmm import Context, LangevinMiddleIntegrator, LocalEnergyMinimizer, Platform, Vec3, VerletIntegrator, app, unit

from mlsim.chem.catalog import load_system
from mlsim.chem.molecule import Molecule
from mlsim.chem.templates import PROTEIN_FORCE_FIELD
from mlsim.errors import InputError
from mlsim.potentials.born import GB_MODELS, GeneralizedBorn, general_form
from mlsim.potentials.contract import PotentialRequest, Sum
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.named import resolve
from mlsim.potentials.placement import Placement
from mlsim.potentials.system import build_system, repeated, skeleton
from mlsim.potentials.vacuum import Vacuum
from mlsim.testing import ImplicitPotentialContract, PotentialContract


class TestVacuum(ImplicitPotentialContract):
    specification = "vacuum"


class TestHct(ImplicitPotentialContract):
    specification = "hct"


class TestObc1(ImplicitPotentialContract):
    specification = "obc1"


class TestObc2(ImplicitPotentialContract):
    specification = "obc2"


class TestGbn(ImplicitPotentialContract):
    specification = "gbn"


class TestGbn2(ImplicitPotentialContract):
    specification = "gbn2"


class TestExplicitWater(PotentialContract):
    specification = "tip3p"
    # LJ and direct-space Coulomb are truncated without a switch: a difference quotient sees pairs that cross 0.9 nm
    force_tolerance = 5e-2
    force_floor = 60.0  # of ~1000 kJ/mol/nm per atom; createsystem test below is the exact one
    step_nm = 1e-3

    def displacement(self, generator: np.random.Generator, n: int) -> np.ndarray:
        return np.tile(generator.normal(size=3), (n, 1))  # rigid: bond terms are much stiffer than the solvent


def energy_of(system: object, positions: np.ndarray) -> float:
    context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    return float(context.getState(getEnergy=True).getPotentialEnergy()._value)


@pytest.mark.parametrize("model", GB_MODELS)
def test_gb_energy_equals_openmm_createsystem(ala2: Molecule, model: str) -> None:
    forcefield = app.ForceField("amber14/protein.ff14SB.xml", f"implicit/{model}.xml")
    whole = forcefield.createSystem(ala2.topology, nonbondedMethod=app.NoCutoff)
    ours = build_system(ala2, resolve(model, PotentialRequest(ala2)), "none", 1.0)
    tolerance = 1e-4 if model == "obc2" else 1e-9  # the hand-written force has another digit in Coulomb's constant
    assert energy_of(ours, ala2.positions) == pytest.approx(energy_of(whole, ala2.positions), abs=tolerance)


@pytest.mark.parametrize("system", ["alanine-tripeptide", "lys-ala-glu"])
def test_hand_written_obc2_has_the_forces_of_openmms_parameter_file(system: str) -> None:
    molecule, found = load_system(system), []
    moved = molecule.positions + np.random.default_rng(1).normal(scale=0.01, size=molecule.positions.shape)
    for of_file in (False, True):
        made = skeleton(molecule, "none", 1.0)
        if of_file:
            made.addForce(general_form("obc2", molecule))
        else:
            GeneralizedBorn("obc2").add_to(made, molecule, Placement())
        context = Context(made, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
        context.setPositions(moved)
        found.append(context.getState(getForces=True).getForces(asNumpy=True)._value)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6 * np.abs(found[1]).max())


def test_vacuum_with_constraints_equals_openmm_createsystem(ala2: Molecule) -> None:
    forcefield = app.ForceField("amber14/protein.ff14SB.xml")
    whole = forcefield.createSystem(
        ala2.topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, hydrogenMass=1.5 * unit.dalton
    )
    ours = build_system(ala2, Vacuum(), "hbonds", 1.5)
    assert energy_of(ours, ala2.positions) == pytest.approx(energy_of(whole, ala2.positions), abs=1e-9)
    assert ours.getNumConstraints() == whole.getNumConstraints() == 12
    masses = [ours.getParticleMass(k)._value for k in range(ala2.n_atoms)]
    assert masses == [whole.getParticleMass(k)._value for k in range(ala2.n_atoms)]
    assert sum(masses) == pytest.approx(ala2.masses.sum(), abs=0.01)  # Amber rounds atomic masses


def test_explicit_energy_equals_openmm_createsystem(ala2: Molecule) -> None:
    potential = resolve("tip3p", PotentialRequest(ala2))
    water = potential.prepare(ala2)
    whole = app.ForceField("amber14/protein.ff14SB.xml", "amber14/tip3p.xml").createSystem(
        water.topology, nonbondedMethod=app.PME, nonbondedCutoff=0.9 * unit.nanometer, constraints=app.HBonds
    )
    ours = build_system(water, potential, "hbonds", 1.0)
    assert ours.getNumConstraints() == whole.getNumConstraints()
    assert energy_of(ours, water.positions) == pytest.approx(energy_of(whole, water.positions), rel=1e-9)


def test_molecular_mechanics_counts_once_in_a_sum(ala2: Molecule) -> None:
    potential = resolve("vacuum+gbn2", PotentialRequest(ala2))
    assert isinstance(potential, Sum)
    assert [term.name for term in potential.terms] == ["vacuum", "gbn2"]


@pytest.mark.parametrize(
    ("specification", "hint"),
    [("gbn3", "did you mean 'gbn"), ("tip4p", "tip3p"), ("vaccum", "vacuum"), ("", "known"), ("obc2:x", "no argument")],
)
def test_unknown_solvent_is_refused_with_a_hint(ala2: Molecule, specification: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        resolve(specification, PotentialRequest(ala2))


@pytest.fixture(scope="module")
def four_sites(ala2: Molecule) -> Molecule:
    """The dipeptide in a small box of TIP4P-Ew, whose charges sit on virtual sites."""
    files = (PROTEIN_FORCE_FIELD, "amber14/tip4pew.xml")
    modeller = app.Modeller(ala2.topology, ala2.positions * unit.nanometer)
    modeller.addSolvent(app.ForceField(*files), model="tip4pew", boxSize=Vec3(2.2, 2.2, 2.2) * unit.nanometer)
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer), dtype=np.float64)
    return Molecule(ala2.name, modeller.topology, positions, np.arange(ala2.n_atoms), np.eye(3) * 2.2, files)


def test_virtual_sites_of_four_site_water_stay_and_stay_in_place(four_sites: Molecule) -> None:
    water = four_sites
    ours = build_system(water, ExplicitWater(), "hbonds", 1.5)
    sites = [k for k in range(ours.getNumParticles()) if ours.isVirtualSite(k)]
    assert len(sites) == (water.n_atoms - 22) // 4
    theirs = app.ForceField(*water.force_field).createSystem(
        water.topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=0.9 * unit.nanometer,
        constraints=app.HBonds,
        rigidWater=True,
    )
    platform, energies = Platform.getPlatformByName("CPU"), []
    for system in (ours, theirs):
        integrator = LangevinMiddleIntegrator(300.0, 1.0, 0.001)
        context = Context(system, integrator, platform)
        context.setPositions(water.positions)
        energies.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    assert energies[0] == pytest.approx(energies[1], rel=1e-6)
    context = Context(ours, LangevinMiddleIntegrator(300.0, 1.0, 0.001), platform)
    context.setPositions(water.positions)
    LocalEnergyMinimizer.minimize(context, 10.0, 100)
    context.getIntegrator().step(50)
    state = context.getState(getEnergy=True, getPositions=True)
    assert np.isfinite(state.getPotentialEnergy()._value)
    x = state.getPositions(asNumpy=True)._value
    distances = np.linalg.norm(x[sites] - x[np.array(sites) - 3], axis=1)
    np.testing.assert_allclose(distances, 0.0125, atol=1e-5)  # O-M of TIP4P-Ew, nm


def test_copies_of_a_molecule_with_virtual_sites_are_refused_in_one_line(four_sites: Molecule) -> None:
    bare = skeleton(four_sites, "hbonds", 1.5)
    alone = dataclasses.replace(four_sites, box=None)
    with pytest.raises(InputError, match="without virtual sites"):
        repeated(bare, alone, 2)
