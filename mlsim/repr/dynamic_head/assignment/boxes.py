r"""Boxes: overlap and non-maximum suppression.

A box is (x0, y0, x1, y1) in pixels, x to the right and y down; pixel i covers [i, i + 1].

    IoU = |A & B| / |A | B|,      GIoU = IoU - (|hull| - |A | B|) / |hull|

with the smallest box ``hull`` around both. GIoU lies in (-1, 1] and has a gradient where the boxes do not touch.

Why a suppression of our own: torchvision, whose compiled one is used where it can be imported, is optional here, and a
build that does not match torch raises RuntimeError on import. Both give the same boxes (tests).

Reference: Rezatofighi et al., CVPR 2019, arXiv:1902.09630.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Keeps quotients of empty boxes finite.
_TINY = 1e-9


def area(boxes: Tensor) -> Tensor:
    """Areas [...] of ``boxes`` [..., 4], square pixels."""
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0.0) * (boxes[..., 3] - boxes[..., 1]).clamp(min=0.0)


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap of every box of ``first`` [n, 4] with every one of ``second`` [m, 4]: [n, m]."""
    return _overlap(first[:, None], second[None])[0]


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised overlap of pairs: ``first`` [n, 4] with ``second`` [n, 4]: [n]."""
    ratio, union = _overlap(first, second)
    low = torch.minimum(first[..., :2], second[..., :2])
    high = torch.maximum(first[..., 2:], second[..., 2:])
    hull = (high - low).clamp(min=0.0).prod(dim=-1)
    return ratio - (hull - union) / (hull + _TINY)


def _overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and area of the union, broadcast."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    both = (high - low).clamp(min=0.0).prod(dim=-1)
    union = area(first) + area(second) - both
    return both / (union + _TINY), union


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression within each class.

    Parameters
    ----------
    boxes : Tensor [n, 4]
    scores : Tensor [n]
    labels : Tensor [n]
    threshold : float
        A box that overlaps a better one of its class by more than this is dropped.

    Returns
    -------
    Tensor [k]
        Indices of the boxes kept, best first.
    """
    if not len(boxes):
        return torch.zeros(0, dtype=torch.long)
    span = boxes.max() - boxes.min() + 1.0
    apart = boxes + (labels.to(boxes) * span)[:, None]  # classes never meet
    compiled = _torchvision_nms()
    return compiled(apart, scores, threshold) if compiled is not None else greedy(apart, scores, threshold)


def greedy(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression in plain torch; arguments as in :func:`suppress`, one class."""
    order = scores.argsort(descending=True, stable=True)
    overlap = iou(boxes[order], boxes[order]) > threshold
    alive = torch.ones(len(order), dtype=torch.bool)
    for rank in range(len(order)):
        if alive[rank]:
            alive[rank + 1 :] &= ~overlap[rank, rank + 1 :]
    return order[alive]


def _torchvision_nms() -> Callable[[Tensor, Tensor, float], Tensor] | None:
    try:
        from torchvision.ops import nms
    except Exception:  # not installed, or built for another torch (RuntimeError)
        return None
    found: Callable[[Tensor, Tensor, float], Tensor] = nms
    return found
