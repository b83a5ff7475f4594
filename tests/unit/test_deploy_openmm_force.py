"""The bridges into OpenMM: right numbers, and errors that keep their type and place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import openmm
import pytest
from openmm import XmlSerializer

from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import ForceFieldArtifact
from mlsim.deploy.bind import ForceField
from mlsim.deploy.bridges import openmm_force
from mlsim.deploy.bridges.openmm_force import Callback, make_force, torchforce_problem
from mlsim.errors import DependencyError, InputError, MlsimError, UnphysicalError
from mlsim.potentials import callback
from tests.toy_artifact import declared_verified, toy_artifact


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> ForceField:
    return ForceField(declared_verified(toy_artifact(tmp_path_factory.mktemp("ff") / "toy", ala2)))


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    callback.take()
    yield
    callback.take()


def context_of(force: openmm.Force, particles: int = 22, platform: str = "Reference") -> openmm.Context:
    system = openmm.System()
    for _ in range(particles):
        system.addParticle(12.0)
    system.addForce(force)
    return openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName(platform))


def numbers(context: openmm.Context, positions: np.ndarray) -> tuple[float, np.ndarray]:
    context.setPositions(positions)
    state = context.getState(getEnergy=True, getForces=True)
    return state.getPotentialEnergy()._value, state.getForces(asNumpy=True)._value


class Evaluator:
    """Returns, or raises, what it was told."""

    n_atoms = 22

    def __init__(self, energy: Any, forces: Any) -> None:
        self.energy, self.forces = energy, forces

    def energy_forces(self, positions: np.ndarray) -> Any:
        if isinstance(self.energy, BaseException):
            raise self.energy
        return self.energy, self.forces


GOOD = np.zeros((22, 3))
BAD = GOOD.copy()
BAD[3, 1] = np.nan


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
def test_force_in_a_system_is_that_of_bare_evaluation(field: ForceField, ala2: Molecule, platform: str) -> None:
    energy, forces = numbers(context_of(make_force(field, ala2), platform=platform), ala2.positions)
    expected = field.bind(ala2).evaluate(ala2.positions[None])
    assert energy == pytest.approx(expected[0][0], rel=1e-6)
    np.testing.assert_allclose(forces, expected[1][0], rtol=1e-5, atol=1e-4)


def test_only_the_solute_feels_the_force(field: ForceField, ala2: Molecule) -> None:
    bound = field.bind(ala2)
    x = np.vstack([ala2.positions, ala2.positions[:5] + 0.2])
    energy, forces = numbers(context_of(openmm_force.python_force(bound, 27), 27), x)
    assert energy == bound.evaluate(ala2.positions[None])[0][0]
    assert (forces[22:] == 0.0).all()
    assert np.abs(forces[:22]).max() > 0.0


@pytest.mark.parametrize(
    ("energy", "forces", "kind", "match"),
    [
        (float("nan"), GOOD, UnphysicalError, "energy nan"),
        (float("inf"), GOOD, UnphysicalError, "energy inf"),
        (1.0, BAD, UnphysicalError, "largest force nan"),
        (np.array([1.5]), GOOD, InputError, "energy as a float, got ndarray"),
        (None, GOOD, InputError, "energy as a float, got NoneType"),
        (1.0, GOOD.reshape(-1), InputError, r"forces as float64 \[22, 3\], got float64 \[66\]"),
        (1.0, GOOD.astype(np.float32), InputError, "got float32"),
        (1.0, GOOD.tolist(), InputError, "got list"),
        (1.0, None, InputError, "got NoneType"),
    ],
)
def test_wrong_results_of_a_model_are_refused(energy: Any, forces: Any, kind: type[MlsimError], match: str) -> None:
    context = context_of(openmm.PythonForce(Callback(Evaluator(energy, forces), "toy")))
    with pytest.raises(openmm.OpenMMException):
        numbers(context, GOOD)
    original = callback.take()
    assert isinstance(original, kind)
    with pytest.raises(kind, match=match):
        raise original


@pytest.mark.parametrize("error", [ZeroDivisionError("deep inside"), KeyboardInterrupt()])
def test_original_exception_is_kept_with_its_traceback(error: BaseException) -> None:
    context = context_of(openmm.PythonForce(Callback(Evaluator(error, GOOD), "toy")))
    with pytest.raises(openmm.OpenMMException):
        numbers(context, GOOD)
    original = callback.take()
    assert original is error
    frames = []
    trace = original.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert frames[-1] == "energy_forces"


def test_a_position_that_is_no_number_is_named(field: ForceField, ala2: Molecule) -> None:
    x = ala2.positions.copy()
    x[7, 0] = np.nan
    with pytest.raises(UnphysicalError, match="position of atom 7 is not finite"):
        Callback(field.bind(ala2).evaluator, "toy").compute(x)


@pytest.mark.parametrize("backend", ["compiled", "eager", "torchscript"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: XmlSerializer.deserialize(XmlSerializer.serialize(s))])
def test_systems_can_be_copied_and_serialised(
    field: ForceField, ala2: Molecule, backend: Any, copied: Callable[[Any], Any]
) -> None:
    system = openmm.System()
    for mass in ala2.masses:
        system.addParticle(mass)
    system.addForce(make_force(field, ala2, "python", backend))
    platform = openmm.Platform.getPlatformByName("Reference")
    results = []
    for each in (system, copied(system)):
        results.append(numbers(openmm.Context(each, openmm.VerletIntegrator(0.001), platform), ala2.positions))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-12)


def test_torch_bridge_gives_the_same_energy(field: ForceField, ala2: Molecule) -> None:
    problem = torchforce_problem()
    if problem is not None:
        with pytest.raises(DependencyError, match="use --bridge python"):
            make_force(field, ala2, "torch")
        return
    torch_energy, torch_forces = numbers(
        context_of(make_force(field, ala2, "torch", precision="float64")), ala2.positions
    )
    energy, forces = numbers(context_of(make_force(field, ala2, "python", precision="float64")), ala2.positions)
    assert torch_energy == pytest.approx(energy, rel=1e-6)
    assert np.sqrt(np.mean((torch_forces - forces) ** 2)) < 2e-5 * np.sqrt(np.mean(forces**2))


def test_another_torch_version_is_named_and_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.10.0", "openmmtorch": "1.5"}
    monkeypatch.setattr(openmm_force, "version", versions.__getitem__)
    monkeypatch.setattr(openmm_force, "_import_openmmtorch", lambda: pytest.fail("would abort the process"))
    assert torchforce_problem() == "openmmtorch 1.5 works with torch 2.9.* only, found torch 2.10.0"


def test_import_failure_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, field: ForceField, ala2: Molecule) -> None:
    def fail() -> None:
        raise ImportError("libnvrtc.so.12: cannot open\nshared object file")

    monkeypatch.setattr(openmm_force, "_import_openmmtorch", fail)
    monkeypatch.setattr(openmm_force, "version", {"torch": "2.9.1", "openmmtorch": "1.5"}.__getitem__)
    assert torchforce_problem() == "openmmtorch 1.5 cannot be loaded: libnvrtc.so.12: cannot open shared object file"
    with pytest.raises(DependencyError, match=r"bridge 'torch': openmmtorch .*; use --bridge python"):
        make_force(field, ala2, "torch")


@pytest.mark.parametrize(("bridge", "backend"), [("hip", "auto"), ("torch", "compiled"), ("python", "fast")])
def test_unknown_choices_are_refused(field: ForceField, ala2: Molecule, bridge: Any, backend: Any) -> None:
    with pytest.raises(InputError, match=r"expected one of|needs bridge"):
        make_force(field, ala2, bridge, backend)


def test_learned_potential_of_the_artifact_is_found_by_name(
    field: ForceField, ala2: Molecule, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlsim.deploy.potential import factory
    from mlsim.potentials.contract import PotentialRequest, Sum
    from mlsim.potentials.system import build_system

    artifact: ForceFieldArtifact = field.artifact
    monkeypatch.setenv("MLSIM_PATH", str(artifact.directory.parent))
    potential = factory("toy", PotentialRequest(ala2, "python"))
    assert isinstance(potential, Sum)
    assert [term.name for term in potential.terms] == ["vacuum", "learned:toy"]
    assert potential.describe()["terms"][1]["digest"] == artifact.digest
    system = build_system(ala2, potential, "hbonds", 1.5)
    assert any(isinstance(force, openmm.PythonForce) for force in system.getForces())
