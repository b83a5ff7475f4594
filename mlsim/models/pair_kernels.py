"""Sums over pairs with tabulated filters, compiled by Numba, as differentiable torch functions.

A filter is a vector function W(d) of one distance. On a table of values and slopes at even knots d_k it is the cubic
Hermite interpolant

    W(d) = sum_r c_r(t) T_r,   W'(d) = sum_r c_r'(t) T_r / D,   t = (d - d_k) / D,   T = (W_k, D W'_k, W_k+1, D W'_k+1)

Two sums over the unordered pairs p = (i, j) are all that a continuous-filter network and its forces need:

    messages    m_i = sum_j W_ij * v_j
    pull        s_p = W'_p . (a_i * v_j + a_j * v_i)         dE/dd_p for given a = dE/dm
                q_i = sum_j W_ij * a_j                       dE/dv

Both are multilinear in table, v and a, so their gradients are sums of the same kind and are written out below.

Symbols: T ``table`` [K, 2, F] (value and slope times spacing), v ``values``, a ``pulls``, m ``messages``,
s ``slopes``, q ``reactions``, k ``cell``, t ``fraction``, D ``spacing``; ``g_x`` is the gradient of x.

The kernels run over a range of frames without holding Python's lock; frames are shared out to as many threads as
torch uses, each with its own table gradient. With the same number of threads the result is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_compiled: Any = njit(fastmath=True, nogil=True, cache=True)


@dataclass(frozen=True, eq=False)
class PairCells:
    """Where the distances of a batch fall in the table.

    Attributes
    ----------
    first, second : int64 [P]
        Atoms of every pair.
    cell : int32 [B, P]
        Knot below the distance; -1 beyond the cutoff, where the filter is zero.
    fraction : float [B, P]
        Position between the knots, 0..1.
    spacing : float
        Distance between knots, nm.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cell: NDArray[np.int32]
    fraction: NDArray[Any]
    spacing: float


@_compiled
def _hermite(t: Any, scale: Any, value: Any, slope: Any) -> None:
    """Weights of the four table rows for the value, and for the slope times ``scale``."""
    t2 = t * t
    t3 = t2 * t
    value[0] = 2 * t3 - 3 * t2 + 1
    value[1] = t3 - 2 * t2 + t
    value[2] = 3 * t2 - 2 * t3
    value[3] = t3 - t2
    slope[0] = (6 * t2 - 6 * t) * scale
    slope[1] = (3 * t2 - 4 * t + 1) * scale
    slope[2] = (6 * t - 6 * t2) * scale
    slope[3] = (3 * t2 - 2 * t) * scale


@_compiled
def _messages(frames: Any, atoms: Any, cells: Any, table: Any, v: Any, m: Any) -> None:
    cell, fraction, one = cells
    c, e = np.empty(4, v.dtype), np.empty(4, v.dtype)
    for b in range(frames[0], frames[1]):
        for p in range(atoms.shape[1]):
            k = cell[b, p]
            if k < 0:
                continue
            i, j = atoms[0, p], atoms[1, p]
            _hermite(fraction[b, p], one, c, e)
            c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
            for f in range(v.shape[2]):
                w = c0 * table[k, 0, f] + c1 * table[k, 1, f] + c2 * table[k + 1, 0, f] + c3 * table[k + 1, 1, f]
                m[b, i, f] += w * v[b, j, f]
                m[b, j, f] += w * v[b, i, f]


@_compiled
def _messages_gradient(
    frames: Any, atoms: Any, cells: Any, table: Any, v: Any, g_m: Any, g_v: Any, g_table: Any
) -> None:
    cell, fraction, one = cells
    c, e = np.empty(4, v.dtype), np.empty(4, v.dtype)
    for b in range(frames[0], frames[1]):
        for p in range(atoms.shape[1]):
            k = cell[b, p]
            if k < 0:
                continue
            i, j = atoms[0, p], atoms[1, p]
            _hermite(fraction[b, p], one, c, e)
            c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
            for f in range(v.shape[2]):
                w = c0 * table[k, 0, f] + c1 * table[k, 1, f] + c2 * table[k + 1, 0, f] + c3 * table[k + 1, 1, f]
                gi, gj = g_m[b, i, f], g_m[b, j, f]
                g_w = gi * v[b, j, f] + gj * v[b, i, f]
                g_v[b, j, f] += w * gi
                g_v[b, i, f] += w * gj
                g_table[k, 0, f] += c0 * g_w
                g_table[k, 1, f] += c1 * g_w
                g_table[k + 1, 0, f] += c2 * g_w
                g_table[k + 1, 1, f] += c3 * g_w


@_compiled
def _pull(frames: Any, atoms: Any, cells: Any, table: Any, v: Any, a: Any, s: Any, q: Any) -> None:
    cell, fraction, per_length = cells
    c, e = np.empty(4, v.dtype), np.empty(4, v.dtype)
    for b in range(frames[0], frames[1]):
        for p in range(atoms.shape[1]):
            k = cell[b, p]
            if k < 0:
                continue
            i, j = atoms[0, p], atoms[1, p]
            _hermite(fraction[b, p], per_length, c, e)
            c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
            e0, e1, e2, e3 = e[0], e[1], e[2], e[3]
            total = per_length * 0
            for f in range(v.shape[2]):
                d = e0 * table[k, 0, f] + e1 * table[k, 1, f] + e2 * table[k + 1, 0, f] + e3 * table[k + 1, 1, f]
                total += d * (a[b, i, f] * v[b, j, f] + a[b, j, f] * v[b, i, f])
            s[b, p] = total
            for f in range(q.shape[2]):  # an empty q asks for no reactions
                w = c0 * table[k, 0, f] + c1 * table[k, 1, f] + c2 * table[k + 1, 0, f] + c3 * table[k + 1, 1, f]
                q[b, i, f] += w * a[b, j, f]
                q[b, j, f] += w * a[b, i, f]


@_compiled
def _pull_gradient(
    frames: Any, atoms: Any, cells: Any, table: Any, va: Any, g_s: Any, g_q: Any, g_va: Any, g_table: Any
) -> None:
    cell, fraction, per_length = cells
    v, a = va
    g_v, g_a = g_va
    c, e = np.empty(4, v.dtype), np.empty(4, v.dtype)
    for b in range(frames[0], frames[1]):
        for p in range(atoms.shape[1]):
            k = cell[b, p]
            if k < 0:
                continue
            i, j = atoms[0, p], atoms[1, p]
            _hermite(fraction[b, p], per_length * g_s[b, p], c, e)
            c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
            e0, e1, e2, e3 = e[0], e[1], e[2], e[3]
            for f in range(v.shape[2]):
                d = e0 * table[k, 0, f] + e1 * table[k, 1, f] + e2 * table[k + 1, 0, f] + e3 * table[k + 1, 1, f]
                ai, aj, vi, vj = a[b, i, f], a[b, j, f], v[b, i, f], v[b, j, f]
                g_v[b, i, f] += d * aj
                g_v[b, j, f] += d * ai
                g_a[b, i, f] += d * vj
                g_a[b, j, f] += d * vi
                g_d = ai * vj + aj * vi
                g_table[k, 0, f] += e0 * g_d
                g_table[k, 1, f] += e1 * g_d
                g_table[k + 1, 0, f] += e2 * g_d
                g_table[k + 1, 1, f] += e3 * g_d
            for f in range(g_q.shape[2]):
                w = c0 * table[k, 0, f] + c1 * table[k, 1, f] + c2 * table[k + 1, 0, f] + c3 * table[k + 1, 1, f]
                qi, qj = g_q[b, i, f], g_q[b, j, f]
                g_a[b, i, f] += w * qj
                g_a[b, j, f] += w * qi
                g_w = qi * a[b, j, f] + qj * a[b, i, f]
                g_table[k, 0, f] += c0 * g_w
                g_table[k, 1, f] += c1 * g_w
                g_table[k + 1, 0, f] += c2 * g_w
                g_table[k + 1, 1, f] += c3 * g_w


def _arguments(cells: PairCells, like: NDArray[Any]) -> tuple[Any, Any]:
    atoms = np.stack([cells.first, cells.second])
    return atoms, (cells.cell, cells.fraction, like.dtype.type(1.0 / cells.spacing))


def _share_out(n_frames: int, work: Callable[[tuple[int, int]], Any]) -> list[Any]:
    """Run ``work((start, stop))`` over all frames, in as many threads as torch uses; results in order."""
    parts = max(1, min(torch.get_num_threads(), n_frames))
    edges = [n_frames * k // parts for k in range(parts + 1)]
    ranges = [(edges[k], edges[k + 1]) for k in range(parts)]
    if parts == 1:
        return [work(ranges[0])]
    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(work, ranges))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().contiguous().numpy()


class _Messages(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, values: Tensor, cells: PairCells) -> Tensor:
        t, v = _numpy(table), _numpy(values)
        m = np.zeros_like(v)
        atoms, where = _arguments(cells, v)
        _share_out(len(v), lambda frames: _messages(frames, atoms, where, t, v, m))
        ctx.arrays, ctx.cells = (t, v), cells
        return torch.from_numpy(m)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_messages: Tensor) -> tuple[Tensor, Tensor, None]:
        t, v = ctx.arrays
        g_m, g_v = _numpy(g_messages), np.zeros_like(v)
        atoms, where = _arguments(ctx.cells, v)

        def work(frames: tuple[int, int]) -> NDArray[Any]:
            g_t = np.zeros_like(t)
            _messages_gradient(frames, atoms, where, t, v, g_m, g_v, g_t)
            return g_t

        g_tables = _share_out(len(v), work)
        return torch.from_numpy(sum(g_tables[1:], g_tables[0])), torch.from_numpy(g_v), None


class _Pull(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, values: Tensor, pulls: Tensor, cells: PairCells, reactions: int) -> Any:
        t, v, a = _numpy(table), _numpy(values), _numpy(pulls)
        s = np.zeros(cells.cell.shape, v.dtype)
        q = np.zeros((*v.shape[:2], reactions), v.dtype)
        atoms, where = _arguments(cells, v)
        _share_out(len(v), lambda frames: _pull(frames, atoms, where, t, v, a, s, q))
        ctx.arrays, ctx.cells = (t, v, a), cells
        return torch.from_numpy(s), torch.from_numpy(q)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_slopes: Tensor, g_reactions: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        t, v, a = ctx.arrays
        g_s, g_q = _numpy(g_slopes), _numpy(g_reactions)
        g_v, g_a = np.zeros_like(v), np.zeros_like(a)
        atoms, where = _arguments(ctx.cells, v)

        def work(frames: tuple[int, int]) -> NDArray[Any]:
            g_t = np.zeros_like(t)
            _pull_gradient(frames, atoms, where, t, (v, a), g_s, g_q, (g_v, g_a), g_t)
            return g_t

        g_tables = _share_out(len(v), work)
        g_table = torch.from_numpy(sum(g_tables[1:], g_tables[0]))
        return g_table, torch.from_numpy(g_v), torch.from_numpy(g_a), None, None


def messages(table: Tensor, values: Tensor, cells: PairCells) -> Tensor:
    """Messages m [B, N, F] from a table [K, 2, F] and values [B, N, F]."""
    result: Tensor = _Messages.apply(table, values, cells)
    return result


def pull(table: Tensor, values: Tensor, pulls: Tensor, cells: PairCells, reactions: str) -> tuple[Tensor, Tensor]:
    """Slopes s [B, P] and reactions q [B, N, F] (or [B, N, 0] if ``reactions`` is ``"none"``, not ``"all"``)."""
    width = values.shape[2] if reactions == "all" else 0
    result: tuple[Tensor, Tensor] = _Pull.apply(table, values, pulls, cells, width)
    return result
