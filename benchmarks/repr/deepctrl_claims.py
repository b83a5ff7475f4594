"""Claims of the DeepCTRL article and of 6.2, each with its number over seeds.

"Reproduced" is a claim whose ``holds`` is true. Means are over seeds; a claim about every seed takes the worst one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.result import Claim
from mlsim.repr.deepctrl.control import is_monotone

#: A ratio may fall by this much between neighbouring strengths and still be called monotone (0.5 % of the inputs).
SLACK = 0.005
_WANTED = 0.9


def claims_of(rows: list[dict[str, Any]]) -> list[Claim]:
    """Everything that the rows can answer."""
    claims: list[Claim] = []

    def claim(text: str, value: float, bound: str, holds: bool) -> None:
        claims.append(Claim("6.2", text, value, bound, holds))

    def of(part: str, method: str) -> list[dict[str, Any]]:
        return [r for r in rows if r["part"] == part and r["method"] == method]

    if dialled := of("pendulum", "controlled"):
        _pendulum(claim, dialled, of("pendulum", "task"), of("pendulum", "task+rule"))
    for row in (r for r in rows if r["part"] == "variants"):
        _variant(claim, row, dialled)
    if moved := of("motion", "controlled"):
        _motion(claim, moved, of("motion", "task"), of("motion", "task+rule"))
    if heated := of("heat", "controlled"):
        _heat(claim, heated, of("heat", "task"))
    return claims


def column(row: dict[str, Any], part: str, key: str, low: float = -9.0, high: float = 9.0) -> list[float]:
    """One column of a sweep between two strengths."""
    return [s[key] for s in row[part] if low <= s["alpha"] <= high]


def at(row: dict[str, Any], part: str, alpha: float) -> dict[str, float]:
    """One position of a sweep."""
    found: dict[str, float] = min(row[part], key=lambda s: abs(s["alpha"] - alpha))
    return found


def _pendulum(claim: Any, dialled: list[Any], task: list[Any], both: list[Any]) -> None:
    ratios = [column(r, "test", "ratio", 0, 1) for r in dialled]
    good = sum(is_monotone(r, SLACK) for r in ratios)
    claim("pendulum: seeds whose ratio rises with alpha over [0, 1]", good, f">= {len(dialled)}", good == len(dialled))
    for low, high in ((0.0, 1.0), (-0.4, 1.4)):
        parts = [column(r, "test", "ratio", low, high) for r in dialled]
        spreads = [max(c) - min(c) for c in parts]
        label = f"pendulum: range of the ratio over [{low:g}, {high:g}]"
        claim(f"{label}, mean of seeds", float(np.mean(spreads)), "> 0.4", float(np.mean(spreads)) > 0.4)
        claim(f"{label}, worst seed", min(spreads), "> 0.4", min(spreads) > 0.4)
    deep = 0
    for row in dialled:
        errors = column(row, "test", "mae")
        k = int(np.argmin(errors))
        deep += 0 < k < len(errors) - 1 and min(errors[0], errors[-1]) > 1.2 * errors[k]
    claim("pendulum: seeds with a U-shaped error over [-0.4, 1.4]", deep, f">= {len(dialled)}", deep == len(dialled))
    inside = sum(0 < at_least(row) <= 1 for row in dialled)
    claim(
        "article: the least error lies at an alpha above 0 (seeds)",
        inside,
        f">= {len(dialled)}",
        inside == len(dialled),
    )
    beyond = min(at(r, "test", 1.4)["ratio"] for r in dialled)
    claim("pendulum: ratio at alpha = 1.4, never seen in training, worst seed", beyond, "> 0.9", beyond > 0.9)
    strong = min(at(r, "test", 0.8)["ratio"] for r in dialled)
    claim("article: ratio above 0.9 for alpha > 0.6, worst seed at 0.8", strong, "> 0.9", strong > 0.9)
    if task:
        best = float(np.mean([min(column(r, "test", "mae", 0, 1)) for r in dialled]))
        plain = float(np.mean([r["test"][0]["mae"] for r in task]))
        claim("article: smaller error than the task alone (ratio of the means)", best / plain, "< 1", best < plain)
    if both:
        matched = [
            _error_at_ratio(r, b["test"][0]["ratio"]) / b["test"][0]["mae"] for r, b in zip(dialled, both, strict=False)
        ]
        value = float(np.mean(matched))
        claim("article: error no larger than task+rule at the same ratio (quotient)", value, "<= 1", value <= 1)
    gaps = []
    for row in dialled:
        wanted = min((s for s in row["valid"] if s["alpha"] >= 0), key=lambda s: s["mae"])["ratio"]
        chosen = min((s for s in row["test"] if s["alpha"] >= 0), key=lambda s: abs(s["ratio"] - wanted))
        gaps.append(chosen["mae"] / min(column(row, "test", "mae", 0, 9)))
    value = float(np.mean(gaps))
    claim(
        "article: the alpha whose test ratio is the best validation ratio has nearly the least test error (quotient)",
        value,
        "< 1.1",
        value < 1.1,
    )


def at_least(row: dict[str, Any]) -> float:
    """Strength with the smallest test error."""
    return float(min(row["test"], key=lambda s: s["mae"])["alpha"])


def _error_at_ratio(row: dict[str, Any], ratio: float) -> float:
    reached = [s["mae"] for s in row["test"] if s["ratio"] >= ratio]
    return min(reached) if reached else float("inf")


def _variant(claim: Any, row: dict[str, Any], dialled: list[Any]) -> None:
    reference = next((r for r in dialled if r["seed"] == row["seed"]), None)
    if reference is None:
        return
    worse = at(row, "test", 0.0)["mae"] / at(reference, "test", 0.0)["mae"]
    name = row["variant"]
    if name == "beta 1":
        narrow = [max(c) - min(c) for c in (column(r, "test", "ratio", 0, 1) for r in (row, reference))]
        claim(
            "article: beta = 1 controls less: its range of the ratio less that of 0.1",
            narrow[0] - narrow[1],
            "< 0",
            narrow[0] < narrow[1],
        )
    else:
        claim(f"{name}: error at alpha = 0 over that of the default (collapse)", worse, "> 1.5", worse > 1.5)


def _motion(claim: Any, dialled: list[Any], task: list[Any], both: list[Any]) -> None:
    ratios = [column(r, "test", "ratio", 0, 1) for r in dialled]
    good = sum(is_monotone(r, SLACK) for r in ratios)
    claim(
        "motion: seeds whose share of sound structures rises with alpha",
        good,
        f">= {len(dialled)}",
        good == len(dialled),
    )
    spread = min(max(r) - min(r) for r in ratios)
    claim("motion: range of the share over [0, 1], worst seed", spread, "> 0.4", spread > 0.4)
    if task:
        sound = float(np.mean([r["test"][0]["ratio"] for r in task]))
        claim("motion: share of sound structures of the task alone", sound, "< 0.1 (none)", sound < 0.1)
        price = float(np.mean([_error_at_ratio(r, _WANTED) for r in dialled])) / float(
            np.mean([r["test"][0]["mae"] for r in task])
        )
        claim("motion: error at 90 % sound structures over that of the task alone", price, "< 1.15", price < 1.15)
    if both:
        matched = [
            _error_at_ratio(r, b["test"][0]["ratio"]) / b["test"][0]["mae"] for r, b in zip(dialled, both, strict=False)
        ]
        value = float(np.mean(matched))
        claim("motion: error against task+rule at the same share (quotient)", value, "<= 1.05", value <= 1.05)
    kept = float(np.mean([at(r, "hot", r["alpha_500K_without_labels"])["ratio"] for r in dialled]))
    left = float(np.mean([at(r, "hot", r["alpha_300K"])["ratio"] for r in dialled]))
    claim(
        "motion: share at 500 K, alpha chosen there without labels, less that of the 300 K alpha",
        kept - left,
        "> 0",
        kept > left,
    )


def _heat(claim: Any, dialled: list[Any], task: list[Any]) -> None:
    ratios = [column(r, "hot", "ratio", 0, 1) for r in dialled]
    spread = float(np.mean([r[-1] - r[0] for r in ratios]))
    claim("heat: ratio above the known temperatures at alpha = 1 less that at 0, mean", spread, ">= 0", spread >= 0)
    strong = min(r[-1] for r in ratios)
    claim("heat: ratio above the known temperatures at alpha = 1, worst seed", strong, "> 0.9", strong > 0.9)
    if task:
        best = float(np.mean([min(column(r, "hot", "mae", 0, 1)) for r in dialled]))
        plain = float(np.mean([r["hot"][0]["mae"] for r in task]))
        claim(
            "heat: least error above the known temperatures over that of the task alone",
            best / plain,
            "< 1",
            best < plain,
        )
