"""A network cut in two at a named layer, without touching its code.

    bottom(layer, inputs)          activations that the layer gives
    top(layer, hidden, inputs)     the network's output with ``hidden`` in place of these activations

:class:`HookedModel` does both with forward hooks, for any ``torch.nn.Module`` and any of its submodules whose output
everything above depends on: the blocks of a ResNet, the layers of a transformer, the layers of a perceptron. If a
layer returns a tuple, its first element is meant. The bottom run ends at the layer; the top run computes the layers
below once more and throws them away, which costs time but makes no assumption about how the network is written.

Why residual branches need care: where a module gives a change that is added to a running state, replacing its output
alone would leave the old state beside it. Name a module whose output is the state (a whole block), or write a ``Cut``
as ``force_fields`` does for ISSNet.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mlsim.errors import InputError

#: What a network takes: one tensor, or named tensors (transformers).
Inputs = Tensor | Mapping[str, Tensor]
C = TypeVar("C", bound="Cut")


class Cut(ABC):
    """A network that can be cut.

    Attributes
    ----------
    layers : tuple of str
        Names of the places, from the input upwards.
    """

    layers: tuple[str, ...]

    @abstractmethod
    def bottom(self, layer: str, inputs: Inputs) -> Tensor:
        """Activations at ``layer``: [b, c], tokens [b, t, c], maps [b, c, h, w] or atoms [b, n, c]."""

    @abstractmethod
    def top(self, layer: str, hidden: Tensor, inputs: Inputs) -> Tensor:
        """Output of the network with ``hidden`` at ``layer``."""

    @abstractmethod
    def whole(self, inputs: Inputs) -> Tensor:
        """Output of the network as it is."""

    @abstractmethod
    def randomised(self: C, seed: int) -> C:
        """The same network with fresh parameters."""

    def require(self, layer: str) -> str:
        """Refuse a layer that is not one of :attr:`layers`."""
        if layer not in self.layers:
            raise InputError(f"layer: expected one of {', '.join(self.layers)}, got '{layer}'")
        return layer


class _Reached(Exception):
    """The layer has been computed; the rest is not needed."""


class HookedModel(Cut):
    """Any module, cut by forward hooks.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode; its parameters are never changed.
    layers : sequence of str
        Names of submodules as in ``model.named_modules()``, from the input upwards.

    Raises
    ------
    InputError
        If there is no such submodule.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        known = dict(model.named_modules())
        for name in layers:
            if name not in known or not name:
                raise InputError(f"layer '{name}': no such submodule; the model has {', '.join(list(known)[1:9])}, ...")
        if not layers:
            raise InputError("layers: expected at least one name of a submodule, got none")
        self.model = model.eval()
        self.layers = tuple(layers)

    def bottom(self, layer: str, inputs: Inputs) -> Tensor:
        found: list[Tensor] = []

        def catch(_: nn.Module, __: Any, output: Any) -> None:
            found.append(_first(output, layer))
            raise _Reached

        handle = self.model.get_submodule(self.require(layer)).register_forward_hook(catch)
        try:
            self._run(inputs)
        except _Reached:
            return found[0]
        finally:
            handle.remove()
        raise InputError(f"layer '{layer}': not reached by the model's forward pass; name a layer that is used")

    def top(self, layer: str, hidden: Tensor, inputs: Inputs) -> Tensor:
        def put(_: nn.Module, __: Any, output: Any) -> Any:
            own = _first(output, layer)
            if own.shape != hidden.shape:
                raise InputError(f"layer '{layer}': expected activations {list(own.shape)}, got {list(hidden.shape)}")
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        handle = self.model.get_submodule(self.require(layer)).register_forward_hook(put)
        try:
            return _logits(self._run(inputs))
        finally:
            handle.remove()

    def whole(self, inputs: Inputs) -> Tensor:
        return _logits(self._run(inputs))

    def randomised(self, seed: int) -> HookedModel:
        """Every submodule with ``reset_parameters`` starts anew; parameters of others are shuffled entry by entry."""
        model = copy.deepcopy(self.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in model.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
                    continue
                for parameter in module.parameters(recurse=False):
                    flat = parameter.data.flatten()
                    parameter.data = flat[torch.randperm(len(flat))].view_as(parameter)
        return HookedModel(model, self.layers)

    def _run(self, inputs: Inputs) -> Any:
        return self.model(**inputs) if isinstance(inputs, Mapping) else self.model(inputs)


def _first(output: Any, layer: str) -> Tensor:
    """The activations in what a layer returned."""
    found = output[0] if isinstance(output, tuple) else output
    if not isinstance(found, Tensor):
        raise InputError(f"layer '{layer}': expected a tensor, or a tuple with one first, got {type(found).__name__}")
    return found


def _logits(output: Any) -> Tensor:
    """The tensor in what a model returned: transformers' ``logits`` or last hidden state, or the first element."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(output, name, None), Tensor):
            return getattr(output, name)  # type: ignore[no-any-return]
    return _first(output, "output")
