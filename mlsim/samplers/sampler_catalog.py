"""Every sampler by name, with the defaults that the command line and the benchmark use.

Step sizes scale with one characteristic length of the target (eps = 0.005 length^2 for noisy dynamics, dt = 0.08
length for kinetic ones, 0.15 length for normalised descent); Metropolis methods adapt theirs from there. Bandwidths
come from the median rule unless given: nothing here may look at a reference.

Kernel ``auto``: exact group integral where the permutations can be summed over, else the pull-back kernel on smoothed
distances (O(s) with translations), else alignment. Why smoothed and not sorted distances: sorting has a kink wherever
two distances cross, the kernel leaves the kinks out of the divergence, and its Stein identity then fails. On LJ-13 the
mean velocity at the target does not vanish with the number of sources, but pulls along the score; smoothed distances
have none of that (``tests/unit/test_samplers_kinetic.py``).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import Field

from mlsim.errors import InputError
from mlsim.samplers.algorithm import LogDensity, Sampler
from mlsim.samplers.groups.symmetry import Symmetry, translations, trivial
from mlsim.samplers.kernels.alignment import AlignmentKernel
from mlsim.samplers.kernels.bandwidth import Bandwidth, Fixed, KSDAdaptive, Median
from mlsim.samplers.kernels.features import SmoothedDistances, SortedDistances
from mlsim.samplers.kernels.pullback import PullbackKernel
from mlsim.samplers.kernels.radial_kernel import IMQ, RBF, Radial
from mlsim.samplers.kernels.stein_kernel import ExplicitKernel, SteinKernel
from mlsim.samplers.methods.esvgd import SUMMED, esvgd, kernel_for
from mlsim.samplers.methods.hmc import hmc
from mlsim.samplers.methods.kinetic import kinetic_esvgd
from mlsim.samplers.methods.langevin import ula
from mlsim.samplers.methods.mala import mala
from mlsim.samplers.methods.metropolised import metropolised_esvgd
from mlsim.samplers.methods.noisy import noisy_esvgd
from mlsim.samplers.methods.schedule import Schedule, constant, geometric
from mlsim.samplers.methods.svgd import Normalised, stein_descent
from mlsim.samplers.methods.tempering import ladder, tempering
from mlsim.samplers.methods.warm_start import warm_start
from mlsim.settings import Settings

Method = Literal[
    "svgd",
    "esvgd",
    "noisy-esvgd",
    "kinetic-esvgd",
    "metropolised-esvgd",
    "esvgd+kinetic",
    "esvgd+metropolised",
    "ula",
    "mala",
    "hmc",
    "tempering",
]
#: Names of all samplers.
METHODS: tuple[str, ...] = get_args(Method)


class SamplerSettings(Settings):
    """Which sampler, with which budget and knobs. Lengths are in the units of the target."""

    method: Method
    gradients: int = Field(default=500, ge=1, description="budget: gradient evaluations per particle")
    length: float = Field(default=1.0, gt=0.0, description="characteristic length, scales the step sizes")
    kernel: Literal["auto", "pullback", "smooth", "alignment"] = "auto"
    radial: Literal["rbf", "imq"] = "rbf"
    bandwidth: Annotated[float, Field(gt=0)] | Literal["median", "ksd"] = "median"
    anneal_start: float = Field(default=0.1, gt=0.0, le=1.0, description="first inverse temperature of (E-)SVGD")
    noisy_weight: float = Field(default=0.3, ge=0.0, description="Stein velocity in noisy E-SVGD")
    kinetic_weight: float = Field(default=0.03, ge=0.0, description="Stein velocity in kinetic E-SVGD")
    metropolised_weight: float = Field(default=0.2, ge=0.0, description="Stein velocity in Metropolised E-SVGD")
    levels: int = Field(default=4, ge=1, description="temperatures of parallel tempering")
    hottest: float = Field(default=0.2, gt=0.0, le=1.0, description="smallest inverse temperature of tempering")
    leaps: int = Field(default=10, ge=1, description="leapfrog steps of HMC")


def stein_kernel(symmetry: Symmetry, settings: SamplerSettings) -> SteinKernel:
    """The kernel that ``settings`` asks for."""
    radial: Radial = RBF() if settings.radial == "rbf" else IMQ()
    if settings.kernel == "alignment":
        return AlignmentKernel(symmetry, radial)
    orthogonal = symmetry.rotations.name.startswith("O(") and symmetry.centred and symmetry.points > 1
    if settings.kernel in ("pullback", "smooth") and not orthogonal:
        raise InputError(f"pull-back kernel: expected a target with O(s) and translations, got {symmetry.name}")
    if settings.kernel == "pullback":
        return PullbackKernel(SortedDistances(symmetry), radial)
    if settings.kernel == "smooth" or (symmetry.permutation_count > SUMMED and orthogonal):
        return PullbackKernel(smoothed(symmetry, settings.length), radial)
    return kernel_for(symmetry, radial)


def smoothed(symmetry: Symmetry, length: float) -> SmoothedDistances:
    """Gaussians of width 2/3 ``length`` on a grid of the same spacing, out to the size of a packed cluster."""
    width = 2.0 * length / 3.0
    count = math.ceil(7.5 * symmetry.points ** (1.0 / symmetry.space))
    return SmoothedDistances(symmetry, tuple(width * (k + 1) for k in range(count)), width)


def _bandwidth(settings: SamplerSettings) -> Bandwidth:
    if settings.bandwidth == "median":
        return Median()
    return KSDAdaptive() if settings.bandwidth == "ksd" else Fixed(float(settings.bandwidth))


def _schedule(settings: SamplerSettings, gradients: int) -> Schedule:
    if settings.anneal_start == 1.0:
        return constant()
    return geometric(max(1, (3 * gradients) // 10), settings.anneal_start)


def create(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    """A sampler bound to a target.

    Parameters
    ----------
    log_density : callable
        positions [..., d] -> [...].
    symmetry : Symmetry
        Group of the target; plain SVGD and the Markov chains use only its centring.
    settings : SamplerSettings
        Method, budget and knobs.
    """
    eps = 0.005 * settings.length**2
    project = symmetry.project
    if settings.method == "ula":
        return ula(log_density, eps, decay=20.0, project=project)
    if settings.method == "mala":
        return mala(log_density, eps, project=project)
    if settings.method == "hmc":
        return hmc(log_density, 0.05 * settings.length, leaps=settings.leaps, project=project)
    if settings.method == "tempering":
        return tempering(log_density, ladder(settings.levels, settings.hottest), size=eps, project=project)
    bandwidth = _bandwidth(settings)
    if settings.method == "svgd":
        plain = trivial(symmetry.space, symmetry.points)
        if symmetry.centred:
            plain = plain * translations(symmetry.space, symmetry.points)
        rule = Normalised(0.15 * settings.length, settings.gradients)
        anneal = _schedule(settings, settings.gradients)
        return stein_descent("svgd", log_density, ExplicitKernel(plain), bandwidth, rule, anneal)
    kernel = stein_kernel(symmetry, settings)
    if settings.method == "noisy-esvgd":
        return noisy_esvgd(log_density, kernel, eps, bandwidth, settings.noisy_weight, decay=20.0)
    exact = metropolised_esvgd(log_density, kernel, bandwidth, settings.metropolised_weight, eps)
    kinetic = kinetic_esvgd(
        log_density, kernel, 0.08 * settings.length, 1.0 / settings.length, bandwidth, settings.kinetic_weight
    )
    if settings.method in ("metropolised-esvgd", "kinetic-esvgd"):
        return exact if settings.method == "metropolised-esvgd" else kinetic
    first = settings.gradients if settings.method == "esvgd" else max(1, (2 * settings.gradients) // 5)
    rule = Normalised(0.15 * settings.length, first)
    transport = esvgd(log_density, kernel, bandwidth, rule, _schedule(settings, first))
    if settings.method == "esvgd":
        return transport
    return warm_start(transport, first, exact if settings.method == "esvgd+metropolised" else kinetic)
