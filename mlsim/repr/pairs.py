"""Two views of one thing: time-lagged pairs of frames, and augmentations of images.

A time-lagged pair (t, t + lag) of one run is a positive pair of self-supervised learning: what both frames share is
slow, what differs is fast. Pairs never cross from one run into the next.

An augmentation is a callable ``(images [n, s, s], rng) -> images`` that leaves alone what the features should keep:

    noise(w)       Gaussian noise of width w: thermal motion below the resolution that matters
    erase(f)       a rectangle of the fraction f of the area set to the mean: no single contact decides
    roll(k)        shift by up to k pixels around the torus: for densities over angles without a fixed origin
    transpose()    i <-> j at random: the maps of ``images`` are symmetric, densities of like residues may be
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mlsim.errors import InputError
from mlsim.shapes import Ints

Augmentation = Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]


def time_lagged(run: Ints, lag: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of pairs ``lag`` frames apart within one run.

    Parameters
    ----------
    run : int [F]
        Number of the run each frame comes from; frames of a run are consecutive and in order.
    lag : int
        Frames.

    Returns
    -------
    first, second : int64 [m]

    Raises
    ------
    InputError
        If no run is longer than ``lag``, or the frames of a run are not together.
    """
    runs = np.asarray(run)
    if runs.ndim != 1 or lag < 1:
        raise InputError(f"time-lagged pairs: expected runs [F] and a lag >= 1, got {list(runs.shape)} and {lag}")
    changes = np.flatnonzero(runs[1:] != runs[:-1]) + 1
    if len(changes) + 1 != len(np.unique(runs)) and len(runs):
        raise InputError("time-lagged pairs: expected the frames of a run together; sort them by run and time")
    first = np.arange(max(0, len(runs) - lag))
    first = first[runs[first] == runs[first + lag]]
    if len(first) == 0:
        raise InputError(f"time-lagged pairs: expected a run longer than the lag of {lag} frames, found none")
    return first.astype(np.int64), (first + lag).astype(np.int64)


def noise(width: float) -> Augmentation:
    """Add Gaussian noise, cut to [0, 1]; a symmetric image stays so."""

    def apply(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        draw = rng.standard_normal(images.shape).astype(np.float32)
        symmetric = np.allclose(images, images.swapaxes(-1, -2))
        if symmetric:
            draw = (draw + draw.swapaxes(-1, -2)) / np.float32(np.sqrt(2.0))
        return np.clip(images + np.float32(width) * draw, 0.0, 1.0)

    return apply


def erase(fraction: float) -> Augmentation:
    """Set one rectangle per image, of this fraction of its area, to the mean of the image."""
    if not 0.0 < fraction < 1.0:
        raise InputError(f"erase: expected a fraction between 0 and 1, got {fraction}")

    def apply(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        result = np.array(images)
        side = images.shape[-1]
        for image in result:
            aspect = np.exp(rng.uniform(-np.log(2.0), np.log(2.0)))
            height = min(side, max(1, round(side * np.sqrt(fraction * aspect))))
            width = min(side, max(1, round(side * np.sqrt(fraction / aspect))))
            top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
            image[..., top : top + height, left : left + width] = image.mean()
        return result

    return apply


def roll(pixels: int) -> Augmentation:
    """Shift each image by up to ``pixels`` along both axes, around the torus."""

    def apply(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        shifts = rng.integers(-pixels, pixels + 1, (len(images), 2))
        return np.stack([np.roll(image, tuple(s), (-2, -1)) for image, s in zip(images, shifts, strict=True)])

    return apply


def transpose() -> Augmentation:
    """Exchange rows and columns of half of the images."""

    def apply(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        chosen = rng.random(len(images)) < 0.5
        result = np.array(images)
        result[chosen] = result[chosen].swapaxes(-1, -2)
        return result

    return apply


def compose(*steps: Augmentation) -> Augmentation:
    """One augmentation after the other."""

    def apply(images: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        for step in steps:
            images = step(images, rng)
        return images

    return apply
