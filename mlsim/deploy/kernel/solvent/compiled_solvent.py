"""A transferable solvent bound to one molecule, compiled: network, Born sums and screening in one call.

The same doors as :class:`mlsim.deploy.kernel.compiled.CompiledEnergy` (bare evaluation, threads, the desk that the
OpenMM callback works at), with the program of ``solvent_loops`` and memory for the Born part behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.deploy.kernel.compiled import CompiledEnergy
from mlsim.deploy.kernel.memory import Desk, Memory, aligned, empty
from mlsim.deploy.kernel.network_binding import bound_network, shaped
from mlsim.deploy.kernel.pair_loops import Network
from mlsim.deploy.kernel.simd import LANES
from mlsim.deploy.kernel.solvent import solvent_loops
from mlsim.deploy.kernel.solvent.born_loops import Born, Space
from mlsim.deploy.kernel.solvent.vector_functions import LARGEST_Z
from mlsim.deploy.kernel.table import FilterTable
from mlsim.errors import ArtifactError
from mlsim.models.transferable import forms
from mlsim.models.transferable.atoms import CHARGE, OFFSET_RADIUS, PARAMETER_SIZES, PARAMETERS, SCALED_RADIUS
from mlsim.models.transferable.forms import OUTPUTS

Array = NDArray[Any]
#: No two atoms of a molecule come closer (the shortest bond is 0.096 nm); the compiled integral holds beyond.
CLOSEST_NM = 0.08
#: As in ``models.atom_pairs`` (nm^2).
_TINY = 1e-12


class CompiledSolvent(CompiledEnergy):
    """Energy and forces of one molecule's solvent; may be pickled and copied.

    Parameters
    ----------
    network : pair_loops.Network
    born : born_loops.Born
        As made by :func:`bind_solvent`.
    """

    def __init__(self, network: Network, born: Born) -> None:
        super().__init__(network)
        fields: dict[str, Any] = born._asdict()
        fields.update({key: aligned(value) for key, value in fields.items() if isinstance(value, np.ndarray)})
        self.born = Born(**fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledSolvent, (self.network, self.born)

    def _new_desk(self) -> Desk:
        return Desk(self._new_memory())

    def _new_memory(self) -> Memory:
        return _SolventMemory(self.network, self.born)


class _SolventMemory(Memory):
    """Scratch memory of network and Born."""

    def __init__(self, net: Network, born: Born) -> None:
        super().__init__(net)
        kind, n, padded = net.table.dtype, born.atoms, born.padded
        self.born = born
        sizes = (3 * padded, 3 * padded, n * padded, n * padded, *[padded] * 5)
        space = [empty(size, kind) for size in sizes]
        self.space = Space(*space, *(empty(size, np.float64) for size in (4 * n, n * born.columns, n * born.columns)))
        self.handle = solvent_loops.handle_of(self.handle, born, self.space)
        self.program = solvent_loops.evaluate


def bind_solvent(
    config: Mapping[str, Any],
    weights: Mapping[str, Array],
    table: FilterTable,
    kinds: Array,
    parameters: Array,
    dtype: str = "float32",
) -> CompiledSolvent:
    """Bind a transferable solvent to the atoms of a molecule.

    Parameters
    ----------
    config : mapping
        Model settings.
    weights : mapping
        Arrays by the names of the torch module's state.
    table : FilterTable
        Its filters.
    kinds : int [N]
        Indices into the vocabulary.
    parameters : float [N, 5]
        See ``models.transferable.atoms``.
    dtype : {"float32", "float64"}
        Arithmetic of network and Born pairs (network distances and all energies are summed in float64 either way).

    Raises
    ------
    ArtifactError
        If weights, table and config do not belong together, or radii differ by more than any distance of atoms.
    """
    given = np.asarray(parameters, dtype=np.float64)
    try:
        outputs = OUTPUTS[config["form"]]
        embedding = shaped(weights, "embedding", len(config["vocabulary"]), int(config["features"]))[np.asarray(kinds)]
        scaled = given / np.array(PARAMETER_SIZES)
        embedding = embedding + scaled @ shaped(weights, "parameter_weight", len(PARAMETERS), int(config["features"]))
        shaped(weights, "head_out.weight", len(outputs), int(config["features"]))
        network = bound_network(config, weights, table, embedding, np.dtype(dtype))
        born = _born(config["form"], float(config["dielectric"]), outputs, given, np.dtype(dtype))
    except KeyError as error:
        raise ArtifactError(f"weights, table and config do not belong together: {error} is missing") from None
    return CompiledSolvent(network, born)


def _born(form: str, dielectric: float, outputs: tuple[str, ...], parameters: Array, dtype: Any) -> Born:
    n = len(parameters)
    padded = 0 if form == "alone" else -(-n // LANES) * LANES
    offset, scaled = parameters[:, OFFSET_RADIUS], parameters[:, SCALED_RADIUS]
    if padded:
        _require_usual_radii(offset, scaled)
    radius = offset + forms.OFFSET_NM
    surface = forms.SURFACE_FACTOR * (radius + forms.PROBE_NM) ** 2
    head = [forms.polar_strength(dielectric), forms.LEAST_FACTOR, _TINY]

    def put(values: Array, rest: float) -> Array:
        padding = np.full(max(0, padded - n), rest)
        return np.concatenate([values, padding]).astype(dtype)

    def column(name: str) -> int:
        return outputs.index(name) if name in outputs else -1

    return Born(
        atoms=n,
        padded=padded,
        columns=len(outputs),
        energy_at=column("energy"),
        radius_at=column("radius"),
        screening_at=column("screening"),
        offset=put(offset, float(offset.mean())),
        scaled=put(scaled, float(scaled.mean())),
        charge=put(parameters[:, CHARGE], 0.0),
        numbers=np.concatenate([head, offset, radius, surface]),
    )


def _require_usual_radii(offset: Array, scaled: Array) -> None:
    apart = max(scaled.max() - offset.min(), offset.max() - scaled.min())
    ratio = scaled.max() / (offset.min() + scaled.max())
    if apart > CLOSEST_NM or ratio > LARGEST_Z:
        raise ArtifactError(
            f"Born radii of {offset.min():.3f} to {offset.max():.3f} nm (scaled {scaled.min():.3f} to "
            f"{scaled.max():.3f} nm) differ too much for the compiled solvent; use backend 'eager'"
        )
