"""ForceFrames: validation at the door, subsets, joining, and the file format."""

from __future__ import annotations

import dataclasses
import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.dataset import storage
from mlsim.dataset.frames import ForceFrames, concatenate
from mlsim.errors import InputError, MissingError, StorageError


def make(n_frames=12, seed=0, dtype=np.float32, **changes):
    rng = np.random.default_rng(seed)
    values = {
        "positions": rng.normal(size=(n_frames, 3, 3)).astype(dtype),
        "forces": rng.normal(size=(n_frames, 3, 3)).astype(dtype),
        "atom_types": ("HC", "CT", "O"),
        "charges": np.array([0.1, 0.2, -0.3]),
        "elements": ("H", "C", "O"),
        "molecule_digest": "0123456789abcdef",
        "cv_names": ("phi", "psi"),
        "cvs": rng.uniform(-3, 3, size=(n_frames, 2)),
        "bias": rng.uniform(0, 5, size=n_frames),
        "run": np.repeat([0, 1], [n_frames // 2, n_frames - n_frames // 2]),
        "time_ps": np.arange(n_frames) * 0.5,
        "provenance": {"water": "TIP3P"},
    }
    return ForceFrames(**{**values, **changes})


def test_frames_are_read_only_and_keep_their_precision():
    single, double = make(), make(dtype=np.float64)
    assert single.positions.dtype == single.forces.dtype == np.float32
    assert double.positions.dtype == double.forces.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        single.forces[0, 0, 0] = 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"forces": np.zeros((12, 2, 3))}, r"forces \(kJ/mol/nm\): expected shape \[12, 3, 3\], got \[12, 2, 3\]"),
        ({"bias": np.zeros(11)}, r"bias \(kJ/mol\): expected shape \[12\]"),
        ({"charges": np.array([0.1, np.nan, 0.2])}, "NaN"),
        ({"elements": ("H", "C")}, "elements: expected 3"),
        ({"cv_names": ("phi",)}, r"cvs \(rad\)"),
        ({"provenance": {"when": object()}}, "provenance"),
        ({"atom_types": ("HC", "CT")}, r"positions \(nm\)"),
        ({"covariance": np.zeros((12, 3, 3))}, "covariance"),
    ],
)
def test_inconsistent_arrays_are_refused_with_expected_and_got(changes, message):
    with pytest.raises(InputError, match=message):
        make(**changes)


def test_an_empty_set_of_frames_is_refused():
    with pytest.raises(InputError, match="at least one frame"):
        make().take([])


def test_take_selects_every_per_frame_array_and_keeps_the_atoms():
    frames = make(stderr=np.ones((12, 3, 3)), covariance=np.tile(np.eye(9), (12, 1, 1)))
    part = frames.take([5, 2])
    assert len(part) == 2
    assert np.array_equal(part.positions, frames.positions[[5, 2]])
    assert np.array_equal(part.time_ps, frames.time_ps[[5, 2]])
    assert part.stderr.shape == (2, 3, 3)
    assert part.covariance.shape == (2, 9, 9)
    assert part.atom_types == frames.atom_types
    assert len(frames.take(frames.run == 1)) == 6


def test_joined_frames_keep_their_runs_apart_and_name_their_sources():
    one, two = make(seed=1), make(seed=2, run=np.full(12, 7))
    both = concatenate([one, two])
    assert len(both) == 24
    assert both.run.tolist() == [0] * 6 + [1] * 6 + [2] * 12
    assert [s["digest"] for s in both.provenance["joined"]] == [one.digest, two.digest]


@pytest.mark.parametrize(
    "changes",
    [
        {"molecule_digest": "f" * 16},
        {"atom_types": ("HC", "CT", "N")},
        {"charges": np.zeros(3)},
        {"cv_names": ("a", "b")},
    ],
)
def test_frames_of_different_molecules_are_not_joined(changes):
    with pytest.raises(InputError, match="different"):
        concatenate([make(), make(**changes)])


def test_frames_with_and_without_error_bars_are_not_joined():
    with pytest.raises(InputError, match="only some have 'stderr'"):
        concatenate([make(), make(stderr=np.ones((12, 3, 3)))])


@given(st.integers(1, 40), st.sampled_from([np.float32, np.float64]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_file_gives_back_exactly_what_was_saved(tmp_path_factory, n_frames, dtype, with_errors):
    extra = {"stderr": np.ones((n_frames, 3, 3)), "covariance": np.tile(np.eye(9), (n_frames, 1, 1))}
    frames = make(n_frames, seed=n_frames, dtype=dtype, **(extra if with_errors else {}))
    path = frames.save(tmp_path_factory.mktemp("frames") / "a.h5")
    back = ForceFrames.load(path)
    for field in dataclasses.fields(frames):
        a, b = getattr(frames, field.name), getattr(back, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b)
        else:
            assert a == b
    assert back.digest == frames.digest


def test_frames_without_collective_variables_can_be_saved(tmp_path):
    frames = make(cv_names=(), cvs=np.zeros((12, 0)))
    assert ForceFrames.load(frames.save(tmp_path / "a.h5")).cvs.shape == (12, 0)


def test_the_digest_sees_every_array_and_name():
    digests = {
        make().digest,
        make(seed=1).digest,
        make(bias=np.zeros(12)).digest,
        make(molecule_digest="f" * 16).digest,
        make(charges=np.zeros(3)).digest,
        make(stderr=np.ones((12, 3, 3))).digest,
        make(dtype=np.float64).digest,
    }
    assert len(digests) == 7
    assert make(provenance={}).digest == make().digest


def test_rounding_stays_within_half_a_step_and_compresses_better(tmp_path):
    frames = make(4000)
    rounded = frames.rounded(1e-5, 0.05)
    assert np.abs(rounded.positions - frames.positions).max() <= 0.5e-5 * 1.01
    assert np.abs(rounded.forces - frames.forces).max() <= 0.025 * 1.01
    sizes = [f.save(tmp_path / f"{i}.h5").stat().st_size for i, f in enumerate((frames, rounded))]
    assert sizes[1] < 0.85 * sizes[0]
    assert rounded.provenance["rounded_to"]["positions_nm"] == 2.0**-17


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        ForceFrames.load(tmp_path / "none.h5")


def test_text_a_truncated_file_and_another_hdf5_file_are_refused(tmp_path):
    text, cut, other = tmp_path / "t.h5", tmp_path / "c.h5", tmp_path / "o.h5"
    text.write_text("hello")
    make(300).save(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with h5py.File(other, "w") as file:
        file["x"] = 1
    for path in (text, cut):
        with pytest.raises(InputError, match="not readable as force frames"):
            ForceFrames.load(path)
    with pytest.raises(InputError, match="expected an HDF5 file of format"):
        ForceFrames.load(other)


def test_a_changed_number_in_the_file_is_noticed(tmp_path):
    path = make().save(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["bias"][3] += 1.0
    with pytest.raises(InputError, match="does not match its digest"):
        ForceFrames.load(path)


def test_a_newer_format_is_refused(tmp_path):
    path = make().save(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = storage.VERSION + 1
    with pytest.raises(InputError, match="upgrade"):
        ForceFrames.load(path)


def test_a_refused_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = make(seed=1).save(tmp_path / "a.h5")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match="no space left"):
        make(seed=2).save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    assert ForceFrames.load(path).digest == make(seed=1).digest
