"""From the parameters of a network to the arrays that the compiled loops read, for the atoms of one molecule.

The residual stream is linear between activations and is multiplied out here once (equations:
:mod:`mlsim.deploy.kernel.network_loops`); matrices are packed into the order of the kernel's product, and rows and
features padded with zeros that stay zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.deploy.kernel import network_loops
from mlsim.deploy.kernel.pair_loops import PANEL, Network
from mlsim.deploy.kernel.product import ROWS
from mlsim.deploy.kernel.table import FilterTable
from mlsim.errors import ArtifactError

_ACTIVATIONS = {"tanh": network_loops.TANH, "silu": network_loops.SILU}
#: Same regularisation of the distance as ``models.atom_pairs`` (nm^2).
_TINY = 1e-12
Array = NDArray[Any]


def shaped(weights: Mapping[str, Array], name: str, *shape: int) -> Array:
    """The weight called ``name`` in float64.

    Raises
    ------
    ArtifactError
        If it has another shape.
    """
    value = np.asarray(weights[name], dtype=np.float64)
    if value.shape != shape:
        raise ArtifactError(f"weight '{name}': expected shape {shape}, got {value.shape}")
    return value


def bound_network(
    config: Mapping[str, Any],
    weights: Mapping[str, Array],
    table: FilterTable,
    embedding: Array,
    dtype: Any,
) -> Network:
    """The network with all that does not depend on positions multiplied out.

    Parameters
    ----------
    config : mapping
        Model settings (``features``, ``blocks``, ``activation``, ``energy_scale``).
    weights : mapping
        Arrays by the names of the torch module's state; ``head_out.weight`` has one row per output.
    table : FilterTable
    embedding : float [N, F]
        Initial features of the atoms.
    dtype : numpy dtype

    Raises
    ------
    ArtifactError
        If shapes do not fit each other.
    KeyError
        If a weight or a setting is missing.
    """
    blocks, features = int(config["blocks"]), int(config["features"])
    if table.values.shape[0] != blocks or table.values.shape[2] != features:
        raise ArtifactError(f"filter table {table.values.shape} does not fit {blocks} blocks of {features} features")
    width = _up(features, PANEL)
    rows = _up(len(embedding), ROWS)

    def weight(name: str, *shape: int) -> Array:
        return shaped(weights, name, *shape)

    def matrix(name: str) -> Array:  # torch keeps [out, in]
        return _padded(weight(name, features, features).T, width, width)

    def bias(name: str) -> Array:
        return np.tile(_padded(weight(name, features)[None], 1, width), (rows, 1))

    constant = _padded(embedding, rows, width)  # what the residual stream would be without activations
    updates: list[Array] = []  # Q of the blocks so far
    matrices: list[Array] = []
    inputs, biases = [], []
    for b in range(blocks):
        into, values = matrix(f"blocks.{b}.update_in.weight"), matrix(f"blocks.{b}.values.weight")
        through = np.concatenate([q @ values for q in updates]) if updates else np.zeros((0, width))
        matrices += [into, into.T, through, through.T]
        inputs.append(constant @ values)
        biases.append(bias(f"blocks.{b}.update_in.bias"))
        updates.append(matrix(f"blocks.{b}.update_out.weight"))
        constant = constant + bias(f"blocks.{b}.update_out.bias")
    head = matrix("head_in.weight")
    through = np.concatenate([q @ head for q in updates])
    matrices += [through, through.T]
    offsets = np.stack([*inputs, *biases, constant @ head + bias("head_in.bias")])
    readout = weight("head_out.weight", len(weights["head_out.weight"]), features) * float(config["energy_scale"])
    packed = [_packed(m) for m in matrices]
    coefficients = table.coefficients()
    coefficients = np.pad(coefficients, [(0, 0), (0, 0), (0, 0), (0, width - features)])
    coefficients = coefficients.reshape(blocks, table.intervals, 4, -1, PANEL).transpose(0, 1, 3, 2, 4)
    return Network(
        atoms=len(embedding),
        rows=rows,
        features=width,
        blocks=blocks,
        intervals=table.intervals,
        activation=_ACTIVATIONS[config["activation"]],
        cutoff=table.cutoff_nm,
        inverse_spacing=1.0 / table.spacing_nm,
        tiny=_TINY,
        table=coefficients.astype(dtype).reshape(-1),
        weights=np.concatenate(packed).astype(dtype),
        places=np.cumsum([0] + [m.size for m in packed[:-1]]),
        offsets=offsets.astype(dtype).reshape(-1),
        readout=_padded(readout, len(readout), width).astype(dtype).reshape(-1),
    )


def _padded(matrix: Array, rows: int, columns: int) -> Array:
    return np.pad(matrix, [(0, rows - matrix.shape[0]), (0, columns - matrix.shape[1])])


def _packed(matrix: Array) -> Array:
    depth, width = matrix.shape
    return matrix.reshape(depth, width // PANEL, PANEL).transpose(1, 0, 2).reshape(-1)


def _up(count: int, step: int) -> int:
    return -(-count // step) * step
