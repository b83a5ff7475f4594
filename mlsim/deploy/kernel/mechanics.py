"""Molecular mechanics of a solute as one compiled loop, so that it can run inside the callback of the learned force.

Why. OpenMM's Reference platform takes 5.9 us for the bonds, angles, torsions and pairs of alanine dipeptide and 166 us
for those of chignolin, a fifth of a step. The callback of the learned force has the positions at hand; computed there,
the same terms take 2.5 and 44 us, and a step 13 and 23 % less in all (one core of an EPYC, Zen 5;
``benchmarks.md_speed``). Everything else stays OpenMM's: integrator, constraints, bias, generalized Born.

The terms are those of the Amber force fields without a cutoff::

    U = sum k (r - r0)^2 / 2 + sum k (theta - theta0)^2 / 2 + sum_t sum_n (A_tn cos n phi_t + B_tn sin n phi_t) + K
      + sum_{i>j} q_ij / r + c12_ij / r^12 - c6_ij / r^6

Terms of one torsion are put together, with k (1 + cos(n phi - phi0)) = K + A cos n phi + B sin n phi, and cos n phi and
sin n phi follow from n - 1 by rotation: no angle is ever computed. Exceptions (1-4 pairs scaled, closer ones zero) are
written into the tables of pairs, so that all pairs are alike. Everything is float64, and sums have one order.

Symbol -> variable: q ``charge`` (Coulomb's constant in it) · c12, c6 ``repulsion``, ``attraction`` · A, B ``waves`` ·
K ``constant`` · phi: ``c``, ``s`` its cosine and sine. For the gradient of a torsion see the reference; a, b are the
normals of its two planes, g the bond between them.

Reference: Blondel and Karplus, J. Comput. Chem. 17, 1132 (1996), torsion forces without singularities.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from openmm import Force, HarmonicAngleForce, HarmonicBondForce, NonbondedForce, PeriodicTorsionForce

from mlsim.deploy.kernel.network_loops import kept_on_disk, view
from mlsim.units import COULOMB

Array = NDArray[Any]
#: Largest multiplicity of a torsion that is taken over.
_WAVES = 6


class Mechanics:
    """The bonded and pair terms of one molecule; may be pickled and copied.

    Parameters
    ----------
    n_atoms : int
    whole : int64
        Atoms of the bonds [b, 2], angles [a, 3] and torsions [t, 4], one after the other.
    real : float64
        Their parameters: bonds [b, 2] (nm, kJ/mol/nm^2), angles [a, 2] (rad, kJ/mol/rad^2), torsions [t, order, 2]
        (kJ/mol), the constant (kJ/mol), and of the pairs i > j charge (kJ/mol nm), repulsion (kJ/mol nm^12) and
        attraction (kJ/mol nm^6), each [N (N - 1) / 2].
    sizes : tuple of int
        b, a, t and order.
    """

    def __init__(self, n_atoms: int, whole: Array, real: Array, sizes: tuple[int, int, int, int]) -> None:
        self.n_atoms, self.sizes = n_atoms, sizes
        self.whole, self.real = np.ascontiguousarray(whole, np.int64), np.ascontiguousarray(real, np.float64)
        self._local = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return Mechanics, (self.n_atoms, self.whole, self.real, self.sizes)

    @classmethod
    def of(cls, forces: list[Force], n_atoms: int) -> Mechanics | None:
        """From forces of OpenMM on the first ``n_atoms`` particles; None if one of them is of another form."""
        bonds, bond, angles, angle = [], [], [], []
        torsions: dict[tuple[int, ...], Array] = {}
        constant = 0.0
        tables = [np.zeros((n_atoms, n_atoms)) for _ in range(3)]
        for force in forces:
            if force.usesPeriodicBoundaryConditions():
                return None
            if type(force) is HarmonicBondForce:
                found = [force.getBondParameters(k) for k in range(force.getNumBonds())]
                bonds += [v[:2] for v in found]
                bond += [[v[2]._value, v[3]._value] for v in found]
            elif type(force) is HarmonicAngleForce:
                found = [force.getAngleParameters(k) for k in range(force.getNumAngles())]
                angles += [v[:3] for v in found]
                angle += [[v[3]._value, v[4]._value] for v in found]
            elif type(force) is PeriodicTorsionForce:
                for *atoms, n, phase, strength in map(force.getTorsionParameters, range(force.getNumTorsions())):
                    if not 1 <= n <= _WAVES:
                        return None
                    k, start = strength._value, phase._value
                    waves = torsions.setdefault(tuple(atoms), np.zeros((_WAVES, 2)))
                    waves[n - 1] += k * math.cos(start), k * math.sin(start)
                    constant += k
            elif type(force) is NonbondedForce and force.getNonbondedMethod() == NonbondedForce.NoCutoff:
                if force.getNumParticles() != n_atoms or force.getNumGlobalParameters():
                    return None
                for table, values in zip(tables, _pairs(force), strict=True):
                    table += values
            else:
                return None
        waves = np.array(list(torsions.values())).reshape(-1, _WAVES, 2)
        order = int(np.flatnonzero(np.abs(waves).sum((0, 2))).max(initial=-1)) + 1
        low = np.tril_indices(n_atoms, -1)
        whole = [np.array(v, np.int64).ravel() for v in (bonds, angles, list(torsions))]
        real = [np.array(bond).ravel(), np.array(angle).ravel(), waves[:, :order].ravel(), np.array([constant])]
        real += [table[low] for table in tables]
        sizes = (len(bonds), len(angles), len(torsions), order)
        return cls(n_atoms, np.concatenate(whole), np.concatenate(real), sizes)

    def add(self, positions: Array, forces: Array) -> float:
        """Energy (kJ/mol) at ``positions`` [N, 3] (nm); adds to ``forces`` [N, 3] (kJ/mol/nm).

        Both are contiguous float64 arrays, quickest if they are the same objects in every call. A NaN or two atoms in
        one place give an energy that is not finite.
        """
        local = self._local.__dict__
        if local.get("positions") is not positions or local.get("forces") is not forces:
            scratch = np.zeros(self.n_atoms * (self.n_atoms - 1) // 2)
            arrays = [self.whole, self.real, scratch, positions, forces]
            slots = [number for array in arrays for number in (array.ctypes.data, array.size)]
            handle = np.array([self.n_atoms, *self.sizes, *slots], dtype=np.int64)
            local.update(positions=positions, forces=forces, scratch=scratch, handle=handle)
        energy: float = _add(local["handle"])
        return energy


def _pairs(force: NonbondedForce) -> list[Array]:
    """Charge, repulsion and attraction of all pairs, each [N, N]."""
    atoms = [force.getParticleParameters(k) for k in range(force.getNumParticles())]
    charges, sigmas, epsilons = (np.array([v[k]._value for v in atoms]) for k in range(3))
    charge, sigma = np.outer(charges, charges), (sigmas[:, None] + sigmas) / 2
    epsilon = np.sqrt(np.outer(epsilons, epsilons))
    for i, j, *values in map(force.getExceptionParameters, range(force.getNumExceptions())):
        for table, value in zip((charge, sigma, epsilon), values, strict=True):
            table[i, j] = table[j, i] = value._value
    return [COULOMB * charge, 4 * epsilon * sigma**12, 4 * epsilon * sigma**6]


@numba.njit(error_model="numpy")
def _push(f: Array, at: int, x: float, y: float, z: float) -> None:
    f[at] += x
    f[at + 1] += y
    f[at + 2] += z


@numba.njit(error_model="numpy", fastmath={"contract", "reassoc"})
def _pull(squares: Array, charge: Array, repulsion: Array, attraction: Array) -> float:
    """Energy of all pairs from their squared distances, which become -dU/dr / r."""
    energy = 0.0
    for p in range(squares.size):
        square = 1.0 / squares[p]
        sixth = square * square * square
        coulomb, repelled = charge[p] * math.sqrt(square), repulsion[p] * sixth
        dispersed = (repelled - attraction[p]) * sixth
        energy += coulomb + dispersed
        squares[p] = (coulomb + 6.0 * (repelled * sixth + dispersed)) * square
    return energy


@numba.njit(error_model="numpy")
def _nonbonded(x: Array, f: Array, n: int, tables: Array, squares: Array) -> float:
    p = 0
    for i in range(n):
        for j in range(i):
            d_x, d_y, d_z = x[3 * i] - x[3 * j], x[3 * i + 1] - x[3 * j + 1], x[3 * i + 2] - x[3 * j + 2]
            squares[p + j] = d_x * d_x + d_y * d_y + d_z * d_z
        p += i
    energy = _pull(squares, tables[:p], tables[p : 2 * p], tables[2 * p : 3 * p])
    p = 0
    for i in range(n):
        f_x = f_y = f_z = 0.0
        for j in range(i):
            s = squares[p + j]
            d_x, d_y = s * (x[3 * i] - x[3 * j]), s * (x[3 * i + 1] - x[3 * j + 1])
            d_z = s * (x[3 * i + 2] - x[3 * j + 2])
            f_x, f_y, f_z = f_x + d_x, f_y + d_y, f_z + d_z
            _push(f, 3 * j, -d_x, -d_y, -d_z)
        _push(f, 3 * i, f_x, f_y, f_z)
        p += i
    return energy


@numba.njit(error_model="numpy")
def _bonds(x: Array, f: Array, atoms: Array, real: Array, count: int) -> float:
    energy = 0.0
    for t in range(count):
        i, j = 3 * atoms[2 * t], 3 * atoms[2 * t + 1]
        d_x, d_y, d_z = x[i] - x[j], x[i + 1] - x[j + 1], x[i + 2] - x[j + 2]
        r = math.sqrt(d_x * d_x + d_y * d_y + d_z * d_z)
        stretch, k = r - real[2 * t], real[2 * t + 1]
        energy += 0.5 * k * stretch * stretch
        s = -k * stretch / r
        _push(f, i, s * d_x, s * d_y, s * d_z)
        _push(f, j, -s * d_x, -s * d_y, -s * d_z)
    return energy


@numba.njit(error_model="numpy")
def _angles(x: Array, f: Array, atoms: Array, real: Array, count: int) -> float:
    energy = 0.0
    for t in range(count):
        i, j, k = 3 * atoms[3 * t], 3 * atoms[3 * t + 1], 3 * atoms[3 * t + 2]
        a_x, a_y, a_z = x[i] - x[j], x[i + 1] - x[j + 1], x[i + 2] - x[j + 2]
        b_x, b_y, b_z = x[k] - x[j], x[k + 1] - x[j + 1], x[k + 2] - x[j + 2]
        aa, bb = 1.0 / (a_x * a_x + a_y * a_y + a_z * a_z), 1.0 / (b_x * b_x + b_y * b_y + b_z * b_z)
        ab = math.sqrt(aa * bb)
        c = (a_x * b_x + a_y * b_y + a_z * b_z) * ab
        c = max(-1.0, min(1.0, c)) if c == c else c
        bend, strength = math.acos(c) - real[2 * t], real[2 * t + 1]
        energy += 0.5 * strength * bend * bend
        s = strength * bend / math.sqrt(max(1.0 - c * c, 1e-12))  # a straight angle has no direction to bend to
        across, along_a, along_b = s * ab, s * c * aa, s * c * bb
        p_x, p_y, p_z = across * b_x - along_a * a_x, across * b_y - along_a * a_y, across * b_z - along_a * a_z
        q_x, q_y, q_z = across * a_x - along_b * b_x, across * a_y - along_b * b_y, across * a_z - along_b * b_z
        _push(f, i, p_x, p_y, p_z)
        _push(f, k, q_x, q_y, q_z)
        _push(f, j, -p_x - q_x, -p_y - q_y, -p_z - q_z)
    return energy


@numba.njit(error_model="numpy")
def _torsions(x: Array, f: Array, atoms: Array, waves: Array, count: int, order: int) -> float:
    energy = 0.0
    for t in range(count):
        i, j, k, m = 3 * atoms[4 * t], 3 * atoms[4 * t + 1], 3 * atoms[4 * t + 2], 3 * atoms[4 * t + 3]
        f_x, f_y, f_z = x[i] - x[j], x[i + 1] - x[j + 1], x[i + 2] - x[j + 2]
        g_x, g_y, g_z = x[j] - x[k], x[j + 1] - x[k + 1], x[j + 2] - x[k + 2]
        h_x, h_y, h_z = x[m] - x[k], x[m + 1] - x[k + 1], x[m + 2] - x[k + 2]
        a_x, a_y, a_z = f_y * g_z - f_z * g_y, f_z * g_x - f_x * g_z, f_x * g_y - f_y * g_x
        b_x, b_y, b_z = h_y * g_z - h_z * g_y, h_z * g_x - h_x * g_z, h_x * g_y - h_y * g_x
        aa, bb = 1.0 / (a_x * a_x + a_y * a_y + a_z * a_z), 1.0 / (b_x * b_x + b_y * b_y + b_z * b_z)
        length = math.sqrt(g_x * g_x + g_y * g_y + g_z * g_z)
        inverse, ab = 1.0 / length, math.sqrt(aa * bb)
        c = (a_x * b_x + a_y * b_y + a_z * b_z) * ab
        s = (b_y * a_z - b_z * a_y) * g_x + (b_z * a_x - b_x * a_z) * g_y + (b_x * a_y - b_y * a_x) * g_z
        s *= ab * inverse
        cosine, sine, slope = 1.0, 0.0, 0.0
        for n in range(order):
            cosine, sine = cosine * c - sine * s, sine * c + cosine * s
            even, odd = waves[2 * (t * order + n)], waves[2 * (t * order + n) + 1]
            energy += even * cosine + odd * sine
            slope += (n + 1) * (odd * cosine - even * sine)
        u, v = slope * length * aa, slope * length * bb
        w, z = slope * (f_x * g_x + f_y * g_y + f_z * g_z) * inverse * aa, slope * inverse * bb
        z *= h_x * g_x + h_y * g_y + h_z * g_z
        p_x, p_y, p_z = w * a_x - z * b_x, w * a_y - z * b_y, w * a_z - z * b_z
        _push(f, i, u * a_x, u * a_y, u * a_z)
        _push(f, j, -u * a_x - p_x, -u * a_y - p_y, -u * a_z - p_z)
        _push(f, k, v * b_x + p_x, v * b_y + p_y, v * b_z + p_z)
        _push(f, m, -v * b_x, -v * b_y, -v * b_z)
    return energy


_WHOLE, _REAL = np.zeros(1, np.int64), np.zeros(1)


@kept_on_disk
def _add(handle: Array) -> float:
    """Energy of all terms, whose sizes and addresses ``handle`` holds; forces are added to."""
    n, bonds, angles, torsions, order = handle[0], handle[1], handle[2], handle[3], handle[4]
    whole, real, squares = view(handle, 5, _WHOLE), view(handle, 7, _REAL), view(handle, 9, _REAL)
    x, f = view(handle, 11, _REAL), view(handle, 13, _REAL)
    second, third = 2 * bonds, 2 * bonds + 3 * angles
    after = 2 * (bonds + angles)
    constant = after + 2 * torsions * order
    energy = real[constant] + _nonbonded(x, f, n, real[constant + 1 :], squares)
    energy += _bonds(x, f, whole, real, bonds)
    energy += _angles(x, f, whole[second:], real[2 * bonds :], angles)
    return energy + _torsions(x, f, whole[third:], real[after:], torsions, order)
