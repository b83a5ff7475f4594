"""Every sampler by name, with the defaults that the command line and the benchmark use.

Step sizes scale with one characteristic length of the target (eps = 0.005 length^2 for noisy dynamics, dt = 0.08
length for kinetic ones, 0.15 length for normalised descent); Metropolis methods adapt theirs from there. Bandwidths
come from the median rule unless given: nothing here may look at a reference.

Kernel ``auto``: exact group integral where the permutations can be summed over, else the pull-back kernel on smoothed
distances (O(s) with translations), else alignment. Why smoothed and not sorted distances: sorting has a kink wherever
two distances cross, the kernel leaves the kinks out of the divergence, and its Stein identity then fails. On LJ-13 the
mean velocity at the target does not vanish with the number of sources, but pulls along the score; smoothed distances
have none of that (``tests/unit/test_samplers_kinetic.py``).

Other packages add samplers by entry points of the group ``mlsim.samplers``; each names a :data:`Factory`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mlsim.errors import InputError
from mlsim.names import Registry
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


def _known(name: str) -> str:
    if name not in SAMPLERS:
        SAMPLERS.get(name)  # refuses it
    return name


class SamplerSettings(Settings):
    """Which sampler, with which budget and knobs. Lengths are in the units of the target."""

    method: Annotated[str, AfterValidator(_known)]
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
    return SAMPLERS.get(settings.method)(log_density, symmetry, settings)


def _size(settings: SamplerSettings) -> float:
    """Step of noisy dynamics, (length of the target)^2."""
    return 0.005 * settings.length**2


def _ula(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    return ula(log_density, _size(settings), decay=20.0, project=symmetry.project)


def _mala(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    return mala(log_density, _size(settings), project=symmetry.project)


def _hmc(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    return hmc(log_density, 0.05 * settings.length, leaps=settings.leaps, project=symmetry.project)


def _tempering(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    steps = ladder(settings.levels, settings.hottest)
    return tempering(log_density, steps, size=_size(settings), project=symmetry.project)


def _svgd(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    plain = trivial(symmetry.space, symmetry.points)
    if symmetry.centred:
        plain = plain * translations(symmetry.space, symmetry.points)
    rule = Normalised(0.15 * settings.length, settings.gradients)
    anneal = _schedule(settings, settings.gradients)
    return stein_descent("svgd", log_density, ExplicitKernel(plain), _bandwidth(settings), rule, anneal)


def _transport(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings, gradients: int) -> Sampler:
    rule = Normalised(0.15 * settings.length, gradients)
    kernel = stein_kernel(symmetry, settings)
    return esvgd(log_density, kernel, _bandwidth(settings), rule, _schedule(settings, gradients))


def _esvgd(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    return _transport(log_density, symmetry, settings, settings.gradients)


def _noisy(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    kernel, weight = stein_kernel(symmetry, settings), settings.noisy_weight
    return noisy_esvgd(log_density, kernel, _size(settings), _bandwidth(settings), weight, decay=20.0)


def _kinetic(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    kernel, weight = stein_kernel(symmetry, settings), settings.kinetic_weight
    step, friction = 0.08 * settings.length, 1.0 / settings.length
    return kinetic_esvgd(log_density, kernel, step, friction, _bandwidth(settings), weight)


def _metropolised(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
    kernel, weight = stein_kernel(symmetry, settings), settings.metropolised_weight
    return metropolised_esvgd(log_density, kernel, _bandwidth(settings), weight, _size(settings))


def _warmed(then: Factory) -> Factory:
    """E-SVGD for two fifths of the budget, then another sampler from its particles."""

    def factory(log_density: LogDensity, symmetry: Symmetry, settings: SamplerSettings) -> Sampler:
        first = max(1, (2 * settings.gradients) // 5)
        transport = _transport(log_density, symmetry, settings, first)
        return warm_start(transport, first, then(log_density, symmetry, settings))

    return factory


#: Makes a sampler of a target and its group, with the budget and knobs of the settings.
Factory = Callable[[LogDensity, Symmetry, SamplerSettings], Sampler]
_FACTORIES: dict[str, Factory] = {
    "svgd": _svgd,
    "esvgd": _esvgd,
    "noisy-esvgd": _noisy,
    "kinetic-esvgd": _kinetic,
    "metropolised-esvgd": _metropolised,
    "esvgd+kinetic": _warmed(_kinetic),
    "esvgd+metropolised": _warmed(_metropolised),
    "ula": _ula,
    "mala": _mala,
    "hmc": _hmc,
    "tempering": _tempering,
}
#: Names of the samplers of this package.
METHODS: tuple[str, ...] = tuple(_FACTORIES)
SAMPLERS: Registry[Factory] = Registry(
    "sampler",
    "mlsim.samplers",
    _FACTORIES,
    callable,
    "a factory (log_density, symmetry, settings) -> Sampler",
)
