"""A learned force field, as ``--solvent issnet:NAME``, fulfils the contract of potentials."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openmm import Context, VerletIntegrator

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError
from mlsim.potentials.contract import Potential, PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system
from mlsim.testing import ImplicitPotentialContract
from tests.toy_artifact import declared_verified, toy_artifact


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule) -> Iterator[None]:
    place = tmp_path_factory.mktemp("ff")
    declared_verified(toy_artifact(place / "toy", ala2))
    declared_verified(toy_artifact(place / "correction", ala2, baseline="gbn2"))
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
    specification = "gbn2+issnet:correction"


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


@pytest.mark.parametrize(
    ("specification", "why"),
    [
        ("gbn2+obc2", "each is a whole solvent"),
        ("tip3p+gbn2", "each is a whole solvent"),
        ("gbn2+issnet:toy", "learned:toy was trained on mechanics alone"),
        ("obc2+issnet:correction", "each is a whole solvent"),
        ("issnet:toy+issnet:correction", "each is all that its baseline lacks"),
        ("tip3p+vacuum", "tip3p has mechanics and solvent already"),
        ("tip3p+issnet:toy", "tip3p has mechanics and solvent already"),
        ("learned:ebm-ala2+vacuum", "is the whole energy of the molecule"),
        ("obc2+learned:ebm-ala2", "is the whole energy of the molecule"),
        ("learned:ebm-ala2+issnet:toy", "is the whole energy of the molecule"),
    ],
)
def test_a_sum_that_has_a_part_twice_is_refused(ala2: Molecule, specification: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as refused:
        resolve(specification, PotentialRequest(ala2))
    assert specification in str(refused.value)


def test_a_network_on_its_own_baseline_is_a_sum_however_it_is_written(ala2: Molecule) -> None:
    request = PotentialRequest(ala2)
    plain = resolve("issnet:correction", request)
    for written in ("gbn2+issnet:correction", "issnet:correction+gbn2", "vacuum+issnet:correction"):
        terms = resolve(written, request).terms  # type: ignore[attr-defined]
        assert {term.name for term in terms} == {term.name for term in plain.terms}  # type: ignore[attr-defined]
        assert len(terms) == 3


def test_a_force_field_that_did_not_ship_says_so_and_may_be_moved(ala2: Molecule, tmp_path: Path) -> None:
    from mlsim.chem.catalog import forcefield_directory
    from mlsim.md.session import identity
    from mlsim.md.settings import RunSettings

    def origin(solvent: str) -> str | None:
        terms = resolve(solvent, PotentialRequest(ala2)).describe()["terms"]
        found: str | None = next(term.get("origin") for term in terms if "forcefield" in term)
        return found

    here, moved = forcefield_directory("toy").resolve(), tmp_path / "toy"
    shutil.copytree(here, moved)
    assert origin("issnet:issnet-ala2") is None
    assert origin("issnet:toy") == origin(f"issnet:{moved}") == "did not ship with mlsim"
    shutil.copytree(forcefield_directory("issnet-ala2"), tmp_path / "other" / "issnet-ala2")
    assert origin(f"issnet:{tmp_path}/other/issnet-ala2") == "in the place of the shipped one of that name"
    settings = RunSettings(system="alanine-dipeptide", solvent="issnet:toy", ns=1.0)
    potential = resolve("issnet:toy", PotentialRequest(ala2))
    described = potential.describe()

    class Elsewhere:
        def describe(self) -> dict[str, Any]:
            return {**described, "terms": [{**term, "origin": "another"} for term in described["terms"]]}

    one, other = (identity(settings, ala2, p, None, 1) for p in (potential, Elsewhere()))  # type: ignore[arg-type]
    assert one == other


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
