r"""Loss of the detector: focal loss for classes, GIoU for boxes, cross entropy for centre-ness.

    L = 1/n sum_points,classes FL + 1/sum(c) sum_responsible c (1 - GIoU) + 1/n sum_responsible BCE(centre-ness, c)
    FL = -a_t (1 - p_t)^2 ln p_t,    p_t = p for the right class, 1 - p for the others; a_t = 1/4 and 3/4

n is the number of responsible points of the batch, c their true centre-ness.

Reference: Lin et al., Focal loss, ICCV 2017, arXiv:1708.02002; Tian et al., FCOS, arXiv:1904.01355.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mlsim.repr.dynamic_head.assignment.assign import Points, assign, boxes_at, centreness, sides
from mlsim.repr.dynamic_head.assignment.boxes import giou

#: Weight of the rare, positive terms and exponent of the focal loss.
ALPHA, GAMMA = 0.25, 2.0


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss, elementwise: ``logits`` and ``target`` (0 or 1) of one shape."""
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = torch.exp(-entropy)  # p_t
    weight = ALPHA * target + (1.0 - ALPHA) * (1.0 - target)
    return weight * (1.0 - right) ** GAMMA * entropy


def detection_loss(
    places: Points,
    logits: Tensor,
    distances: Tensor,
    central: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
) -> Tensor:
    """Loss of a batch.

    Parameters
    ----------
    places : Points
        P points.
    logits : Tensor [B, P, classes]
    distances : Tensor [B, P, 4]
        Predicted distances to the sides, pixels, positive.
    central : Tensor [B, P]
        Logits of the centre-ness.
    boxes, labels : B tensors [n, 4] and [n]
        The truth.

    Returns
    -------
    Tensor []
    """
    wanted = torch.zeros_like(logits)
    image_of, point_of, truth = [], [], []
    for number, (these, classes) in enumerate(zip(boxes, labels, strict=True)):
        chosen = assign(places, these)
        point = (chosen >= 0).nonzero()[:, 0]
        wanted[number, point, classes[chosen[point]]] = 1.0
        image_of.append(torch.full_like(point, number))
        point_of.append(point)
        truth.append(these[chosen[point]])
    image, point, target = torch.cat(image_of), torch.cat(point_of), torch.cat(truth)
    count = max(1, len(point))
    loss = focal(logits, wanted).sum() / count
    if not len(point):
        return loss
    xy = places.xy[point]
    true_central = centreness(sides(xy, target))
    overlap = giou(boxes_at(xy, distances[image, point]), target)
    loss = loss + (true_central * (1.0 - overlap)).sum() / true_central.sum().clamp(min=1e-3)
    return loss + functional.binary_cross_entropy_with_logits(central[image, point], true_central)
