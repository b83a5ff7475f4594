"""Does the shipped detector find the basins of sampled free-energy surfaces as well as minima finding does?

Three methods see the same histograms and report boxes; the truth are the basins of the exact surface with at least ten
expected frames (``mlsim.repr.dynamic_head.scenes.landscape``):

    detector     ``maps``, trained on the ``mixture`` family only
    persistence  minima of the smoothed surface that persist for a threshold (``minima.persistent``)
    scipy        minimum filter on the smoothed surface (``minima.local``)

The two without learning have smoothing and a threshold or radius, the detector has a score and the overlap from which
boxes are merged; each is chosen for the best F1 on 50 surfaces of the ``mixture`` family (``tune``), and then all is
measured on held-out generators, ``fourier`` and ``torsion``, and on fresh ``mixture`` surfaces. A box is right if it
overlaps a true one by IoU >= 0.5. Intervals are from 2000 bootstrap draws of surfaces, paired for differences.

On the real surface of alanine dipeptide nobody knows the truth; asked is whether a method finds in bootstrap replicates
of the data what it finds in the whole (F1 of the two), and where.

    python -m benchmarks.repr.basins --work runs/basins                # all parts that are missing, then claims, JSON
    python -m benchmarks.repr.basins --work runs/basins --only torsion # one part: tune, a family, alanine, maps
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.repr.average_precision import average_precision
from benchmarks.repr.shipped_maps import maps
from benchmarks.result import Claim, write_result
from mlsim.analysis.surfaces.surface import FreeEnergySurface
from mlsim.repr.dynamic_head import minima, periodic
from mlsim.repr.dynamic_head.detector import Detector
from mlsim.repr.dynamic_head.scenes import contacts, landscape
from mlsim.repr.dynamic_head.scenes.scene import Detections
from mlsim.seeds import numpy_stream
from mlsim.shapes import Floats

QUESTION = __doc__.splitlines()[0]
SURFACE = Path(__file__).parents[2] / "systems" / "alanine-dipeptide" / "reference" / "surface-seed-0001.npz"
SIZE = landscape.SIZE
#: Roots of the random streams: tuning, and everything that is reported.
TUNING, REPORTED = 500, 900
FRAMES = (1000, 5000, 30000)
PARTS = ("tune", "fourier", "torsion", "mixture", "alanine", "maps")
#: A method: a sampled periodic surface (kT) in, boxes [n, 4] in pixels of the image out.
Method = Callable[[Floats], Floats]


def by_detector(model: Detector, score: float, limit: float) -> Method:
    """The trained detector."""
    return lambda surface: periodic.detect(model, landscape.image_of(surface), score=score, limit=limit).boxes


def by_persistence(smooth: float, least: float) -> Method:
    """Persistent minima of the smoothed surface; smoothing in fractions of the cell."""

    def method(surface: Floats) -> Floats:
        bins = len(surface)
        flat = minima.smoothed(surface, smooth * bins, True)
        return minima.persistent(flat, least=least).boxes * (SIZE / bins)

    return method


def by_scipy(smooth: float, radius: float) -> Method:
    """Minimum filter; smoothing and radius in fractions of the cell."""

    def method(surface: Floats) -> Floats:
        bins = len(surface)
        found = minima.local(surface, radius=max(1, round(radius * bins)), smooth=smooth * bins)
        return found.boxes * (SIZE / bins)

    return method


def hits(truth: Floats, found: Floats) -> int:
    """Largest-overlap-first one-to-one matches with IoU >= 0.5, boxes of a torus in pixels."""
    if not len(truth) or not len(found):
        return 0
    ratio = periodic.periodic_overlap(truth, found, (SIZE, SIZE))
    count = 0
    while ratio.max() >= 0.5:
        a, b = np.unravel_index(ratio.argmax(), ratio.shape)
        ratio[a, :] = ratio[:, b] = -1.0
        count += 1
    return count


def counts(drawn: Sequence[landscape.Landscape], method: Method) -> Floats:
    """Per surface: right, found, true [n, 3]."""
    rows = []
    for one in drawn:
        found = method(one.sampled)
        rows.append((hits(one.boxes * SIZE, found), len(found), len(one.boxes)))
    return np.array(rows, dtype=np.float64)


def f1(rows: Floats) -> float:
    """F1 of pooled counts [n, 3]."""
    right, found, true = rows.sum(axis=0)
    return float(2.0 * right / max(1.0, found + true))


def surfaces(root: int, family: str, number: int, frames: int | None) -> list[landscape.Landscape]:
    """Periodic surfaces of a family."""
    return [
        landscape.landscape(numpy_stream(root, f"{family}/{frames}/{k}"), family, frames=frames) for k in range(number)
    ]


def makers(model: Detector) -> dict[str, Callable[..., Method]]:
    """How a method is made from its settings."""
    return {
        "detector": lambda score, limit: by_detector(model, score, limit),
        "persistence": by_persistence,
        "scipy": by_scipy,
    }


def tune(model: Detector) -> list[dict[str, Any]]:
    """The best settings of every method on ``mixture`` surfaces."""
    drawn = surfaces(TUNING, "mixture", 50, None)
    make, rows = makers(model), []
    grids: dict[str, list[tuple[float, ...]]] = {
        "persistence": list(itertools.product((0.02, 0.03, 0.04), (0.3, 0.5, 0.8, 1.1))),
        "scipy": list(itertools.product((0.02, 0.03, 0.04), (0.1, 0.15, 0.2, 0.25))),
    }
    tried = {name: [f1(counts(drawn, make[name](*values))) for values in grid] for name, grid in grids.items()}
    # A higher score keeps a subset of what a lower one finds: every surface is looked at once per limit.
    grids["detector"], tried["detector"] = [], []
    for limit in (0.3, 0.6):
        seen = {
            id(one.sampled): periodic.detect(model, landscape.image_of(one.sampled), score=0.3, limit=limit)
            for one in drawn
        }
        for score in (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6):

            def recalled(surface: Floats, score: float = score, seen: dict[int, Detections] = seen) -> Floats:
                found = seen[id(surface)]
                return found.boxes[found.scores >= score]

            grids["detector"].append((score, limit))
            tried["detector"].append(f1(counts(drawn, recalled)))
    for name, scores in tried.items():
        best = grids[name][int(np.argmax(scores))]
        rows.append({"part": "tuning", "method": name, "settings": list(best), "f1": round(max(scores), 4)})
    return rows


def family_rows(methods: dict[str, Method], family: str, number: int) -> list[dict[str, Any]]:
    """F1 of every method on one family and every number of frames, with the counts per surface."""
    rows = []
    for frames in FRAMES:
        drawn = surfaces(REPORTED, family, number, frames)
        for name, method in methods.items():
            table = counts(drawn, method)
            low, high = np.quantile(bootstrap(len(table), lambda pick, t=table: f1(t[pick])), [0.025, 0.975])
            right, found, true = table.sum(axis=0)
            rows.append(
                {
                    "part": "surfaces",
                    "family": family,
                    "frames": frames,
                    "method": name,
                    "surfaces": len(table),
                    "f1": round(f1(table), 4),
                    "interval": [round(low, 4), round(high, 4)],
                    "precision": round(right / max(1.0, found), 4),
                    "recall": round(right / max(1.0, true), 4),
                    "right_number": round(float((table[:, 1] == table[:, 2]).mean()), 4),
                    "right_found_true": table.astype(int).tolist(),
                }
            )
    return rows


def bootstrap(count: int, statistic: Callable[[Any], float]) -> Floats:
    """2000 values of ``statistic`` over draws of indices."""
    generator = numpy_stream(REPORTED, "bootstrap")
    return np.array([statistic(generator.integers(count, size=count)) for _ in range(2000)])


def alanine(methods: dict[str, Method]) -> list[dict[str, Any]]:
    """What every method finds on the explicit-solvent surface, and in its bootstrap replicates."""
    surface = FreeEnergySurface.load(SURFACE)
    with np.errstate(divide="ignore"):
        whole, replicates = -np.log(surface.probability), -np.log(surface.replicates[:40])
    rows = []
    for name, method in methods.items():
        # The picture has phi to the right: transposed.
        boxes = method(whole.T - whole.min())
        table = []
        for replicate in replicates:
            found = method(replicate.T - replicate.min())
            table.append((hits(boxes, found), len(found), len(boxes)))
        degrees = np.round(boxes * 360.0 / SIZE - 180.0, 0).tolist()
        again = f1(np.array(table, dtype=np.float64))
        rows.append({"part": "alanine dipeptide", "method": name, "phi_psi_boxes_deg": degrees, "f1_replicates": again})
    return rows


def maps_precision(model: Detector) -> list[dict[str, Any]]:
    """Average precision of the shipped detector on fresh scenes of the kind it was trained on."""
    scenes = [maps(numpy_stream(REPORTED, f"maps/{k}")) for k in range(200)]
    found: list[Detections] = [model.detect(scene.image, score=0.02) for scene in scenes]
    names = ", ".join(("basin", *contacts.CLASSES))
    return [{"part": "maps", "classes": names, "scenes": len(scenes), **average_precision(scenes, found)}]


def claims(rows: Sequence[dict[str, Any]]) -> list[Claim]:
    """Differences of F1 with paired intervals."""
    result = []
    held_out = ("fourier", "torsion")
    cases = [("held-out generators", held_out, FRAMES), ("fresh mixtures", ("mixture",), FRAMES)]
    cases += [(f"held-out generators, {frames} frames", held_out, (frames,)) for frames in FRAMES]
    for label, families, chosen in cases:
        here = [r for r in rows if r.get("family") in families and r["frames"] in chosen]
        pooled = {
            name: np.array([c for r in here if r["method"] == name for c in r["right_found_true"]], dtype=np.float64)
            for name in ("detector", "persistence", "scipy")
        }
        ours = pooled["detector"]
        for other in ("persistence", "scipy"):
            theirs = pooled[other]
            spread = bootstrap(len(ours), lambda pick, a=ours, b=theirs: f1(a[pick]) - f1(b[pick]))
            low, high = np.quantile(spread, [0.025, 0.975])
            text = f"basins, F1 at IoU 0.5, {label}: detector {f1(ours):.3f} minus {other} {f1(theirs):.3f}"
            bound = f"> 0; 95 % interval [{low:.3f}, {high:.3f}]"
            result.append(Claim("6.1", text, f1(ours) - f1(theirs), bound, bool(low > 0.0)))
    return result


def main() -> None:
    """Compute what is missing; with everything there, write the result."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--work", type=Path, default=Path("runs/basins"))
    parser.add_argument("--surfaces", type=int, default=30, help="surfaces per family and number of frames")
    parser.add_argument("--detector", default="maps")
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.work.mkdir(parents=True, exist_ok=True)
    model = Detector.from_pretrained(given.detector)
    for part in (given.only,) if given.only else PARTS:
        path = given.work / f"{part}.json"
        if path.is_file():
            continue
        if part == "tune":
            rows = tune(model)
        elif part == "maps":
            rows = maps_precision(model)
        else:
            tuned = json.loads((given.work / "tune.json").read_text())
            methods = {r["method"]: makers(model)[r["method"]](*r["settings"]) for r in tuned}
            rows = alanine(methods) if part == "alanine" else family_rows(methods, part, given.surfaces)
        path.write_text(json.dumps(rows))
        for row in rows:
            print({name: value for name, value in row.items() if name != "right_found_true"}, flush=True)
    if not given.only:
        rows = [row for part in PARTS for row in json.loads((given.work / f"{part}.json").read_text())]
        write_result("repr.basins", QUESTION, rows, claims(rows))


if __name__ == "__main__":
    main()
