"""Compiled loops of the tabulated continuous-filter network: energy and forces of one molecule, or of many copies.

Why. One evaluation for 22 atoms is about one million multiplications: microseconds of arithmetic, which eager PyTorch
spreads over some hundred operators. Here it is one function without Python in it. The forces are the exact gradient
of the energy that is computed, table included, by a hand-written backward pass over the same list of pairs.

Equations (b and c count blocks; a product with a matrix is a row vector times the matrix)::

    d_ij   = sqrt(|r_i - r_j|^2 + tiny)                    pairs i > j with d_ij < cutoff only
    W_ij,b = c0 + t (c1 + t (c2 + t c3))                   d_ij = (k + t) spacing, c = table[b, k]
    m_i,b  = sum_j x_j,b * W_ij,b
    a_i,b  = act(m_i,b A_b + p_b)
    x_i,b  = X_i,b + sum_{c<b} a_i,c M_c,b
    z_i    = Z_i   + sum_c     a_i,c M_c,head
    E      = sum_i w . act(z_i)

The residual stream of the network is linear between activations, so it is multiplied out once, when a molecule is
bound (:mod:`mlsim.deploy.kernel.compiled`): ``M_c,b = W2_c Win_b``, and X, Z hold all that does not depend on
positions. The residual features are never formed, and the first block's inputs x = X are constants.

Symbol -> variable: x ``inputs`` · m ``messages`` · a ``hidden`` with act' ``slopes`` · X, p, Z ``offsets`` · A, M and
transposes ``weights`` (starts in ``places``) · w ``readout`` · t ``fraction`` · k ``cell`` · dE/d(y) ``g_y``.

Arrays are flat. Rows are padded to a multiple of 6 atoms and features to a multiple of 32 with zeros that stay zero.
Distances and forces are accumulated in float64 whatever the type of the network, so that a molecule may drift far
from the origin. A NaN or infinite position makes energy and forces NaN (``probe``), a force that is not finite makes
the energy NaN: callers need to check the energy only.

Reference: Schuett et al., J. Chem. Phys. 148, 241722 (2018), the network; Lu et al., J. Chem. Theory Comput. 18, 5559
(2022), tabulating a trained filter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from mlsim.deploy.kernel.pair_loops import Array, Network, Pairs, find_pairs, gather, push, scatter, scatter_slopes
from mlsim.deploy.kernel.product import multiply
from mlsim.deploy.kernel.simd import LANES, add, fill, fma, load, mul, pointer, store, tanh, total, zeros
from mlsim.records import full_digest

#: Activations by number (``Network.activation``).
TANH, SILU = 0, 1


class Scratch(NamedTuple):
    """Intermediate results; ``wide`` is blocks * features."""

    inputs: Array  # [blocks, rows, features]
    messages: Array  # [rows, features]
    plane: Array  # [rows, features]
    g_plane: Array  # [rows, features]
    hidden: Array  # [rows, wide]
    slopes: Array  # [rows, wide]
    g_hidden: Array  # [rows, wide]


@numba.njit(error_model="numpy")
def activate(z: Array, out: Array, slopes: Array, o0: int, o_row: int, rows: int, width: int, activation: int) -> None:
    """out = act(z), slopes = act'(z) for z [rows, width]; the results may lie in wider rows."""
    for row in range(rows):
        for k in range(0, width, LANES):
            value = load(z, row * width + k)
            one = fill(value, 1.0)
            if activation == TANH:
                y = tanh(value)
                slope = fma(mul(y, fill(value, -1.0)), y, one)
            else:  # silu: z s(z) with s = (1 + tanh(z / 2)) / 2
                half = fill(value, 0.5)
                s = fma(tanh(mul(value, half)), half, half)
                y = mul(value, s)
                slope = fma(y, add(one, mul(s, fill(value, -1.0))), s)
            store(out, o0 + row * o_row + k, y)
            store(slopes, o0 + row * o_row + k, slope)


@numba.njit(error_model="numpy")
def clear(values: Array, count: int) -> None:
    """Zero the first ``count`` elements (a multiple of 16)."""
    for k in range(0, count, LANES):
        store(values, k, zeros(values))


@numba.njit(error_model="numpy")
def begin(net: Network, scratch: Scratch) -> None:
    """The inputs of the first block, which are the same for all copies."""
    for k in range(net.rows * net.features):
        scratch.inputs[k] = net.offsets[k]


@numba.njit(error_model="numpy")
def forward(net: Network, pairs: Pairs, scratch: Scratch) -> None:
    """From listed pairs to act(z) in ``messages`` and act'(z) in ``g_plane``, both [rows, features]."""
    inputs, messages, plane, g_plane, hidden, slopes = scratch[:6]
    rows, width, blocks, offsets, places = net.rows, net.features, net.blocks, net.offsets, net.places
    area, wide, size = rows * width, blocks * width, net.intervals * width * 4
    for b in range(blocks):
        at = b * area
        if b > 0:
            multiply(
                hidden,
                0,
                wide,
                net.weights,
                places[4 * b + 2],
                inputs,
                at,
                width,
                offsets,
                at,
                rows,
                at // rows,
                width,
            )
        clear(messages, area)
        gather(net, pairs, b * size, inputs, at, messages)
        multiply(
            messages,
            0,
            width,
            net.weights,
            places[4 * b],
            plane,
            0,
            width,
            offsets,
            blocks * area + at,
            rows,
            width,
            width,
        )
        activate(plane, hidden, slopes, b * width, wide, rows, width, net.activation)
    head = places[4 * blocks]
    multiply(hidden, 0, wide, net.weights, head, plane, 0, width, offsets, 2 * blocks * area, rows, wide, width)
    activate(plane, messages, g_plane, 0, width, rows, width, net.activation)


@numba.njit(error_model="numpy")
def backward(net: Network, pairs: Pairs, scratch: Scratch) -> None:
    """From dE/dz in ``g_plane`` [rows, features] to the slope of every listed pair, added to ``g_place``."""
    inputs, messages, g_plane, slopes = scratch.inputs, scratch.messages, scratch.g_plane, scratch.slopes
    g_hidden = scratch.g_hidden
    rows, width, blocks, places = net.rows, net.features, net.blocks, net.places
    area, wide, size = rows * width, blocks * width, net.intervals * width * 4
    clear(g_hidden, rows * wide)
    head = places[4 * blocks + 1]
    multiply(g_plane, 0, width, net.weights, head, g_hidden, 0, wide, g_hidden, 0, rows, width, wide)
    for b in range(blocks - 1, -1, -1):
        at = b * area
        for row in range(rows):
            for k in range(row * wide + b * width, row * wide + (b + 1) * width, LANES):
                store(g_hidden, k, mul(load(g_hidden, k), load(slopes, k)))
        clear(g_plane, area)
        multiply(
            g_hidden,
            b * width,
            wide,
            net.weights,
            places[4 * b + 1],
            messages,
            0,
            width,
            g_plane,
            0,
            rows,
            width,
            width,
        )
        if b == 0:
            scatter_slopes(net, pairs, 0, inputs, 0, messages)
        else:
            scatter(net, pairs, b * size, inputs, at, messages, g_plane)
            multiply(
                g_plane,
                0,
                width,
                net.weights,
                places[4 * b + 3],
                g_hidden,
                0,
                wide,
                g_hidden,
                0,
                rows,
                width,
                at // rows,
            )


@numba.njit(error_model="numpy")
def probe(positions: Array, forces: Array, first: int, count: int) -> float:
    """Zero, or NaN if one of ``count`` coordinates from ``first`` on is not finite; all forces are set to it."""
    found = 0.0
    for k in range(first, first + count):
        found += positions[k] * 0.0
    for k in range(first, first + count):
        forces[k] = found
    return found


@numba.njit(error_model="numpy")
def _evaluate(
    positions: Array,
    energies: Array,
    forces: Array,
    strength: int,
    net: Network,
    pairs: Pairs,
    scratch: Scratch,
) -> None:
    """Energies [R] (kJ/mol) and forces [R * N * 3] (kJ/mol/nm) of R copies of a molecule at positions [R * N * 3] (nm).

    All three are flat float64 arrays; the last two are overwritten, forces ``strength`` times as large as they are.
    """
    width, messages, g_plane = net.features, scratch.messages, scratch.g_plane
    begin(net, scratch)
    for r in range(energies.size):
        first = r * net.atoms * 3
        energy = probe(positions, forces, first, net.atoms * 3)
        number = find_pairs(positions, first, net, pairs)
        forward(net, pairs, scratch)
        for i in range(net.atoms):
            sum_ = zeros(messages)
            for k in range(0, width, LANES):
                w = load(net.readout, k)
                sum_ = fma(w, load(messages, i * width + k), sum_)
                store(g_plane, i * width + k, mul(w, load(g_plane, i * width + k)))
            energy += total(sum_)
        energies[r] = energy
        backward(net, pairs, scratch)
        push(positions, first, net, pairs, number, strength, forces)
        for k in range(first, first + net.atoms * 3):
            energies[r] += forces[k] * 0.0


@numba.njit(error_model="numpy")
def view(handle: Array, slot: int, like: Array) -> Array:
    """The flat array whose address and length are ``handle[slot : slot + 2]``."""
    return numba.carray(pointer(handle[slot], like), handle[slot + 1])


#: Arrays of the types that a handle can point to, beside that of the network.
_NUMBERS, _CELLS = np.zeros(1), np.zeros(1, np.int32)
#: Slots of a handle: how strong the forces are made, and address and length of what goes in and out.
STRENGTH, POSITIONS, ENERGIES, FORCES = 6, 7, 9, 11
_FIRST = 13
#: Length of a handle.
LENGTH = _FIRST + 38


def kept_on_disk(function: Any) -> Any:
    """``function`` compiled, without the GIL; kept for the next process where there is a writable place for it."""
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no writable cache directory: compile once per process
        return numba.njit(nogil=True, error_model="numpy")(function)


@numba.njit(error_model="numpy")
def unpack(handle: Array, like: Array) -> tuple[Network, Pairs, Scratch]:
    """What :func:`handle_of` was made of."""
    h, k = handle, _FIRST
    constants = view(h, k, _NUMBERS)
    net = Network(
        h[0],
        h[1],
        h[2],
        h[3],
        h[4],
        h[5],
        constants[0],
        constants[1],
        constants[2],
        view(h, k + 2, like),
        view(h, k + 4, like),
        view(h, k + 6, handle),
        view(h, k + 8, like),
        view(h, k + 10, like),
    )
    pairs = Pairs(
        view(h, k + 12, handle),
        view(h, k + 14, _CELLS),
        view(h, k + 16, _CELLS),
        view(h, k + 18, like),
        view(h, k + 20, _NUMBERS),
        view(h, k + 22, like),
    )
    scratch = Scratch(
        view(h, k + 24, like),
        view(h, k + 26, like),
        view(h, k + 28, like),
        view(h, k + 30, like),
        view(h, k + 32, like),
        view(h, k + 34, like),
        view(h, k + 36, like),
    )
    return net, pairs, scratch


def _entry() -> Any:
    """The compiled entry."""
    place = Path(__file__).parent
    names = ("simd.py", "pair_loops.py", "product.py", "network_loops.py")
    revision = full_digest(b"".join((place / name).read_bytes() for name in names))

    def evaluate(handle: Array, like: Array) -> None:
        if len(revision) == 0:  # a closure variable is part of the cache's key: edited sources are compiled anew
            return
        net, pairs, scratch = unpack(handle, like)
        positions, energies = view(handle, POSITIONS, _NUMBERS), view(handle, ENERGIES, _NUMBERS)
        _evaluate(positions, energies, view(handle, FORCES, _NUMBERS), handle[STRENGTH], net, pairs, scratch)

    return kept_on_disk(evaluate)


def handle_of(net: Network, constants: Array, pairs: Pairs, scratch: Scratch) -> Array:
    """What :func:`evaluate` takes: sizes and addresses of all arrays in one array of integers.

    Numba spends 0.15 us on the door for every array of a call, a fifth of an evaluation for the 26 that a network and
    its memory have. The caller keeps the arrays alive, and points the handle to positions, energies and forces.

    Parameters
    ----------
    constants : float64 [3]
        ``cutoff``, ``inverse_spacing`` and ``tiny`` of the network.
    """
    arrays = [constants, net.table, net.weights, net.places, net.offsets, net.readout, *pairs, *scratch]
    slots = [number for array in arrays for number in (array.ctypes.data, array.size)]
    return np.array([*net[:6], 1, *[0] * (_FIRST - 7), *slots], dtype=np.int64)


def point(handle: Array, positions: Array, energies: Array, forces: Array) -> None:
    """Let ``handle`` read positions [R * N * 3] (nm), write energies [R] (kJ/mol) and forces [R * N * 3] (kJ/mol/nm).

    All three are contiguous float64 arrays that the caller keeps alive.
    """
    for slot, array in ((POSITIONS, positions), (ENERGIES, energies), (FORCES, forces)):
        handle[slot : slot + 2] = array.ctypes.data, array.size


#: ``evaluate(handle, like)``: energies and forces of R copies of a molecule, where :func:`point` said; forces are
#: multiplied by ``handle[STRENGTH]``. ``like`` is any array of the network's type. The GIL is released.
evaluate = _entry()
