"""Every sampler keeps the contract."""

from __future__ import annotations

import ast
from pathlib import Path

import mlsim.samplers
from mlsim.samplers import (
    ExplicitKernel,
    Median,
    Normalised,
    dihedral,
    esvgd,
    hmc,
    kinetic_esvgd,
    ladder,
    mala,
    metropolised_esvgd,
    noisy_esvgd,
    svgd,
    tempering,
    ula,
    warm_start,
)
from mlsim.samplers.algorithm import LogDensity, Sampler
from mlsim.testing import SamplerContract

#: The target of the contract is invariant under both reflections: D_2.
KERNEL = ExplicitKernel(dihedral(2))
ROOM = Path(mlsim.samplers.__file__).parent


class TestSVGD(SamplerContract):
    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return svgd(log_density, 2, Median(), Normalised(0.1, 200))


class TestESVGD(SamplerContract):
    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return esvgd(log_density, KERNEL, Median(), Normalised(0.1, 200))


class TestNoisyESVGD(SamplerContract):
    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return noisy_esvgd(log_density, KERNEL, 0.02)


class TestKineticESVGD(SamplerContract):
    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return kinetic_esvgd(log_density, KERNEL, 0.1, 2.0, weight=0.02)


class TestMetropolisedESVGD(SamplerContract):
    exact = True

    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return metropolised_esvgd(log_density, KERNEL, size=0.1)


class TestULA(SamplerContract):
    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return ula(log_density, 0.02)


class TestMALA(SamplerContract):
    exact = True

    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return mala(log_density, 0.1)


class TestHMC(SamplerContract):
    exact = True

    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return hmc(log_density, 0.2, leaps=5)


class TestTempering(SamplerContract):
    exact = True

    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return tempering(log_density, ladder(3, 0.3), size=0.1)


class TestWarmStart(SamplerContract):
    exact = True

    @classmethod
    def build(cls, log_density: LogDensity) -> Sampler:
        return warm_start(svgd(log_density, 2, Median(), Normalised(0.1, 20)), 20, mala(log_density, 0.1))


def test_no_sampler_knows_a_target() -> None:
    files = [path for path in ROOM.rglob("*.py") if path.parent.name != "targets"]
    assert len(files) > 20
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("mlsim.samplers.targets"), path.name
