"""Replicas in one Context: each goes its own way, the same however many go beside it, and none is lost."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from openmm import Context, CustomIntegrator, Platform, System, VerletIntegrator

from mlsim import seeds
from mlsim.chem.molecule import Molecule
from mlsim.deploy.bind import ForceField
from mlsim.deploy.potential import learned
from mlsim.errors import CheckpointError, InputError, UnphysicalError
from mlsim.md.engines import own_noise
from mlsim.md.engines.shared import faster_context, simulate_together
from mlsim.md.integrator import langevin_middle
from mlsim.md.session import Outcome
from mlsim.md.settings import RunSettings
from mlsim.md.signals import StopRequest
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.dihedral_bias import DihedralBias
from mlsim.potentials.named import FACTORIES
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.records import Failure, RunRecord
from mlsim.runs.trajectory import Replica, Run
from mlsim.workflow.simulation.run import replica_directory, run
from tests.toy_artifact import declared_verified, toy_artifact

REFERENCE = Platform.getPlatformByName("Reference")
SETTINGS = RunSettings(
    equilibration_ps=0.0, ns=4e-4, report_ps=0.08, platform="Reference", replicas=3, context="shared", seed=3
)


@pytest.fixture(scope="module")
def potential(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> Potential:
    field = ForceField(declared_verified(toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2)))
    return learned("issnet:toy", field, "python")


def together(
    molecule: Molecule,
    potential: Potential,
    place: Path,
    roots: list[int],
    settings: RunSettings = SETTINGS,
    start: str = "new",
) -> tuple[Outcome, ...]:
    parts = [(replica_directory(place, k), root) for k, root in enumerate(roots)]
    return simulate_together(molecule, potential, settings, place, parts, start)  # type: ignore[arg-type]


def files(place: Path, replica: int) -> tuple[bytes, bytes]:
    found = replica_directory(place, replica)
    return (found / "log.csv").read_bytes(), (found / "trajectory.xtc").read_bytes()


# ---- a fixed bias ----


def test_a_fixed_bias_acts_on_every_copy_as_on_a_molecule_alone(
    ala2: Molecule, potential: Potential, tmp_path: Path
) -> None:
    wave = np.cos(np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False))
    bias = DihedralBias(ala2, 300.0, 8.0 * np.add.outer(wave, 0.5 * wave)[None])
    rng = np.random.default_rng(0)
    x = ala2.positions + rng.normal(scale=0.01, size=(3, ala2.n_atoms, 3))
    forces = []
    for copies, positions in ((3, x.reshape(-1, 3)), *((1, one) for one in x)):
        system = System()
        for _ in range(copies * ala2.n_atoms):
            system.addParticle(1.0)
        bias.add_to(system, copies)
        context = Context(system, VerletIntegrator(1e-3), REFERENCE)
        context.setPositions(positions)
        forces.append(context.getState(getForces=True).getForces(asNumpy=True)._value)
    np.testing.assert_allclose(forces[0], np.concatenate(forces[1:]), atol=1e-9)

    bias.save(tmp_path / "bias.npz")
    biased = SETTINGS.model_copy(update={"bias": str(tmp_path / "bias.npz")})
    together(ala2, potential, tmp_path / "three", [1, 2, 3], biased)
    together(ala2, potential, tmp_path / "two", [1, 2], biased)
    together(ala2, potential, tmp_path / "free", [1, 2])
    assert files(tmp_path / "three", 1) == files(tmp_path / "two", 1) != files(tmp_path / "free", 1)
    found = Replica(replica_directory(tmp_path / "three", 1))
    assert (found.directory / "bias.npz").is_file()
    phi, psi = np.moveaxis(bias.angles(np.asarray(found.positions(), float)), -1, 0)[..., 0]
    expected = -8.0 * (np.cos(phi) + 0.5 * np.cos(psi))
    # positions are rounded in the file, the grid is a spline
    np.testing.assert_allclose(found.bias(), expected, atol=0.2)
    assert np.ptp(found.bias()) > 0.0


# ---- the streams ----


def test_the_streams_are_mrg32k3a_in_whole_numbers() -> None:
    system = System()
    for _ in range(4):
        system.addParticle(10.0)
    integrator = own_noise.integrator(RunSettings(ns=1.0), 1e-6)
    context = Context(system, integrator, REFERENCE)
    context.setPositions(np.zeros((4, 3)))
    states = own_noise.start([1, 2], 2)
    own_noise.put(integrator, states)
    s = [int(states[name][3, 2]) for name in own_noise.STATE]

    def draw() -> float:
        p1 = (1403580 * s[1] - 810728 * s[0]) % own_noise.M1
        p2 = (527612 * s[5] - 1370589 * s[3]) % own_noise.M2
        s[:] = [s[1], s[2], p1, s[4], s[5], p2]
        return ((p1 - p2) % own_noise.M1 or own_noise.M1) / (own_noise.M1 + 1)

    for _ in range(20):
        integrator.step(1)
        expected = math.sqrt(-2.0 * math.log(draw())) * math.cos(2.0 * math.pi * draw())
        assert integrator.getPerDofVariableByName("noise")[3][2] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert [row[3, 2] for row in own_noise.take(integrator).values()] == s


def test_noise_is_normal_and_independent_between_atoms_and_copies() -> None:
    system = System()
    for _ in range(200):
        system.addParticle(10.0)
    integrator = own_noise.integrator(RunSettings(ns=1.0), 1e-6)
    context = Context(system, integrator, REFERENCE)
    context.setPositions(np.zeros((200, 3)))
    own_noise.put(integrator, own_noise.start([1, 2], 100))
    rows = []
    for _ in range(150):
        integrator.step(1)
        rows.append([tuple(v) for v in integrator.getPerDofVariableByName("noise")])
    noise = np.array(rows).reshape(150, -1)
    n = noise.size
    assert abs(noise.mean()) < 4 / math.sqrt(n)
    assert abs(noise.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((noise**4).mean() - 3) < 4 * math.sqrt(96 / n)
    correlation = np.corrcoef(noise.T)[np.triu_indices(600, 1)]
    assert abs(correlation.mean()) < 4 / math.sqrt(150 * len(correlation))
    assert correlation.std() == pytest.approx(1 / math.sqrt(150), rel=0.02)


def test_without_noise_the_step_is_that_of_langevin_middle(ala2: Molecule) -> None:
    settings = RunSettings(ns=1.0, temperature_K=1e-12)
    ends = []
    for integrator in (own_noise.integrator(settings, 1e-9), langevin_middle(1e-12, 1.0, 0.004, 1)):
        integrator.setConstraintTolerance(1e-9)
        context = Context(build_system(ala2, Vacuum(), "hbonds", 1.5), integrator, REFERENCE)
        if isinstance(integrator, CustomIntegrator):
            own_noise.put(integrator, own_noise.start([1], 22))
        context.setPositions(ala2.positions)
        context.setVelocities(np.random.default_rng(2).normal(size=(22, 3)))
        context.applyVelocityConstraints(1e-9)
        integrator.step(100)
        state = context.getState(getPositions=True, getVelocities=True)
        ends.append([np.array(a._value) for a in (state.getPositions(asNumpy=True), state.getVelocities(asNumpy=True))])
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-6)
    np.testing.assert_allclose(ends[0][1], ends[1][1], atol=1e-4)


# ---- runs ----


def test_the_path_of_a_replica_does_not_depend_on_how_many_run_beside_it(
    ala2: Molecule, potential: Potential, tmp_path: Path
) -> None:
    free = SETTINGS.model_copy(update={"constraints": "none", "timestep_fs": 1.0})
    together(ala2, potential, tmp_path / "three", [11, 12, 13], free)
    together(ala2, potential, tmp_path / "one", [12], free)
    assert files(tmp_path / "three", 1) == files(tmp_path / "one", 0)
    assert files(tmp_path / "three", 0) != files(tmp_path / "three", 1)


def test_with_constraints_the_paths_agree_to_their_tolerance(
    ala2: Molecule, potential: Potential, tmp_path: Path
) -> None:
    ends = []
    for name, roots in (("three", [11, 12, 13]), ("one", [12])):
        found = together(ala2, potential, tmp_path / name, roots)
        ends.append(found[roots.index(12)].replica.potential())
    np.testing.assert_allclose(ends[0], ends[1], atol=0.02)


@pytest.mark.parametrize("every", [1, 2])
def test_an_interrupted_run_equals_an_uninterrupted_one(
    ala2: Molecule, potential: Potential, tmp_path: Path, every: int
) -> None:
    settings = SETTINGS.model_copy(update={"learned_every": every})
    together(ala2, potential, tmp_path / "whole", [1, 2], settings)
    together(ala2, potential, tmp_path / "cut", [1, 2], settings.model_copy(update={"ns": 2.52e-4}))
    for k in range(2):  # frames newer than the checkpoint, as a kill leaves them
        with open(replica_directory(tmp_path / "cut", k) / "log.csv", "a") as handle:
            handle.write("1,2,3")
    together(ala2, potential, tmp_path / "cut", [1, 2], settings, "resume")
    for k in range(2):
        assert files(tmp_path / "whole", k) == files(tmp_path / "cut", k)


def test_energies_in_the_log_are_those_of_the_copy_alone(ala2: Molecule, potential: Potential, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"format": "dcd"})
    outcomes = together(ala2, potential, tmp_path / "run", [1, 2], settings)
    single = Context(build_system(ala2, potential, "hbonds", 1.5), langevin_middle(300.0, 1.0, 0.004, 1), REFERENCE)
    for outcome in outcomes:
        assert (outcome.status, outcome.step) == ("complete", 100)
        replica = outcome.replica
        assert replica.n_frames == 5
        for x, energy in zip(replica.positions(), replica.potential(), strict=True):
            single.setPositions(x.astype(np.float64))
            found = single.getState(getEnergy=True).getPotentialEnergy()._value
            assert energy == pytest.approx(found, abs=0.1)  # coordinates in the file have float32 digits
        assert (replica.column("temperature_K") > 20).all()


def test_kinetic_energy_is_what_langevin_middle_reports(ala2: Molecule) -> None:
    system = build_system(ala2, Vacuum(), "hbonds", 1.5)
    integrator = langevin_middle(300.0, 1.0, 0.004, 1)
    context = Context(system, integrator, REFERENCE)
    context.setPositions(ala2.positions)
    context.setVelocitiesToTemperature(300.0, 4)
    integrator.step(20)
    state = context.getState(getVelocities=True, getEnergy=True)
    v = state.getVelocities(asNumpy=True)._value
    masses = np.array([system.getParticleMass(k)._value for k in range(22)])
    assert 0.5 * (masses[:, None] * v * v).sum() == pytest.approx(state.getKineticEnergy()._value, rel=1e-9)


def test_the_verb_runs_resumes_and_is_read_like_any_run(
    ala2: Molecule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"solvent": "vacuum"})
    stop = StopRequest()
    stop.ask("test", 0)
    run(settings, tmp_path / "run", stop=stop)
    outcomes = run(settings, tmp_path / "run", "resume")
    found = Run.open(tmp_path / "run")
    assert [len(r.potential()) for r in found.replicas] == [5, 5, 5]
    assert found.record.status == "complete"
    assert found.replicas[1].record.seed == seeds.derive(3, "replica 1")
    assert len({o.replica.potential()[-1] for o in outcomes}) == 3
    assert run(settings.model_copy(update={"context": "auto"}), tmp_path / "run", "resume")[0].step == 100
    with pytest.raises(InputError, match="begun with context 'shared'"):
        run(settings.model_copy(update={"context": "separate"}), tmp_path / "run", "resume")
    with pytest.raises(CheckpointError, match="other settings, molecule or solvent"):
        run(settings.model_copy(update={"replicas": 2}), tmp_path / "run", "resume")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"solvent": "gbn2"}, "cannot act on several copies"),
        ({"bias": "metadynamics"}, "context 'shared': a bias that grows acts on one molecule; use --context separate"),
        ({"solvent": "obc2", "mts_inner_steps": 2}, "mts_inner_steps has an integrator of its own"),
    ],
)
def test_what_cannot_share_is_refused_before_anything_is_written(
    changes: dict[str, object], match: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=match):
        run(SETTINGS.model_copy(update=changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_blow_up_names_the_replica_and_keeps_the_last_good_states(ala2: Molecule, tmp_path: Path) -> None:
    hot = SETTINGS.model_copy(update={"runaway_temperature_K": 1.0})
    with pytest.raises(
        UnphysicalError, match=r"replica 0, step 20: .*runaway limit.*worst atom copy [01], [A-Z]{3}\d-"
    ):
        together(ala2, Vacuum(), tmp_path / "run", [1, 2], hot)
    failure = Failure.parse(json.loads((tmp_path / "run" / "failure.json").read_text()), "failure.json")
    for k in range(2):
        record = RunRecord.read(replica_directory(tmp_path / "run", k))
        assert (record.status, record.failure) == ("failed", failure)


def test_on_a_cpu_replicas_stay_separate(ala2: Molecule) -> None:
    for platform in ("Reference", "CPU"):
        assert faster_context(RunSettings(ns=1.0, replicas=8, platform=platform), ala2, Vacuum()) == "separate"


@pytest.mark.gpu
def test_on_a_gpu_the_copies_move_as_on_the_reference_platform(
    ala2: Molecule, potential: Potential, tmp_path: Path
) -> None:
    ends = []
    for platform in ("Reference", "CUDA"):
        short = SETTINGS.model_copy(update={"platform": platform, "ns": 8e-5, "report_ps": 0.04})
        ends.append([o.replica.potential() for o in together(ala2, potential, tmp_path / platform, [1, 2], short)])
    np.testing.assert_allclose(ends[0], ends[1], atol=0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("solvent", ["vacuum", "issnet"])
def test_on_a_gpu_the_verb_picks_a_context_by_timing(solvent: str, tmp_path: Path) -> None:
    bridge = "cuda" if solvent == "issnet" else "auto"
    changes = {"solvent": solvent, "bridge": bridge, "platform": "CUDA", "context": "auto", "replicas": 16}
    outcomes = run(SETTINGS.model_copy(update=changes), tmp_path / "run")
    assert len(outcomes) == 16
    assert Run.open(tmp_path / "run").record.settings["context"] in ("separate", "shared")


def test_explicit_water_keeps_its_own_contexts(ala2: Molecule) -> None:
    water = FACTORIES["tip3p"](None, PotentialRequest(ala2))
    with pytest.raises(InputError, match="solvated molecule"):
        together(ala2, water, Path(), [1, 2])
