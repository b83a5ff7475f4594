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
from mlsim.samplers.alignment import AlignmentKernel
from mlsim.samplers.bandwidth import Fixed, KSDAdaptive, Median
from mlsim.samplers.esvgd import esvgd, kernel_for
from mlsim.samplers.features import SmoothedDistances, SortedDistances
from mlsim.samplers.hmc import hmc
from mlsim.samplers.integrated import IntegratedKernel
from mlsim.samplers.kernels import ExplicitKernel, SteinKernel
from mlsim.samplers.kinetic import kinetic_esvgd
from mlsim.samplers.langevin import ula
from mlsim.samplers.mala import mala
from mlsim.samplers.metropolised import metropolised_esvgd
from mlsim.samplers.noisy import noisy_esvgd
from mlsim.samplers.pullback import PullbackKernel
from mlsim.samplers.radial import IMQ, RBF
from mlsim.samplers.stein import discrepancy, thin, weights
from mlsim.samplers.svgd import Normalised, Plain, stein_descent, svgd
from mlsim.samplers.symmetry import (
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
from mlsim.samplers.tempering import ladder, tempering
from mlsim.samplers.virial import VirialKernel
from mlsim.samplers.warm_start import warm_start

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
