"""The contract of a feature encoder: inputs in, one row of float32 features per input out.

    encode(inputs, layer, pool)  ->  [n, d]

A concrete encoder says how a batch becomes features (:meth:`Encoder.encode_batch`), what it must remember to be built
again (``config``) and what its parameters are (``state``); batching, progress, saving and loading are the same for all
and live here. On disk an encoder is a directory

    encoder.json           format, version, kind, config, inputs: all that is needed to build it
    weights.safetensors    parameters and buffers
    card.yaml              for shipped ones: data, command, probe scores (not read by the code that loads)

None of these can carry code. Both files are written whole or not at all, weights first, so that a directory with an
``encoder.json`` is complete.

Why ``inputs`` is stored: features mean something only for inputs made the way they were in training. An encoder of
distance maps of 24 x 24 heavy atoms must not be fed contact maps of C-alphas, so the preparation travels with the
weights and ``mlsim encode`` follows it.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mlsim import limits
from mlsim.errors import ArtifactError, InputError, MissingError
from mlsim.files import write_bytes, write_text
from mlsim.repr.shipped_encoders import CONFIG, directory_of
from mlsim.settings import Settings

FORMAT = "mlsim-encoder"
VERSION = 1
WEIGHTS = "weights.safetensors"

#: ``progress(done, total)`` is called after every batch, in inputs.
Progress = Callable[[int, int], object]
E = TypeVar("E", bound="Encoder")
#: So many layers are never refused.
_USUAL_LAYERS = 64


class InputSettings(Settings):
    """How a trajectory becomes the inputs of an encoder (see ``mlsim.repr.images.prepare``).

    ``array`` means: the caller brings arrays, nothing is known about molecules; ``text`` means strings.
    """

    kind: Literal["array", "text", "distance-map", "contact-map", "extension-map", "distances", "torsions"] = "array"
    atoms: Literal["heavy", "backbone", "ca", "all"] = "heavy"
    size: int = Field(default=24, ge=2, le=512, description="side of a map in pixels")
    scale_nm: float = Field(default=0.5, gt=0.0, description="distance that becomes 1 - 1/e in a distance map")
    cutoff_nm: float = Field(default=0.45, gt=0.0, description="half-way distance of a contact")


class Encoder(ABC):
    """Base of all encoders.

    Attributes
    ----------
    kind : str
        Name under which the registry knows the class.
    inputs : InputSettings
        How the inputs are made from a trajectory.
    device : torch.device
        Where ``encode`` computes.
    """

    kind: ClassVar[str]
    inputs: InputSettings
    device: torch.device

    # ---- what a concrete encoder brings ----

    @property
    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything but the parameters that is needed to build the encoder again; must be expressible as JSON."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""

    @classmethod
    @abstractmethod
    def build(cls: type[E], config: Mapping[str, Any], state: Mapping[str, Tensor] | None) -> E:
        """Make the encoder from ``config``; with ``state`` take over the parameters, without keep fresh ones.

        Raises
        ------
        ArtifactError
            If the two do not belong together.
        """

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """Names that ``encode(layer=...)`` accepts besides ``last``, from the input upwards."""

    @property
    @abstractmethod
    def pools(self) -> tuple[str, ...]:
        """Names that ``encode(pool=...)`` accepts; the first is always ``mean``."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Width d of the features of the last layer with ``pool="mean"``."""

    @abstractmethod
    def require(self, inputs: Any) -> Sequence[Any] | NDArray[Any]:
        """Check the inputs at the door and return them as something that can be sliced.

        Raises
        ------
        InputError
            With what was expected and what came.
        """

    @abstractmethod
    def encode_batch(self, inputs: Any, layer: str, pool: str) -> Tensor:
        """Features [b, d] of a slice of what :meth:`require` returned; called without gradients."""

    @abstractmethod
    def move(self, device: torch.device) -> None:
        """Put the parameters onto ``device``."""

    # ---- the same for all ----

    def to(self: E, device: str | torch.device) -> E:
        """Compute on ``device`` from now on."""
        try:
            self.device = torch.device(device)
            self.move(self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from None
        return self

    def encode(
        self,
        inputs: Any,
        *,
        layer: str = "last",
        pool: str = "mean",
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Features of every input.

        Parameters
        ----------
        inputs : array [n, ...] or list of str
            What the concrete encoder takes.
        layer : str
            ``last`` or one of :attr:`layers`.
        pool : str
            How tokens become one row: one of :attr:`pools`.
        batch_size : int
            Inputs per forward pass; changes speed and memory, not the result.
        progress : callable, optional
            ``progress(done, total)`` after every batch.

        Returns
        -------
        float32 array [n, d]

        Raises
        ------
        InputError
            If the inputs, the layer or the pool are not accepted, or a feature is not finite.
        """
        chosen = self.layers[-1] if layer == "last" else layer
        if chosen not in self.layers:
            raise InputError(f"layer: expected 'last' or one of {', '.join(self.layers)}, got '{layer}'")
        if pool not in self.pools:
            raise InputError(f"pool: expected one of {', '.join(self.pools)}, got '{pool}'")
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {batch_size}")
        checked = self.require(inputs)
        total = len(checked)
        if total == 0:
            raise InputError(f"{self.kind} encoder: expected at least one input, got none")
        rows: list[NDArray[np.float32]] = []
        with torch.no_grad():
            for start in range(0, total, batch_size):
                batch = self.encode_batch(checked[start : start + batch_size], chosen, pool)
                rows.append(batch.detach().to("cpu", torch.float32).numpy())
                if progress is not None:
                    progress(min(start + batch_size, total), total)
        features = np.concatenate(rows)
        if not np.isfinite(features).all():
            bad = int(np.argwhere(~np.isfinite(features))[0, 0])
            raise InputError(f"{self.kind} encoder: features of input {bad} are not finite; check that input")
        return features

    def save(self, directory: str | Path) -> Path:
        """Write ``encoder.json`` and ``weights.safetensors`` into ``directory``.

        Raises
        ------
        StorageError
            If the file system refuses.
        """
        directory = Path(directory)
        record = {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "config": self.config,
            "inputs": self.inputs.model_dump(mode="json"),
        }
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.state().items()}
        text = json.dumps(record, indent=1) + "\n"
        write_bytes(directory / WEIGHTS, save(state))
        write_text(directory / CONFIG, text)
        return directory

    @classmethod
    def from_pretrained(cls: type[E], source: str | Path, *, device: str = "cpu") -> E:
        """Load an encoder of this class.

        Parameters
        ----------
        source : str or Path
            A directory written by :meth:`save` or the name of a shipped encoder; some classes also take directories
            and hub names of other libraries and say so.
        device : str
            Where to compute.

        Raises
        ------
        MissingError
            If there is no such encoder.
        ArtifactError
            If its files are damaged or of another kind.
        """
        directory = directory_of(source)
        record = read_record(directory)
        if record["kind"] != cls.kind:
            raise ArtifactError(f"{directory}: expected an encoder of kind '{cls.kind}', got '{record['kind']}'")
        state = read_state(directory)
        require_fit(cls.build, record["config"], state, str(directory))
        encoder = cls.build(record["config"], state)
        encoder.inputs = InputSettings.parse(record.get("inputs", {}), str(directory / CONFIG))
        return encoder.to(device)


def read_record(directory: Path) -> dict[str, Any]:
    """Contents of ``encoder.json``, checked for format and version."""
    path = directory / CONFIG
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected the directory of a saved encoder")
    try:
        record = json.loads(limits.text(path, limits.SETTINGS))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: damaged: {error}; save the encoder again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT or not {"kind", "config"} <= record.keys():
        raise ArtifactError(f"{path}: expected format '{FORMAT}' with 'kind' and 'config'")
    if int(record.get("version", 0)) > VERSION:
        raise ArtifactError(f"{path}: format version {record['version']}, this mlsim reads up to {VERSION}; upgrade")
    return record


def read_state(directory: Path) -> dict[str, Tensor]:
    """Contents of ``weights.safetensors``; refuses NaN."""
    path = directory / WEIGHTS
    if not path.is_file():
        raise MissingError(f"{path}: no such file; expected the parameters of the encoder")
    try:
        state: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: damaged: {error}; save the encoder again") from None
    if not all(torch.isfinite(t).all() for t in state.values() if t.is_floating_point()):
        raise ArtifactError(f"{path}: holds NaN or infinity; make the encoder again")
    return state


def require_fit(
    build: Callable[[Any, dict[str, Tensor]], object], config: Any, state: dict[str, Tensor], what: str
) -> None:
    """Refuse a configuration that is not the one of the weights, before memory is taken for its network.

    Numbers of layers are compared with the number of arrays, and the network is first built without memory (on torch's
    device ``meta``), where its kind can be.

    Raises
    ------
    ArtifactError
    """
    most = max(_USUAL_LAYERS, len(state))
    if (layers := _largest_count(config)) > most:
        raise ArtifactError(f"{what}: {layers} layers, expected at most {most} for {len(state)} arrays of weights")
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        try:
            build(config, state)
        except ArtifactError:
            raise
        except (RuntimeError, NotImplementedError, TypeError, ValueError):
            return  # a kind that draws its first weights; its settings have bounds


def _largest_count(config: Any) -> int:
    """Largest number of layers in a configuration."""
    if not isinstance(config, dict):
        return 0
    counts = [_largest_count(value) for value in config.values()]
    counts += [
        value
        for key, value in config.items()
        if isinstance(value, int) and any(word in str(key) for word in ("layer", "block", "depth", "stage"))
    ]
    return max(counts, default=0)


def fill(module: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load ``state`` into ``module``; names and shapes must agree exactly.

    Raises
    ------
    ArtifactError
        Naming the first parameters that differ.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != got:
        odd = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        raise ArtifactError(f"{what}: weights do not fit the configuration: {', '.join(odd[:5])} differ")
    module.load_state_dict(dict(state))
