"""A model on disk: its settings as YAML and its parameters as safetensors.

    config.yaml           kind and config of the model: all that is needed to build it
    weights.safetensors   its parameters and buffers

Neither file can carry code: safetensors holds numbers only, and the YAML is read with the safe loader into settings
that refuse unknown keys.
"""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from mlsim.errors import ArtifactError, MissingError, SettingsError
from mlsim.files import write_bytes, write_text
from mlsim.models.contract import AbstractEnergyModel, create
from mlsim.settings import read_yaml

CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"


def save(model: AbstractEnergyModel, directory: str | Path) -> None:
    """Write ``config.yaml`` and ``weights.safetensors`` into ``directory``, each whole or not at all.

    Raises
    ------
    StorageError
        If the file system refuses.
    """
    directory = Path(directory)
    config = {"kind": model.kind, "config": model.config.model_dump(mode="json")}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_text(directory / CONFIG, yaml.safe_dump(config, sort_keys=False))
    write_bytes(directory / WEIGHTS, serialise(state))


def load(directory: str | Path) -> AbstractEnergyModel:
    """Build the model kept in ``directory``, in the precision it was saved in.

    Raises
    ------
    MissingError
        If a file is not there.
    ArtifactError
        If the files are damaged or do not belong together.
    """
    directory = Path(directory)
    found = read_yaml(directory / CONFIG)
    if set(found) != {"kind", "config"}:
        raise SettingsError(f"{directory / CONFIG}: expected the keys 'kind' and 'config', got {sorted(found)}")
    if not (directory / WEIGHTS).is_file():
        raise MissingError(f"{directory / WEIGHTS}: no such file; expected the parameters of the model")
    model = create(found["kind"], found["config"])
    try:
        state = load_file(directory / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{directory / WEIGHTS}: damaged: {error}; make the model again") from None
    if state and all(tensor.dtype == torch.float64 for tensor in state.values()):
        model = model.double()
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    got = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if expected != got:
        odd = sorted(name for name in expected.keys() | got.keys() if expected.get(name) != got.get(name))
        raise ArtifactError(
            f"{directory / WEIGHTS}: does not fit {CONFIG}: {', '.join(odd[:5])} differ; restore the pair"
        )
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise ArtifactError(f"{directory / WEIGHTS}: holds NaN or infinity; make the model again")
    model.load_state_dict(state)
    return model
