"""The compiled energy: a tabulated network bound to one molecule, without torch.

Why Numba, and why with explicit vectors. What decided, on one core of a Xeon (Sapphire Rapids, AVX-512): energy and
forces of alanine dipeptide (22 atoms, 64 features, 2 blocks, 1.2 nm cutoff), float32, one thread, best of 40 repeats
(``python -m benchmarks.kernel_engines`` measures again and keeps the numbers in its result):

=============================================  =========
eager torch                                     1.76 ms
TorchScript (script / frozen)                   1.40 / 1.18 ms
make_fx + torch.compile (inductor)              0.87 ms
tabulated, plain Numba loops, fastmath          0.090 ms
tabulated, Numba with explicit vectors          0.025 ms   (float64: 0.065 ms)
=============================================  =========

On an EPYC (Zen 5), medians: eager 1.14 ms, TorchScript 1.31, torch.compile 0.46, AOTInductor 0.26, the tabulated static
program (:mod:`mlsim.deploy.kernel.static`) in torch 0.37 and compiled 0.17, this kernel 0.019.

``torch.compile`` and AOTInductor need a C++ compiler on the user's machine, or a library per processor and molecule;
Numba brings its own. A C++ extension would need wheels for every platform. TorchScript stays the interchange format.
The kernel is compiled at first use (4-10 s) and kept on disk; later processes load it in 0.1 s.

Where the time goes, on a quiet core of an EPYC (Zen 5), us: 17.6 in all, of which the ten matrix products 7.3 (at the
peak of the core, see :mod:`mlsim.deploy.kernel.product`), the four passes over pairs 7.3 (of which waiting for the
table in the second-level cache 1), activations 0.5, listing pairs and pushing atoms 0.7. A step in OpenMM takes 25.1
with it: integrator and constraints 1.8, molecular mechanics in the same callback 2.5
(:mod:`mlsim.deploy.kernel.mechanics`), the rest ``PythonForce`` (0.7), reading positions and the call.

Equations: :mod:`mlsim.deploy.kernel.network_loops`. This file multiplies the residual stream out (``bind``), packs
matrices into the kernel's order, and owns the scratch memory of each thread. Memory is aligned to cache lines: with
numpy's own 16-byte alignment every vector straddles two lines, and an evaluation takes a third longer.

How the cost grows, us per evaluation (22 atoms / 166 atoms with 11,600 pairs): 2 blocks of 32 features 14 / 390, 1 of
64 16 / 380, 2 of 64 25 / 760, 3 of 64 42 / 1150, 2 of 128 83 / 1720. Half of it are matrix products per atom,
the rest passes over pairs, which wait for the second-level cache to deliver the table.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.deploy.kernel import network_loops
from mlsim.deploy.kernel.memory import Desk, Memory, aligned
from mlsim.deploy.kernel.network_binding import bound_network, shaped
from mlsim.deploy.kernel.pair_loops import Network
from mlsim.deploy.kernel.table import FilterTable
from mlsim.errors import ArtifactError, InputError

#: Model kinds that the kernel computes.
KINDS = ("issnet",)
Array = NDArray[Any]


class CompiledEnergy:
    """Energy and forces of one molecule from the compiled kernel; may be pickled and copied.

    Parameters
    ----------
    network : pair_loops.Network
        As made by :func:`bind`.
    """

    def __init__(self, network: Network) -> None:
        fields: dict[str, Any] = network._asdict()
        fields.update({key: aligned(value) for key, value in fields.items() if isinstance(value, np.ndarray)})
        self.network = Network(**fields)
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return CompiledEnergy, (self.network,)

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""
        return self.network.atoms

    def energy_forces(self, positions: Array) -> tuple[float, NDArray[np.float64]]:
        """Energy (kJ/mol) and forces [N, 3] (kJ/mol/nm) at ``positions`` [N, 3] (nm); NaN in, NaN out."""
        x = np.ascontiguousarray(positions, dtype=np.float64)
        if x.shape != (self.network.atoms, 3):
            raise InputError(f"positions (nm): expected shape [{self.n_atoms}, 3], got {list(x.shape)}")
        desk = self.desk()
        desk.positions[...] = x
        energy, forces = desk.run()
        return energy, forces.copy()

    def desk(self) -> Desk:
        """Where the calling thread puts positions of one molecule and finds energy and forces, without any copy."""
        desk: Desk | None = getattr(self._local, "desk", None)
        if desk is None:
            desk = self._local.desk = self._new_desk()
        return desk

    def evaluate(self, positions: Array, threads: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies [R] and forces [R, N, 3] of R copies at ``positions`` [R, N, 3] (nm); NaN in, NaN out.

        Parameters
        ----------
        threads : int
            Copies are divided among this many threads; each copy is computed by one, with the same bits for any number.
        """
        x = np.ascontiguousarray(positions, dtype=np.float64)
        if x.ndim != 3 or x.shape[1:] != (self.n_atoms, 3):
            raise InputError(f"positions (nm): expected shape [*, {self.n_atoms}, 3], got {list(x.shape)}")
        energies, forces = np.empty(len(x)), np.empty_like(x)

        def work(part: slice) -> None:
            memory = self._memory()
            network_loops.point(memory.handle, x[part], energies[part], forces[part])
            memory.program(memory.handle, self.network.readout)

        bounds = np.linspace(0, len(x), max(1, min(threads, len(x))) + 1).astype(int)
        parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        if len(parts) == 1:
            work(parts[0])
        else:
            list(_pool(len(parts)).map(work, parts))
        return energies, forces

    def _memory(self) -> Memory:
        """Scratch memory of the calling thread."""
        memory: Memory | None = getattr(self._local, "memory", None)
        if memory is None:
            memory = self._local.memory = self._new_memory()
        return memory

    def _new_desk(self) -> Desk:
        return Desk(Memory(self.network))

    def _new_memory(self) -> Memory:
        return Memory(self.network)


def bind(
    config: Mapping[str, Any],
    weights: Mapping[str, Array],
    table: FilterTable,
    types: Array,
    charges: Array,
    dtype: str = "float32",
) -> CompiledEnergy:
    """Bind a network to the atoms of a molecule.

    Parameters
    ----------
    config : mapping
        Model settings (``features``, ``blocks``, ``activation``, ``energy_scale``, ``cutoff_nm``).
    weights : mapping
        Arrays by the names of the torch module's state.
    table : FilterTable
        Its filters.
    types : int [N]
        Indices into the vocabulary.
    charges : float [N], e
    dtype : {"float32", "float64"}
        Arithmetic of the network (distances, energies and forces are summed in float64 either way).

    Raises
    ------
    ArtifactError
        If weights, table and config do not belong together.
    """
    try:
        features = int(config["features"])
        embedding = shaped(weights, "embedding", len(config["vocabulary"]), features)[np.asarray(types)]
        embedding = embedding + np.asarray(charges)[:, None] * shaped(weights, "charge_weight", features)
        network = bound_network(config, weights, table, embedding, np.dtype(dtype))
    except KeyError as error:
        raise ArtifactError(f"weights, table and config do not belong together: {error} is missing") from None
    return CompiledEnergy(network)


_POOLS: dict[int, ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that live as long as the process, so that their scratch memory does."""
    if threads not in _POOLS:
        _POOLS[threads] = ThreadPoolExecutor(threads, thread_name_prefix="mlsim-kernel")
    return _POOLS[threads]
