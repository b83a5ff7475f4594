"""Files that somebody made to do harm: each is refused in one line or used without harm, and nothing else is touched.

Every case runs in a process of its own that may take 1 GB more memory than an idle one, and 10 s. Before and after, all
files outside of the directory that was given are compared.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file, save_file

from mlsim.chem.molecule import Molecule
from mlsim.deploy.artifact import CARD, digests
from mlsim.deploy.bridges import torchscript
from mlsim.records import full_digest
from tests.toy_artifact import declared_verified, toy_artifact

MEMORY, SECONDS = 1024**3, 10
#: Answers requests, one JSON per line, each in a forked copy of itself with limits of its own.
SERVER = """
import json, os, resource, signal, sys, time
import torch, openmm, mdtraj, h5py, transformers, PIL.Image
torch.set_num_threads(1)
from mlsim.cli import main as program
import mlsim.workflow.simulation.run, mlsim.deploy.verify, mlsim.repr.beit.beit_encoder, mlsim.workflow.analysis.sources
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if not child:
        signal.alarm(6 * asked["seconds"])  # also of what only waits
        os.chdir(asked["cwd"])
        for number, name in ((0, "/dev/null"), (1, "out"), (2, "err")):
            place = name if number == 0 else os.path.join(asked["log"], name)
            os.dup2(os.open(place, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + asked["memory"],) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (asked["seconds"],) * 2)
        sys.argv = ["mlsim", *asked["words"]]
        code = 70
        try:
            program.main()
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Program:
    """``mlsim``, started once and forked for every call."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, *words: object, cwd: Path, memory: int = MEMORY) -> tuple[int, str, str]:
        """Exit code, output and errors; a negative code is the signal that killed it."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        asked = {"words": [str(w) for w in words], "cwd": str(cwd), "log": str(self.log)}
        self._server.stdin.write(json.dumps(asked | {"memory": memory, "seconds": SECONDS}) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        return code, (self.log / "out").read_text(), (self.log / "err").read_text()

    def close(self) -> None:
        """End the server."""
        self._server.communicate()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    running = Program(tmp_path_factory.mktemp("log"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, ala2: Molecule, program: Program) -> Path:
    """What an honest person would give: a force field, a run, a biased run, force frames."""
    place = tmp_path_factory.mktemp("honest")
    declared_verified(toy_artifact(place / "field", ala2))
    run = ["--solvent", "vacuum", "--ns", "0.001", "--report-ps", "0.1", "--platform", "Reference", "--seed", "1"]
    for name, more in (("run", []), ("biased", ["--bias", "metadynamics", "--hill-every-ps", "0.1"])):
        code, _, error = program("run", "alanine-dipeptide", *run, *more, "-o", place / name, cwd=place, memory=2**36)
        assert code == 0, error
    from mlsim.chem.catalog import find_system
    from mlsim.dataset.frames import ForceFrames

    shipped = find_system("alanine-dipeptide").directory / "training" / "frames.h5"
    ForceFrames.load(shipped).take(np.arange(100)).save(place / "frames.h5")
    return place


# ---- what is done to honest files ----


def declared(field: Path) -> None:
    """The card vouches for whatever the files of a force field have become, as its maker can make it do."""
    card = yaml.safe_load((field / CARD).read_text())
    card["files"] = digests(field)
    text = json.dumps([card["kind"], sorted(card["files"].items())])
    card["verified"] |= {"files_digest": full_digest(text.encode())[:16], "passed": True}
    (field / CARD).write_text(yaml.safe_dump(card))


class _Writes(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, positions: torch.Tensor) -> torch.Tensor:
        return positions.sum(dim=(-2, -1)) + torch.from_file(self.path, True, 4).fill_(1.0).sum()


def writing_program(given: Path, victim: Path) -> None:
    (given / "field" / "model.pt").write_bytes(torchscript.to_bytes(torch.jit.script(_Writes(str(victim)))))
    declared(given / "field")


def card_text(text: str) -> Callable[[Path, Path], None]:
    def change(given: Path, victim: Path) -> None:
        (given / "field" / CARD).write_text(text.replace("VICTIM", str(victim)))

    return change


def card_names_a_file_elsewhere(given: Path, victim: Path) -> None:
    card = yaml.safe_load((given / "field" / CARD).read_text())
    card["files"][f"../../{victim.name}"] = full_digest(victim.read_bytes())
    (given / "field" / CARD).write_text(yaml.safe_dump(card))


def terminal_commands(given: Path, victim: Path) -> None:
    card = yaml.safe_load((given / "field" / CARD).read_text())
    card["kind"] = "\x1b]0;owned\x07\x1b[2J"
    (given / "field" / CARD).write_text(yaml.safe_dump(card))


def weights(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        state = load_file(given / "field" / "weights.safetensors")
        change(state)
        save_file(state, given / "field" / "weights.safetensors")
        declared(given / "field")

    return do


def field_file(name: str, content: bytes) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        (given / "field" / name).write_bytes(content)
        declared(given / "field")

    return do


def network_of_a_million(given: Path, victim: Path) -> None:
    config = yaml.safe_load((given / "field" / "config.yaml").read_text())
    config["config"] |= {"features": 10**6, "blocks": 10**6}
    (given / "field" / "config.yaml").write_text(yaml.safe_dump(config))
    declared(given / "field")


def field_pipe(given: Path, victim: Path) -> None:
    (given / "field" / "weights.safetensors").unlink()
    os.mkfifo(given / "field" / "weights.safetensors")


def npy(shape: tuple[int, ...], content: bytes = b"", kind: str = "<f8") -> bytes:
    memory = io.BytesIO()
    np.lib.format.write_array_header_1_0(memory, {"descr": kind, "fortran_order": False, "shape": shape})
    return memory.getvalue() + content


def npz(**parts: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return memory.getvalue()


def packed_zeros() -> bytes:
    """Two gigabytes of zeros in two megabytes."""
    memory = io.BytesIO()
    with (
        zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("grid.npy", "w", force_zip64=True) as part,
    ):
        part.write(npy((2**28,)))
        for _ in range(2**7):
            part.write(bytes(2**24))
    return memory.getvalue()


class _Pickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo owned > owned",)


def pickled_npz() -> bytes:
    memory = io.BytesIO()
    np.savez(memory, grid=np.array([_Pickled()], dtype=object), facts=np.array([_Pickled()], dtype=object))
    return memory.getvalue()


def foreign_streams(given: Path, victim: Path) -> None:
    path = given / "run" / "checkpoint.chk"
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files}
    meta = json.loads(content["meta"].tobytes())
    meta["streams"][f"../../{victim.name}"] = 0
    content["meta"] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    with open(path, "wb") as handle:
        np.savez(handle, **content)


def linked(*names: str, run: str = "run", remove: bool = True) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        for name in names:
            path = given / run / name
            if remove:
                path.unlink(missing_ok=True)
            path.symlink_to(victim)

    return do


def run_file(name: str, content: bytes, run: str = "run") -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        (given / run / name).write_bytes(content)

    return do


def run_settings(**values: object) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        path = given / "run" / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | values))

    return do


def run_pipe(name: str) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        (given / "run" / name).unlink()
        os.mkfifo(given / "run" / name)

    return do


def frames(change: Callable[[h5py.File, Path], None]) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        with h5py.File(given / "frames.h5", "r+") as file:
            del file["positions"]
            change(file, victim)

    return do


def external_link(file: h5py.File, victim: Path) -> None:
    file["positions"] = h5py.ExternalLink(str(victim), "/x")


def external_bytes(file: h5py.File, victim: Path) -> None:
    file.create_dataset("positions", (100, 22, 3), "f4", external=[(str(victim), 0, 100 * 22 * 3 * 4)])


def declared_only(file: h5py.File, victim: Path) -> None:
    file.create_dataset("positions", (10**7, 22, 3), "f4", chunks=(1000, 22, 3))


def given_file(name: str, content: Callable[[], bytes]) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        (given / name).write_bytes(content())

    return do


def png_of_ten_gigapixels() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def dcd_of_a_billion_atoms() -> bytes:
    head = struct.pack("<i4s9if10ii", 84, b"CORD", *[2**30, 1, 1, 0, 0, 0, 0, 0, 0], 1.0, *[0] * 9, 24, 84)
    return head + struct.pack("<iii", 4, 0, 4) + struct.pack("<iii", 4, 2**30, 4)


def xtc_of_a_billion_atoms() -> bytes:
    return struct.pack(">iiif", 1995, 2**30, 1, 0.0) + struct.pack(">9f", *[0.0] * 9) + struct.pack(">i", 2**30)


def encoder(change: Callable[[dict[str, Any]], None]) -> Callable[[Path, Path], None]:
    def do(given: Path, victim: Path) -> None:
        from mlsim.repr.shipped_encoders import available

        shipped = next(entry for entry in available() if entry.kind == "beit")
        shutil.copytree(shipped.directory, given / "encoder")
        record = json.loads((given / "encoder" / "encoder.json").read_text())
        change(record)
        (given / "encoder" / "encoder.json").write_text(json.dumps(record))

    return do


def deep_and_wide(config: dict[str, Any]) -> None:
    for key, value in config.items():
        if isinstance(value, dict):
            deep_and_wide(value)
        elif isinstance(value, int) and not isinstance(value, bool) and value > 1:
            config[key] = 10**6


def wide(config: dict[str, Any]) -> None:
    for key, value in config.items():
        if isinstance(value, dict):
            wide(value)
        elif isinstance(value, int) and value >= 32 and "layer" not in key:
            config[key] = 2**20


def texts_of_the_user(given: Path, victim: Path) -> None:
    (given / "texts").mkdir()
    (given / "texts" / "note.txt").write_text("Trakozin inhibits the channel.\n")
    (given / "texts" / "link.txt").symlink_to(victim)


ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 9)
)
RUN = ["--resume", "--ns", "0.002"]
ENERGY = ["energy", "given/run/trajectory.xtc", "--forcefield", "given/field", "-o", "out/energies.csv"]
#: name: (what is done, the command, a part of the one line that is said; "" where the file is used without harm)
CASES: dict[str, tuple[Callable[[Path, Path], None], list[str], str]] = {
    "a program that writes when it is run": (writing_program, ["verify", "given/field"], ""),
    "a card that is a Python object": (
        card_text("!!python/object/apply:os.system ['echo owned > owned']"), ENERGY, "not valid YAML",
    ),
    "a card of aliases without end": (card_text(ALIASES), ENERGY, "not valid YAML"),
    "a card of brackets": (card_text("name: " + "[" * 10**5), ENERGY, "not valid YAML"),
    "a card of a gigabyte of digits": (card_text("format: " + "9" * 10**6), ENERGY, "not valid YAML"),
    "a card that names files elsewhere": (card_names_a_file_elsewhere, ENERGY, "not there"),
    "a card that commands the terminal": (terminal_commands, ENERGY, "kind"),
    "weights that are not finite": (
        weights(lambda state: state["embedding"].fill(np.nan)), ENERGY, "holds NaN or infinity",
    ),
    "weights of another shape": (
        weights(lambda state: state.update(embedding=np.ones((1, 16), np.float32))), ENERGY, "expected shape",
    ),
    "weights that declare an exabyte": (
        field_file("weights.safetensors", struct.pack("<Q", 2**60)), ENERGY, "cannot be read",
    ),
    "weights that are a pipe": (field_pipe, ENERGY, "plain file"),
    "a table that declares terabytes": (
        field_file("table.npz", npz(values=npy((2**40,)), slopes=npy((2**40,)), cutoff_nm=npy((), bytes(8)))),
        ENERGY, "not a filter table",
    ),
    "a network of a million layers": (network_of_a_million, ENERGY, "expected shape"),
    "a guard with pickles": (field_file("guard.npz", pickled_npz()), ["run", "alanine-dipeptide", "--solvent",
        "issnet:given/field", "--guard", "report", "--ns", "0.001", "-o", "out/run"], "not a trained region"),
    "a checkpoint that cuts files elsewhere": (foreign_streams, ["run", "-o", "given/run", *RUN], "checkpoint"),
    "a lock that is a link": (linked(".lock"), ["run", "-o", "given/run", *RUN], ".lock"),
    "outputs that are links": (linked("log.csv"), ["run", "-o", "given/run", *RUN], "is a link"),
    "a trajectory that is a link": (linked("trajectory.xtc"), ["run", "-o", "given/run", *RUN], "is a link"),
    "a record that is a link": (linked("run.json"), ["run", "-o", "given/run", *RUN], "link"),
    "settings that are a link": (linked("config.yaml"), ["run", "-o", "given/run", *RUN], "config.yaml"),
    "a checkpoint that is a bomb": (
        run_file("checkpoint.chk", packed_zeros()), ["run", "-o", "given/run", *RUN], "corrupted checkpoint",
    ),
    "a checkpoint of pickles": (
        run_file("checkpoint.chk", pickled_npz()), ["run", "-o", "given/run", *RUN], "corrupted checkpoint",
    ),
    "a record of brackets": (run_file("run.json", b'{"a":' * 10**5), ["fes", "given/run", "-o", "out/fes"], "JSON"),
    "a record of digits": (
        run_file("run.json", b'{"seed": ' + b"1" * 10**6 + b"}"), ["fes", "given/run", "-o", "out/fes"], "run.json",
    ),
    "a bias of pickles": (
        run_file("bias.npz", pickled_npz(), "biased"), ["fes", "given/biased", "-o", "out/fes"], "not a bias file",
    ),
    "a bias that is a bomb": (
        run_file("bias.npz", packed_zeros(), "biased"), ["fes", "given/biased", "-o", "out/fes"], "not a bias file",
    ),
    "settings that are a Python object": (
        run_file("config.yaml", b"system: !!python/object/apply:os.system ['echo owned > owned']"),
        ["run", "-o", "given/run", *RUN], "not valid YAML",
    ),
    "settings that read a device": (run_settings(bias="/dev/zero"), ["run", "-o", "given/run", *RUN], "/dev/zero"),
    "settings that ask for terabytes": (
        run_settings(replicas=10**9), ["run", "-o", "given/run", *RUN], "replica",
    ),
    "a topology that is a pipe": (run_pipe("topology.pdb"), ["fes", "given/run", "-o", "out/fes"], "topology.pdb"),
    "a trajectory of a billion atoms": (
        run_file("trajectory.xtc", xtc_of_a_billion_atoms()), ["fes", "given/run", "-o", "out/fes"], "another molecule",
    ),
    "frames that lie in another file": (
        frames(external_link), ["train", "issnet", "given/frames.h5", "-o", "out/fit"], "is a link",
    ),
    "frames that are the bytes of another file": (
        frames(external_bytes), ["train", "issnet", "given/frames.h5", "-o", "out/fit"], "in another file",
    ),
    "frames that are declared only": (
        frames(declared_only), ["train", "issnet", "given/frames.h5", "-o", "out/fit"], "declares",
    ),
    "a trajectory of another program with a billion atoms": (
        given_file("a.xtc", xtc_of_a_billion_atoms),
        ["energy", "given/a.xtc", "--top", "given/run/topology.pdb", *ENERGY[2:]], "cannot be read",
    ),
    "a DCD file with a billion atoms": (
        given_file("a.dcd", dcd_of_a_billion_atoms),
        ["energy", "given/a.dcd", "--top", "given/run/topology.pdb", *ENERGY[2:]], "cannot be read",
    ),
    "a surface that is a bomb": (
        given_file("surface.npz", packed_zeros), ["detect", "given/surface.npz"], "not a free-energy surface",
    ),
    "a surface of pickles": (
        given_file("surface.npz", pickled_npz), ["detect", "given/surface.npz"], "not a free-energy surface",
    ),
    "an array of pickles": (
        given_file("a.npy", lambda: npy((1,), pickle.dumps(_Pickled()), "|O")),
        ["detect", "given/a.npy"], "not a numpy",
    ),
    "an image of ten gigapixels": (
        given_file("a.png", png_of_ten_gigapixels), ["detect", "given/a.png"], "a.png",
    ),
    "a structure that unpacks to gigabytes": (
        given_file("a.pdb.gz", lambda: gzip.compress(bytes(2**30))),
        ["build", "given/a.pdb.gz", "-o", "out/s"], "a.pdb.gz",
    ),
    "a structure of one endless line": (
        given_file("a.cif", lambda: b"data_x\n_a " + b"'" * (2**24)), ["build", "given/a.cif", "-o", "out/s"], "a.cif",
    ),
    "an encoder of a million layers": (
        encoder(lambda record: deep_and_wide(record["config"])),
        ["encode", "given/run", "--encoder", "given/encoder", "-o", "out/f.npz"], "encoder",
    ),
    "an encoder of a million features": (
        encoder(lambda record: wide(record["config"])),
        ["encode", "given/run", "--encoder", "given/encoder", "-o", "out/f.npz"], "do not fit",
    ),
    "texts that lead to the user's own": (
        texts_of_the_user, ["ask", "given/texts", "What inhibits the channel?"], "link",
    ),
}  # fmt: skip


def everything(place: Path) -> dict[str, tuple[int, bytes]]:
    """Type and content of all files and links below ``place``."""
    found = {}
    for path in sorted(place.rglob("*")):
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(place))] = (path.lstat().st_mode, content)
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_is_one_line_and_nothing_else_is_touched(name: str, program: Program, honest: Path, tmp_path: Path) -> None:
    change, words, said = CASES[name]
    home, given = tmp_path / "home", tmp_path / "home" / "given"
    shutil.copytree(honest, given)
    (home / "out").mkdir()
    victim = home / "victim"
    victim.write_bytes(b"precious " * 100)
    change(given, victim)
    before = {key: value for key, value in everything(home).items() if not key.startswith("given")}
    started = time.monotonic()
    code, out, error = program(*words, cwd=home)
    assert "Traceback" not in error
    after = {key: value for key, value in everything(home).items() if not key.startswith("given")}
    assert after == before
    if not said:
        assert code == 0, error
        return
    assert code == 2, (code, out, error)
    assert said in error
    assert "memory" not in error
    assert len(error.strip().splitlines()) == 1
    assert len(error) < 1000
    assert not any(ord(c) < 32 and c != "\n" for c in error + out)
    assert time.monotonic() - started < 60  # processor time is limited to ten; a loaded machine may take longer


def test_the_collection_is_of_twenty_kinds_and_the_limits_hold(program: Program, tmp_path: Path) -> None:
    assert len(CASES) >= 20
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    assert signal.SIGXCPU  # what a case that takes longer dies of
    code, _, _ = program("run", "alanine-dipeptide", "--ns", "0.001", "-o", tmp_path / "x", cwd=tmp_path, memory=2**20)
    assert code != 0  # so little memory is not enough for anything
