"""What a file declares is compared with what it has before anything is allocated for it."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import yaml

from mlsim import limits
from mlsim.errors import SettingsError
from mlsim.settings import read_yaml

ARRAYS = {
    "numbers": np.arange(12.0).reshape(3, 4),
    "by columns": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "text": np.array("ALA2 é"),
    "empty": np.zeros((0, 3)),
    "one": np.array(True),
}


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were(write: object) -> None:
    memory = io.BytesIO()
    write(memory, **ARRAYS)  # type: ignore[operator]
    found = limits.arrays(memory.getvalue())
    assert found.keys() == ARRAYS.keys()
    for name, value in ARRAYS.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)
        assert found[name].flags.writeable


def archive(path: Path, *parts: tuple[str, bytes], packed: bool = True) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        for name, content in parts:
            file.writestr(name, content)
    return path


def npy(shape: tuple[int, ...], kind: str = "<f8", content: bytes = b"") -> bytes:
    """The file of an array that declares ``shape``, whatever it holds."""
    memory = io.BytesIO()
    np.lib.format.write_array_header_1_0(memory, {"descr": kind, "fortran_order": False, "shape": shape})
    return memory.getvalue() + content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy((2**40,)), r"declares shape \[1099511627776\]"),
        (npy((2**62, 4)), "declares shape"),
        (npy((-1, -8), content=bytes(64)), "declares shape"),
        (npy((3,), "|O", b"\x80\x04."), "not an array of numbers|holds object"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 9000, "not an array of numbers"),
        (b"cos\nsystem\n", "not an array of numbers"),
    ],
)
def test_an_array_that_declares_what_it_does_not_hold_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        limits.arrays(archive(tmp_path / "a.npz", ("x.npy", content)))


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused_unread(tmp_path: Path) -> None:
    zeros = npy((32 * limits.MEGABYTE,), content=bytes(256 * limits.MEGABYTE))
    path = archive(tmp_path / "bomb.npz", ("x.npy", zeros))
    assert path.stat().st_size < limits.MEGABYTE
    with pytest.raises(ValueError, match=r"declares 2684\d+ bytes of numbers, expected at most 134217728"):
        limits.arrays(path)
    small = archive(tmp_path / "small.npz", ("x.npy", npy((1000,), content=bytes(8000))))
    assert limits.arrays(small)["x"].sum() == 0.0
    with pytest.raises(ValueError, match="compressed or larger than the file"):
        limits.arrays(small, packed=False)


def test_pipes_and_devices_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match=r"expected a plain file|a directory"):
            limits.file_bytes(path, 10)


def test_datasets_that_lead_out_of_the_file_or_declare_too_much_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["secret"] = np.ones(3)
    (tmp_path / "raw").write_bytes(bytes(80))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["good"] = np.arange(3)
        file["soft"] = h5py.SoftLink("/good")
        file["external"] = h5py.ExternalLink("other.h5", "secret")
        file.create_dataset("raw", shape=(10,), dtype="f8", external=[(str(tmp_path / "raw"), 0, 80)])
        layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "secret", shape=(3,))
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("bomb", shape=(2**40,), dtype="f4", chunks=(2**16,))
        file["words"] = "text"
        file.create_group("group")
    with h5py.File(tmp_path / "x.h5") as file:
        assert limits.datasets(file, ["good", "absent"])["good"].tolist() == [0, 1, 2]
        for name in ("soft", "external", "raw", "virtual", "bomb", "words", "group"):
            with pytest.raises(ValueError, match=r"link|other|another file|declares|does not hold numbers"):
                limits.datasets(file, [name])


def test_a_compressed_state_of_torch_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1000)}, tmp_path / "good.pt")
    with limits.torch_file(tmp_path / "good.pt") as file:
        assert torch.load(file, weights_only=True)["x"].sum() == 0.0
    with zipfile.ZipFile(tmp_path / "good.pt") as old:
        archive(tmp_path / "bad.pt", *((e.filename, old.read(e)) for e in old.infolist()))
    with pytest.raises(ValueError, match="compressed"):
        limits.torch_file(tmp_path / "bad.pt")


BOMBS = {
    "aliases": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9)),
    "brackets": "a: " + "[" * 3000 + "]" * 3000,
    "itself": "a: &a [*a]",
    "digits": "a: " + "1" * 6000,
    "no date": "a: !!timestamp x",
    "no truth": "a: !!bool x",
    "an object": "a: !!python/object/apply:os.system ['true']",
    "large": "a: " + "x" * (limits.SETTINGS + 1),
}


@pytest.mark.parametrize("name", BOMBS)
def test_yaml_that_expands_or_means_nothing_is_one_short_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(BOMBS[name])
    with pytest.raises(SettingsError) as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_aliases_may_be_used(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("a: &a [1, 2]\nb: *a\nc: {x: *a}\n")
    assert read_yaml(path) == {"a": [1, 2], "b": [1, 2], "c": {"x": [1, 2]}}
    values = {"rows": [{"n": k, "words": ["x"] * 20} for k in range(1000)]}
    path.write_text(yaml.safe_dump(values))
    assert read_yaml(path) == json.loads(json.dumps(values))
