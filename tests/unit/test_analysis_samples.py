"""Samples from runs and force data: weights by what a run directory holds, discarding, pooling."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest

from mlsim.analysis import reweight, samples
from mlsim.chem.molecule import Molecule
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.records import RunRecord, SoluteNote
from mlsim.runs.bias_file import HillHistory
from mlsim.units import kT

T = 300.0
AXIS = -np.pi + 2 * np.pi * np.arange(72) / 72


@dataclass
class FakeReplica:
    """What ``mlsim.runs.trajectory.Replica`` promises."""

    directory: Path
    topology: mdtraj.Topology
    x: np.ndarray
    v: np.ndarray
    spacing_ps: float = 1.0
    record: RunRecord = field(default_factory=lambda: toy_record())

    def positions(self) -> np.ndarray:
        return self.x

    def bias(self) -> np.ndarray:
        return self.v

    def times_ps(self) -> np.ndarray:
        return self.spacing_ps * np.arange(1, len(self.x) + 1)

    def column(self, name: str) -> np.ndarray:
        assert name == "step"
        return 250.0 * np.arange(1, len(self.x) + 1)


def toy_record() -> RunRecord:
    return RunRecord(
        engine="single",
        status="complete",
        seed=5,
        settings={},
        potential={"name": "gbn2"},
        versions={},
        command="mlsim",
    )


@dataclass
class FakeRun:
    """What ``mlsim.runs.trajectory.Run`` promises."""

    directory: Path
    replicas: tuple[FakeReplica, ...]
    temperature_K: float = T
    label: str = "gbn2"
    record: RunRecord = field(default_factory=toy_record)


def _positions(ala2: Molecule, count: int, seed: int) -> np.ndarray:
    return ala2.positions + 0.03 * np.random.default_rng(seed).normal(size=(count, ala2.n_atoms, 3))


def _replica(ala2: Molecule, directory: Path, count: int, seed: int, bias: np.ndarray | None = None) -> FakeReplica:
    directory.mkdir(parents=True, exist_ok=True)
    topology = mdtraj.Topology.from_openmm(ala2.topology)
    note = SoluteNote(name=ala2.name, digest=ala2.digest, solute_atoms=ala2.n_atoms, atoms=ala2.n_atoms)
    facts = {"molecule": note, "settings": {"solvent": "gbn2", "temperature_K": T}, "identity": f"run {seed}"}
    record = toy_record().model_copy(update={**facts, "seed": seed})
    bias = np.zeros(count) if bias is None else bias
    return FakeReplica(directory, topology, _positions(ala2, count, seed), bias, record=record)


def _grid(shift: float) -> np.ndarray:
    phi, psi = np.meshgrid(AXIS, AXIS, indexing="ij")
    return 6.0 * np.exp(np.cos(phi - shift) + np.cos(psi + shift)) + 40.0 * shift


def _save(directory: Path, grid: np.ndarray, factor: float, history: HillHistory | None = None) -> None:
    arrays = {} if history is None else history.arrays()
    np.savez(directory / "bias.npz", grid=grid[None], residues=np.array(["ALA2"]), bias_factor=factor, **arrays)


def _history(offset: np.ndarray, every: int = 500) -> HillHistory:
    """One hill every ``every`` steps, 0.5 kJ/mol each, with these constants after them."""
    hills = len(offset)
    return HillHistory(every * np.arange(1, hills + 1), np.full((hills, 1), 0.5), offset)


def test_an_unbiased_run_has_equal_weights_and_its_replicas_are_independent(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 10, 1), _replica(ala2, tmp_path / "b", 6, 2)))
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    assert found.log_weights is None
    assert found.run.tolist() == [0] * 10 + [1] * 6
    assert (found.cv.shape, found.label, found.temperature_K) == ((16, 2), f"{ala2.name}, gbn2", T)
    assert found.provenance["records"] == [{"seed": 5, "potential": {"name": "gbn2"}, "versions": {}}]


def test_the_start_of_every_replica_is_left_out(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 10, 1), _replica(ala2, tmp_path / "b", 6, 2)))
    found = samples.from_runs([run], ("phi", "psi"), discard_ps=4.0)  # type: ignore[list-item]
    assert found.run.tolist() == [0] * 7 + [1] * 3
    with pytest.raises(InputError, match="b: discard: 8 ps leaves nothing"):
        samples.from_runs([run], ("phi", "psi"), discard_ps=8.0)  # type: ignore[list-item]


def test_a_fixed_bias_is_taken_from_the_log(ala2: Molecule, tmp_path: Path) -> None:
    bias = np.linspace(1.0, 9.0, 12)
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, bias),))
    _save(tmp_path / "a", _grid(0.0), np.nan)
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    assert found.log_weights is not None
    np.testing.assert_allclose(found.log_weights, bias / kT(T))


def test_frames_under_a_growing_bias_weigh_by_the_bias_and_the_constant_of_their_time(
    ala2: Molecule, tmp_path: Path
) -> None:
    logged = np.linspace(1.0, 9.0, 12)
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, logged),))
    offset = np.array([0.3, 0.9, 1.2, 1.9, 2.0, 2.6])
    _save(tmp_path / "a", _grid(0.3), 6.0, _history(offset))
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    # frames at steps 250, 500, ...: every second one coincides with a hill, which was added after it was sampled
    acting = logged - np.tile([0.0, 0.5], 6)
    constant = np.array([0.0, 0.0, *np.repeat(offset[:-1], 2)])
    assert found.log_weights is not None
    expected = (acting - constant) / kT(T)
    np.testing.assert_allclose(found.log_weights - found.log_weights[0], expected - expected[0], atol=1e-9)
    assert "rms) from its final form" in found.provenance["reweighting"]["bias"]


def test_a_growing_bias_without_its_history_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, np.ones(12)),))
    _save(tmp_path / "a", _grid(0.3), 6.0)
    with pytest.raises(InputError, match="kept no history of it; sample under the finished bias"):
        samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]


def test_runs_under_growing_biases_are_normalised_each_and_never_joined_by_mbar(
    ala2: Molecule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reweight, "mbar_with_overlap", None)
    parts = [("a", 1, 30), ("b", 2, 60)]
    run = FakeRun(tmp_path, tuple(_replica(ala2, tmp_path / n, c, s, np.linspace(s, 9.0 * s, c)) for n, s, c in parts))
    for name, seed, count in parts:
        _save(tmp_path / name, _grid(0.1 * seed), 6.0, _history(np.linspace(0.1, 5.0, count // 2)))
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    assert found.log_weights is not None
    weights = np.exp(found.log_weights)
    assert weights[found.run == 0].sum() == pytest.approx(30.0)
    assert weights[found.run == 1].sum() == pytest.approx(60.0)


def test_different_fixed_biases_are_joined_by_mbar(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(
        tmp_path,
        tuple(_replica(ala2, tmp_path / name, 30, seed, np.ones(30)) for name, seed in (("a", 1), ("b", 2))),
    )
    for name, shift in (("a", 0.2), ("b", 0.5)):
        _save(tmp_path / name, _grid(shift), np.nan)
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    assert found.log_weights is not None
    table = np.stack([reweight.bias_on_grid(_grid(shift), found.cv) for shift in (0.2, 0.5)])
    exact = reweight.mbar(table, [30, 30], T)
    np.testing.assert_allclose(found.log_weights - found.log_weights[0], exact - exact[0], atol=1e-4)
    assert "overlap" in found.provenance["reweighting"]["bias"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"potential": {"name": "vacuum"}, "identity": "run 7"}, "another potential than"),
        (
            {"molecule": SoluteNote(name="valine", digest="f00", solute_atoms=28, atoms=28), "identity": "run 7"},
            "is of valine, .* cannot be pooled",
        ),
        ({}, "is the same run as"),
    ],
)
def test_runs_of_another_potential_or_molecule_or_the_same_run_twice_are_not_pooled(
    ala2: Molecule, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    parts = (_replica(ala2, tmp_path / "a", 10, 1), _replica(ala2, tmp_path / "b", 10, 1))
    parts[1].record = parts[1].record.model_copy(update=changes)
    with pytest.raises(InputError, match=message):
        samples.from_runs([FakeRun(tmp_path, parts)], ("phi", "psi"))  # type: ignore[list-item]


@pytest.mark.parametrize("fact", ["molecule", "identity", "settings"])
def test_a_record_without_its_facts_is_refused(ala2: Molecule, tmp_path: Path, fact: str) -> None:
    part = _replica(ala2, tmp_path / "a", 10, 1)
    part.record = part.record.model_copy(update={fact: {} if fact == "settings" else None})
    with pytest.raises(InputError, match=f"its run.json lacks {fact}"):
        samples.from_runs([FakeRun(tmp_path, (part,))], ("phi", "psi"))  # type: ignore[list-item]


def test_bias_energies_that_are_no_number_are_refused(ala2: Molecule, tmp_path: Path) -> None:
    part = _replica(ala2, tmp_path / "a", 10, 1, np.array([1.0] * 8 + [np.nan] * 2))
    with pytest.raises(InputError, match="2 bias energies are no number"):
        samples.from_runs([FakeRun(tmp_path, (part,))], ("phi", "psi"))  # type: ignore[list-item]


def test_a_biased_run_without_its_final_bias_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, np.ones(12)),))
    with pytest.raises(InputError, match=r"bias\.npz is missing; finish it with --resume"):
        samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]


def test_biased_and_unbiased_runs_are_not_pooled(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, np.ones(12)), _replica(ala2, tmp_path / "b", 12, 2)))
    _save(tmp_path / "a", _grid(0.0), np.nan)
    with pytest.raises(InputError, match="a fixed bias and no bias cannot be pooled"):
        samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]


def test_runs_at_different_temperatures_are_not_pooled(ala2: Molecule, tmp_path: Path) -> None:
    runs = [FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1),), kelvin) for kelvin in (300.0, 310.0)]
    with pytest.raises(InputError, match="expected a run at 300 K, it was run at 310 K"):
        samples.from_runs(runs, ("phi", "psi"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a run at 280 K"):
        samples.from_runs(runs[:1], ("phi", "psi"), temperature_K=280.0)  # type: ignore[arg-type]


def test_a_run_without_frames_is_an_error(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 0, 1),))
    with pytest.raises(InputError, match="no frames yet"):
        samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    with pytest.raises(InputError, match="at least one run"):
        samples.from_runs([], ("phi", "psi"))


def test_force_data_give_their_stored_variables_and_bias(ala2: Molecule) -> None:
    count = 8
    frames = ForceFrames(
        positions=_positions(ala2, count, 1),
        forces=np.zeros((count, ala2.n_atoms, 3)),
        atom_types=ala2.atom_types,
        charges=ala2.charges,
        elements=ala2.elements,
        molecule_digest=ala2.digest,
        cv_names=("phi_ALA2", "psi_ALA2"),
        cvs=np.random.default_rng(2).normal(size=(count, 2)),
        bias=np.arange(count, dtype=float),
        run=np.repeat([0, 1], 4),
        time_ps=np.tile(np.arange(4.0), 2),
        provenance={"made": "here"},
    )
    found = samples.from_frames(frames, ("psi", "phi:2"), discard_ps=1.0, temperature_K=T, label="ref")
    keep = [1, 2, 3, 5, 6, 7]
    np.testing.assert_array_equal(found.cv, frames.cvs[keep][:, ::-1])
    assert found.log_weights is not None
    np.testing.assert_allclose(found.log_weights, np.array(keep) / kT(T))
    with pytest.raises(InputError, match="stored columns phi_ALA2 psi_ALA2"):
        samples.from_frames(frames, ("phi:3",), temperature_K=T, label="ref")
