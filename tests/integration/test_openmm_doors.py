"""The learned solvent in an OpenMM script gives the energies of this package, or is refused in one line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import openmm
import pytest
from openmm import app, unit

import mlsim
from mlsim.chem.molecule import Molecule
from mlsim.chem.readers.openmm_topology import molecule_of
from mlsim.cli.main import app as command
from mlsim.errors import InputError

NM = unit.nanometer


@pytest.fixture(scope="module")
def shuffled(ala2: Molecule) -> app.Modeller:
    """Alanine dipeptide as a script has it: OpenMM added the hydrogens, in an order of its own."""
    modeller = app.Modeller(ala2.topology, ala2.positions * NM)
    modeller.delete([a for a in ala2.topology.atoms() if a.element.symbol == "H"])
    modeller.addHydrogens(app.ForceField("amber14-all.xml"), platform=openmm.Platform.getPlatformByName("Reference"))
    assert [a.name for a in modeller.topology.atoms()] != list(ala2.atom_names)
    return modeller


def energy(system: openmm.System, positions: object, platform: str = "Reference", groups: int | set[int] = -1) -> float:
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))
    context.setPositions(positions)
    return float(context.getState(energy=True, groups=groups).getPotentialEnergy()._value)


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_a_script_with_one_changed_line_has_the_energies_of_mlsim_energy(
    platform: str, shuffled: app.Modeller, tmp_path: Path
) -> None:
    # a plain OpenMM script; only the files of the force field differ from one in OBC2
    forcefield = app.ForceField("amber14-all.xml", mlsim.solvent("issnet", force_group=1))
    system = forcefield.createSystem(shuffled.topology, constraints=app.HBonds, hydrogenMass=3 * unit.dalton)
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, 0.004 * unit.picosecond)
    integrator.setRandomNumberSeed(3)
    simulation = app.Simulation(shuffled.topology, system, integrator, openmm.Platform.getPlatformByName(platform))
    simulation.context.setPositions(shuffled.positions)
    simulation.minimizeEnergy(maxIterations=50)
    simulation.context.setVelocitiesToTemperature(300, 5)
    trajectory, log = tmp_path / "trajectory.dcd", io.StringIO()
    simulation.reporters += [
        app.DCDReporter(str(trajectory), 20),
        app.StateDataReporter(log, 20, step=True, potentialEnergy=True, temperature=True),
        app.CheckpointReporter(str(tmp_path / "state.chk"), 60),
    ]
    simulation.step(100)
    assert len(log.getvalue().splitlines()) == 6
    topology = tmp_path / "topology.pdb"
    with topology.open("w") as handle:
        app.PDBFile.writeFile(shuffled.topology, shuffled.positions, handle)

    import mdtraj

    frames = mdtraj.load(str(trajectory), top=str(topology)).xyz.astype(np.float64)
    ours = []
    for frame in frames:
        simulation.context.setPositions(frame)
        ours.append(simulation.context.getState(energy=True, groups={1}).getPotentialEnergy()._value)

    table = tmp_path / "energies.csv"
    arguments = ["energy", str(trajectory), "--top", str(topology), "--forcefield", "issnet-ala2", "-o", str(table)]
    command(arguments, standalone_mode=False)
    with table.open() as handle:
        theirs = [float(row["energy_kJ_mol"]) for row in csv.DictReader(handle)]
    assert len(theirs) == 5
    assert np.ptp(theirs) > 1.0
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("solvent", ["hct", "obc2", "gbn2"])
def test_gb_models_on_atoms_in_another_order_have_the_energies_of_openmms_files(
    solvent: str, shuffled: app.Modeller
) -> None:
    ours = app.ForceField("amber14-all.xml", mlsim.solvent(solvent)).createSystem(shuffled.topology)
    theirs = app.ForceField("amber14-all.xml", f"implicit/{solvent}.xml").createSystem(shuffled.topology)
    vacuum = app.ForceField("amber14-all.xml").createSystem(shuffled.topology)
    expected = energy(theirs, shuffled.positions)
    assert abs(expected - energy(vacuum, shuffled.positions)) > 10.0
    assert energy(ours, shuffled.positions) == pytest.approx(expected, rel=1e-6)


def test_an_existing_system_takes_the_solvent_and_the_forces_of_the_right_atoms(
    ala2: Molecule, shuffled: app.Modeller
) -> None:
    system = app.ForceField("amber14-all.xml").createSystem(shuffled.topology)
    mlsim.add_solvent(system, shuffled.topology, "issnet", force_group=2)
    molecule = molecule_of(shuffled.topology)
    assert molecule.digest == ala2.digest
    positions = np.array(shuffled.positions.value_in_unit(NM))
    expected = mlsim.load_forcefield("issnet-ala2").bind(ala2).evaluate(molecule.take(positions)[None])
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    state = context.getState(energy=True, forces=True, groups={2})
    assert state.getPotentialEnergy()._value == pytest.approx(expected[0][0], rel=1e-9)
    forces = np.asarray(state.getForces(asNumpy=True)._value)
    np.testing.assert_allclose(molecule.take(forces), expected[1][0], rtol=1e-9, atol=1e-9)


def test_a_system_with_the_solvent_survives_a_file_and_a_run_its_checkpoint(shuffled: app.Modeller) -> None:
    made = app.ForceField("amber14-all.xml", mlsim.solvent("issnet")).createSystem(
        shuffled.topology, constraints=app.HBonds
    )
    read = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(made))
    assert energy(read, shuffled.positions) == energy(made, shuffled.positions)
    ends = []
    integrator = openmm.LangevinMiddleIntegrator(300, 1, 0.002)
    integrator.setRandomNumberSeed(7)
    simulation = app.Simulation(shuffled.topology, read, integrator, openmm.Platform.getPlatformByName("Reference"))
    simulation.context.setPositions(shuffled.positions)
    simulation.step(10)
    checkpoint = simulation.context.createCheckpoint()
    for _ in range(2):
        simulation.context.loadCheckpoint(checkpoint)
        simulation.step(10)
        ends.append(np.asarray(simulation.context.getState(positions=True).getPositions(asNumpy=True)._value))
    np.testing.assert_array_equal(*ends)


def test_the_file_of_a_solvent_can_be_used_again(shuffled: app.Modeller) -> None:
    solvent = mlsim.solvent("issnet")
    energies = [
        energy(app.ForceField("amber14-all.xml", solvent).createSystem(shuffled.topology), shuffled.positions)
        for _ in range(2)
    ]
    assert energies[0] == energies[1]


def test_a_prmtop_spells_atoms_otherwise_and_is_the_same_molecule() -> None:
    """Names as tleap writes them: the template's own, e.g. HH31 of a cap, and HIE as a residue."""
    molecule = mlsim.build_peptide("ACE-HIE-NME")
    topology = app.Topology()
    chain = topology.addChain()
    atoms = []
    for residue, name in zip(molecule.topology.residues(), ("ACE", "HIE", "NME"), strict=True):
        made = topology.addResidue(name, chain)
        atoms += [topology.addAtom(f"X{a.index}", a.element, made) for a in residue.atoms()]
    for a, b in molecule.topology.bonds():
        topology.addBond(atoms[a.index], atoms[b.index])
    assert molecule_of(topology).digest == molecule.digest
    assert molecule_of(topology).atom_names == molecule.atom_names


# ---- refusals ----


def refused(system: openmm.System, topology: app.Topology, solvent: str = "issnet") -> str:
    with pytest.raises(InputError) as caught:
        mlsim.add_solvent(system, topology, solvent)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_cutoff_and_a_box_are_refused(shuffled: app.Modeller) -> None:
    forcefield = app.ForceField("amber14-all.xml", mlsim.solvent("issnet"))
    with pytest.raises(InputError, match="the System has a cutoff"):
        forcefield.createSystem(shuffled.topology, nonbondedMethod=app.CutoffNonPeriodic)
    boxed = app.Modeller(shuffled.topology, shuffled.positions).topology
    boxed.setPeriodicBoxVectors(np.eye(3) * 3.0 * NM)
    with pytest.raises(InputError, match="the System is periodic"):
        forcefield.createSystem(boxed, nonbondedMethod=app.PME)
    assert forcefield.createSystem(boxed).getNumForces() > 5  # a box that no force uses changes nothing


def test_water_and_a_second_molecule_are_refused(shuffled: app.Modeller) -> None:
    forcefield = app.ForceField("amber14-all.xml", "amber14/tip3p.xml")
    wet = app.Modeller(shuffled.topology, shuffled.positions)
    wet.addSolvent(forcefield, numAdded=3)
    assert "3 water molecules" in refused(forcefield.createSystem(wet.topology), wet.topology)
    two = app.Modeller(shuffled.topology, shuffled.positions)
    two.add(shuffled.topology, shuffled.positions)
    assert "2 separate molecules" in refused(forcefield.createSystem(two.topology), two.topology)


def test_a_second_solvent_a_barostat_and_another_topology_are_refused(shuffled: app.Modeller) -> None:
    top = shuffled.topology
    born = app.ForceField("amber14-all.xml", "implicit/obc2.xml").createSystem(top)
    assert "has a solvent already" in refused(born, top)
    learned = app.ForceField("amber14-all.xml", mlsim.solvent("issnet")).createSystem(top)
    assert "has a solvent already" in refused(learned, top)
    system = app.ForceField("amber14-all.xml").createSystem(top)
    system.addParticle(1.0)
    assert "expected the topology from which the System was made" in refused(system, top)
    pressed = app.ForceField("amber14-all.xml").createSystem(top)
    pressed.addForce(openmm.MonteCarloBarostat(1.0, 300.0))
    assert "MonteCarloBarostat" in refused(pressed, top)


def test_another_force_field_is_refused(shuffled: app.Modeller) -> None:
    other = app.ForceField("amber19-all.xml").createSystem(shuffled.topology)
    assert "the torsions of the System are not those of" in refused(other, shuffled.topology)
    charged = app.ForceField("amber14-all.xml").createSystem(shuffled.topology)
    nonbonded = next(f for f in charged.getForces() if isinstance(f, openmm.NonbondedForce))
    q, sigma, epsilon = nonbonded.getParticleParameters(4)
    nonbonded.setParticleParameters(4, q + 0.1 * unit.elementary_charge, sigma, epsilon)
    assert "(index 4)" in refused(charged, shuffled.topology)


@pytest.mark.parametrize(
    ("solvent", "words"),
    [
        ("tip3p", "Modeller.addSolvent"),
        ("vacuum", "nothing to add"),
        ("learned:ebm-ala2", "the whole energy of the molecule"),
        ("isnet", "did you mean 'issnet'"),
    ],
)
def test_what_is_no_solvent_on_top_of_mechanics_is_refused(solvent: str, words: str, shuffled: app.Modeller) -> None:
    system = app.ForceField("amber14-all.xml").createSystem(shuffled.topology)
    assert words in refused(system, shuffled.topology, solvent)


def test_a_misspelt_solvent_is_refused_where_it_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'issnet'"):
        mlsim.solvent("isnet")
