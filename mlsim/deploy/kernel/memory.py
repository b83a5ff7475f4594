"""Memory of the compiled kernels: aligned arrays, the scratch of one thread, and a desk to work at without copies.

Memory is aligned to cache lines: with numpy's own 16-byte alignment every vector straddles two lines, and an
evaluation takes a third longer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlsim.deploy.kernel import network_loops
from mlsim.deploy.kernel.pair_loops import Network, Pairs

_LINE = 64  # bytes per cache line
Array = NDArray[Any]


class Memory:
    """Scratch memory of one thread, and the handle by which the kernel finds it and the network.

    Attributes
    ----------
    handle : int64
    program : callable
        What evaluates the handle.
    """

    program: Callable[[Array, Array], None]

    def __init__(self, net: Network) -> None:
        dtype, area = net.table.dtype, net.rows * net.features
        wide, most = area * net.blocks, net.atoms * (net.atoms - 1) // 2 + 1
        kinds = (np.int32, np.int32, dtype, np.float64, dtype)
        self.network = net
        self.pairs = Pairs(empty(net.atoms + 1, np.int64), *(empty(most, kind) for kind in kinds))
        sizes = (wide, area, area, area, wide, wide, wide)
        self.scratch = network_loops.Scratch(*(empty(size, dtype) for size in sizes))
        self.constants = np.array([net.cutoff, net.inverse_spacing, net.tiny])
        self.handle = network_loops.handle_of(net, self.constants, self.pairs, self.scratch)
        self.program = network_loops.evaluate


class Desk:
    """Memory of one thread for one molecule at a time: fill ``positions``, then :meth:`run`.

    Attributes
    ----------
    positions : float64 [N, 3], nm
    """

    def __init__(self, memory: Memory) -> None:
        net = memory.network
        self.memory, self.handle, self._program = memory, memory.handle, memory.program
        self.positions = empty(net.atoms * 3, np.float64).reshape(-1, 3)
        self._energy, self._forces = empty(1, np.float64), empty(net.atoms * 3, np.float64).reshape(-1, 3)
        self._like, self._strength = net.readout, 1
        network_loops.point(self.handle, self.positions, self._energy, self._forces)

    def run(self, strength: int = 1) -> tuple[float, NDArray[np.float64]]:
        """Energy (kJ/mol), and forces [N, 3] (kJ/mol/nm) times ``strength``; the next run overwrites the forces.

        The energy is NaN if a position is not finite or a force is not.
        """
        if strength != self._strength:
            self.handle[network_loops.STRENGTH] = self._strength = strength
        self._program(self.handle, self._like)
        return self._energy.item(), self._forces

    def rest(self) -> tuple[float, NDArray[np.float64]]:
        """No energy and no forces, in the same memory as those of :meth:`run`."""
        self._forces[...] = 0.0
        return 0.0, self._forces


def empty(count: int, kind: Any) -> Array:
    """``count`` zeros of type ``kind`` that start at a cache line."""
    return aligned(np.zeros(count, kind))


def aligned(array: Array) -> Array:
    """A copy that starts at a cache line."""
    raw = np.zeros(array.nbytes + _LINE, np.uint8)
    start = -raw.ctypes.data % _LINE
    copy: Array = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
