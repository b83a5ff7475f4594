"""Product of small row-major matrices in registers: the tile loop behind the compiled kernel, for two kinds of cores.

A tile of the result stays in registers while the depth goes by. Its shape decides the speed: too few accumulators
leave the multiply-add units waiting for their own results, too many spill to memory. A vector of 16 float32 is one
register of a core with AVX-512 and two of a core without, so each kind has its own tile: ``wide`` 6 rows by 2 vectors,
``narrow`` 6 rows by 1. Measured for [24, 64] times [64, 64] in float32 on one core of an EPYC (Zen 5), us, with code
made for either kind:

=======================  =======  ==============
rows x vectors           AVX-512  AVX2
=======================  =======  ==============
4 x 1                     1.14    1.59
6 x 1 (``narrow``)        0.93    **1.42**
4 x 2                     0.84    3.48 (spills)
6 x 2 (``wide``)        **0.73**  2.57 (spills)
8 x 2                     0.74
=======================  =======  ==============

0.73 us are 134 multiply-adds per nanosecond, the peak of that core. Sums run over the depth in one order whatever the
tile, so both give the same bits on processors that round multiply-adds alike.
"""

from __future__ import annotations

import llvmlite.binding
import numba

from mlsim.deploy.kernel.pair_loops import PANEL, Array
from mlsim.deploy.kernel.simd import LANES, fma, load, spread, store

#: Rows per tile; the number of rows of every matrix is a multiple of it.
ROWS = 6


@numba.njit(error_model="numpy")
def wide(
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
            p4, q4 = load(start, here + 4 * c_row), load(start, here + 4 * c_row + LANES)
            p5, q5 = load(start, here + 5 * c_row), load(start, here + 5 * c_row + LANES)
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
                s = spread(a, k + 4 * a_row)
                p4, q4 = fma(s, u, p4), fma(s, v, q4)
                s = spread(a, k + 5 * a_row)
                p5, q5 = fma(s, u, p5), fma(s, v, q5)
            here = c0 + row * c_row + column
            store(c, here, p0)
            store(c, here + LANES, q0)
            store(c, here + c_row, p1)
            store(c, here + c_row + LANES, q1)
            store(c, here + 2 * c_row, p2)
            store(c, here + 2 * c_row + LANES, q2)
            store(c, here + 3 * c_row, p3)
            store(c, here + 3 * c_row + LANES, q3)
            store(c, here + 4 * c_row, p4)
            store(c, here + 4 * c_row + LANES, q4)
            store(c, here + 5 * c_row, p5)
            store(c, here + 5 * c_row + LANES, q5)


@numba.njit(error_model="numpy")
def narrow(
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
    """As :func:`wide`, with half the width per tile."""
    for column in range(0, width, LANES):
        panel = column // PANEL * PANEL
        for row in range(0, rows, ROWS):
            here = s0 + row * c_row + column
            p0 = load(start, here)
            p1 = load(start, here + c_row)
            p2 = load(start, here + 2 * c_row)
            p3 = load(start, here + 3 * c_row)
            p4 = load(start, here + 4 * c_row)
            p5 = load(start, here + 5 * c_row)
            at, left = b0 + panel * depth + column - panel, a0 + row * a_row
            for k in range(left, left + depth):
                u = load(b, at)
                at += PANEL
                p0 = fma(spread(a, k), u, p0)
                p1 = fma(spread(a, k + a_row), u, p1)
                p2 = fma(spread(a, k + 2 * a_row), u, p2)
                p3 = fma(spread(a, k + 3 * a_row), u, p3)
                p4 = fma(spread(a, k + 4 * a_row), u, p4)
                p5 = fma(spread(a, k + 5 * a_row), u, p5)
            here = c0 + row * c_row + column
            store(c, here, p0)
            store(c, here + c_row, p1)
            store(c, here + 2 * c_row, p2)
            store(c, here + 3 * c_row, p3)
            store(c, here + 4 * c_row, p4)
            store(c, here + 5 * c_row, p5)


#: The product for the processor that this process runs on.
multiply = wide if llvmlite.binding.get_host_cpu_features().get("avx512f", False) else narrow
