"""Damaged run directories: a killed run gives its whole frames, everything else is one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlsim.chem.molecule import Molecule
from mlsim.errors import InputError, MissingError
from mlsim.md.engines.single import simulate
from mlsim.md.settings import RunSettings
from mlsim.potentials.vacuum import Vacuum
from mlsim.runs.trajectory import Run

FRAMES = 5
Change = Callable[[bytes], bytes]


@pytest.fixture(scope="module", params=["xtc", "dcd"])
def sound(request: pytest.FixtureRequest, ala2: Molecule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sound") / "run"
    values = {"solvent": "vacuum", "platform": "Reference", "report_ps": 0.02, "ns": 1e-4, "equilibration_ps": 0.0}
    simulate(ala2, Vacuum(), RunSettings.parse({**values, "seed": 3, "format": request.param}), place, 1)
    assert Run.open(place).replicas[0].n_frames == FRAMES
    return place


def changed(sound: Path, tmp_path: Path, name: str, change: Change) -> Path:
    """A copy of the run with other content of one file (``trajectory``: whatever its format)."""
    place = tmp_path / "run"
    shutil.copytree(sound, place)
    path = next(place.glob("trajectory.*")) if name == "trajectory" else place / name
    path.write_bytes(change(path.read_bytes()))
    return place


def frames(place: Path) -> int:
    replica = Run.open(place).replicas[0]
    assert replica.positions().shape[0] == len(replica.times_ps()) == len(replica.bias())
    return replica.n_frames


@pytest.mark.parametrize("name", ["trajectory", "log.csv"])
@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_last_frame_or_row_that_is_cut_is_left_out(sound: Path, tmp_path: Path, name: str, cut: int) -> None:
    assert frames(changed(sound, tmp_path, name, lambda b: b[:-cut])) == FRAMES - 1


def test_a_row_that_is_cut_behind_a_comma_is_left_out(sound: Path, tmp_path: Path) -> None:
    assert frames(changed(sound, tmp_path, "log.csv", lambda b: b[: b.rindex(b",") + 1])) == FRAMES - 1


def test_the_frames_of_a_cut_trajectory_are_those_that_were_written(sound: Path, tmp_path: Path) -> None:
    whole = Run.open(sound).replicas[0].positions()
    cut = Run.open(changed(sound, tmp_path, "trajectory", lambda b: b[:-9])).replicas[0].positions()
    np.testing.assert_array_equal(cut, whole[: FRAMES - 1])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("log.csv", lambda b: b + b.split(b"\n")[0] + b"\n", "line 7 is damaged"),
        ("log.csv", lambda b: b.replace(b"\n", b"\nnonsense\n", 2), "damaged|columns"),
        ("log.csv", lambda b: b[:60] + b"\xe9" + b[61:], "not a log"),
        ("log.csv", lambda b: b + b.split(b"\n")[1] + b"\n", "does not rise"),
        ("log.csv", lambda b: b[:-2] + b"nan\n", "no number in column bias"),
        ("log.csv", lambda b: b"", None),
        ("trajectory", lambda b: b + b"\0" * 400, "damaged"),
        ("trajectory", lambda b: b"\0" * len(b), "damaged|another molecule|not a DCD"),
        ("topology.pdb", lambda b: b"", "topology.pdb"),
        ("topology.pdb", lambda b: b"\n".join(b.split(b"\n")[3:]), "another molecule"),
        ("topology.pdb", lambda b: bytes(range(256)), "topology.pdb"),
        ("run.json", lambda b: b"{}", "run.json"),
        ("run.json", lambda b: b[: len(b) // 2], "run.json"),
    ],
)
def test_damage_is_one_line_or_whole_frames(
    sound: Path, tmp_path: Path, name: str, change: Change, message: str | None
) -> None:
    place = changed(sound, tmp_path, name, change)
    if message is None:
        assert frames(place) in (0, FRAMES)
        return
    with pytest.raises((InputError, MissingError), match=message) as refused:
        frames(place)
    assert "\n" not in str(refused.value)


def test_a_trajectory_of_another_molecule_is_refused(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"another molecule"):
        frames(changed(sound, tmp_path, "trajectory", lambda b: _renumbered(b)))


def _renumbered(content: bytes) -> bytes:
    """The file with 23 atoms said to be in its first frame (XTC), or in its header (DCD)."""
    if content[4:8] == b"CORD":
        return content[:268] + (23).to_bytes(4, "little") + content[272:]
    return content[:4] + (23).to_bytes(4, "big") + content[8:]
