"""Average precision of detections by the COCO rules (faster-coco-eval)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from mlsim.repr.dynamic_head.scenes.scene import Detections, Scene


def average_precision(scenes: Sequence[Scene], found: Sequence[Detections]) -> dict[str, float]:
    """AP (mean over IoU .50 to .95), AP50 and AP75, each the mean over classes, in [0, 1].

    ``found`` are the detections of the images of ``scenes``, with a score threshold near 0.
    """
    if not any(len(one.scores) for one in found):
        return {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    names = found[0].classes
    truth = []
    for image, scene in enumerate(scenes):
        for box, label in zip(scene.boxes, scene.labels, strict=True):
            facts = {"image_id": image, "category_id": int(label) + 1, "iscrowd": 0}
            truth.append({"id": len(truth) + 1, "bbox": _corner_and_size(box), "area": _area(box), **facts})
    guesses = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": _corner_and_size(box), "score": float(score)}
        for image, one in enumerate(found)
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True)
    ]
    known = COCO(
        {
            "images": [{"id": k, "height": s.image.shape[0], "width": s.image.shape[1]} for k, s in enumerate(scenes)],
            "annotations": truth,
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(names)],
        }
    )
    judged = COCOeval_faster(known, known.loadRes(guesses), "bbox")
    judged.run()
    return {name: float(value) for name, value in zip(("AP", "AP50", "AP75"), judged.stats[:3], strict=True)}


def _corner_and_size(box: np.ndarray) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))
