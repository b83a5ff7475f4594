"""GROMACS as the engine of the reference: the same forces as OpenMM, the same files, restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from openmm import Context, Platform, unit

from mlsim.chem.molecule import Molecule
from mlsim.chem.solvent import solvate
from mlsim.chem.torsions import dihedrals, ramachandran_atoms
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import CheckpointError, DependencyError, InputError, MissingError
from mlsim.md.gromacs import input_files, program
from mlsim.md.gromacs.trr import frames, whole, whole_molecules
from mlsim.md.integrator import verlet
from mlsim.md.observers.forces import ForceRecorder
from mlsim.md.settings import LabelSettings, ReferenceSettings
from mlsim.md.signals import StopRequest
from mlsim.potentials.dihedral_bias import DihedralBias
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.system import build_system, skeleton
from mlsim.potentials.vacuum import Vacuum
from mlsim.records import RunRecord
from mlsim.runs.trajectory import Run
from mlsim.workflow.conformations import read
from mlsim.workflow.force_data.label import label
from mlsim.workflow.force_data.reference import done_steps, gather, run_seed, seed_directory

NEEDS_GMX = pytest.mark.skipif(shutil.which("gmx") is None, reason="GROMACS (gmx) is not installed: engine not tested")


def bias_file(molecule: Molecule, path: Path) -> Path:
    """A smooth bias of 10 kJ/mol on the residue of alanine dipeptide."""
    angle = -np.pi + 2 * np.pi * np.arange(72) / 72
    grid = 5.0 * np.cos(angle)[:, None] + 5.0 * np.sin(angle)[None, :] * np.cos(angle)[:, None]
    DihedralBias(molecule, 300.0, grid[None]).save(path)
    return path


@pytest.fixture(scope="module")
def reference(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two calls of 2 ps in all, the second continues the first."""
    place = tmp_path_factory.mktemp("gromacs")
    bias = bias_file(ala2, place / "given.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "NPT_PS", 0.4)
        for ns in (0.001, 0.002):
            run_seed(ala2, settings(bias, ns), place, 1)
    gather(ala2, place)
    return place


def settings(bias: Path, ns: float) -> ReferenceSettings:
    """A short run by GROMACS."""
    return ReferenceSettings(
        ns=ns, engine="gromacs", bias=str(bias), threads=1, record_ps=0.2, padding_nm=0.5, hydrogen_mass_Da=2.0
    )


@NEEDS_GMX
def test_frames_have_the_form_of_the_other_engine(reference: Path, ala2: Molecule) -> None:
    found = ForceFrames.load(reference / "frames.h5")
    assert found.positions.shape == found.forces.shape == (10, 22, 3)
    np.testing.assert_allclose(found.time_ps, 0.2 * np.arange(1, 11), atol=1e-4)
    assert found.molecule_digest == ala2.digest
    replica = Run.open(seed_directory(reference, 1)).replicas[0]
    np.testing.assert_allclose(replica.positions(), found.positions, atol=6e-4)
    np.testing.assert_allclose(replica.bias(), found.bias, rtol=1e-9)
    assert done_steps(reference, [1], settings(reference / "given.npz", 0.002)) == 500
    values = json.loads((seed_directory(reference, 1) / "run.json").read_text())
    assert values.keys() == RunRecord.model_fields.keys()
    assert (values["engine"], values["status"], values["step"]) == ("gromacs", "complete", 500)


@NEEDS_GMX
def test_forces_of_gromacs_are_those_of_openmm(reference: Path, ala2: Molecule) -> None:
    place = seed_directory(reference, 1)
    chosen = settings(reference / "given.npz", 0.002)
    with np.load(place / "start.npz") as start:
        box = start["box"]
    water = solvate(ala2, chosen.padding_nm)
    last = list(frames(place / "gromacs" / "run.trr"))[-1]
    if len(last.positions) != water.n_atoms:
        pytest.fail("the box was made with another number of waters")
    system = build_system(water, ExplicitWater(), "hbonds", 2.0)
    with np.load(place / "bias.npz") as saved:
        input_files.add_cmap(system, water, saved["grid"], 30)
    context = Context(system, verlet(1e-3), Platform.getPlatformByName("CPU"))
    context.setPeriodicBoxVectors(*(box * unit.nanometer))
    context.setPositions(whole_molecules(water, last.positions, last.box))
    expected = context.getState(getForces=True).getForces(asNumpy=True)._value[:22]
    assert last.forces is not None
    error = np.sqrt(np.square(last.forces[:22] - expected).mean() / np.square(expected).mean())
    assert error < 1e-3
    recorder = ForceRecorder(ala2, chosen, 0.2)
    positions = whole(last.positions[:22], last.box)
    bias = context.getState(getForces=True, groups={30}).getForces(asNumpy=True)._value[:22]
    label = expected - bias - recorder.vacuum_forces(positions)
    assert np.abs(label - ForceFrames.load(reference / "frames.h5").forces[-1]).max() < 5.0


@NEEDS_GMX
def test_another_bias_in_the_same_directory_is_refused(reference: Path, ala2: Molecule, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    DihedralBias(ala2, 300.0).save(other)
    with pytest.raises(CheckpointError, match="other settings"):
        run_seed(ala2, settings(other, 0.002), reference, 1)


@NEEDS_GMX
def test_a_stop_request_leaves_a_run_that_continues(ala2: Molecule, tmp_path: Path) -> None:
    bias, stop = bias_file(ala2, tmp_path / "given.npz"), StopRequest()
    stop.ask("test", 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "NPT_PS", 0.4)
        outcome = run_seed(ala2, settings(bias, 0.001), tmp_path, 1, stop=stop)
        assert outcome.status == "stopped"
        assert run_seed(ala2, settings(bias, 0.001), tmp_path, 1).status == "complete"


def sleeping_gmx(place: Path) -> Path:
    """A program that prepares at once and runs for ten minutes."""
    program = place / "gmx"
    program.write_text(
        '#!/bin/sh\ncase "$1" in mdrun) echo $$ > started.new; mv started.new started; exec sleep 600 ;; esac\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("processes", [1, 2])
def test_sigterm_while_a_box_is_equilibrated_stops_at_once_and_leaves_nothing(
    ala2: Molecule, tmp_path: Path, processes: int
) -> None:
    bias, out = bias_file(ala2, tmp_path / "given.npz"), tmp_path / "ref"
    command = [sys.executable, "-m", "mlsim.cli.main", "reference", "alanine-dipeptide", "--engine", "gromacs"]
    command += ["--bias", str(bias), "--ns", "0.001", "--padding-nm", "0.5", "--threads", "1", "-o", str(out)]
    command += ["--seeds", str(processes), "--processes", str(processes)]
    surroundings = {**os.environ, "GMX": str(sleeping_gmx(tmp_path))}
    process = subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waited = time.monotonic()
    while len(list(out.glob("seed-*/gromacs/box/started"))) < processes and time.monotonic() - waited < 120:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    running = [int(path.read_text()) for path in out.glob("seed-*/gromacs/box/started")]
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, complained = process.communicate(timeout=300)
    assert time.monotonic() - asked < 60
    assert process.returncode == 128 + signal.SIGTERM, complained
    assert "stopped (SIGTERM); the same command continues" in said
    assert "Traceback" not in complained
    assert not list(out.glob("seed-*"))
    for number in running:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_a_box_by_openmm_is_given_up_as_well(ala2: Molecule, tmp_path: Path) -> None:
    stop = StopRequest()
    stop.ask("test", 0)
    settings_ = ReferenceSettings(ns=0.001, padding_nm=0.4, threads=1, platform="CPU")
    outcome = run_seed(ala2, settings_, tmp_path / "ref", 1, stop=stop)
    assert (outcome.status, outcome.step) == ("stopped", 0)
    assert not outcome.replica.directory.exists()


@NEEDS_GMX
def test_a_growing_bias_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fixed"):
        run_seed(ala2, ReferenceSettings(ns=0.001, engine="gromacs"), tmp_path, 1)
    assert not any(tmp_path.iterdir())


def test_without_gromacs_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DependencyError, match="apt install gromacs"):
        program.executable()


def test_the_cmap_grid_is_the_bias_in_value_and_in_orientation(ala2: Molecule, tmp_path: Path) -> None:
    bias = bias_file(ala2, tmp_path / "bias.npz")
    with np.load(bias) as saved:
        fine = saved["grid"]
    energies = []
    for positions in (ala2.positions, ala2.positions * 1.0 + np.random.default_rng(1).normal(0, 0.02, (22, 3))):
        pair = []
        for add in ("cmap", "bias"):
            system = skeleton(ala2, "none", 1.0)
            if add == "cmap":
                input_files.add_cmap(system, ala2, input_files.cmap_grid(fine), 0)
            else:
                DihedralBias(ala2, 300.0, fine).add_to(system)
            context = Context(system, verlet(1e-3), Platform.getPlatformByName("Reference"))
            context.setPositions(positions)
            pair.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
        phi, psi = dihedrals(positions, ramachandran_atoms(ala2)[1].reshape(-1, 4))
        energies.append((*pair, 5.0 * np.cos(phi) + 5.0 * np.sin(psi) * np.cos(phi)))
    for mapped, gridded, exact in energies:
        assert mapped == pytest.approx(exact, abs=0.02)
        assert gridded == pytest.approx(exact, abs=0.02)


def test_a_molecule_cut_by_the_box_is_made_whole() -> None:
    generator = np.random.default_rng(3)
    chain = np.cumsum(generator.normal(0, 0.1, (30, 3)), axis=0)
    box = np.array([2.0, 2.2, 2.4])
    np.testing.assert_allclose(np.diff(whole(chain % box, box), axis=0), np.diff(chain, axis=0), atol=1e-12)


def test_vacuum_is_taken_out_of_the_labels_without_constrained_bonds(ala2: Molecule) -> None:
    constrained = build_system(ala2, Vacuum(), "hbonds", 2.0)
    assert constrained.getNumConstraints() == 12


@NEEDS_GMX
def test_a_held_conformation_gets_a_mean_force_in_its_own_waters(
    reference: Path, ala2: Molecule, tmp_path: Path
) -> None:
    run = seed_directory(reference, 1)
    asked = LabelSettings(count=2, engine="gromacs", stderr_kJ_mol_nm=None, max_ps=4.0, equilibration_ps=0.4, threads=1)
    path = label(asked, read(run, ala2), tmp_path / "labels", box=run)
    assert path is not None
    found = ForceFrames.load(path)
    assert found.covariance is not None
    assert found.covariance.shape == (2, 66, 66)
    exact = {tuple(np.round(x[0], 5)) for x in ForceFrames.load(reference / "frames.h5").positions}
    assert {tuple(np.round(x[0], 5)) for x in found.positions} <= exact  # as the engine had them, not as XTC rounds
    assert 20.0 < np.sqrt(np.square(found.forces).mean()) < 400.0
    assert label(asked, read(run, ala2), tmp_path / "labels", box=run) == path  # nothing is made twice
    assert not list((tmp_path / "labels").glob("scratch-*"))


@NEEDS_GMX
def test_labels_by_gromacs_want_a_fixed_length_and_a_gromacs_run(
    reference: Path, ala2: Molecule, tmp_path: Path
) -> None:
    run = seed_directory(reference, 1)
    with pytest.raises(InputError, match="stderr none"):
        label(LabelSettings(count=2, engine="gromacs"), read(run, ala2), tmp_path / "a", box=run)
    asked = LabelSettings(count=2, engine="gromacs", stderr_kJ_mol_nm=None)
    with pytest.raises(MissingError, match="engine gromacs"):
        label(asked, read(run, ala2), tmp_path / "b", box=tmp_path)
