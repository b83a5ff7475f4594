"""Generalized Born with radii and pair screening that a network may change: OBC2 where it does not.

Sums over all pairs, in units of nm, kJ/mol and e. The pair integral of atom j in the sphere around i, with offset
radius o_i and scaled radius s_j, is

    H(d, o_i, s_j) = 0 if d + s_j <= o_i, else
        [ 1/L - 1/U + (d - s_j^2 / d) (1/U^2 - 1/L^2) / 4 + ln(L/U) / (2d) ] / 2 + C
        U = d + s_j,  L = max(o_i, |d - s_j|),  C = 1/o_i - 1/L if o_i < s_j - d, else 0

    p_i = o_i sum_j H_ij,    1/B_i = 1/o_i - tanh(p_i - 0.8 p_i^2 + 4.85 p_i^3) / rho_i,    rho_i = o_i + 0.009 nm

A network scales the radius of atom i by b_i and its screening by h_i, both between 0.1 and 1.9, one where it is silent:

    b_i = 0.1 + 1.8 sigmoid(phi_i),    h_i = 0.1 + 1.8 sigmoid(psi_i)
    R_i = b_i B_i,  D_ij = R_i R_j,  f_ij^2 = d_ij^2 + D_ij exp(-d_ij^2 (h_i + h_j) / (8 D_ij))
    E = -k (1 - 1/eps) [ sum_i q_i^2 / (2 R_i) + sum_{i<j} q_i q_j / f_ij ]
        + 4 pi g sum_i (rho_i + 0.14)^2 (rho_i / B_i)^6

Why a screening of pairs: scaling radii moves the self (desolvation) energies and the pair terms together and leaves the
attraction of an ion pair beyond 0.8 nm as it is; h moves the pair terms alone, and with larger h_i + h_j the solvent
screens a pair at shorter distances. The far field stays that of a dielectric, q_i q_j / (eps d), whatever the network
says. The last line is OBC2's surface term, of the unscaled radius.

The dielectric constant is that of the water that is imitated: 94 to 97 for TIP3P at 300 K, not the 78.5 of real water.

Symbols: d ``distance``, o ``offset_radius``, s ``scaled_radius``, rho ``radius``, B ``born``, R ``scaled``, h
``screening``, k ``COULOMB``, eps ``dielectric``, g ``SURFACE_TENSION``.

References: Onufriev, Bashford, Case, Proteins 55, 383 (2004), OBC2; Katzberger and Riniker, J. Chem. Phys. 158, 204101
(2023), radii scaled by a network.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pair_integral(distance: Tensor, offset_radius: Tensor, scaled_radius: Tensor) -> Tensor:
    """H(d, o_i, s_j) [Q], 1/nm, of distances, offset radii of the one and scaled radii of the other atom [Q], nm."""
    upper = distance + scaled_radius
    gap = (distance - scaled_radius).abs()
    lower = torch.maximum(offset_radius, gap)
    u, v = 1.0 / upper, 1.0 / lower
    integral = 0.5 * (
        v
        - u
        + 0.25 * (distance - scaled_radius * scaled_radius / distance) * (u * u - v * v)
        + 0.5 * torch.log(lower / upper) / distance
    )
    inside = torch.where(offset_radius < scaled_radius - distance, 1.0 / offset_radius - v, torch.zeros_like(v))
    return torch.where(upper > offset_radius, integral + inside, torch.zeros_like(v))


def radii_of(sums: Tensor, offset_radius: Tensor) -> Tensor:
    """Born radii [A] (nm) from the sums of pair integrals [A] (1/nm)."""
    p = sums * offset_radius
    bent = torch.tanh(p * (1.0 + p * (4.85 * p - 0.8)))
    return 1.0 / (1.0 / offset_radius - bent / (offset_radius + 0.009))


def born_radii(distance: Tensor, first: Tensor, second: Tensor, offset_radius: Tensor, scaled_radius: Tensor) -> Tensor:
    """Born radii [A] (nm) of atoms whose pairs ``first``, ``second`` [Q] are ``distance`` [Q] (nm) apart."""
    one = pair_integral(distance, offset_radius.index_select(0, first), scaled_radius.index_select(0, second))
    other = pair_integral(distance, offset_radius.index_select(0, second), scaled_radius.index_select(0, first))
    sums = torch.zeros_like(offset_radius).index_add(0, first, one).index_add(0, second, other)
    return radii_of(sums, offset_radius)


def bounded_factor(x: Tensor) -> Tensor:
    """0.1 + 1.8 sigmoid(x): one at zero, between 0.1 and 1.9."""
    return 0.1 + 1.8 * torch.sigmoid(x)


def pair_energies(
    strength: float, distance: Tensor, charge_product: Tensor, radius_product: Tensor, screening_sum: Tensor
) -> Tensor:
    """Polar energies [Q] (kJ/mol) of pairs.

    Parameters
    ----------
    strength : float
        See :func:`mlsim.models.transferable.forms.polar_strength`.
    distance : Tensor [Q], nm
    charge_product : Tensor [Q], e^2
    radius_product : Tensor [Q], nm^2
        D_ij.
    screening_sum : Tensor [Q]
        h_i + h_j; 2 for OBC2.
    """
    square = distance * distance
    f = (square + radius_product * torch.exp(-0.125 * square * screening_sum / radius_product)).sqrt()
    return strength * charge_product / f


def self_energies(strength: float, charge: Tensor, scaled: Tensor) -> Tensor:
    """Polar energies [A] (kJ/mol) of the atoms themselves, of charges (e) and scaled Born radii (nm)."""
    return 0.5 * strength * charge * charge / scaled


def surface_energies(factor: float, offset_radius: Tensor, born: Tensor) -> Tensor:
    """Energies [A] (kJ/mol) of the surface; ``factor`` is 4 pi times the tension (kJ/mol/nm^2), radii in nm."""
    radius = offset_radius + 0.009
    ratio = radius / born
    cube = ratio * ratio * ratio
    reach = radius + 0.14
    return factor * reach * reach * cube * cube
