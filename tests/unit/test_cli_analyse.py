"""``mlsim fes`` and ``mlsim compare`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mlsim.analysis.surfaces import surface
from mlsim.analysis.surfaces.subject import Subject
from mlsim.chem.molecule import Molecule
from mlsim.cli.analysis import analyse
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError, MissingError
from mlsim.runs import trajectory
from tests.unit.torus_density import ALANINE, SHIFTED, Torus

APP = typer.Typer()
analyse.register(APP)


def _run(*words: str | Path) -> str:
    result = CliRunner().invoke(APP, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


def _surface(directory: Path, density: Torus, label: str, seed: int, subject: Subject | None = None) -> Path:
    directory.mkdir(parents=True)
    cv = density.chain(20_000, 0.3, np.random.default_rng(seed))
    surface.estimate(cv, 300.0).labelled(label, subject=subject).save(directory / "surface.npz")
    return directory


def _subject(system: str, solvent: str, run: str) -> Subject:
    return Subject(system, f"digest of {system}", solvent, f"digest of {solvent}", (run,))


def _frames(path: Path, molecule: Molecule, density: Torus, provenance: dict) -> Path:
    count = 4_000
    cv = density.chain(count, 0.3, np.random.default_rng(9))
    ForceFrames(
        positions=np.broadcast_to(molecule.positions, (count, molecule.n_atoms, 3)).astype(np.float32),
        forces=np.zeros((count, molecule.n_atoms, 3), dtype=np.float32),
        atom_types=molecule.atom_types,
        charges=molecule.charges,
        elements=molecule.elements,
        molecule_digest=molecule.digest,
        cv_names=("phi_ALA2", "psi_ALA2"),
        cvs=cv,
        bias=np.zeros(count),
        run=np.zeros(count, dtype=int),
        time_ps=0.2 * np.arange(count),
        provenance=provenance,
    ).save(path)
    return path


@pytest.mark.parametrize(
    ("given", "spread"),
    [
        (["run", "--cv", "phi", "psi"], ["run", "--cv", "phi", "--cv", "psi"]),
        (["--cv", "phi:2", "psi:2", "run", "-o", "x"], ["--cv", "phi:2", "--cv", "psi:2", "run", "-o", "x"]),
        (["--cv", "rg", "run", "psi"], ["--cv", "rg", "run", "psi"]),
        (["--cv", "phi", "--cv", "psi", "run"], ["--cv", "phi", "--cv", "psi", "run"]),
        (["run", "--bins", "24"], ["run", "--bins", "24"]),
    ],
)
def test_cv_takes_several_values(given: list[str], spread: list[str]) -> None:
    assert analyse.spread_cv(given) == spread


def test_compare_prints_the_table_and_writes_every_file(tmp_path: Path) -> None:
    seeds = [_surface(tmp_path / f"ref{n}", ALANINE, "tip3p", n) for n in (1, 2, 3)]
    good, bad = _surface(tmp_path / "good", ALANINE, "issnet", 4), _surface(tmp_path / "bad", SHIFTED, "gbn2", 5)
    words = [word for seed in seeds for word in ("--reference", seed)]
    output = _run("compare", good, bad, *words, "--cv", "phi", "psi", "-o", tmp_path / "out")
    assert "3 runs, 60000 frames" in output
    record = json.loads((tmp_path / "out" / "comparison.json").read_text())
    near, far = (c["rmse_corrected_kcal_mol"]["value"] for c in record["candidates"])
    assert near < far
    assert sorted(p.name for p in (tmp_path / "out" / "surfaces").iterdir()) == [
        "gbn2.npz",
        "issnet.npz",
        "reference-tip3p.npz",
    ]


def test_candidates_of_one_name_and_directory_stay_apart_in_rows_and_files(tmp_path: Path) -> None:
    paths = [_surface(tmp_path / name, ALANINE, "obc2", n) for n, name in enumerate(("a/run", "b/run", "ref"))]
    output = _run("compare", *paths[:2], "--reference", paths[2], "-o", tmp_path / "out")
    assert "obc2 (a/run)" in output
    assert "obc2 (b/run)" in output
    names = sorted(path.name for path in (tmp_path / "out" / "surfaces").iterdir())
    assert names == ["obc2--a-run.npz", "obc2--b-run.npz", "reference-obc2.npz"]
    with pytest.raises(InputError, match="is given twice"):
        _run("compare", paths[0], paths[0], "--reference", paths[2])


def test_surfaces_of_an_earlier_comparison_do_not_stay(tmp_path: Path) -> None:
    kinds = ((ALANINE, "obc2"), (SHIFTED, "gbn2"), (ALANINE, "tip3p"))
    obc2, gbn2, tip3p = (_surface(tmp_path / label, kind, label, n) for n, (kind, label) in enumerate(kinds))
    _run("compare", obc2, gbn2, "--reference", tip3p, "-o", tmp_path / "out")
    _run("compare", gbn2, "--reference", tip3p, "-o", tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "surfaces").iterdir())
    assert names == ["gbn2.npz", "reference-tip3p.npz"]


def test_surfaces_of_other_molecules_potentials_or_the_same_run_are_not_pooled(tmp_path: Path) -> None:
    kinds = {
        "ala": _subject("alanine-dipeptide", "obc2", "1"),
        "val": _subject("valine-dipeptide", "obc2", "2"),
        "vac": _subject("alanine-dipeptide", "vacuum", "3"),
        "twin": _subject("alanine-dipeptide", "obc2", "1"),
        "other": _subject("alanine-dipeptide", "obc2", "4"),
    }
    at = {n: _surface(tmp_path / n, ALANINE, s.label, k, s) for k, (n, s) in enumerate(kinds.items())}
    for name, message in (("val", "is of valine"), ("vac", "another potential"), ("twin", "is the same run as")):
        with pytest.raises(InputError, match=message):
            _run("fes", at["ala"], at[name])
        with pytest.raises(InputError, match=message):
            _run("compare", at["other"], "--reference", at["ala"], "--reference", at[name])
    assert "2 runs, 40000 frames" in _run("fes", at["ala"], at["other"])


def test_a_candidate_of_another_molecule_is_compared_only_if_asked(tmp_path: Path) -> None:
    ala, val = _subject("alanine-dipeptide", "obc2", "1"), _subject("valine-dipeptide", "obc2", "2")
    first, second = (
        _surface(tmp_path / name, ALANINE, s.label, k, s) for k, (name, s) in enumerate((("a", ala), ("v", val)))
    )
    with pytest.raises(InputError, match=r"is of valine-dipeptide, the reference .* of alanine-dipeptide.*--molecules"):
        _run("compare", second, "--reference", first)
    output = _run("compare", second, "--reference", first, "--molecules", "any")
    assert "valine-dipeptide, obc2" in output
    assert "reference alanine-dipeptide, obc2" in output


def test_the_only_residue_is_the_same_with_and_without_its_number(tmp_path: Path) -> None:
    bare = _surface(tmp_path / "bare", ALANINE, "tip3p", 1)
    cv = ALANINE.chain(20_000, 0.3, np.random.default_rng(2))
    numbered = tmp_path / "numbered.npz"
    surface.estimate(cv, 300.0, cv_names=("phi:2", "psi:2")).labelled("obc2").save(numbered)
    for cvs in (("phi", "psi"), ("phi:2", "psi:2")):
        assert "2 runs, 40000 frames" in _run("fes", bare, numbered, "--cv", *cvs)
        assert "basin populations" in _run("compare", numbered, "--reference", bare, "--cv", *cvs, "-o", tmp_path / "o")
    with pytest.raises(InputError, match=r"no surface over phi:3 psi:3 \(--cv\); there are phi:2 psi:2"):
        _run("fes", numbered, "--cv", "phi:3", "psi:3")


def test_candidates_may_be_several_runs_under_a_name(tmp_path: Path) -> None:
    paths = [_surface(tmp_path / name, ALANINE, "obc2", n) for n, name in enumerate(("a", "b", "c", "ref"))]
    output = _run("compare", f"both={paths[0]},{paths[1]}", paths[2], "--reference", paths[3])
    assert "both" in output
    assert "40000 of 40000" in output
    assert "20000 of 20000" in output


def test_basins_are_named_on_phi_and_psi_only(tmp_path: Path) -> None:
    cv = np.random.default_rng(1).uniform(-3.0, 3.0, (4_000, 2))
    for names in (("phi", "rg"), ("psi", "phi"), ("phi:2", "psi:3")):
        surface.estimate(cv, 300.0, cv_names=names).labelled("any").save(tmp_path / "any.npz")
        output = _run("fes", tmp_path / "any.npz", "--cv", *names, "-o", tmp_path / "out")
        assert "basin populations" not in output
        assert (tmp_path / "out" / "surface.png").stat().st_size > 0


def test_vacuum_has_its_own_names_of_two_basins(tmp_path: Path) -> None:
    bare, wet = (_surface(tmp_path / s, ALANINE, s, n, _subject("ala", s, s)) for n, s in enumerate(("vacuum", "obc2")))
    assert "C7ax" in _run("fes", bare)
    assert "C7ax" not in _run("fes", wet)
    assert "alphaL/C7ax" in _run("compare", bare, "--reference", wet)


def test_candidates_of_one_name_stay_apart(tmp_path: Path) -> None:
    paths = [_surface(tmp_path / name, ALANINE, "issnet", n) for n, name in enumerate(("old", "new", "ref"))]
    output = _run("compare", *paths[:2], "--reference", paths[2])
    assert "issnet (old)" in output
    assert "issnet (new)" in output


def test_fes_of_force_data_takes_the_temperature_they_record(ala2: Molecule, tmp_path: Path) -> None:
    path = _frames(tmp_path / "a.h5", ala2, ALANINE, {"runs": [{"settings": {"temperature_K": 310.0}}]})
    output = _run("fes", path, "--cv", "phi", "psi", "--bins", "12", "--discard-ps", "100", "-o", tmp_path / "out")
    assert "at 310 K" in output
    record = json.loads((tmp_path / "out" / "surface.json").read_text())
    assert (len(record["free_energy_kJ_mol"]), record["n_frames"]) == (12, 3_500)
    with pytest.raises(InputError, match="expected one temperature, got 300 K, 310 K"):
        _run("fes", path, "--temperature", "300")


def test_fes_of_force_data_without_temperature_asks_for_it(ala2: Molecule, tmp_path: Path) -> None:
    path = _frames(tmp_path / "a.h5", ala2, ALANINE, {})
    with pytest.raises(InputError, match="give it with --temperature"):
        _run("fes", path)
    assert "at 300 K" in _run("fes", path, "--temperature", "300")


def test_run_directories_are_pooled_and_compared(
    ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.unit.test_analysis_samples import FakeRun, _replica

    def opened(path: Path) -> FakeRun:
        seed = int(path.name[-1])
        return FakeRun(path, (_replica(ala2, path / "replica-00", 400, seed),), label="gbn2")

    monkeypatch.setattr(trajectory.Run, "open", staticmethod(opened))
    for name in ("reference/seed-0001", "reference/seed-0002", "model3"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")
    assert "2 runs, 800 frames" in _run("fes", tmp_path / "reference", "--cv", "distance:1.CH3,3.C")
    output = _run("compare", tmp_path / "model3", "--reference", tmp_path / "reference", "--cv", "rg", "--bins", "10")
    assert "reference alanine-dipeptide, gbn2: 2 runs, 800 frames" in output


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("fes", "nowhere"), MissingError, "nothing to analyse there"),
        (("fes", "ref", "--cv", "fi"), InputError, "unknown collective variable 'fi'"),
        (("fes", "ref", "--cv", "rg"), InputError, r"ref: no surface over rg \(--cv\); there are phi psi"),
        (
            ("compare", "ref", "--reference", "ref", "--bins", "12", "--cv", "phi", "psi", "nowhere"),
            MissingError,
            "nowhere",
        ),
    ],
)
def test_bad_input_is_one_clear_error_and_writes_nothing(
    words: tuple[str, ...], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _surface(tmp_path / "ref", ALANINE, "tip3p", 1)
    with pytest.raises(error, match=message):
        _run(*words, "-o", "out")
    assert not (tmp_path / "out").exists()
