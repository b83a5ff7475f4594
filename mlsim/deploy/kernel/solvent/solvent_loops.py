"""The whole transferable solvent as one compiled program: network, generalized Born, and the pull of one on the other.

    listed pairs -> network -> outputs e, phi, psi -> Born radii, scaled -> energy
    energy -> dE/d(outputs) -> network backwards -> forces <- Born's own

The network's part is that of ``network_loops``, the Born part ``born_loops``; here they meet at the outputs of each
atom, K numbers act(z_i) . w_k. Forms without Born leave those loops out. Forces are the exact gradient of the energy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np

from mlsim.deploy.kernel import network_loops
from mlsim.deploy.kernel.network_loops import (
    ENERGIES,
    FORCES,
    POSITIONS,
    STRENGTH,
    Scratch,
    backward,
    begin,
    forward,
    kept_on_disk,
    probe,
    view,
)
from mlsim.deploy.kernel.pair_loops import Array, Network, Pairs, find_pairs, push
from mlsim.deploy.kernel.simd import LANES, fill, fma, load, mul, store, total, zeros
from mlsim.deploy.kernel.solvent import born_loops
from mlsim.deploy.kernel.solvent.born_loops import Born, Space
from mlsim.records import full_digest


@numba.njit(error_model="numpy")
def _read_out(net: Network, scratch: Scratch, columns: int, outputs: Array) -> None:
    """outputs[i, k] = act(z_i) . w_k."""
    width, messages = net.features, scratch.messages
    for i in range(net.atoms):
        for k in range(columns):
            sum_ = zeros(messages)
            for at in range(0, width, LANES):
                sum_ = fma(load(net.readout, k * width + at), load(messages, i * width + at), sum_)
            outputs[i * columns + k] = total(sum_)


@numba.njit(error_model="numpy")
def _pull_back(net: Network, scratch: Scratch, columns: int, g_outputs: Array) -> None:
    """g_plane_i, which holds act'(z_i), becomes act'(z_i) sum_k g_ik w_k."""
    width, g_plane = net.features, scratch.g_plane
    for i in range(net.atoms):
        for at in range(0, width, LANES):
            sum_ = zeros(g_plane)
            for k in range(columns):
                sum_ = fma(load(net.readout, k * width + at), fill(sum_, g_outputs[i * columns + k]), sum_)
            store(g_plane, i * width + at, mul(sum_, load(g_plane, i * width + at)))


@numba.njit(error_model="numpy")
def _evaluate(
    positions: Array,
    energies: Array,
    forces: Array,
    strength: int,
    net: Network,
    pairs: Pairs,
    scratch: Scratch,
    born: Born,
    space: Space,
) -> None:
    """As :func:`mlsim.deploy.kernel.network_loops.evaluate`, for the whole solvent."""
    columns = born.columns
    begin(net, scratch)
    for r in range(energies.size):
        first = r * net.atoms * 3
        energy = probe(positions, forces, first, net.atoms * 3)
        number = find_pairs(positions, first, net, pairs)
        forward(net, pairs, scratch)
        _read_out(net, scratch, columns, space.outputs)
        if born.energy_at >= 0:
            for i in range(net.atoms):
                energy += space.outputs[i * columns + born.energy_at]
                space.g_outputs[i * columns + born.energy_at] = 1.0
        if born.padded > 0:
            born_loops.put(positions, first, born, space)
            born_loops.radii(born, space)
            born_loops.scale(born, space)
            energy += born_loops.polar(born, space)
            energy += born_loops.atoms(born, space)
            born_loops.pull(first, strength, born, space, forces)
        _pull_back(net, scratch, columns, space.g_outputs)
        backward(net, pairs, scratch)
        push(positions, first, net, pairs, number, strength, forces)
        for k in range(first, first + net.atoms * 3):
            energy += forces[k] * 0.0
        energies[r] = energy


_NUMBERS = np.zeros(1)
#: Place of the Born part in a handle: after the arrays of network, pairs and scratch.
_BORN = network_loops.LENGTH


def _entry() -> Any:
    """The compiled entry."""
    here, above = Path(__file__).parent, Path(network_loops.__file__).parent
    files = [above / name for name in ("simd.py", "pair_loops.py", "product.py", "network_loops.py")]
    files += [here / name for name in ("vector_functions.py", "born_loops.py", "solvent_loops.py")]
    revision = full_digest(b"".join(file.read_bytes() for file in files))

    def evaluate(handle: Array, like: Array) -> None:
        if len(revision) == 0:  # a closure variable is part of the cache's key: edited sources are compiled anew
            return
        h, k = handle, _BORN
        net, pairs, scratch = network_loops.unpack(handle, like)
        born = Born(
            h[k],
            h[k + 1],
            h[k + 2],
            h[k + 3],
            h[k + 4],
            h[k + 5],
            view(h, k + 6, like),
            view(h, k + 8, like),
            view(h, k + 10, like),
            view(h, k + 12, _NUMBERS),
        )
        space = Space(
            view(h, k + 14, like),
            view(h, k + 16, like),
            view(h, k + 18, like),
            view(h, k + 20, like),
            view(h, k + 22, like),
            view(h, k + 24, like),
            view(h, k + 26, like),
            view(h, k + 28, like),
            view(h, k + 30, like),
            view(h, k + 32, _NUMBERS),
            view(h, k + 34, _NUMBERS),
            view(h, k + 36, _NUMBERS),
        )
        positions, energies = view(h, POSITIONS, _NUMBERS), view(h, ENERGIES, _NUMBERS)
        _evaluate(positions, energies, view(h, FORCES, _NUMBERS), h[STRENGTH], net, pairs, scratch, born, space)

    return kept_on_disk(evaluate)


def handle_of(network: Array, born: Born, space: Space) -> Array:
    """A handle of :func:`mlsim.deploy.kernel.network_loops.handle_of` with the Born part behind it."""
    arrays = [*born[6:], *space]
    slots = [number for array in arrays for number in (array.ctypes.data, array.size)]
    return np.array([*network, *born[:6], *slots], dtype=np.int64)


#: ``evaluate(handle, like)``: see :func:`mlsim.deploy.kernel.network_loops.evaluate`.
evaluate = _entry()
