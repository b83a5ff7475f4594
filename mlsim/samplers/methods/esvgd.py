"""Equivariant SVGD: Stein variational gradient descent with a group-integrated matrix-valued kernel.

N particles move as |G| N particles of plain SVGD would if all orbit copies were kept, at N gradient evaluations per
step: the effective particle number grows by the order of the group. ``kernel_for`` picks the strongest kernel that
the group allows:

    finite group, few elements              -> ExplicitKernel     (exact)
    continuous rotations, few permutations  -> IntegratedKernel   (exact, RBF or IMQ as a mixture)
    more permutations                       -> AlignmentKernel    (nearest group element only)

Symbols as in ``svgd`` and ``stein_kernel``.
References: Jaini, Holdijk & Welling 2021, arXiv:2106.07832 (the method); their published code counts the repulsion
twice and uses scalar kernels, neither of which is done here.
"""

from __future__ import annotations

from mlsim.samplers.algorithm import LogDensity, Sampler
from mlsim.samplers.groups.symmetry import Symmetry
from mlsim.samplers.kernels.alignment import AlignmentKernel
from mlsim.samplers.kernels.bandwidth import MEDIAN, Bandwidth
from mlsim.samplers.kernels.integrated import IntegratedKernel
from mlsim.samplers.kernels.radial_kernel import GAUSSIAN, Radial
from mlsim.samplers.kernels.stein_kernel import ExplicitKernel, SteinKernel
from mlsim.samplers.methods.schedule import UNCHANGED, Schedule
from mlsim.samplers.methods.svgd import NORMALISED, StepRule, stein_descent

#: Most permutations summed over by default: S_5.
SUMMED = 120


def kernel_for(symmetry: Symmetry, radial: Radial = GAUSSIAN) -> SteinKernel:
    """The strongest affordable kernel that is equivariant under ``symmetry``."""
    if symmetry.permutation_count > SUMMED:
        return AlignmentKernel(symmetry, radial)
    if symmetry.order is None:
        return IntegratedKernel(symmetry, radial)
    return ExplicitKernel(symmetry, radial)


def esvgd(
    log_density: LogDensity,
    kernel: SteinKernel,
    bandwidth: Bandwidth = MEDIAN,
    rule: StepRule = NORMALISED,
    anneal: Schedule = UNCHANGED,
) -> Sampler:
    """Equivariant SVGD.

    Parameters
    ----------
    log_density : callable
        [..., d] -> [...], invariant under the kernel's symmetry.
    kernel : SteinKernel
        E.g. ``kernel_for(symmetry)``.
    bandwidth, rule, anneal
        As in ``svgd``.
    """
    return stein_descent("esvgd", log_density, kernel, bandwidth, rule, anneal)
