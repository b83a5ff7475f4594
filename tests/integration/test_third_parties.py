"""Another package adds a potential, a model, an encoder, a sampler and a collective variable by entry points alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
import torch
from openmm import Context, Platform, VerletIntegrator, unit
from openmm import app as openmm_app
from typer.testing import CliRunner

from mlsim.analysis import observables
from mlsim.analysis.surfaces import surface
from mlsim.chem.molecule import Molecule
from mlsim.cli.analysis.analyse import spread_cv
from mlsim.cli.main import app
from mlsim.dataset.frames import ForceFrames
from mlsim.deploy.bind import ForceField
from mlsim.deploy.potential import learned
from mlsim.errors import InputError, SettingsError
from mlsim.md.settings import ReferenceSettings, RunSettings
from mlsim.models import weights
from mlsim.models.contract import create, kinds
from mlsim.potentials.contract import PotentialRequest
from mlsim.potentials.named import resolve
from mlsim.potentials.system import build_system
from mlsim.potentials.vacuum import Vacuum
from mlsim.repr.encoder import Encoder
from mlsim.runs.bias_file import SavedBias
from mlsim.runs.trajectory import Run
from mlsim.samplers.groups.symmetry import trivial
from mlsim.samplers.sampler_catalog import SAMPLERS, SamplerSettings
from mlsim.samplers.sampler_catalog import create as create_sampler
from mlsim.testing import EncoderContract, ImplicitPotentialContract, ModelContract, SamplerContract
from mlsim.workflow.analysis.analysis_settings import AnalysisSettings
from mlsim.workflow.analysis.free_energies import fes
from mlsim.workflow.force_fields.export_fit import export
from mlsim.workflow.force_fields.field_settings import ExportSettings
from mlsim.workflow.simulation.run import run
from mlsim.workflow.training.baseline import born_forces
from mlsim.workflow.training.fit_settings import IssnetSettings
from mlsim.workflow.training.train_model import train

ENTRY_POINTS = """
[mlsim.potentials]
tether = tests.third_party.spring:tether
fixed-born = tests.third_party.fixed_born:fixed_born
[mlsim.models]
pairs = tests.third_party.pair_model:Pairs
[mlsim.encoders]
projection = tests.third_party.projection:Projection
[mlsim.samplers]
short-steps = tests.third_party.short_steps:short_steps
[mlsim.observables]
height = tests.third_party.atom_height:height
[mlsim.waters]
tip3pfb = tests.third_party.force_balance_waters:three_sites
tip4pfb = tests.third_party.force_balance_waters:four_sites
[mlsim.quantities]
largest-difference = tests.third_party.largest_difference:largest_difference
"""


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The package's metadata on the path, as an installer leaves them."""
    site = tmp_path_factory.mktemp("site")
    about = site / "outsider-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outsider\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield


class TestPotential(ImplicitPotentialContract):
    specification = "vacuum+tether:200"


class TestModel(ModelContract):
    cutoff_nm = 0.8

    @classmethod
    def build(cls) -> Any:
        return create("pairs", {}, seed=2)


class TestEncoder(EncoderContract):
    @classmethod
    def build(cls) -> Encoder:
        from tests.third_party.projection import Projection

        return Projection(torch.nn.Linear(8, 3))

    @classmethod
    def inputs(cls, count: int) -> Any:
        return np.random.default_rng(4).normal(size=(count, 8))


class TestSampler(SamplerContract):
    @classmethod
    def build(cls, log_density: Any) -> Any:
        return create_sampler(log_density, trivial(2, 1), SamplerSettings(method="short-steps"))


def test_a_model_comes_back_from_its_files(tmp_path: Path) -> None:
    assert "pairs" in kinds()
    model = create("pairs", {"cutoff_nm": 0.7}, seed=2)
    weights.save(model, tmp_path)
    again = weights.load(tmp_path)
    assert type(again) is type(model)
    assert torch.equal(again.state_dict()["weight"], model.state_dict()["weight"])


def test_a_potential_may_have_an_argument_and_says_when_it_is_missing(ala2: Molecule) -> None:
    assert resolve("tether:3", PotentialRequest(ala2)).describe()["k"] == 3.0
    with pytest.raises(InputError, match="tether: expected a force constant"):
        resolve("tether", PotentialRequest(ala2))
    with pytest.raises(InputError, match="unknown potential 'tehter' in 'vacuum\\+tehter:3'; did you mean 'tether'"):
        resolve("vacuum+tehter:3", PotentialRequest(ala2))


def test_a_collective_variable_is_understood_by_functions_and_commands(ala2: Molecule) -> None:
    topology = mdtraj.Topology.from_openmm(ala2.topology)
    values = observables.evaluate(ala2.positions[None], topology, ("phi", "height:3"))
    assert values[0, 1] == ala2.positions[3, 2]
    assert observables.parse("height:3").unit == "nm"
    assert spread_cv(["--cv", "phi", "height:3", "a"]) == ["--cv", "phi", "--cv", "height:3", "a"]
    with pytest.raises(InputError, match="'height': expected index of an atom after 'height'"):
        observables.parse("height")


def test_a_collective_variable_of_another_package_is_biased_and_analysed(ala2: Molecule, tmp_path: Path) -> None:
    values = {"solvent": "vacuum", "ns": 4e-4, "report_ps": 0.02, "hill_every_ps": 0.02, "platform": "Reference"}
    settings = RunSettings.parse({**values, "equilibration_ps": 0, "bias": "metadynamics", "bias_cv": ("height:3",)})
    run(settings, tmp_path / "run")
    replica = Run.open(tmp_path / "run").replicas[0]
    heights = observables.evaluate(replica.positions(), replica.topology, ("height:3",))
    saved = SavedBias.load(tmp_path / "run" / "bias.npz")
    assert saved.variables == ("height:3",)
    assert saved.axes[0].points(saved.grid.shape[1])[saved.grid[0].argmax()] == pytest.approx(heights.mean(), abs=0.2)
    (found,) = fes([tmp_path / "run"], AnalysisSettings(cv=("height:3",)))
    assert found.provenance["reweighting"]["bias"].startswith("it grew")


def test_a_quantity_of_compare_is_a_column_of_the_command(tmp_path: Path) -> None:
    halves = [np.repeat([-2.0, 2.0], count)[:, None] for count in ([3000, 1000], [1000, 1000])]
    for name, cv in zip(("reference", "candidate"), halves, strict=True):
        surface.estimate(np.random.default_rng(1).permutation(cv), 300.0, cv_names=("phi",)).save(
            tmp_path / f"{name}.npz"
        )
    asked = [
        "compare",
        f"mine={tmp_path / 'candidate.npz'}",
        "--reference",
        str(tmp_path / "reference.npz"),
        "--cv",
        "phi",
    ]
    done = CliRunner().invoke(app, [*asked, "--quantity", "largest-difference", "-o", str(tmp_path / "found")])
    assert done.exit_code == 0, done.output
    assert "largest difference" in done.output
    found = json.loads((tmp_path / "found" / "comparison.json").read_text())["candidates"][0]["quantities"]
    assert found["largest-difference"]["value"] == pytest.approx(0.25)


@pytest.mark.parametrize(("name", "sites"), [("tip3pfb", 3), ("tip4pfb", 4)])
def test_a_water_model_is_known_by_its_name(ala2: Molecule, name: str, sites: int) -> None:
    potential = resolve(name, PotentialRequest(ala2))
    water = potential.prepare(ala2)
    assert (water.n_atoms - ala2.n_atoms) % sites == 0
    system = build_system(water, potential, "hbonds", 1.5)
    whole = openmm_app.ForceField(*water.force_field).createSystem(
        water.topology,
        nonbondedMethod=openmm_app.PME,
        nonbondedCutoff=0.9 * unit.nanometer,
        constraints=openmm_app.HBonds,
    )
    found = []
    for each in (system, whole):
        context = Context(each, VerletIntegrator(1e-3), Platform.getPlatformByName("CPU"))
        context.setPositions(water.positions)
        found.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert ReferenceSettings(ns=1.0, solvent=name).solvent == name
    with pytest.raises(SettingsError, match="did you mean 'tip3pfb'"):
        ReferenceSettings.parse({"ns": 1.0, "solvent": "tip3pbf"})


def test_a_sampler_is_known_to_the_command() -> None:
    assert "short-steps" in SAMPLERS
    done = CliRunner().invoke(app, ["sample", "c4", "--sampler", "short-steps", "--gradients", "5", "--seed", "1"])
    assert done.exit_code == 0
    assert "c4: short-steps, 100 particles, 5 gradients" in done.output


def test_an_encoder_is_listed_by_the_command() -> None:
    assert "projection" in CliRunner().invoke(app, ["encoders"]).output


def test_a_collective_variable_of_wrong_shape_is_refused(ala2: Molecule, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = observables.CollectiveVariable(False, "nm", lambda x, topology, observable: x[:, 0])
    monkeypatch.setattr(observables.REGISTRY, "_own", {"bad": bad})
    with pytest.raises(InputError, match=r"collective variable 'bad': expected shape \[1\], got \[1, 3\]"):
        observables.evaluate(ala2.positions[None], mdtraj.Topology.from_openmm(ala2.topology), ("bad",))


class Careless:
    """Breaks one claim of the contract of encoders: features depend on the other inputs of the batch."""

    @staticmethod
    def build() -> Encoder:
        from tests.third_party.projection import Projection

        class Centred(Projection):
            def encode_batch(self, inputs: Any, layer: str, pool: str) -> torch.Tensor:
                features = super().encode_batch(inputs, layer, pool)
                return features - features.mean(0)

        return Centred(torch.nn.Linear(8, 3))


def test_the_contract_of_encoders_sees_features_that_depend_on_the_batch() -> None:
    contract = TestEncoder()
    with pytest.raises(AssertionError, match="Mismatched elements"):
        contract.test_features_depend_neither_on_the_batch_nor_on_the_other_inputs(Careless.build())
    with pytest.raises(AssertionError):
        contract.test_its_kind_is_registered(Careless.build())


def test_a_solvent_with_a_formula_of_another_package_is_a_baseline(ala2: Molecule, tmp_path: Path) -> None:
    generator, count = np.random.default_rng(2), 120
    positions = ala2.positions + generator.normal(scale=0.003, size=(count, ala2.n_atoms, 3))
    under = born_forces("fixed-born", ala2, positions)
    system = build_system(ala2, resolve("fixed-born", PotentialRequest(ala2)), "none", 1.0)
    context = Context(system, VerletIntegrator(1e-3), Platform.getPlatformByName("Reference"))
    alone = Context(
        build_system(ala2, Vacuum(), "none", 1.0), VerletIntegrator(1e-3), Platform.getPlatformByName("Reference")
    )
    both = []
    for made in (context, alone):
        made.setPositions(positions[0])
        both.append(made.getState(getForces=True).getForces(asNumpy=True)._value)
    np.testing.assert_allclose(both[0] - both[1], under[0], atol=1e-6 * np.abs(both[0]).max())
    frames = ForceFrames(
        positions=positions,
        forces=under + generator.normal(scale=1.0, size=under.shape),
        atom_types=ala2.atom_types,
        charges=ala2.charges,
        elements=ala2.elements,
        molecule_digest=ala2.digest,
        cv_names=(),
        cvs=np.zeros((count, 0)),
        bias=np.zeros(count),
        run=np.zeros(count, dtype=int),
        time_ps=np.arange(count) * 0.2,
        provenance={"temperature_K": 300.0, "force_field": "amber14/protein.ff14SB.xml", "water": "amber14/tip3p.xml"},
    )
    small = {"features": 4, "blocks": 1, "n_radial": 4, "epochs": 1, "batch_size": 16, "block_ps": 8.0, "gap_ps": 0.0}
    settings = IssnetSettings.parse({**small, "baseline": "fixed-born"})
    data = frames.save(tmp_path / "frames.h5")
    fitted = train(data, tmp_path / "fit", settings, progress="off")
    assert fitted.errors.of("fixed-born").raw.value == pytest.approx(1.0, rel=0.2)  # what is left is the noise
    artifact = export(tmp_path / "fit", tmp_path, ExportSettings(name="on-mine", compress="64"))
    potential = learned("issnet:on-mine", ForceField(artifact), molecule=ala2)
    assert [term.name for term in potential.terms] == ["vacuum", "fixed-born", "learned:on-mine"]


def test_a_potential_that_is_no_solvent_is_no_baseline(ala2: Molecule) -> None:
    with pytest.raises(InputError, match="baseline 'tether:3': expected a solvent with a formula"):
        born_forces("tether:3", ala2, ala2.positions[None])
