"""The platform of ``auto`` is a rule: one System gets one platform, busy machine or not, and the record says why."""

from __future__ import annotations

import subprocess
from typing import Any

import openmm
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.deploy.bridges import openmm_force
from mlsim.errors import InputError
from mlsim.md import platforms
from mlsim.potentials.explicit_water import ExplicitWater
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum

ALL = ["Reference", "CPU", "OpenCL", "CUDA"]


def of(particles: int, boxed: bool = False, torch: bool = False) -> openmm.System:
    system, force = openmm.System(), openmm.NonbondedForce()
    for _ in range(particles):
        system.addParticle(1.0)
        force.addParticle(0.0, 0.1, 0.0)
    if boxed:
        force.setNonbondedMethod(openmm.NonbondedForce.PME)
    system.addForce(force)
    if torch:
        learned = openmm.CustomExternalForce("0")
        learned.setName(f"learned:toy {platforms.TORCH_FORCE}")
        system.addForce(learned)
    return system


@pytest.mark.parametrize(
    ("there", "system", "supported", "expected"),
    [
        (ALL, of(22), True, "Reference"),
        (ALL, of(600), True, "Reference"),
        (ALL, of(601), True, "CUDA"),
        (ALL, of(22, boxed=True), True, "CUDA"),
        (ALL, of(22, torch=True), True, "CUDA"),
        (["Reference", "CPU"], of(22, torch=True), True, "Reference"),
        (["Reference", "CPU"], of(601), True, "CPU"),
        (["Reference", "CPU"], of(22, boxed=True), True, "CPU"),
        (["Reference", "CPU", "OpenCL"], of(601), True, "OpenCL"),
        (["Reference", "CPU", "OpenCL"], of(601), False, "CPU"),
        (["Reference", "CPU", "OpenCL"], of(601, torch=True), True, "CPU"),
        (["Reference", "CPU", "OpenCL"], of(22, torch=True), True, "Reference"),
        (["Reference"], of(601), True, "Reference"),
    ],
)
def test_the_rule(
    monkeypatch: pytest.MonkeyPatch, there: list[str], system: openmm.System, supported: bool, expected: str
) -> None:
    monkeypatch.setattr(platforms, "available", lambda: there)
    monkeypatch.setattr(platforms, "opencl_is_supported", lambda: supported)
    choice = platforms.choose("auto", 0, system)
    assert choice.name == expected
    assert str(system.getNumParticles()) in str(choice.describe()["reason"])


def test_nothing_is_timed(monkeypatch: pytest.MonkeyPatch, ala2: Molecule) -> None:
    def clock() -> float:
        raise AssertionError("a trial")

    monkeypatch.setattr(platforms.time, "perf_counter", clock)
    water = ExplicitWater(0.3).prepare(ala2)
    boxed = build_system(water, ExplicitWater(0.3), "hbonds", 1.5)
    assert platforms.choose("auto", 0, boxed).name != "Reference"
    assert platforms.choose("auto", 0, build_system(ala2, Vacuum(), "hbonds", 1.5)).name == "Reference"


def test_torch_force_on_opencl_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "available", lambda: ALL)
    assert platforms.choose("OpenCL", 0, of(22)).name == "OpenCL"
    with pytest.raises(InputError, match="TorchForce can end the process there; use --bridge python"):
        platforms.choose("OpenCL", 0, of(22, torch=True))


@pytest.mark.parametrize(("code", "says"), [(127, "symbol lookup error"), (0, None)])
def test_torch_force_beside_opencl_is_tried_in_another_process(
    monkeypatch: pytest.MonkeyPatch, code: int, says: str | None
) -> None:
    class WithOpenCL:
        getNumPlatforms = staticmethod(lambda: 1)

        @staticmethod
        def getPlatform(number: int) -> Any:
            return type("Platform", (), {"getName": staticmethod(lambda: "OpenCL")})

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert "TorchForce" in command[-1]
        return subprocess.CompletedProcess(command, code, "", "python: symbol lookup error: libOpenMMTorchOpenCL.so")

    monkeypatch.setattr(openmm_force.openmm, "Platform", WithOpenCL)
    monkeypatch.setattr(openmm_force.subprocess, "run", run)
    monkeypatch.setattr(openmm_force, "version", lambda package: "1.5")
    openmm_force.torchforce_opencl_problem.cache_clear()
    try:
        problem = openmm_force.torchforce_opencl_problem()
    finally:
        openmm_force.torchforce_opencl_problem.cache_clear()
    assert problem is None if says is None else says in str(problem)


def test_a_machine_without_opencl_has_no_problem_with_it() -> None:
    if "OpenCL" in platforms.available():
        pytest.skip("LOUD SKIP: this machine has OpenCL")
    assert openmm_force.torchforce_opencl_problem() is None
