r"""Images of 2-D free-energy surfaces with exact basins: random surfaces, sampled with a finite number of frames.

What: a surface F (kT, on a torus or on a plane) is drawn from a family, its basins are found on the exact function
(``minima.persistent``: minima that persist for 1 kT, boxes up to 2 kT above the minimum or to the saddle), and then a
histogram of n frames is drawn from exp(-F), which is what a simulation would have shown:

    c_b ~ Poisson(n p_b),    F_b = -ln(c_b / max c)      (unknown where c_b = 0)

Families:

    mixture   F = -ln( sum_k exp(-e_k - q_k(x) / 2) + exp(-E) ), 2 to 6 turned Gaussian wells; the only one trained on
    fourier   a random Fourier series up to the third harmonic
    torsion   V(x) + W(y) + a coupling cos(x + y) and one or two repulsive bumps, as in a Ramachandran map

The image shows 1 - F / 10 kT, cut to [0, 1], so that basins are bright and what was never visited is black.

Why basins with fewer than ``VISIBLE`` expected frames are left out of the truth: nothing is seen of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mlsim.errors import InputError
from mlsim.repr.dynamic_head import minima
from mlsim.repr.dynamic_head.scenes.scene import Scene
from mlsim.shapes import Floats

#: Bins of the exact surface along one axis, and pixels of an image.
FINE, SIZE = 96, 64
#: Free energy that is black, kT.
CEILING = 10.0
#: Expected frames in a basin from which it counts.
VISIBLE = 10.0
#: Bins that a sampled surface may have; they divide ``FINE``.
BINS = (24, 32, 48)


@dataclass(frozen=True)
class Landscape:
    """A surface and what a simulation would show of it.

    Attributes
    ----------
    exact : [FINE, FINE]
        Free energy, kT, lowest 0.
    sampled : [bins, bins]
        From a histogram of ``frames``, kT, lowest 0, inf where no frame fell.
    boxes : [n, 4]
        Exact basins, in fractions of the cell.
    frames : int
    periodic : bool
    """

    exact: Floats
    sampled: Floats
    boxes: Floats
    frames: int
    periodic: bool


def mixture(generator: np.random.Generator, periodic: bool) -> Floats:
    """Wells of Gaussian shape over a flat floor, kT [FINE, FINE]."""
    y, x = _grid()
    density = np.full_like(x, np.exp(-generator.uniform(8.0, 12.0)))
    span = (-1.0, 0.0, 1.0) if periodic else (0.0,)
    for _ in range(int(generator.integers(2, 7))):
        centre = generator.uniform(0.0, 1.0, 2)
        width = np.exp(generator.uniform(np.log(0.03), np.log(0.13), 2))
        angle, height = generator.uniform(0.0, np.pi), np.exp(-generator.uniform(0.0, 5.0))
        cos, sin = np.cos(angle), np.sin(angle)
        for down in span:
            for right in span:
                v, u = y - centre[0] + down, x - centre[1] + right
                q = ((cos * u + sin * v) / width[0]) ** 2 + ((cos * v - sin * u) / width[1]) ** 2
                density += height * np.exp(-0.5 * q)
    return -np.log(density)


def fourier(generator: np.random.Generator, periodic: bool) -> Floats:
    """A random Fourier series, standard deviation 2 to 3.5 kT [FINE, FINE]; half a cell of it if not ``periodic``."""
    y, x = _grid()
    if not periodic:
        y, x = 0.5 * y, 0.5 * x
    energy = np.zeros_like(x)
    for down in range(-3, 4):
        for right in range(4):
            norm = np.hypot(down, right)
            if norm > 0.0:
                phase = 2.0 * np.pi * (down * y + right * x + generator.uniform())
                energy += generator.normal() / norm**1.3 * np.cos(phase)
    return energy / energy.std() * generator.uniform(2.0, 3.5)


def torsion(generator: np.random.Generator, periodic: bool) -> Floats:
    """A map over two torsion angles [FINE, FINE], kT; without ``periodic`` an arbitrary half of it."""
    y, x = _grid()
    if not periodic:
        y, x = 0.6 * y + generator.uniform(), 0.6 * x + generator.uniform()
    energy = 1.5 * generator.normal() * np.cos(2.0 * np.pi * (x + y + generator.uniform()))
    for angle in (y, x):
        for fold in (1, 2, 3):
            energy = energy + generator.uniform(0.0, 2.5) * np.cos(2.0 * np.pi * (fold * angle + generator.uniform()))
    for _ in range(int(generator.integers(1, 3))):
        centre = generator.uniform(0.0, 1.0, 2)
        near = np.cos(2.0 * np.pi * (y - centre[0])) + np.cos(2.0 * np.pi * (x - centre[1])) - 2.0
        energy = energy + generator.uniform(4.0, 10.0) * np.exp(generator.uniform(1.0, 3.0) * near)
    return energy


FAMILIES: dict[str, Callable[[np.random.Generator, bool], Floats]] = {
    "mixture": mixture,
    "fourier": fourier,
    "torsion": torsion,
}


def landscape(
    generator: np.random.Generator, family: str = "mixture", *, periodic: bool = True, frames: int | None = None
) -> Landscape:
    """Draw a surface with its exact basins and a histogram of it.

    Parameters
    ----------
    generator : numpy Generator
    family : str
        ``mixture``, ``fourier`` or ``torsion``.
    periodic : bool
        A torus, or a plane with edges.
    frames : int or None
        Independent frames in the histogram; None: 500 to 50,000.

    Raises
    ------
    InputError
        If there is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"family: expected one of {', '.join(FAMILIES)}, got '{family}'")
    exact = FAMILIES[family](generator, periodic)
    exact = exact - exact.min()
    count = round(np.exp(generator.uniform(np.log(500.0), np.log(50000.0)))) if frames is None else frames
    bins = int(generator.choice(BINS))
    block = FINE // bins
    density = np.exp(-exact).reshape(bins, block, bins, block).sum(axis=(1, 3))
    hits = generator.poisson(count * density / density.sum())
    hits.flat[density.argmax()] += hits.max() == 0
    with np.errstate(divide="ignore"):
        sampled = -np.log(hits / hits.max())
    found = minima.persistent(exact, periodic=periodic)
    return Landscape(exact, sampled, found.boxes[count * found.population >= VISIBLE] / FINE, count, periodic)


def image_of(surface: Floats, size: int = SIZE) -> Floats:
    """Grey image [size, size] of a free-energy surface [H, W] in kT; unknown bins (inf or NaN) are black.

    Linear between bin centres; the outermost half bins are continued.

    Raises
    ------
    InputError
        If the surface is not 2-D or has no finite bin.
    """
    values = np.asarray(surface, dtype=np.float64)
    known = np.isfinite(values)
    if values.ndim != 2 or not known.any():
        raise InputError(f"surface: expected [H, W] with a finite bin, got shape {list(values.shape)}")
    lowest = values[known].min()
    bright = 1.0 - np.clip(np.where(known, values - lowest, CEILING) / CEILING, 0.0, 1.0)
    places = [(np.arange(size) + 0.5) * count / size - 0.5 for count in values.shape]
    image: Floats = ndimage.map_coordinates(bright, np.meshgrid(*places, indexing="ij"), order=1, mode="nearest")
    return image.astype(np.float32)


def basins(generator: np.random.Generator) -> Scene:
    """A scene of the ``mixture`` family: a torus cut open anywhere (7 in 10) or a plane; class 0 is a basin.

    A basin cut by the edge of the picture is labelled on the side where more than half of its box can be seen.
    """
    periodic = bool(generator.uniform() < 0.7)
    drawn = landscape(generator, "mixture", periodic=periodic)
    image, boxes = image_of(drawn.sampled), drawn.boxes * SIZE
    visible = np.clip(boxes, 0.0, SIZE)
    if periodic:
        shares = np.prod(visible[:, 2:] - visible[:, :2], axis=-1) / np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
        visible = visible[shares > 0.5]
    return Scene(image, visible, np.zeros(len(visible), dtype=np.int64))


def _grid() -> tuple[Floats, Floats]:
    """Bin centres (y, x) of the exact surface, fractions of the cell."""
    centres = (np.arange(FINE) + 0.5) / FINE
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return y, x
