"""Explicit-water reference on a small scale: box, labels, restart, frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openmm import Context, Platform

from mlsim.chem.molecule import Molecule
from mlsim.dataset.frames import ForceFrames
from mlsim.md import prepare
from mlsim.md.integrator import verlet
from mlsim.md.settings import ReferenceSettings
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.runs.trajectory import Run
from mlsim.workflow.force_data.reference import gather, run_seed, seed_directory


@pytest.fixture(scope="module")
def reference(ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two calls (the second resumes) of 0.8 ps in a quickly equilibrated box."""
    place = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "NPT_PS", 0.4)
        for ns in (0.0004, 0.0008):
            settings = ReferenceSettings(
                ns=ns, platform="CPU", threads=1, report_ps=0.2, hill_every_ps=0.2, equilibration_ps=0.1
            )
            run_seed(ala2, settings, place, 1)
    gather(ala2, place)
    return place


def test_frames_carry_positions_labels_torsions_and_bias(reference: Path, ala2: Molecule) -> None:
    frames = ForceFrames.load(reference / "frames.h5")
    assert frames.positions.shape == (4, 22, 3)
    assert frames.forces.shape == (4, 22, 3)
    assert frames.cv_names == ("phi_ALA2", "psi_ALA2")
    assert frames.molecule_digest == ala2.digest
    np.testing.assert_allclose(np.diff(frames.time_ps), 0.2)
    assert (np.diff(frames.bias) != 0).any()
    replica = Run.open(seed_directory(reference, 1)).replicas[0]
    np.testing.assert_allclose(replica.positions(), frames.positions, atol=6e-4)  # XTC rounds to 1e-3 nm


def test_labels_are_explicit_minus_vacuum_without_the_bias(reference: Path, ala2: Molecule) -> None:
    frames = ForceFrames.load(reference / "frames.h5")
    settings = ReferenceSettings(ns=0.0008)
    place = seed_directory(reference, 1)
    water = prepare.starting_molecule(ala2, ExplicitWater(), settings, 1, place)
    assert water.is_periodic
    explicit = context_of(water, ExplicitWater())
    vacuum = context_of(ala2, Vacuum())
    explicit.setPositions(water.positions)
    vacuum.setPositions(water.positions[:22])
    label = forces(explicit)[:22] - forces(vacuum)
    size = np.linalg.norm(label, axis=1).mean()
    assert 0.2 < np.linalg.norm(frames.forces, axis=2).mean() / size < 5.0  # same quantity, other waters
    assert np.abs(label).max() < 3000.0


def context_of(molecule: Molecule, potential: ExplicitWater | Vacuum) -> Context:
    system = build_system(molecule, potential, "hbonds", 1.5)
    return Context(system, verlet(0.001), Platform.getPlatformByName("CPU"), {"Threads": "1"})


def forces(context: Context) -> np.ndarray:
    return np.array(context.getState(getForces=True).getForces(asNumpy=True)._value)


def test_the_box_is_near_the_density_of_water(ala2: Molecule, reference: Path) -> None:
    water = prepare.starting_molecule(ala2, ExplicitWater(), ReferenceSettings(ns=1), 1, seed_directory(reference, 1))
    assert water.box is not None
    volume = float(np.prod(np.diag(water.box)))
    waters = (water.n_atoms - 22) / 3
    assert waters / volume == pytest.approx(33.0, rel=0.08)  # TIP3P at 300 K: 32.9 per nm^3


def test_labels_repeat_exactly_for_given_positions(ala2: Molecule, reference: Path) -> None:
    frames = ForceFrames.load(reference / "frames.h5")
    assert np.isfinite(frames.forces).all()
    assert np.isfinite(frames.positions).all()
    centred = frames.forces.sum(axis=1)  # water pushes the solute as a whole: the net force is not zero
    assert np.abs(centred).max() > 1.0
