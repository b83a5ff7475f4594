"""The verbs of ``import mlsim`` do what the commands of the same names do: the same numbers, the same files."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import mlsim
from mlsim.chem.catalog import load_system
from mlsim.cli import main as program
from mlsim.dataset.frames import ForceFrames
from mlsim.models import weights

Call = Callable[..., int]
SMALL = {"features": 6, "blocks": 1, "n_radial": 6, "epochs": 2, "batch_size": 16, "block_ps": 8.0, "gap_ps": 0.0}
FACTS = {"temperature_K": 300.0, "force_field": "amber14/protein.ff14SB.xml", "water": "amber14/tip3p.xml"}


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["mlsim", *map(str, words)])
        threads = torch.get_num_threads()
        with pytest.raises(SystemExit) as ended:
            program.main()
        torch.set_num_threads(threads)
        return int(ended.value.code or 0)

    return run


def options(values: dict[str, object]) -> list[str]:
    """Settings as options of the same words."""
    return [word for key, value in values.items() for word in ("--" + key.replace("_", "-"), str(value))]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    molecule = load_system("alanine-dipeptide").solute_molecule()
    generator, count = np.random.default_rng(1), 120
    made = ForceFrames(
        positions=molecule.positions + generator.normal(scale=0.005, size=(count, molecule.n_atoms, 3)),
        forces=generator.normal(scale=50.0, size=(count, molecule.n_atoms, 3)),
        atom_types=molecule.atom_types,
        charges=molecule.charges,
        elements=molecule.elements,
        molecule_digest=molecule.digest,
        cv_names=(),
        cvs=np.zeros((count, 0)),
        bias=np.zeros(count),
        run=np.zeros(count, dtype=int),
        time_ps=np.arange(count) * 0.2,
        provenance=dict(FACTS),
    )
    return made.save(tmp_path_factory.mktemp("data") / "frames.h5")


@pytest.mark.parametrize("verb", mlsim.VERBS)
def test_every_verb_says_what_it_takes_gives_and_refuses(verb: str) -> None:
    text = inspect.getdoc(getattr(mlsim, verb)) or ""
    assert all(f"\n{head}\n---" in text for head in ("Parameters", "Returns", "Raises")), text


def test_the_verbs_are_functions_whatever_was_imported_before() -> None:
    import mlsim.fitting.loop

    assert all(inspect.isfunction(getattr(mlsim, verb)) for verb in mlsim.VERBS)


def test_build(call: Call, tmp_path: Path) -> None:
    assert call("build", "ACE-GLY-NME", "-o", tmp_path / "a" / "gly") == 0
    built = mlsim.build("ACE-GLY-NME", tmp_path / "b" / "gly")
    for name in ("structure.pdb", "system.yaml"):
        assert (tmp_path / "a" / "gly" / name).read_text() == (tmp_path / "b" / "gly" / name).read_text()
    assert built.molecule.n_atoms == 19


def test_run(call: Call, tmp_path: Path) -> None:
    asked = {"solvent": "vacuum", "ns": 0.002, "seed": 3, "platform": "Reference", "temperature_K": 320.0}
    asked |= {"equilibration_ps": 0.4, "hydrogen_mass_Da": 2.0}
    assert call("run", "alanine-dipeptide", *options(asked), "-o", tmp_path / "a") == 0
    settings = mlsim.RunSettings.parse({**asked, "system": "alanine-dipeptide"})
    (outcome,) = mlsim.run(settings, tmp_path / "b")
    first, second = (mlsim.Run.open(tmp_path / name) for name in ("a", "b"))
    np.testing.assert_array_equal(first.replicas[0].positions(), second.replicas[0].positions())
    assert outcome.replica.n_frames == 2
    assert (tmp_path / "a" / "config.yaml").read_text() == (tmp_path / "b" / "config.yaml").read_text()
    assert {p.name for p in (tmp_path / "a").iterdir()} == {p.name for p in (tmp_path / "b").iterdir()}


def test_train_and_export(call: Call, frames: Path, tmp_path: Path) -> None:
    assert call("train", "issnet", frames, *options(SMALL), "-o", tmp_path / "a") == 0
    fit = mlsim.train(frames, tmp_path / "b", mlsim.IssnetSettings.parse(SMALL), progress="off")
    one, two = weights.load(tmp_path / "a").state_dict(), weights.load(tmp_path / "b").state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)
    tested = [json.loads((tmp_path / name / "test.json").read_text()) for name in ("a", "b")]
    assert tested[0] == tested[1] == json.loads(json.dumps(fit.errors.as_dict()))
    assert {p.name for p in (tmp_path / "a").iterdir()} == {p.name for p in (tmp_path / "b").iterdir()}
    assert call("export", tmp_path / "a", "--name", "x", "--compress", 64, "-o", tmp_path / "one") == 0
    artifact = mlsim.export(tmp_path / "b", tmp_path / "two", mlsim.ExportSettings(name="x", compress="64"))
    cards = [(mlsim.ForceFieldArtifact.read(tmp_path / name / "x").card) for name in ("one", "two")]
    assert cards[0].description == cards[1].description == artifact.card.description
    assert cards[0].table == cards[1].table
    assert cards[0].files.keys() == cards[1].files.keys()


def test_a_settings_file_and_options_say_the_same(call: Call, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("".join(f"{key}: {value}\n" for key, value in {**SMALL, "epochs": 7}.items()))
    words = ("--settings", tmp_path / "fit.yaml", "--epochs", 2)  # what stands on the command line counts more
    assert call("train", "issnet", frames, *words, "-o", tmp_path / "a") == 0
    assert call("train", "issnet", frames, *options(SMALL), "-o", tmp_path / "b") == 0
    texts = [(tmp_path / name / "train.yaml").read_text() for name in ("a", "b")]
    assert texts[0] == texts[1]
    assert "epochs: 2" in texts[0]
