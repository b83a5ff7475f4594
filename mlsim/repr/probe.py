"""What do features know? Linear probes and nearest neighbours, per layer, on held-out data.

    linear probe    logistic regression on standardised features; the accuracy is that of the test set
    kNN             majority of the k training features with the largest cosine, weighted by exp(cos / 0.07)
    ridge           R^2 of a linear prediction of numbers

The scaler and the probe are fitted on the training part only. Rows of time series must be split by blocks or runs,
never at random: neighbouring frames would leak. Libraries do the fitting (scikit-learn); here is what is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import DependencyError, InputError
from mlsim.repr.encoder import Encoder, Progress
from mlsim.shapes import require_shape

_TEMPERATURE = 0.07
_ITERATIONS = 2000


@dataclass(frozen=True)
class Split:
    """Inputs and labels to learn from and to be scored on."""

    train: Any
    train_labels: NDArray[Any]
    test: Any
    test_labels: NDArray[Any]


@dataclass(frozen=True)
class LayerScore:
    """Scores of one layer."""

    layer: str
    linear: float
    knn: float


def linear_probe(
    train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any], test_labels: NDArray[Any], *, strength: float = 1.0
) -> float:
    """Test accuracy of a logistic regression.

    Parameters
    ----------
    train, test : [n, d], [m, d]
        Features.
    labels, test_labels : int [n], [m]
    strength : float
        Inverse regularisation (scikit-learn's C).

    Raises
    ------
    InputError
        If shapes do not fit or there is only one class.
    """
    x, y, z, t = _checked(train, labels, test, test_labels)
    x, z = standardise(x, z)
    model = _sklearn("linear_model").LogisticRegression(C=strength, max_iter=_ITERATIONS).fit(x, y)
    return float((model.predict(z) == t).mean())


def balanced_probe(
    train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any], test_labels: NDArray[Any], *, strength: float = 1.0
) -> float:
    """Mean recall over the classes of the test set: what counts when one state is rare."""
    x, y, z, t = _checked(train, labels, test, test_labels)
    x, z = standardise(x, z)
    regression = _sklearn("linear_model").LogisticRegression
    said = regression(C=strength, max_iter=_ITERATIONS, class_weight="balanced").fit(x, y).predict(z)
    return float(np.mean([(said[t == c] == c).mean() for c in np.unique(t)]))


def knn(
    train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any], test_labels: NDArray[Any], *, neighbours: int = 20
) -> float:
    """Test accuracy of weighted nearest neighbours by cosine."""
    x, y, z, t = _checked(train, labels, test, test_labels)
    x, z = standardise(x, z)
    count = min(neighbours, len(x))
    model = _sklearn("neighbors").KNeighborsClassifier(
        n_neighbors=count, metric="cosine", weights=lambda d: np.exp((1.0 - d) / _TEMPERATURE), algorithm="brute"
    )
    return float((model.fit(x, y).predict(z) == t).mean())


def ridge_probe(
    train: NDArray[Any], values: NDArray[Any], test: NDArray[Any], test_values: NDArray[Any], *, penalty: float = 1.0
) -> float:
    """R^2 of a ridge regression on the test set, mean over the columns of ``values``."""
    x = require_shape(train, (None, None), "training features")
    z = require_shape(test, (None, x.shape[1]), "test features")
    x, z = standardise(x, z)
    y, t = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (values, test_values))
    said = _sklearn("linear_model").Ridge(alpha=penalty).fit(x, y).predict(z).reshape(t.shape)
    return float(np.mean(1.0 - ((said - t) ** 2).sum(0) / np.maximum(((t - t.mean(0)) ** 2).sum(0), 1e-300)))


def probe_layers(
    encoder: Encoder,
    split: Split,
    *,
    layers: Sequence[str] | None = None,
    pool: str = "mean",
    progress: Progress | None = None,
) -> list[LayerScore]:
    """Linear and kNN scores of every layer.

    Parameters
    ----------
    encoder : Encoder
    split : Split
    layers : sequence of str, optional
        All of the encoder's if not given.
    pool : str
    progress : callable, optional
        ``progress(done, total)`` in layers.
    """
    chosen = tuple(layers) if layers is not None else encoder.layers
    scores = []
    for number, layer in enumerate(chosen):
        train = encoder.encode(split.train, layer=layer, pool=pool)
        test = encoder.encode(split.test, layer=layer, pool=pool)
        known = (train, split.train_labels, test, split.test_labels)
        scores.append(LayerScore(layer, linear_probe(*known), knn(*known)))
        if progress is not None:
            progress(number + 1, len(chosen))
    return scores


def best_layer(encoder: Encoder, split: Split, *, pool: str = "mean") -> str:
    """Layer with the highest linear score; give it a validation part, not the one that is reported."""
    return max(probe_layers(encoder, split, pool=pool), key=lambda score: score.linear).layer


def standardise(train: NDArray[Any], test: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean 0 and width 1 per column of ``train``; a constant column becomes zero."""
    x, z = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    mean, std = x.mean(0), x.std(0)
    scale = np.where(std > 1e-8 * np.maximum(1.0, np.abs(mean)), std, np.inf)
    return (x - mean) / scale, (z - mean) / scale


def _checked(
    train: NDArray[Any], labels: NDArray[Any], test: NDArray[Any], test_labels: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    x = require_shape(train, (None, None), "training features")
    z = require_shape(test, (None, x.shape[1]), "test features")
    y, t = np.asarray(labels), np.asarray(test_labels)
    if y.shape != (len(x),) or t.shape != (len(z),):
        raise InputError(f"labels: expected {len(x)} and {len(z)}, got {list(y.shape)} and {list(t.shape)}")
    if len(np.unique(y)) < 2 or len(t) == 0:
        raise InputError("probe: expected at least two classes to learn from and one input to be scored on")
    return x, y, z, t


def _sklearn(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"sklearn.{name}")
    except ImportError:
        raise DependencyError('probes need scikit-learn: pip install "mlsim[repr]"') from None
