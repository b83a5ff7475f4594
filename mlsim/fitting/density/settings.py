"""Settings of contrastive training, beside those of the loop (``train.settings``)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlsim.settings import Settings


class ContrastiveSettings(Settings):
    """How negatives are made and what the loss is made of. Lengths are in units of the problem's ``length``.

    Attributes
    ----------
    negatives : str
        Sampler of the negatives: ``langevin`` (unadjusted), ``kinetic`` (underdamped), ``mala``, ``esvgd``,
        ``metropolised-esvgd``.
    particle_set : {"model", "model+data"}
        ``model+data``: in E-SVGD the data batch is part of the particle set; it drives and repels the negatives but
        does not move. For other negatives it must be ``model``.
    steps : int
        Sampler steps per training step.
    step_length : float
        Length of a sampler step: sqrt of the Langevin step size, the way at thermal speed, or the E-SVGD displacement.
    buffer, reset
        Particles kept between training steps, and the share of each batch that starts afresh.
    warm_steps : int
        Training steps of denoising alone, before the first negatives.
    divergence, denoising, energy_square : float
        Weights of the contrastive, the denoising and the squared-energy term.
    noise : float
        Noise of the denoising term.
    data_noise : float
        Noise on the positive examples of the contrastive term; equal to ``noise``, both terms have the same minimum:
        the density of the data smoothed by it.
    keep : {"last", "best"}
        Which parameters are the result: ``best`` has the smallest held-out error, which for densities is a denoising
        error that does not see the weights of separate basins.
    """

    negatives: Literal["langevin", "kinetic", "mala", "esvgd", "metropolised-esvgd"] = "langevin"
    particle_set: Literal["model", "model+data"] = "model"
    steps: int = Field(20, ge=1)
    step_length: float = Field(0.1, gt=0)
    buffer: int = Field(1024, ge=4)
    reset: float = Field(0.05, ge=0, le=1)
    warm_steps: int = Field(0, ge=0)
    divergence: float = Field(1.0, ge=0)
    denoising: float = Field(1.0, ge=0)
    energy_square: float = Field(1e-3, ge=0)
    noise: float = Field(0.1, gt=0)
    data_noise: float = Field(0.0, ge=0)
    keep: Literal["last", "best"] = "last"
