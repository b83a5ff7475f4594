"""Compiled loops over pairs of atoms: the list within the cutoff, and the continuous filters in both directions.

Each unordered pair is visited once per pass and serves both of its atoms. The filter of a pair is a cubic polynomial
per feature, read from the table; a pass over a pair costs about 10 ns for 64 float32 features, close to what the
vector units allow, of which a third is bringing the table from the second-level cache.

Features are walked in panels of 32, outermost, so that what belongs to atom i stays in registers while its partners
go by. Equations and symbols: :mod:`mlsim.deploy.kernel.network_loops`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np

from mlsim.deploy.kernel.simd import LANES, add, fill, fma, load, mul, spread, store, total

#: Features per panel (two vectors).
PANEL = 2 * LANES
Array = np.ndarray[Any, Any]


class Network(NamedTuple):
    """A network bound to a molecule; what the loops read. Made by :mod:`mlsim.deploy.kernel.compiled`."""

    atoms: int
    rows: int
    features: int
    blocks: int
    intervals: int
    activation: int
    cutoff: float  # nm
    inverse_spacing: float  # 1/nm
    tiny: float  # nm^2
    table: Array  # [blocks, intervals, features/32, 4, 32]
    weights: Array  # matrices [depth, width], packed as [width/32, depth, 32]
    places: Array  # int64: start of A_b, A_b^T, M_b, M_b^T per block, then of M_head, M_head^T
    offsets: Array  # X_0 .. X_L-1, p_0 .. p_L-1, Z, each [rows, features]
    readout: Array  # [features]


class Pairs(NamedTuple):
    """Pairs i > j within the cutoff; those of atom i are ``start[i]`` to ``start[i + 1]``."""

    start: Array  # int64 [atoms + 1]
    partner: Array  # int32 [P + 1]: j
    cell: Array  # int32 [P + 1]: interval k of the table
    fraction: Array  # [P + 1]: t
    length: Array  # float64 [P + 1]: d, nm
    g_place: Array  # [P + 1]: dE/dt


@numba.njit(error_model="numpy")
def find_pairs(positions: Array, first: int, net: Network, pairs: Pairs) -> int:
    """List the pairs within the cutoff, without a branch that depends on the distance; returns their number."""
    limit = net.cutoff * net.cutoff
    number = 0
    for i in range(net.atoms):
        pairs.start[i] = number
        x, y, z = positions[first + 3 * i], positions[first + 3 * i + 1], positions[first + 3 * i + 2]
        for j in range(i):
            dx = x - positions[first + 3 * j]
            dy = y - positions[first + 3 * j + 1]
            dz = z - positions[first + 3 * j + 2]
            square = dx * dx + dy * dy + dz * dz + net.tiny
            pairs.partner[number] = j
            pairs.length[number] = square
            number += square < limit
    pairs.start[net.atoms] = number
    for p in range(number):
        length = math.sqrt(pairs.length[p])
        place = length * net.inverse_spacing
        cell = min(int(place), net.intervals - 1)
        pairs.length[p] = length
        pairs.cell[p] = cell
        pairs.fraction[p] = place - cell
        pairs.g_place[p] = 0.0
    return number


@numba.njit(error_model="numpy")
def gather(net: Network, pairs: Pairs, table0: int, inputs: Array, x0: int, messages: Array) -> None:
    """messages_i += inputs_j * W_ij and messages_j += inputs_i * W_ij."""
    width, table = net.features, net.table
    for panel in range(0, width, PANEL):
        for i in range(net.atoms):
            here = i * width + panel
            x_low, x_high = load(inputs, x0 + here), load(inputs, x0 + here + LANES)
            m_low, m_high = load(messages, here), load(messages, here + LANES)
            for p in range(pairs.start[i], pairs.start[i + 1]):
                there = pairs.partner[p] * width + panel
                at = table0 + (pairs.cell[p] * width + panel) * 4
                t = spread(pairs.fraction, p)
                w = fma(load(table, at + 6 * LANES), t, load(table, at + 4 * LANES))
                w = fma(fma(w, t, load(table, at + 2 * LANES)), t, load(table, at))
                m_low = fma(w, load(inputs, x0 + there), m_low)
                store(messages, there, fma(w, x_low, load(messages, there)))
                w = fma(load(table, at + 7 * LANES), t, load(table, at + 5 * LANES))
                w = fma(fma(w, t, load(table, at + 3 * LANES)), t, load(table, at + LANES))
                m_high = fma(w, load(inputs, x0 + there + LANES), m_high)
                store(messages, there + LANES, fma(w, x_high, load(messages, there + LANES)))
            store(messages, here, m_low)
            store(messages, here + LANES, m_high)


@numba.njit(error_model="numpy")
def scatter_slopes(net: Network, pairs: Pairs, table0: int, inputs: Array, x0: int, g_messages: Array) -> None:
    """g_place += dE/dt through W_ij; enough for the first block, whose inputs are constants."""
    width, table = net.features, net.table
    for panel in range(0, width, PANEL):
        for i in range(net.atoms):
            here = i * width + panel
            x_low, x_high = load(inputs, x0 + here), load(inputs, x0 + here + LANES)
            g_low, g_high = load(g_messages, here), load(g_messages, here + LANES)
            for p in range(pairs.start[i], pairs.start[i + 1]):
                there = pairs.partner[p] * width + panel
                at = table0 + (pairs.cell[p] * width + panel) * 4
                t = spread(pairs.fraction, p)
                twice, square = add(t, t), mul(mul(t, t), fill(t, 3.0))
                w = fma(load(table, at + 4 * LANES), twice, load(table, at + 2 * LANES))
                w = fma(load(table, at + 6 * LANES), square, w)
                both = fma(load(g_messages, there), x_low, mul(g_low, load(inputs, x0 + there)))
                change = mul(w, both)
                w = fma(load(table, at + 5 * LANES), twice, load(table, at + 3 * LANES))
                w = fma(load(table, at + 7 * LANES), square, w)
                both = mul(g_high, load(inputs, x0 + there + LANES))
                both = fma(load(g_messages, there + LANES), x_high, both)
                pairs.g_place[p] += total(fma(w, both, change))


@numba.njit(error_model="numpy")
def scatter(
    net: Network, pairs: Pairs, table0: int, inputs: Array, x0: int, g_messages: Array, g_inputs: Array
) -> None:
    """As :func:`scatter_slopes`, and g_inputs_j += g_messages_i * W_ij in both directions."""
    width, table = net.features, net.table
    for panel in range(0, width, PANEL):
        for i in range(net.atoms):
            here = i * width + panel
            x_low, x_high = load(inputs, x0 + here), load(inputs, x0 + here + LANES)
            g_low, g_high = load(g_messages, here), load(g_messages, here + LANES)
            d_low, d_high = load(g_inputs, here), load(g_inputs, here + LANES)
            for p in range(pairs.start[i], pairs.start[i + 1]):
                there = pairs.partner[p] * width + panel
                at = table0 + (pairs.cell[p] * width + panel) * 4
                t = spread(pairs.fraction, p)
                twice, square = add(t, t), mul(mul(t, t), fill(t, 3.0))
                c1, c2, c3 = load(table, at + 2 * LANES), load(table, at + 4 * LANES), load(table, at + 6 * LANES)
                w = fma(fma(fma(c3, t, c2), t, c1), t, load(table, at))
                g = load(g_messages, there)
                both = fma(g, x_low, mul(g_low, load(inputs, x0 + there)))
                change = mul(fma(c3, square, fma(c2, twice, c1)), both)
                d_low = fma(w, g, d_low)
                store(g_inputs, there, fma(w, g_low, load(g_inputs, there)))
                there, at = there + LANES, at + LANES
                c1, c2, c3 = load(table, at + 2 * LANES), load(table, at + 4 * LANES), load(table, at + 6 * LANES)
                w = fma(fma(fma(c3, t, c2), t, c1), t, load(table, at))
                g = load(g_messages, there)
                both = fma(g, x_high, mul(g_high, load(inputs, x0 + there)))
                pairs.g_place[p] += total(fma(fma(c3, square, fma(c2, twice, c1)), both, change))
                d_high = fma(w, g, d_high)
                store(g_inputs, there, fma(w, g_high, load(g_inputs, there)))
            store(g_inputs, here, d_low)
            store(g_inputs, here + LANES, d_high)


@numba.njit(error_model="numpy")
def push(positions: Array, first: int, net: Network, pairs: Pairs, number: int, strength: int, forces: Array) -> None:
    """forces -= strength dE/dd dd/dr for every pair."""
    length, scale = pairs.length, -net.inverse_spacing * strength
    for p in range(number):
        length[p] = pairs.g_place[p] * scale / length[p]
    for i in range(net.atoms):
        a = first + 3 * i
        x, y, z = positions[a], positions[a + 1], positions[a + 2]
        f_x = f_y = f_z = 0.0
        for p in range(pairs.start[i], pairs.start[i + 1]):
            b = first + 3 * pairs.partner[p]
            d_x = length[p] * (x - positions[b])
            d_y = length[p] * (y - positions[b + 1])
            d_z = length[p] * (z - positions[b + 2])
            f_x, f_y, f_z = f_x + d_x, f_y + d_y, f_z + d_z
            forces[b] -= d_x
            forces[b + 1] -= d_y
            forces[b + 2] -= d_z
        forces[a] += f_x
        forces[a + 1] += f_y
        forces[a + 2] += f_z
