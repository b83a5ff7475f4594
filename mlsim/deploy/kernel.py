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
bound (:mod:`mlsim.deploy.network`): ``M_c,b = W2_c Win_b``, and X, Z hold all that does not depend on positions. The
residual features are never formed, and the first block's inputs x = X are constants.

Symbol -> variable: x ``inputs`` · m ``messages`` · a ``hidden`` with act' ``slopes`` · X, p, Z ``offsets`` · A, M and
transposes ``weights`` (starts in ``places``) · w ``readout`` · t ``fraction`` · k ``cell`` · dE/d(y) ``g_y``.

Arrays are flat. Rows are padded to a multiple of 4 atoms and features to a multiple of 32 with zeros that stay zero.
Distances and forces are accumulated in float64 whatever the type of the network, so that a molecule may drift far
from the origin. A NaN or infinite position makes energy and forces NaN (``probe``), a force that is not finite makes
the energy NaN: callers need to check the energy only.

Reference: Schuett et al., J. Chem. Phys. 148, 241722 (2018), the network; Lu et al., J. Chem. Theory Comput. 18, 5559
(2022), tabulating a trained filter.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from mlsim.deploy.pair_loops import PANEL, Array, Network, Pairs, find_pairs, gather, push, scatter, scatter_slopes
from mlsim.deploy.simd import LANES, add, fill, fma, load, mul, pointer, spread, store, tanh, total, zeros

#: Rows per tile of the matrix product.
ROWS = 4
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
def multiply(
    a: Array,
    a0: int,
    a_row: int,
    b: Array,
    b0: int,
    c: Array,
    c0: int,
    c_row: int,
    start: Array,
    s0: int,
    rows: int,
    depth: int,
    width: int,
) -> None:
    """c = start + a b for row-major a [rows, depth], c and start [rows, width] and packed b [depth, width]."""
    for column in range(0, width, PANEL):
        for row in range(0, rows, ROWS):
            here = s0 + row * c_row + column
            p0, q0 = load(start, here), load(start, here + LANES)
            p1, q1 = load(start, here + c_row), load(start, here + c_row + LANES)
            p2, q2 = load(start, here + 2 * c_row), load(start, here + 2 * c_row + LANES)
            p3, q3 = load(start, here + 3 * c_row), load(start, here + 3 * c_row + LANES)
            at, left = b0 + column * depth, a0 + row * a_row
            for k in range(left, left + depth):
                u, v = load(b, at), load(b, at + LANES)
                at += PANEL
                s = spread(a, k)
                p0, q0 = fma(s, u, p0), fma(s, v, q0)
                s = spread(a, k + a_row)
                p1, q1 = fma(s, u, p1), fma(s, v, q1)
                s = spread(a, k + 2 * a_row)
                p2, q2 = fma(s, u, p2), fma(s, v, q2)
                s = spread(a, k + 3 * a_row)
                p3, q3 = fma(s, u, p3), fma(s, v, q3)
            here = c0 + row * c_row + column
            store(c, here, p0)
            store(c, here + LANES, q0)
            store(c, here + c_row, p1)
            store(c, here + c_row + LANES, q1)
            store(c, here + 2 * c_row, p2)
            store(c, here + 2 * c_row + LANES, q2)
            store(c, here + 3 * c_row, p3)
            store(c, here + 3 * c_row + LANES, q3)


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
def _evaluate(positions: Array, energies: Array, forces: Array, net: Network, pairs: Pairs, scratch: Scratch) -> None:
    """Energies [R] (kJ/mol) and forces [R * N * 3] (kJ/mol/nm) of R copies of a molecule at positions [R * N * 3] (nm).

    All three are flat float64 arrays; the last two are overwritten.
    """
    inputs, messages, plane, g_plane, hidden, slopes, g_hidden = scratch
    rows, width, blocks, offsets, places = net.rows, net.features, net.blocks, net.offsets, net.places
    area, wide, size = rows * width, blocks * width, net.intervals * width * 4
    head = 4 * blocks
    for k in range(area):
        inputs[k] = offsets[k]
    for r in range(energies.size):
        first = r * net.atoms * 3
        probe = 0.0
        for k in range(first, first + net.atoms * 3):
            probe += positions[k] * 0.0
        for k in range(first, first + net.atoms * 3):
            forces[k] = probe
        number = find_pairs(positions, first, net, pairs)
        # energy
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
        multiply(
            hidden, 0, wide, net.weights, places[head], plane, 0, width, offsets, 2 * blocks * area, rows, wide, width
        )
        activate(plane, messages, g_plane, 0, width, rows, width, net.activation)
        energy = probe
        for i in range(net.atoms):
            sum_ = zeros(messages)
            for k in range(0, width, LANES):
                w = load(net.readout, k)
                sum_ = fma(w, load(messages, i * width + k), sum_)
                store(g_plane, i * width + k, mul(w, load(g_plane, i * width + k)))
            energy += total(sum_)
        energies[r] = energy
        # gradient
        clear(g_hidden, rows * wide)
        multiply(g_plane, 0, width, net.weights, places[head + 1], g_hidden, 0, wide, g_hidden, 0, rows, width, wide)
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
        push(positions, first, net, pairs, number, forces)
        for k in range(first, first + net.atoms * 3):
            energies[r] += forces[k] * 0.0


@numba.njit(error_model="numpy")
def _view(handle: Array, slot: int, like: Array) -> Array:
    """The flat array whose address and length are ``handle[slot : slot + 2]``."""
    return numba.carray(pointer(handle[slot], like), handle[slot + 1])


def _entry() -> Any:
    """The compiled entry, kept on disk for the next process where there is a writable place for it."""
    place = Path(__file__).parent
    sources = b"".join((place / name).read_bytes() for name in ("simd.py", "pair_loops.py", "kernel.py"))
    revision = hashlib.sha256(sources).hexdigest()

    def evaluate(
        positions: Array, energies: Array, forces: Array, handle: Array, numbers: Array, cells: Array, readout: Array
    ) -> None:
        if len(revision) == 0:  # a closure variable is part of the cache's key: edited sources are compiled anew
            return
        h = handle
        net = Network(
            h[0],
            h[1],
            h[2],
            h[3],
            h[4],
            h[5],
            numbers[0],
            numbers[1],
            numbers[2],
            _view(h, 6, readout),
            _view(h, 8, readout),
            _view(h, 10, handle),
            _view(h, 12, readout),
            readout,
        )
        pairs = Pairs(
            _view(h, 14, handle),
            _view(h, 16, cells),
            _view(h, 18, cells),
            _view(h, 20, readout),
            _view(h, 22, numbers),
            _view(h, 24, readout),
        )
        scratch = Scratch(
            _view(h, 26, readout),
            _view(h, 28, readout),
            _view(h, 30, readout),
            _view(h, 32, readout),
            _view(h, 34, readout),
            _view(h, 36, readout),
            _view(h, 38, readout),
        )
        _evaluate(positions, energies, forces, net, pairs, scratch)

    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(evaluate)
    except RuntimeError:  # no writable cache directory: compile once per process
        return numba.njit(nogil=True, error_model="numpy")(evaluate)


def handle_of(net: Network, pairs: Pairs, scratch: Scratch) -> tuple[Array, ...]:
    """What :func:`evaluate` takes after positions, energies and forces.

    Sizes and addresses of all arrays in one array of integers: Numba spends 0.15 us on the door for every array of a
    call, a fifth of an evaluation for the 26 that a network and its memory have. The caller keeps the arrays alive.
    """
    arrays = [net.table, net.weights, net.places, net.offsets, *pairs, *scratch]
    slots = [number for array in arrays for number in (array.ctypes.data, array.size)]
    handle = np.array([*net[:6], *slots], dtype=np.int64)
    return handle, np.array([net.cutoff, net.inverse_spacing, net.tiny]), pairs.partner, net.readout


#: ``evaluate(positions, energies, forces, *handle_of(...))``: energies [R] (kJ/mol) and forces [R * N * 3] (kJ/mol/nm)
#: of R copies of a molecule at positions [R * N * 3] (nm), flat float64 arrays; the GIL is released.
evaluate = _entry()
