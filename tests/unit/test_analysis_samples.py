"""Samples from runs and force data: weights by what a run directory holds, discarding, pooling."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from mlsim.analysis import reweight, samples
from mlsim.chem.molecule import Molecule
from mlsim.dataset.frames import ForceFrames
from mlsim.errors import InputError
from mlsim.records import RunRecord
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

    def positions(self) -> np.ndarray:
        return self.x

    def bias(self) -> np.ndarray:
        return self.v

    def times_ps(self) -> np.ndarray:
        return self.spacing_ps * np.arange(1, len(self.x) + 1)


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
    return FakeReplica(directory, topology, _positions(ala2, count, seed), np.zeros(count) if bias is None else bias)


def _grid(shift: float) -> np.ndarray:
    phi, psi = np.meshgrid(AXIS, AXIS, indexing="ij")
    return 6.0 * np.exp(np.cos(phi - shift) + np.cos(psi + shift)) + 40.0 * shift


def _save(directory: Path, grid: np.ndarray, factor: float) -> None:
    np.savez(directory / "bias.npz", grid=grid[None], residues=np.array(["ALA2"]), bias_factor=factor)


def test_an_unbiased_run_has_equal_weights_and_its_replicas_are_independent(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 10, 1), _replica(ala2, tmp_path / "b", 6, 2)))
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    assert found.log_weights is None
    assert found.run.tolist() == [0] * 10 + [1] * 6
    assert (found.cv.shape, found.label, found.temperature_K) == ((16, 2), "gbn2", T)
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


def test_a_grown_bias_is_replaced_by_its_final_form(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, np.linspace(1.0, 9.0, 12)),))
    _save(tmp_path / "a", _grid(0.3), 6.0)
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    assert found.log_weights is not None
    np.testing.assert_allclose(found.log_weights, reweight.bias_on_grid(_grid(0.3), found.cv) / kT(T), atol=1e-5)


def test_different_biases_are_joined_by_mbar(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(
        tmp_path,
        tuple(_replica(ala2, tmp_path / name, 30, seed, np.ones(30)) for name, seed in (("a", 1), ("b", 2))),
    )
    for name, shift in (("a", 0.2), ("b", 0.5)):
        _save(tmp_path / name, _grid(shift), 6.0)
    found = samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]
    assert found.log_weights is not None
    table = np.stack([reweight.bias_on_grid(_grid(shift), found.cv) for shift in (0.2, 0.5)])
    exact = reweight.mbar(table, [30, 30], T)
    np.testing.assert_allclose(found.log_weights - found.log_weights[0], exact - exact[0], atol=1e-4)


def test_a_biased_run_without_its_final_bias_is_refused(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, np.ones(12)),))
    with pytest.raises(InputError, match=r"bias\.npz is missing; finish it with --resume"):
        samples.from_runs([run], ("phi", "psi"))  # type: ignore[list-item]


def test_biased_and_unbiased_runs_are_not_pooled(ala2: Molecule, tmp_path: Path) -> None:
    run = FakeRun(tmp_path, (_replica(ala2, tmp_path / "a", 12, 1, np.ones(12)), _replica(ala2, tmp_path / "b", 12, 2)))
    _save(tmp_path / "a", _grid(0.0), 6.0)
    with pytest.raises(InputError, match="cannot be pooled"):
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
