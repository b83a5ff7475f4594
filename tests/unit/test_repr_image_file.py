"""A ramp from black to white is a ramp from 0 to 1, whatever the depth of the file; what has no white is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlsim.errors import InputError
from mlsim.repr.dynamic_head.detector import Detector, DetectorSettings
from mlsim.repr.image_file import read_image, read_values

RAMP = np.tile(np.linspace(0.0, 1.0, 64), (32, 1))


def eight() -> Image.Image:
    return Image.fromarray(np.round(RAMP * 255).astype(np.uint8))


def sixteen(kind: str = "<u2") -> Image.Image:
    values = np.round(RAMP * 65535).astype(kind)
    return Image.frombytes("I;16" if kind == "<u2" else "I;16B", (64, 32), values.tobytes())


FILES = {
    "8 bits.png": eight,
    "8 bits.tif": eight,
    "palette.gif": eight,
    "colour.png": lambda: eight().convert("RGB"),
    "transparent.png": lambda: eight().convert("LA"),
    "16 bits.png": sixteen,
    "16 bits.tif": sixteen,
    "16 bits, big end first.tif": lambda: sixteen(">u2"),
    "16 bits.pgm": sixteen,
    "float.tif": lambda: Image.fromarray(RAMP.astype(np.float32)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_ramp_is_read_as_a_ramp_from_0_to_1(tmp_path: Path, name: str) -> None:
    FILES[name]().save(tmp_path / name)
    found = read_image(tmp_path / name)
    assert found.shape == RAMP.shape
    assert np.abs(found - RAMP).max() < 0.6 / 255


def test_black_and_white_are_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 0.5).save(tmp_path / "bits.png")
    assert np.array_equal(read_image(tmp_path / "bits.png"), (RAMP > 0.5).astype(float))


REFUSED = {
    "32 bits.tif": (lambda: Image.fromarray((RAMP * 2**20).astype(np.int32)), "32-bit integers"),
    "wide.tif": (lambda: Image.fromarray((RAMP * 65535).astype(np.float32)), r"from 0 to 65535; expected \[0, 1\]"),
    "nan.tif": (lambda: Image.fromarray(np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32)), r"expected \[0, 1\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_without_a_known_white_is_refused(tmp_path: Path, name: str) -> None:
    make, said = REFUSED[name]
    make().save(tmp_path / name)
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / name)


def test_an_image_that_declares_more_than_memory_is_refused_unread(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(InputError, match=r"100000 x 100000 pixels|not an image that can be read"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("shape", [(0, 0), (8, 0), (7, 64), (64,), (2, 8, 8)])
def test_arrays_that_are_no_image_are_one_line(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape))
    with pytest.raises(InputError, match=r"image: expected"):
        Detector(DetectorSettings(classes=("basin",))).detect(read_values(tmp_path / "x.npy"))
