r"""Which point of which level is responsible for which box, and how a box is coded there (FCOS).

A level of stride s has points at ((i + 1/2) s, (j + 1/2) s). A point p inside a box has the distances
d = (left, top, right, bottom) to its sides. It is responsible for the box if p is nearer than 1.5 s to the centre
(along both axes) and max(d) lies in the range of the level, [0, 3 s_0], (3 s_0, 3 s_1], ..., the last one open; of
several boxes the smallest counts.

    centre-ness = sqrt( min(l, r) / max(l, r) * min(t, b) / max(t, b) )

Why a point nearest to the centre is added: a thin box can lie between all points of its level and would never be
learned; its nearest point is then made responsible.

Reference: Tian et al., FCOS, ICCV 2019, arXiv:1904.01355.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlsim.repr.dynamic_head.assignment.boxes import area

#: A level of stride s sees boxes whose farthest side is up to this many strides away.
REACH = 3.0
#: Points nearer than this many strides to the centre are responsible.
RADIUS = 1.5


@dataclass(frozen=True)
class Points:
    """All points of a pyramid.

    Attributes
    ----------
    xy : Tensor [P, 2]
        Places in pixels.
    stride : Tensor [P]
    low, high : Tensor [P]
        Range of the farthest side that a point's level is responsible for, pixels.
    """

    xy: Tensor
    stride: Tensor
    low: Tensor
    high: Tensor


def points(sizes: Sequence[tuple[int, int]], strides: Sequence[int]) -> Points:
    """Points of levels of ``sizes`` (rows, columns), finest first."""
    parts: list[list[Tensor]] = [[], [], [], []]
    for level, ((rows, columns), stride) in enumerate(zip(sizes, strides, strict=True)):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        count = rows * columns
        low = REACH * strides[level - 1] if level else 0.0
        high = REACH * stride if level + 1 < len(sizes) else float("inf")
        parts[0].append((torch.stack([x, y], dim=-1).reshape(count, 2) + 0.5) * stride)
        for part, value in zip(parts[1:], (float(stride), low, high), strict=True):
            part.append(torch.full((count,), value))
    return Points(*(torch.cat(part) for part in parts))


def assign(places: Points, boxes: Tensor) -> Tensor:
    """Box of every point.

    Parameters
    ----------
    places : Points
    boxes : Tensor [n, 4]

    Returns
    -------
    Tensor [P]
        Index into ``boxes``, -1 where none.
    """
    nobody = torch.full((len(places.xy),), -1, dtype=torch.long)
    if not len(boxes):
        return nobody
    distances = sides(places.xy[:, None], boxes[None])
    farthest = distances.amax(dim=-1)
    centre = 0.5 * (boxes[:, :2] + boxes[:, 2:])
    off = (places.xy[:, None] - centre[None]).abs().amax(dim=-1)
    in_range = (farthest > places.low[:, None]) & (farthest <= places.high[:, None])
    fits = (distances.amin(dim=-1) > 0.0) & (off < RADIUS * places.stride[:, None]) & in_range
    orphan = ~fits.any(dim=0)
    if orphan.any():
        half = 0.5 * (boxes[:, 2:] - boxes[:, :2]).amax(dim=-1)
        home = (half > places.low[:, None]) & (half <= places.high[:, None])
        nearest = torch.where(home, off, torch.inf).argmin(dim=0)
        fits[nearest[orphan], orphan.nonzero()[:, 0]] = True
    size = torch.where(fits, area(boxes)[None], torch.inf)
    best, chosen = size.min(dim=1)
    return torch.where(torch.isfinite(best), chosen, nobody)


def sides(xy: Tensor, boxes: Tensor) -> Tensor:
    """Distances (left, top, right, bottom) [..., 4] of points [..., 2] to the sides of boxes [..., 4], pixels."""
    return torch.cat([xy - boxes[..., :2], boxes[..., 2:] - xy], dim=-1)


def boxes_at(xy: Tensor, distances: Tensor) -> Tensor:
    """The inverse of :func:`sides`."""
    return torch.cat([xy - distances[..., :2], xy + distances[..., 2:]], dim=-1)


def centreness(distances: Tensor) -> Tensor:
    """How central a point is in its box, in [0, 1], from its ``distances`` [n, 4]; 0 outside the box."""
    horizontal, vertical = distances[..., 0::2].clamp(min=0.0), distances[..., 1::2].clamp(min=0.0)
    tiny = 1e-9
    ratio = horizontal.amin(-1) / (horizontal.amax(-1) + tiny) * vertical.amin(-1) / (vertical.amax(-1) + tiny)
    return ratio.sqrt()
