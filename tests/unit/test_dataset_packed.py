"""Packed force frames: what is lost is far below the noise, damage is found, what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlsim.dataset.frames import ForceFrames
from mlsim.dataset.packed import ANGLE_STEP_RAD, POSITION_STEP_NM, pack, unpack
from mlsim.errors import InputError, MissingError


@pytest.fixture
def frames() -> ForceFrames:
    rng = np.random.default_rng(4)
    f, n = 60, 12
    return ForceFrames(
        positions=(5.0 + rng.normal(scale=0.4, size=(f, n, 3))).astype(np.float32),
        forces=rng.normal(scale=150.0, size=(f, n, 3)).astype(np.float32),
        cvs=rng.uniform(-np.pi, np.pi, (f, 2)),
        cv_names=("phi_ALA2", "psi_ALA2"),
        bias=rng.uniform(0, 30, f),
        run=np.repeat([0, 3], f // 2),
        time_ps=np.tile(np.arange(1, f // 2 + 1) * 0.5, 2),
        atom_types=("CT",) * n,
        charges=rng.normal(size=n),
        elements=("C",) * n,
        molecule_digest="0123456789abcdef",
        provenance={"temperature_K": 300.0},
    )


def test_positions_come_back_about_their_centre_to_half_a_step(frames: ForceFrames, tmp_path: Path) -> None:
    read = unpack(pack(frames, tmp_path / "a.h5"))
    centred = frames.positions - frames.positions.mean(axis=1, keepdims=True, dtype=np.float64)
    assert np.abs(read.positions - centred).max() <= 0.5 * POSITION_STEP_NM * 1.001 + 1e-6


def test_forces_angles_and_times_come_back_within_the_stated_rounding(frames: ForceFrames, tmp_path: Path) -> None:
    read = unpack(pack(frames, tmp_path / "a.h5"))
    assert np.abs(read.forces / frames.forces - 1.0).max() <= 2.0**-11 * 1.001
    assert np.abs(read.cvs - frames.cvs).max() <= 0.5 * ANGLE_STEP_RAD * 1.001
    np.testing.assert_array_equal(read.time_ps, frames.time_ps)
    np.testing.assert_array_equal(read.run, frames.run)
    np.testing.assert_array_equal(read.charges, frames.charges)
    assert (read.molecule_digest, read.provenance) == (frames.molecule_digest, frames.provenance)


def test_rounding_adds_less_than_a_thousandth_to_the_squared_force_error(frames: ForceFrames, tmp_path: Path) -> None:
    read = unpack(pack(frames, tmp_path / "a.h5"))
    added = np.mean((read.forces.astype(float) - frames.forces) ** 2)
    assert added < 1e-3 * np.mean(frames.forces.astype(float) ** 2)


def test_packing_what_was_packed_changes_nothing(frames: ForceFrames, tmp_path: Path) -> None:
    once = unpack(pack(frames, tmp_path / "a.h5"))
    twice = unpack(pack(once, tmp_path / "b.h5"))
    np.testing.assert_array_equal(once.forces, twice.forces)
    assert np.abs(once.positions - twice.positions).max() <= POSITION_STEP_NM


def test_a_changed_file_is_refused(frames: ForceFrames, tmp_path: Path) -> None:
    path = pack(frames, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        values = file["forces"][()]
        values[3, 2, 1] += 1.0
        file["forces"][...] = values
    with pytest.raises(InputError, match="does not match its digest"):
        unpack(path)


def test_a_force_that_float16_cannot_hold_is_refused(frames: ForceFrames, tmp_path: Path) -> None:
    forces = np.array(frames.forces)
    forces[0, 0, 0] = 7e4
    with pytest.raises(InputError, match="float16"):
        pack(replace(frames, forces=forces), tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


def test_a_molecule_that_is_too_large_is_refused(frames: ForceFrames, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from the centre"):
        pack(replace(frames, positions=frames.positions * 10), tmp_path / "a.h5")


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no")
    for path, kind in ((tmp_path / "text.h5", InputError), (tmp_path / "none.h5", MissingError)):
        with pytest.raises(kind) as caught:
            unpack(path)
        assert "\n" not in str(caught.value)
