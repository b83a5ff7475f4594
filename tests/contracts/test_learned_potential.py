"""A learned force field, as ``--solvent issnet:NAME``, fulfils the contract of potentials."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from openmm import Context, VerletIntegrator

from mlsim.chem.molecule import Molecule
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system
from tests.contracts.potential_contract import ImplicitPotentialContract
from tests.toy_artifact import declared_verified, toy_artifact


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> Iterator[None]:
    place = tmp_path_factory.mktemp("ff")
    declared_verified(toy_artifact(place / "toy", ala2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLSIM_PATH", str(place))
        yield


class TestLearned(ImplicitPotentialContract):
    specification = "issnet:toy"
    # float32: the energy has seven digits, so its difference quotient needs a longer step
    step_nm = 1e-4
    force_tolerance = 1e-3
    force_floor = 1.0
    invariance = 1e-6


class TestSumWithBornModel(TestLearned):
    specification = "gbn2+issnet:toy"


def test_learned_energy_is_added_to_the_molecular_mechanics(ala2: Molecule) -> None:
    from mlsim.chem.catalog import forcefield_directory
    from mlsim.deploy.bind import load_forcefield

    def energy(potential: Potential) -> float:
        context = Context(build_system(ala2, potential, "none", 1.0), VerletIntegrator(0.001))
        context.setPositions(ala2.positions)
        return float(context.getState(getEnergy=True).getPotentialEnergy()._value)

    request = PotentialRequest(ala2)
    learned, _ = load_forcefield(forcefield_directory("toy")).bind(ala2).evaluate(ala2.positions[None])
    both = energy(resolve("issnet:toy", request))
    assert both - energy(resolve("vacuum", request)) == pytest.approx(learned[0], abs=1e-3)


def test_asking_twice_counts_once(ala2: Molecule) -> None:
    once = resolve("issnet:toy", PotentialRequest(ala2))
    twice = resolve("issnet:toy+issnet:toy", PotentialRequest(ala2))
    assert len(once.terms) == len(twice.terms) == 2  # type: ignore[attr-defined]


def test_molecule_that_does_not_fit_is_refused_at_once() -> None:
    from mlsim.chem.catalog import load_system
    from mlsim.errors import ArtifactError

    with pytest.raises(ArtifactError, match="made for alanine-dipeptide"):
        resolve("issnet:toy", PotentialRequest(load_system("alanine-tripeptide")))


def test_forces_with_replicas_beside_each_other_are_the_same_bits(ala2: Molecule) -> None:
    from mlsim.chem.catalog import forcefield_directory
    from mlsim.deploy.bind import load_forcefield

    bound = load_forcefield(forcefield_directory("toy")).bind(ala2)
    x = ala2.positions + 0.01 * np.random.default_rng(0).normal(size=(6, 22, 3))
    alone = [bound.evaluate(frame[None])[1][0] for frame in x]
    np.testing.assert_array_equal(bound.evaluate(x, threads=2)[1], alone)
