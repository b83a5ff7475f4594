"""Compiled generalized Born: radii, energy and forces of one conformation, with the pull on a network's outputs.

Why. OpenMM's Reference platform takes most of a step of OBC2 for the pair integrals and their logarithms, one number at
a time. Here sixteen pairs are done at once, the logarithm is a short polynomial (``vector_functions``), and the
derivatives of the pair integrals are kept from the first pass, so that they are not computed twice.

Three passes over pairs (equations and symbols: ``models.transferable.screening``; G, w, x, s, D as in
``models.transferable.flat_forces``)::

    radii    sum_j H_ij, and T_ij = dH_ij/dd / d for every ordered pair
    energy   pairs j < i: E_ij, dE/dR, dE/dh, and the direct slope dE_ij/dd / d
    forces   F_i = -sum_j (G_i T_ij + direct_ij) (r_i - r_j), and the opposite on j

Between them stand loops over atoms, in float64. The integral is taken in the form for offset spheres that neither hold
each other's centre nor are held (atoms further apart than 0.08 nm), which ``bind`` makes sure of for all radii.

Positions are relative to the first atom, as separate arrays of x, y and z in the network's type, padded to a multiple
of 16 with atoms far away that carry nothing; an atom is moved away from itself (``_FAR``) instead of being left out.

Symbol -> variable: o ``offset`` · s ``scaled`` · q ``charge`` · B ``born`` · R ``radius`` · h ``shield``, s = (h_i +
h_j)/8 ``shields`` · T ``turn`` · G ``g_sum`` · D ``product`` · x ``decay``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba

from mlsim.deploy.kernel.pair_loops import Array
from mlsim.deploy.kernel.simd import LANES, add, div, fill, fma, load, mul, spread, store, total, zeros
from mlsim.deploy.kernel.solvent.vector_functions import absolute, atanh, below, exp_minus, maximum, sqrt, sub

#: Distance of padding atoms, nm, and what is added to the square of an atom's distance from itself, nm^2.
PADDING_NM, _FAR = 1e3, 1e6


class Born(NamedTuple):
    """Constants of a molecule; arrays of ``padded`` numbers, those of atoms first."""

    atoms: int
    padded: int
    columns: int  # outputs of the network per atom
    energy_at: int  # column of the energy, of the radius, of the screening; -1: none
    radius_at: int
    screening_at: int
    offset: Array
    scaled: Array
    charge: Array
    numbers: Array  # float64 [3 + 3 N]: strength, least factor, tiny; offset, rho, surface factor of every atom


class Space(NamedTuple):
    """Memory of one evaluation."""

    place: Array  # [3, padded]: x, y, z
    pull: Array  # [3, padded]: forces
    turn: Array  # [atoms, padded]
    direct: Array  # [atoms, padded]
    radius: Array  # [padded]: R
    inverse: Array  # [padded]: 1 / R
    shield: Array  # [padded]: h / 8
    g_radius: Array  # [padded]: dE/dR
    g_shield: Array  # [padded]: dE/d(h / 8)
    wide: Array  # float64 [4 N]: B, dB/d(sum), b, G
    outputs: Array  # float64 [N, columns]
    g_outputs: Array  # float64 [N, columns]


@numba.njit(error_model="numpy")
def put(positions: Array, first: int, born: Born, space: Space) -> None:
    """Positions of one copy relative to its first atom."""
    n, padded, place = born.atoms, born.padded, space.place
    for axis in range(3):
        origin = positions[first + axis]
        for i in range(n):
            place[axis * padded + i] = positions[first + 3 * i + axis] - origin
        for i in range(n, padded):
            place[axis * padded + i] = PADDING_NM


@numba.njit(error_model="numpy")
def radii(born: Born, space: Space) -> None:
    """Born radii and dB/d(sum) in ``wide``, T in ``turn``."""
    n, padded, place, wide, numbers = born.atoms, born.padded, space.place, space.wide, born.numbers
    tiny = numbers[2]
    for i in range(n):
        x, y, z = spread(place, i), spread(place, padded + i), spread(place, 2 * padded + i)
        o = spread(born.offset, i)
        sums = zeros(place)
        half, quarter, eighth = fill(x, 0.5), fill(x, 0.25), fill(x, 0.125)
        one, far, near = fill(x, 1.0), fill(x, _FAR), fill(x, tiny)
        for j in range(0, padded, LANES):
            d_x, d_y = sub(x, load(place, j)), sub(y, load(place, padded + j))
            d_z = sub(z, load(place, 2 * padded + j))
            square = fma(d_x, d_x, fma(d_y, d_y, fma(d_z, d_z, near)))
            itself = sub(below(x, i - j + 1), below(x, i - j))
            d = sqrt(fma(itself, far, square))
            s = load(born.scaled, j)
            upper = add(d, s)
            lower = maximum(o, absolute(sub(d, s)))
            both, product = add(upper, lower), mul(upper, lower)
            inverse = div(one, mul(mul(both, product), d))
            over = mul(inverse, d)  # 1 / ((U + L) U L)
            u, v = mul(mul(over, both), lower), mul(mul(over, both), upper)
            inverse_d = mul(inverse, mul(both, product))
            lean = atanh(mul(sub(upper, lower), mul(over, product)))
            squares = mul(sub(u, v), add(u, v))
            ratio = mul(s, inverse_d)
            value = fma(mul(quarter, sub(d, mul(s, ratio))), squares, sub(v, u))
            sums = fma(half, sub(value, mul(lean, inverse_d)), sums)
            slope = mul(mul(eighth, fma(ratio, ratio, one)), squares)
            slope = fma(mul(half, lean), mul(inverse_d, inverse_d), slope)
            store(space.turn, i * padded + j, mul(slope, inverse_d))
        inner, outer = numbers[3 + i], numbers[3 + n + i]
        p = float(total(sums)) * inner
        bent = math.tanh(p * (1.0 + p * (4.85 * p - 0.8)))
        radius = 1.0 / (1.0 / inner - bent / outer)
        wide[i] = radius
        wide[n + i] = radius * radius * (1.0 - bent * bent) * (1.0 + p * (3.0 * 4.85 * p - 1.6)) * inner / outer


@numba.njit(error_model="numpy")
def scale(born: Born, space: Space) -> None:
    """Scaled radii and screening of the outputs, and factors b in ``wide``; clears dE/dR and dE/dh."""
    n, wide, least = born.atoms, space.wide, born.numbers[1]
    for i in range(born.padded):
        factor, shield = 1.0, 1.0
        if i < n and born.radius_at >= 0:
            factor = least + 2.0 * (1.0 - least) / (1.0 + math.exp(-space.outputs[i * born.columns + born.radius_at]))
        if i < n and born.screening_at >= 0:
            shield = least + 2.0 * (1.0 - least) / (
                1.0 + math.exp(-space.outputs[i * born.columns + born.screening_at])
            )
        radius = 1.0
        if i < n:
            radius, wide[2 * n + i] = wide[i] * factor, factor
        space.radius[i], space.inverse[i], space.shield[i] = radius, 1.0 / radius, 0.125 * shield
        space.g_radius[i] = 0.0
        space.g_shield[i] = 0.0


@numba.njit(error_model="numpy")
def polar(born: Born, space: Space) -> float:
    """Polar energy of pairs (kJ/mol); its slopes in ``direct``, ``g_radius`` and ``g_shield``."""
    n, padded, place, strength = born.atoms, born.padded, space.place, born.numbers[0]
    energy = 0.0
    for i in range(n):
        x, y, z = spread(place, i), spread(place, padded + i), spread(place, 2 * padded + i)
        near, one = fill(x, born.numbers[2]), fill(x, 1.0)
        q = mul(spread(born.charge, i), fill(x, strength))
        r_i, inverse_i, h_i = spread(space.radius, i), spread(space.inverse, i), spread(space.shield, i)
        sums, g_i, gh_i = zeros(place), zeros(place), zeros(place)
        for j in range(0, i, LANES):
            d_x, d_y = sub(x, load(place, j)), sub(y, load(place, padded + j))
            d_z = sub(z, load(place, 2 * padded + j))
            square = fma(d_x, d_x, fma(d_y, d_y, fma(d_z, d_z, near)))
            charges = mul(mul(q, load(born.charge, j)), below(x, i - j))
            r_j = load(space.radius, j)
            shields = add(h_i, load(space.shield, j))
            relative = mul(square, mul(inverse_i, load(space.inverse, j)))
            power = mul(relative, shields)
            decay = exp_minus(power)
            f = div(one, sqrt(fma(mul(r_i, r_j), decay, square)))
            pair = mul(charges, f)
            sums = add(sums, pair)
            weight = mul(mul(pair, fill(x, -0.5)), mul(f, f))
            g_product = mul(mul(weight, decay), add(one, power))
            g_i = fma(g_product, r_j, g_i)
            store(space.g_radius, j, fma(g_product, r_i, load(space.g_radius, j)))
            store(space.direct, i * padded + j, mul(add(weight, weight), sub(one, mul(shields, decay))))
            if born.screening_at >= 0:
                g_shield = mul(mul(weight, square), mul(decay, fill(x, -1.0)))
                gh_i = add(gh_i, g_shield)
                store(space.g_shield, j, add(g_shield, load(space.g_shield, j)))
        energy += total(sums)
        space.g_radius[i] += total(g_i)
        space.g_shield[i] += total(gh_i)
    return energy


@numba.njit(error_model="numpy")
def atoms(born: Born, space: Space) -> float:
    """Self and surface energy (kJ/mol); G in ``wide`` and the slopes of all Born terms in ``g_outputs``."""
    n, columns, wide, numbers = born.atoms, born.columns, space.wide, born.numbers
    strength, least = numbers[0], numbers[1]
    energy = 0.0
    for i in range(n):
        radius, bend, factor = wide[i], wide[n + i], wide[2 * n + i]
        scaled, charge = radius * factor, float(born.charge[i])
        alone = 0.5 * strength * charge * charge / scaled
        g_scaled = float(space.g_radius[i]) - alone / scaled
        ratio = numbers[3 + n + i] / radius
        cube = ratio * ratio * ratio
        surface = numbers[3 + 2 * n + i] * cube * cube
        energy += alone + surface
        wide[3 * n + i] = (g_scaled * factor - 6.0 * surface / radius) * bend
        if born.radius_at >= 0:
            s = (factor - least) / (2.0 * (1.0 - least))
            slope = 2.0 * (1.0 - least) * s * (1.0 - s)
            space.g_outputs[i * columns + born.radius_at] = g_scaled * radius * slope
        if born.screening_at >= 0:
            s = (8.0 * float(space.shield[i]) - least) / (2.0 * (1.0 - least))
            slope = 2.0 * (1.0 - least) * s * (1.0 - s)
            space.g_outputs[i * columns + born.screening_at] = 0.125 * float(space.g_shield[i]) * slope
    return energy


@numba.njit(error_model="numpy")
def pull(first: int, strength: int, born: Born, space: Space, forces: Array) -> None:
    """Add the forces of Born, ``strength`` times, to those of one copy."""
    n, padded, place, f, wide = born.atoms, born.padded, space.place, space.pull, space.wide
    for k in range(0, 3 * padded, LANES):
        store(f, k, zeros(f))
    for i in range(n):
        x, y, z = spread(place, i), spread(place, padded + i), spread(place, 2 * padded + i)
        g = fill(x, wide[3 * n + i])
        f_x, f_y, f_z = zeros(place), zeros(place), zeros(place)
        for j in range(0, padded, LANES):
            t = mul(g, load(space.turn, i * padded + j))
            if j < i:
                t = add(t, load(space.direct, i * padded + j))
            d_x, d_y = sub(x, load(place, j)), sub(y, load(place, padded + j))
            d_z = sub(z, load(place, 2 * padded + j))
            f_x, f_y, f_z = fma(t, d_x, f_x), fma(t, d_y, f_y), fma(t, d_z, f_z)
            store(f, j, fma(t, d_x, load(f, j)))
            store(f, padded + j, fma(t, d_y, load(f, padded + j)))
            store(f, 2 * padded + j, fma(t, d_z, load(f, 2 * padded + j)))
        f[i] -= total(f_x)
        f[padded + i] -= total(f_y)
        f[2 * padded + i] -= total(f_z)
    for i in range(n):
        for axis in range(3):
            forces[first + 3 * i + axis] += strength * float(f[axis * padded + i])
