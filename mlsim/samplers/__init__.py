"""Samplers for unnormalised densities, symmetric or not; a target is a callable, never a model.

    kernel = kernel_for(symmetry)                              # group-integrated, matrix-valued
    result = sample(esvgd(log_density, kernel), positions, gradients=500, generator=generator)

Which one, by what ``python -m benchmarks.samplers`` measured (numbers and reasons: ``benchmarks/samplers.md``):

- Few particles that must stand for the whole density, deterministic: ``esvgd`` with annealing. Distances, basin weights
  and Stein discrepancy come out better than for as many independent draws; energies do not (the spread of each basin is
  too narrow). Plain ``svgd`` is far behind.
- Unbiased samples: ``hmc`` or ``mala``; both reach the floor of independent draws in energy, and no Stein sampler beats
  them there. LJ-13 belongs to them.
- Several basins: ``tempering``, or ``esvgd`` with annealing; ``mala``, ``hmc`` and ``ula`` keep the basin weights of
  their start.
- ``metropolised_esvgd`` is exact for any kernel, ``noisy_esvgd`` and ``kinetic_esvgd`` are not; ``warm_start`` joins
  two methods. On stiff targets the kinetic one is the noisy sampler that equilibrates.
- Large permutation groups: ``PullbackKernel`` on ``SmoothedDistances``, or ``AlignmentKernel``. Keep the weight of the
  Stein velocity small there.
"""

from __future__ import annotations

from mlsim.samplers.algorithm import LogDensity, Sampler, Samples, evaluate, sample
from mlsim.samplers.groups.symmetry import (
    Symmetry,
    cyclic,
    dihedral,
    orthogonal,
    permutations,
    point_group,
    special_orthogonal,
    translations,
    trivial,
)
from mlsim.samplers.kernels.alignment import AlignmentKernel
from mlsim.samplers.kernels.bandwidth import Fixed, KSDAdaptive, Median
from mlsim.samplers.kernels.discrepancy import discrepancy, thin, weights
from mlsim.samplers.kernels.features import SmoothedDistances, SortedDistances
from mlsim.samplers.kernels.integrated import IntegratedKernel
from mlsim.samplers.kernels.pullback import PullbackKernel
from mlsim.samplers.kernels.radial_kernel import IMQ, RBF
from mlsim.samplers.kernels.stein_kernel import ExplicitKernel, SteinKernel
from mlsim.samplers.kernels.virial import VirialKernel
from mlsim.samplers.methods.esvgd import esvgd, kernel_for
from mlsim.samplers.methods.hmc import hmc
from mlsim.samplers.methods.kinetic import kinetic_esvgd
from mlsim.samplers.methods.langevin import ula
from mlsim.samplers.methods.mala import mala
from mlsim.samplers.methods.metropolised import metropolised_esvgd
from mlsim.samplers.methods.noisy import noisy_esvgd
from mlsim.samplers.methods.svgd import Normalised, Plain, stein_descent, svgd
from mlsim.samplers.methods.tempering import ladder, tempering
from mlsim.samplers.methods.warm_start import warm_start

__all__ = [
    "IMQ",
    "RBF",
    "AlignmentKernel",
    "ExplicitKernel",
    "Fixed",
    "IntegratedKernel",
    "KSDAdaptive",
    "LogDensity",
    "Median",
    "Normalised",
    "Plain",
    "PullbackKernel",
    "Sampler",
    "Samples",
    "SmoothedDistances",
    "SortedDistances",
    "SteinKernel",
    "Symmetry",
    "VirialKernel",
    "cyclic",
    "dihedral",
    "discrepancy",
    "esvgd",
    "evaluate",
    "hmc",
    "kernel_for",
    "kinetic_esvgd",
    "ladder",
    "mala",
    "metropolised_esvgd",
    "noisy_esvgd",
    "orthogonal",
    "permutations",
    "point_group",
    "sample",
    "special_orthogonal",
    "stein_descent",
    "svgd",
    "tempering",
    "thin",
    "translations",
    "trivial",
    "ula",
    "warm_start",
    "weights",
]
