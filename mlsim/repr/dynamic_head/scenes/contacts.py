r"""Images of residue contact maps with exact boxes around the stripes of secondary structure.

What: a chain of n residues is laid out as helices, strands and loops; strands are paired. In the map C_ij of contact
probabilities

    helix          |i - j| = 3, 4 inside the helix: a thickened diagonal; box = the segment squared
    antiparallel   i + j = const between two strands: a stripe across the diagonal direction
    parallel       j - i = const: a stripe along it

Both halves of the symmetric map carry a box. Everything else is a distraction: neighbours |i - j| <= 2, spotted
packing contacts of helices three to four residues apart, and single contacts. Contacts have probabilities, as in a map
averaged over a trajectory, and some are missing; the stripe's ends are those of the layout, so the boxes are exact.

Why a layout and not structures: no set of structures with assignments is shipped here, and training needs exact boxes
in any number. What it cannot show: strand twists and bulges, and how contact definitions differ.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from mlsim.repr.dynamic_head.scenes.scene import Scene, padded
from mlsim.shapes import Floats

CLASSES = ("helix", "antiparallel", "parallel")
#: Pixels of an image; a chain of n residues fills the upper left n x n.
SIZE = 64


def contacts(generator: np.random.Generator, size: int = SIZE) -> Scene:
    """One map [size, size] with its stripes; labels index ``CLASSES``."""
    length = int(generator.integers(size // 2, size + 1))
    helices, strands = _layout(generator, length)
    firm = generator.uniform(0.6, 1.0)  # mean probability of a native contact
    gaps = generator.uniform(0.0, 0.15)  # share of them that is missing
    chance = np.zeros((length, length))
    boxes: list[tuple[float, ...]] = []
    labels: list[int] = []
    i, j = np.indices(chance.shape)
    near = np.abs(i - j)
    for start, stop in helices:
        inside = (np.minimum(i, j) >= start) & (np.maximum(i, j) < stop)
        chance[inside & ((near == 3) | (near == 4))] = firm
        boxes.append((start, start, stop, stop))
        labels.append(CLASSES.index("helix"))
    for first, second, kind in _pairs(generator, strands):
        count = min(first[1] - first[0], second[1] - second[0])
        for step in range(count):
            row = first[0] + step
            column = second[0] + (step if kind == "parallel" else count - 1 - step)
            chance[row, column] = firm
            for aside in (-1, 1):
                if second[0] <= column + aside < second[0] + count:
                    chance[row, column + aside] = max(chance[row, column + aside], firm * generator.uniform(0.2, 0.9))
        box = (second[0], first[0], second[0] + count, first[0] + count)
        boxes += [box, (box[1], box[0], box[3], box[2])]
        labels += [CLASSES.index(kind)] * 2
    _pack(generator, chance, helices, firm)
    chance = np.triu(chance, 1)
    chance *= (generator.uniform(size=chance.shape) > gaps) * generator.uniform(0.8, 1.2, chance.shape)
    stray = np.triu(generator.uniform(size=chance.shape) < generator.uniform(0.0, 0.02), 3)
    chance = np.maximum(chance, stray * generator.uniform(0.1, 0.9, chance.shape))
    chance = chance + chance.T + (near <= 2) * generator.uniform(0.85, 1.0)
    image = np.zeros((size, size), dtype=np.float32)
    image[:length, :length] = np.clip(chance + generator.normal(0.0, 0.02, chance.shape), 0.0, 1.0)
    return Scene(image, padded(boxes), np.asarray(labels, dtype=np.int64))


def _layout(generator: np.random.Generator, length: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Segments (start, stop) of helices and strands, separated by loops of 2 to 6 residues."""
    helices: list[tuple[int, int]] = []
    strands: list[tuple[int, int]] = []
    preference = generator.uniform(0.2, 0.8)  # for helices
    first = int(generator.integers(0, 5))
    while True:
        helix = generator.uniform() < preference
        stop = first + int(generator.integers(7, 20) if helix else generator.integers(4, 10))
        if stop > length:
            return helices, strands
        (helices if helix else strands).append((first, stop))
        first = stop + int(generator.integers(2, 7))


def _pairs(
    generator: np.random.Generator, strands: list[tuple[int, int]]
) -> list[tuple[tuple[int, int], tuple[int, int], str]]:
    """Pairs of strands, every strand with the next one in a shuffled or natural order."""
    order = list(range(len(strands)))
    if generator.uniform() < 0.4:
        generator.shuffle(order)
    pairs = []
    for a, b in pairwise(order):
        low, high = sorted((a, b))
        hairpin = high - low == 1 and strands[high][0] - strands[low][1] < 7
        kind = "antiparallel" if generator.uniform() < (0.9 if hairpin else 0.4) else "parallel"
        pairs.append((strands[low], strands[high], kind))
    return pairs


def _pack(generator: np.random.Generator, chance: Floats, helices: list[tuple[int, int]], firm: float) -> None:
    """Spots where two helices touch, every three to four residues along a line; written into ``chance``."""
    for number, first in enumerate(helices):
        for second in helices[number + 1 :]:
            if generator.uniform() < 0.5:
                continue
            count = min(first[1] - first[0], second[1] - second[0])
            along = generator.uniform() < 0.5
            step = 0
            while step < count:
                column = second[0] + (step if along else count - 1 - step)
                chance[first[0] + step, column] = firm * generator.uniform(0.3, 1.0)
                step += int(generator.integers(3, 5))
