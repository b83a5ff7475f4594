"""Records: what a run (``run.json``) and a fit (``result.json``) leave, with versions, command and digests.

One schema, read and written here only, so that a key cannot be misspelt into silence and a fact that is missing is an
error where it is read. A digest is the first 16 hex digits of SHA-256 over bytes, or over canonical JSON (sorted keys);
the whole 64 where a file is checked against damage.
"""

from __future__ import annotations

import hashlib
import json
import platform as host
import reprlib
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlsim import limits, names
from mlsim.errors import InputError, MissingError
from mlsim.files import write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashable = bytes | str | NDArray[Any]

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", bound="Record")

RUN_FILE, FIT_FILE = "run.json", "result.json"
#: Packages that decide a result.
PACKAGES = ("mlsim", "openmm", "openmmtorch", "torch", "numpy", "numba", "mdtraj", "pymbar")
#: Longest part of a refused value that a message repeats, characters.
_ECHO = 80


def digest_of(*parts: Hashable) -> str:
    """Digest (16 hex digits) of bytes, text (UTF-8) and C-contiguous arrays, one after the other."""
    return digest_of_all(parts)


def digest_of_all(parts: Iterable[Hashable]) -> str:
    """Digest (16 hex digits) as :func:`digest_of`, of parts that need not be in memory together."""
    return _sha256(parts).hexdigest()[:16]


def digest_of_json(value: Any) -> str:
    """Digest (16 hex digits) of a value that JSON can hold; the order of keys does not matter."""
    return digest_of(json.dumps(value, sort_keys=True))


def full_digest(*parts: Hashable) -> str:
    """All 64 hex digits of SHA-256, for the content of a file."""
    return _sha256(parts).hexdigest()


def hashed_integer(text: str, bits: int) -> int:
    """A number below 2^``bits`` (at most 64) that depends on all of ``text``."""
    return int.from_bytes(_sha256([text]).digest()[:8], "little") >> (64 - bits)


def _sha256(parts: Iterable[Hashable]) -> hashlib._Hash:
    total = hashlib.sha256()
    for part in parts:
        total.update(part.encode() if isinstance(part, str) else part)  # type: ignore[arg-type]
    return total


def versions() -> dict[str, str | None]:
    """Versions of the packages that decide a result (None: not installed)."""
    found: dict[str, str | None] = {"python": host.python_version(), "system": host.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def command_line() -> str:
    """The command as it was typed (program name without its folder)."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def validated(kind: type[M], values: Any, source: str, error: type[InputError] = InputError) -> M:
    """``values`` as an object of ``kind``; what is wrong with them in one readable line.

    Raises
    ------
    InputError
        Of class ``error``, with every key that is wrong, what was expected, what came, and the spelling that may be
        meant.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as problem:
        raise error(f"{source}: " + "; ".join(_explained(e, kind) for e in problem.errors())) from None


def _explained(problem: Any, kind: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        word, known = str(problem["loc"][-1]), list(kind.model_fields)
        return f"unknown key '{key}'; {names.suggestion(word, known) or 'known keys: ' + ', '.join(known)}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing"
    return f"'{key}': {problem['msg']}, got {shortened(problem['input'])}"


def shortened(value: Any) -> str:
    """A refused value as a message repeats it."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _ECHO
    return short.repr(value)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    MissingError, InputError
        If there is none, or it is no JSON object.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected a JSON record")
    try:
        content = json.loads(limits.file_bytes(path, limits.RECORD))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({str(error)[:_ECHO]})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


class Record(BaseModel):
    """Base of every record: immutable, unknown keys refused, numbers finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls: type[R], values: Any, source: str) -> R:
        """``values`` as a record; errors as :func:`validated`."""
        return validated(cls, values, source)


class SoluteNote(Record):
    """The molecule of a run: its name and digest, atoms of the solute, and of everything that was simulated."""

    name: str
    digest: str
    solute_atoms: int = Field(ge=1)
    atoms: int = Field(ge=1)


class Failure(Record):
    """Why a run ended before its time.

    ``worst_atom`` describes the atom with the largest force or displacement, ``last_good_step`` the state that was
    saved; None where there is none.
    """

    message: str
    step: int
    worst_atom: str | None = None
    last_good_step: int | None = None


class RunRecord(Record):
    """``run.json``: what was run, with what, by which command, and how it ended. The same keys for every engine.

    Attributes
    ----------
    engine : {"single", "shared", "exchange", "held", "gromacs", "replicas"}
        Who moved the atoms; ``replicas`` is the record of a directory that holds several runs.
    status : {"running", "complete", "stopped", "failed"}
        ``running`` is also what a killed run left.
    reason : str or None
        Why it stopped.
    step : int or None
        Integration steps done (None for ``replicas``).
    wall_seconds : float
        Wall time of all calls together.
    seed : int
        Root seed.
    copies : int
        Runs that this record speaks of or that share its Context: replicas, temperatures; 1 for one run.
    state : int or None
        Number of the temperature, for a run of an exchange.
    settings : dict
        The complete settings, as in ``config.yaml``.
    molecule : SoluteNote or None
        None in records of several replicas before format 2.
    potential, bias, platform : dict or None
        What they say of themselves (``describe``).
    identity : str or None
        Digest of all that decides the trajectory.
    exchange : dict or None
        Acceptance and round trips.
    observers : dict
        Summaries by name of the observer, e.g. ``guard``.
    """

    format: Literal[2] = 2
    engine: Literal["single", "shared", "exchange", "held", "gromacs", "replicas"]
    status: Literal["running", "complete", "stopped", "failed"]
    reason: str | None = None
    step: int | None = None
    wall_seconds: float = Field(0.0, ge=0)
    seed: int
    copies: int = Field(1, ge=1)
    state: int | None = None
    settings: dict[str, Any]
    molecule: SoluteNote | None = None
    potential: dict[str, Any]
    bias: dict[str, Any] | None = None
    platform: dict[str, Any] | None = None
    identity: str | None = None
    exchange: dict[str, Any] | None = None
    observers: dict[str, Any] = Field(default_factory=dict)
    failure: Failure | None = None
    versions: dict[str, str | None]
    command: str

    @property
    def temperature_K(self) -> float:
        """Temperature of the run, K.

        Raises
        ------
        InputError
            If the settings do not say.
        """
        value = self.settings.get("temperature_K")
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(f"{RUN_FILE}: expected settings with a temperature_K above zero, got {value!r}")
        return float(value)

    @classmethod
    def read(cls, directory: Path) -> RunRecord:
        """Read ``run.json`` of a run directory, of this format or the first.

        Raises
        ------
        MissingError, InputError
            Not a run directory, or an unreadable record.
        """
        path = directory / RUN_FILE
        if not path.is_file():
            raise MissingError(f"{directory}: not a run directory (no {RUN_FILE})")
        values = read_json(path)
        return cls.parse(values if "format" in values else _of_first_format(values), str(path))

    def write(self, directory: Path) -> None:
        """Write ``run.json`` whole or not at all."""
        write_json(directory / RUN_FILE, self.model_dump(mode="json"))


class SplitNote(Record):
    """How frames were divided into training, validation and test: by whole blocks of time, drawn with ``seed``."""

    fractions: tuple[float, float, float]
    block_ps: float = Field(gt=0)
    gap_ps: float = Field(ge=0)
    seed: int


class FitRecord(Record):
    """``result.json``: what a finished training was fitted to, how, and how well it does on what it did not see.

    Attributes
    ----------
    kind : str
        Of the model, e.g. ``issnet``.
    objective : str
        What was fitted: ``forces``, ``mean forces``, ``populations`` or ``density``.
    stopped, epochs, best_epoch, frames_per_s
        How the loop ended.
    n_train, train_digest, valid_digest, molecule_digest
        Content of the training and the held-out frames.
    temperature_K, force_field, water : or None
        Conditions of the data; None where the data do not say, which export then refuses.
    split : SplitNote or None
        None where the parts were not made by a split of one set of frames.
    baseline : str
        Model under the network, ``none`` without one.
    begun_from : str or None
        Identity of the fit whose weights this one began with.
    peptides : dict or None
        Frames and digest by name, where one model was fitted to several molecules; ``molecule_digest`` is the first's.
    held_out : dict
        Force errors on the held-out frames (empty for a density, which has ``held_out_error``).
    """

    format: Literal[1] = 1
    kind: str
    objective: Literal["forces", "mean forces", "populations", "density"]
    stopped: str
    epochs: int
    best_epoch: int | None = None
    frames_per_s: float | None = None
    n_train: int
    train_digest: str
    valid_digest: str
    molecule_digest: str
    molecule: str | None = None
    peptides: dict[str, dict[str, Any]] | None = None
    data: str | None = None
    effective_frames: float | None = None
    bias_digest: str | None = None
    temperature_K: float | None = Field(None, gt=0)
    force_field: str | None = None
    water: str | None = None
    split: SplitNote | None = None
    baseline: str = "none"
    begun_from: str | None = None
    held_out: dict[str, Any] = Field(default_factory=dict)
    held_out_error: float | None = None
    held_out_unit: str = ""
    settings: dict[str, Any]
    contrastive: dict[str, Any] | None = None
    identity: str
    versions: dict[str, str | None]

    @classmethod
    def read(cls, directory: Path) -> FitRecord:
        """Read the record of a training directory.

        Raises
        ------
        MissingError, InputError
            No finished training, or an unreadable record (one of before this format lacks what later steps need).
        """
        path = directory / FIT_FILE
        if not path.is_file():
            raise MissingError(
                f"{directory}: no finished training here (no {FIT_FILE}); expected a directory of mlsim train"
            )
        values = read_json(path)
        if "format" not in values:
            raise InputError(
                f"{path}: written before trainings recorded temperature and split; train again with this version"
            )
        return cls.parse(values, str(path))

    def write(self, directory: Path) -> None:
        """Write ``result.json`` whole or not at all."""
        write_json(directory / FIT_FILE, self.model_dump(mode="json"))


def _of_first_format(values: dict[str, Any]) -> dict[str, Any]:
    """Records without a format number: keys of the engine, of observers and of a failure stood beside the others."""
    old = dict(values)
    shared, replicas = old.pop("context", None), old.pop("replicas", None)
    engine = old.pop("engine", None) or "single"
    if "exchange" in old or "state" in old:
        engine = "exchange"
    elif shared is not None:
        engine = "shared"
    elif replicas is not None:
        engine = "replicas"
    copies = shared.get("shared_by", 1) if isinstance(shared, dict) else replicas or 1
    message, worst, last = (old.pop(key, None) for key in ("message", "worst_atom", "last_good_step"))
    if old.get("status") == "failed":
        told = {"message": message or old.get("reason") or "unknown", "step": old.get("step", 0)}
        old["failure"] = told | {"worst_atom": worst, "last_good_step": last}
    if isinstance(old.get("molecule"), dict):
        atoms = old["molecule"].get("atoms", old["molecule"].get("solute_atoms"))
        old["molecule"] = {"solute_atoms": atoms, "atoms": atoms, **old["molecule"]}
    summaries = {key: old.pop(key) for key in list(old) if key not in RunRecord.model_fields}
    return {**old, "engine": engine, "copies": copies, "observers": summaries}
