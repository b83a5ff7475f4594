"""What a stitched network must be good at.

A task knows its inputs and what to do with the outputs: a differentiable loss on training rows, to train the stitch,
and an error on held-out rows in a unit that a reader understands. ``run`` is any network: the whole one, or a stitched
one.

Encoders have no output of their own; :func:`with_readout` puts a linear classifier on their features and makes them a
network that classifies.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlsim.errors import InputError
from mlsim.repr.stitching.cut import Inputs

Network = Callable[[Inputs], Tensor]


class Task(ABC):
    """Training and held-out rows.

    Attributes
    ----------
    unit : str
        Of :meth:`error`.
    n_train : int
        Training rows.
    """

    unit: ClassVar[str]
    n_train: int

    @abstractmethod
    def inputs(self, index: Tensor) -> Inputs:
        """Inputs of the training rows ``index``."""

    @abstractmethod
    def loss(self, run: Network, index: Tensor) -> Tensor:
        """Differentiable loss of the training rows ``index``."""

    @abstractmethod
    def error(self, run: Network) -> float:
        """Error on all held-out rows."""

    @abstractmethod
    def held_out(self, count: int) -> Inputs:
        """The first ``count`` held-out inputs, for CKA."""


class Classification(Task):
    """Classes of inputs; the error is the share of wrong ones in percent.

    Parameters
    ----------
    train, test : Tensor [n, ...], or dict of such
        Inputs.
    train_labels, test_labels : int64 Tensor [n]
    """

    unit: ClassVar[str] = "% wrong"

    def __init__(self, train: Inputs, train_labels: Tensor, test: Inputs, test_labels: Tensor) -> None:
        for inputs, labels in ((train, train_labels), (test, test_labels)):
            if rows(inputs) != len(labels) or len(labels) == 0:
                raise InputError(f"labels: expected one per input, got {len(labels)} for {rows(inputs)} inputs")
        self._train, self._train_labels = train, train_labels
        self._test, self._test_labels = test, test_labels
        self.n_train = len(train_labels)

    def inputs(self, index: Tensor) -> Inputs:
        return take(self._train, index)

    def loss(self, run: Network, index: Tensor) -> Tensor:
        return functional.cross_entropy(run(self.inputs(index)), self._train_labels[index])

    @torch.no_grad()
    def error(self, run: Network) -> float:
        wrong = 0
        for part in torch.arange(len(self._test_labels)).split(512):
            wrong += int((run(take(self._test, part)).argmax(-1) != self._test_labels[part]).sum())
        return 100.0 * wrong / len(self._test_labels)

    def held_out(self, count: int) -> Inputs:
        return take(self._test, torch.arange(min(count, len(self._test_labels))))


class Readout(nn.Module):
    """A backbone and a linear layer on its features; the backbone's layers are named ``backbone.*``."""

    def __init__(self, backbone: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits [b, classes]."""
        return self.head(self.backbone(inputs))


def with_readout(backbone: nn.Module, inputs: Tensor, labels: Tensor, *, strength: float = 1e-3) -> Readout:
    """A backbone [b, ...] -> [b, d] with a logistic-regression head fitted to labelled inputs.

    Parameters
    ----------
    backbone : nn.Module
        E.g. ``HsicEncoder.backbone``; not changed.
    inputs : Tensor [n, ...]
    labels : int64 Tensor [n]
        Classes 0, 1, ...
    strength : float
        L2 penalty of the standardised weights, relative to the mean loss.
    """
    backbone = backbone.eval()
    with torch.no_grad():
        features = torch.cat([backbone(part) for part in inputs.split(512)])
    if features.ndim != 2:
        raise InputError(f"readout: expected features [n, d], got {list(features.shape)}")
    mean, std = features.mean(0), features.std(0) + 1e-6
    head = nn.utils.skip_init(nn.Linear, features.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    scaled = (features - mean) / std
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(head(scaled), labels) + strength * head.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():  # undo the standardisation
        head.bias -= head.weight @ (mean / std)
        head.weight /= std
    return Readout(backbone, head.requires_grad_(False))


def rows(inputs: Inputs) -> int:
    """Number of rows."""
    return len(next(iter(inputs.values()))) if isinstance(inputs, Mapping) else len(inputs)


def take(inputs: Inputs, index: Tensor) -> Inputs:
    """Rows of inputs."""
    if isinstance(inputs, Mapping):
        return {name: values[index] for name, values in inputs.items()}
    return inputs[index]


def labels_of(values: object) -> Tensor:
    """Integer classes as an int64 tensor.

    Raises
    ------
    InputError
        If they are not integers from zero.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iub" or (len(array) and array.min() < 0):
        raise InputError(f"labels: expected integers from zero [n], got {array.dtype} of shape {list(array.shape)}")
    return torch.tensor(array.astype(np.int64))
