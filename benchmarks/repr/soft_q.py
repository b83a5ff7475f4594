"""Does soft Q-learning find rare good sequences where likelihood and one-step losses fail, and save simulations?

Four parts, every row kept as soon as it is done, so that an interrupted run goes on where it stopped:

* ``exact``    losses at the soft optimum of a two-letter problem solved by hand;
* ``motif``    data of which 2 % are good: success rate of 1,000 samples, for every loss and baseline;
* ``tasks``    an attack on a frozen classifier and a prompt for a frozen language model, at equal calls of the reward;
* ``peptide``  peptides whose reward is half a simulation, at equal numbers of simulations.

Settings of ``motif`` were chosen on seeds 100 and 101; reported are seeds 1-3. With the published ones (rewards of
+-50, no value gradient) the pilots reached 0.89 and 0.91 after 1,500 and 1,050 steps, but seed 1 has not left the
ground after 1,200; with the value gradient and rewards of +-10 the pilot reached 0.996. Single-step is run with the
same settings but for the value gradient, which is a multi-step residual itself.

    python -m benchmarks.repr.soft_q --work runs/soft_q                     # all missing rows, then the claims
    python -m benchmarks.repr.soft_q --work runs/soft_q --parts motif
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from benchmarks.repr.soft_optimum import soft_optimum
from benchmarks.repr.soft_q_tasks import TASKS, Task, peptide, random_strings
from benchmarks.result import Claim, write_result
from mlsim.repr.soft_q import path_losses
from mlsim.repr.soft_q.alphabet import Alphabet
from mlsim.repr.soft_q.diversity import mean_distance, novelty, unique_fraction
from mlsim.repr.soft_q.search import SoftQ
from mlsim.repr.soft_q.settings import SoftQSettings
from mlsim.seeds import torch_stream

PARTS = ("exact", "motif", "tasks", "peptide")
SEEDS = (1, 2, 3)
SAMPLES = 1000
MODEL = {"layers": 1, "width": 64}
MOTIF = {"steps": 1200, "learning_rate": 3e-3, "batch_size": 64, "polyak": 0.05, "reward_scale": 10.0, "model": MODEL}
#: Rewards of +-50, target share 0.001, V never told the reward; step size chosen on seeds 100 and 101.
PUBLISHED = {"learning_rate": 2e-3, "polyak": 1e-3, "reward_scale": 50.0}
#: label -> settings on top of MOTIF, seeds
METHODS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "multi": ({"method": "multi", "value_weight": 0.5}, SEEDS),
    "combined": ({"method": "combined", "value_weight": 0.5}, SEEDS),
    "single": ({"method": "single"}, SEEDS),
    "mle": ({"method": "mle", "learning_rate": 2e-3}, SEEDS),
    "multi, as published": ({"method": "multi", **PUBLISHED}, SEEDS[:1]),
    "combined, as published": ({"method": "combined", **PUBLISHED}, SEEDS[:1]),
    "single, as published": ({"method": "single", **PUBLISHED}, SEEDS[:1]),
    "mle+pg": ({"method": "mle+pg"}, SEEDS),
    "pg": ({"method": "pg"}, SEEDS[:1]),
    "vanilla": ({"method": "vanilla"}, SEEDS[:1]),
    "multi, off-policy alone": ({"method": "multi", "value_weight": 0.5, "mixing": "off"}, SEEDS[:1]),
}
CALLS = 400
TASK_SEEDS = tuple(range(1, 13))
PEPTIDE_CALLS, PEPTIDE_SEEDS = 24, tuple(range(1, 13))
#: Task and method -> other settings than for peptides, where rewards are dear. The best prefixes of the attack earn
#: 10 to 15 of 100: mapped like full marks, their rewards are all but equal and soft Q-learning finds nothing (0.6 per
#: call, as blind choice), so that it is told the range. Chosen on seeds 101-106 for both methods.
CHEAP: dict[tuple[str, str], dict[str, Any]] = {
    ("attack", "soft-q"): {"written": 8, "write_every": 10, "reward_high": 15.0, "reward_scale": 10.0},
    ("attack", "pg"): {"written": 32, "learning_rate": 1e-2},
    ("prompt", "soft-q"): {"written": 8, "write_every": 10},
    ("prompt", "pg"): {"written": 32, "learning_rate": 1e-2, "entropy_weight": 0.1},
}
#: Few calls: small batches are written seldom, learnt from often, and remembered.
FRUGAL = {
    "method": "multi", "mixing": "mixed", "steps": 2000, "batch_size": 32, "written": 4, "write_every": 15,
    "memory": 1000, "learning_rate": 2e-3, "polyak": 0.05, "reward_scale": 5.0, "value_weight": 0.5, "model": MODEL,
}  # fmt: skip
ON_POLICY = {
    "method": "pg", "steps": 400, "written": 4, "learning_rate": 3e-3, "entropy_weight": 0.02, "reward_scale": 50.0,
    "model": MODEL,
}  # fmt: skip


def exact() -> list[dict[str, Any]]:
    """Loss at the optimum that was found by hand: exp r = 3, 1, 2, 2 for aa, ab, ba, bb."""
    alphabet = Alphabet("ab", 2, 2)
    reward = {"aa": math.log(3), "ab": 0.0, "ba": math.log(2), "bb": math.log(2)}
    optimum = soft_optimum(alphabet, reward.__getitem__)
    # by hand: Q(a) = Q(b) = log 4 at the beginning, the rewards behind it
    hand = torch.full((4, 2, 4), -torch.inf, dtype=torch.float64)
    hand[:, 0, 2:] = math.log(4)
    hand[:2, 1, 2:] = torch.tensor([reward["aa"], reward["ab"]], dtype=torch.float64)
    hand[2:, 1, 2:] = torch.tensor([reward["ba"], reward["bb"]], dtype=torch.float64)
    actions, taken = alphabet.encode(list(reward))
    values = torch.tensor(list(reward.values()), dtype=torch.float64)
    apart = (optimum.logits(actions) - hand).nan_to_num(0.0).abs().max().item()
    kinds: tuple[path_losses.Consistency, ...] = ("vanilla", "single", "multi", "combined")
    return [
        {
            "part": "exact",
            "method": kind,
            "loss": path_losses.consistency(kind, hand, hand, actions, taken, values).item(),
            "table_from_hand": apart,
        }
        for kind in kinds
    ]


def motif(label: str, seed: int) -> dict[str, Any]:
    """Success of one method on the noisy data."""
    task = TASKS["motif"](seed)
    settings = SoftQSettings.parse({**MOTIF, **METHODS[label][0]})
    search = SoftQ(task.alphabet, task.reward, settings, task.given, task.known, seed)
    began = time.process_time()
    search.fit(log_every=100)
    drawn = search.sample(SAMPLES, torch_stream(seed, "evaluation"))
    return {
        "part": "motif",
        "method": label,
        "seed": seed,
        "success": sum(task.reward(drawn)) / 100 / SAMPLES,
        "beam_success": sum(task.reward([s for s, _ in search.policy.beam(10)])) / 1000,
        "unique": unique_fraction(drawn),
        "novel": novelty(drawn, task.given),
        "distance": mean_distance(drawn),
        "entropy": search.history[-1].get("entropy", float("nan")) if settings.writes else None,
        "calls": search.reward.calls,
        "cpu_s": time.process_time() - began,
    }


def frugal(
    name: str, task: Task, method: str, seed: int, calls: int, other: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """A search with at most ``calls`` evaluations: soft Q-learning with memory, policy gradient, or blind choice."""
    began = time.process_time()
    if method == "random":
        order = random_strings(task.alphabet, calls, seed)
        values = list(task.reward(order))
    else:
        settings = SoftQSettings.parse({**(FRUGAL if method == "soft-q" else ON_POLICY), **other, "budget": calls})
        search = SoftQ(task.alphabet, task.reward, settings, seed=seed)
        search.fit()
        order, values = list(search.reward.known), list(search.reward.known.values())
    best = np.argsort(values)[::-1][:10]
    return {
        "part": name,
        "method": method,
        "seed": seed,
        "calls": len(values),
        "reward_per_call": float(np.mean(values)),
        "second_half": float(np.mean(values[len(values) // 2 :])),
        "best": float(np.max(values)),
        "top_ten": float(np.mean(np.array(values)[best])),
        "distance_of_top_ten": mean_distance([order[k] for k in best]),
        "best_sequence": order[int(best[0])],
        "cpu_s": time.process_time() - began,
    }


def jobs(work: Path) -> dict[str, Callable[[], list[dict[str, Any]]]]:
    """Every row's name and how it is made."""
    table: dict[str, Callable[[], list[dict[str, Any]]]] = {"exact": exact}
    for label, (_, seeds) in METHODS.items():
        for seed in seeds:
            table[f"motif/{label}/{seed}"] = lambda m=label, s=seed: [motif(m, s)]  # type: ignore[misc]
    for method in ("soft-q", "pg", "random"):
        for seed in TASK_SEEDS:
            for name in ("attack", "prompt"):
                table[f"tasks/{name}/{method}/{seed}"] = lambda n=name, m=method, s=seed: [  # type: ignore[misc]
                    frugal(n, TASKS[n](s), m, s, CALLS, CHEAP.get((n, m), {}))
                ]
        for seed in PEPTIDE_SEEDS:
            table[f"peptide/{method}/{seed}"] = lambda m=method, s=seed: [  # type: ignore[misc]
                frugal("peptide", peptide(work), m, s, PEPTIDE_CALLS)
            ]
    return table


def claims_of(rows: list[dict[str, Any]]) -> list[Claim]:
    """What 6.3 asks for."""
    claims: list[Claim] = []

    def values(part: str, method: str, key: str) -> list[float]:
        return [row[key] for row in rows if row["part"] == part and row["method"] == method]

    def mean(part: str, method: str, key: str) -> float:
        found = values(part, method, key)
        return float(np.mean(found)) if found else float("nan")

    worst = max((row["loss"] for row in rows if row["part"] == "exact"), default=float("nan"))
    claims.append(
        Claim("6.3", "largest loss at the hand-solved soft optimum of two letters", worst, "< 1e-12", worst < 1e-12)
    )
    for method, bound, holds in (
        ("multi", "> 0.8", lambda v: v > 0.8),
        ("combined", "> 0.8", lambda v: v > 0.8),
        ("single", "< 0.1 (fails)", lambda v: v < 0.1),
        ("mle", "< 0.05 (the data's 0.02)", lambda v: v < 0.05),
    ):
        count = len(values("motif", method, "success"))
        found = mean("motif", method, "success") if count else 0.0
        text = f"motif success, {method}, mean of {count} seeds" if count else f"motif success, {method}: NOT MEASURED"
        claims.append(Claim("6.3", text, found, bound, bool(count) and holds(found)))
    for part in ("peptide", "attack", "prompt"):
        for other in ("pg", "random"):
            own, his = (np.array(values(part, m, "reward_per_call")) for m in ("soft-q", other))
            if len(own) < 2 or len(his) < 2:
                continue
            gain = float(own.mean() - his.mean())
            error = 1.96 * float(np.sqrt(own.var(ddof=1) / len(own) + his.var(ddof=1) / len(his)))
            text = f"{part}: reward per call, soft-q less {other} (+- {error:.2g}, {len(own)} seeds)"
            claims.append(Claim("6.3", text, gain, "> its 95 % half width", gain > error))
    spread = mean("peptide", "soft-q", "distance_of_top_ten")
    claims.append(Claim("6.3", "peptide: mean distance among soft-q's ten best", spread, "> 0.2", spread > 0.2))
    return claims


def main() -> None:
    """Make the missing rows and write the result when all parts are there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/soft_q"))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--only", default="", help="rows whose name begins like this")
    given = parser.parse_args()
    table = jobs(given.work)
    for name, make in table.items():
        path = given.work / "rows" / (name.replace("/", "--").replace(" ", "_") + ".json")
        if name.split("/")[0] not in given.parts or not name.startswith(given.only) or path.is_file():
            continue
        print(name, flush=True)
        rows = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
        print(rows[0], flush=True)
    rows = [row for p in sorted((given.work / "rows").glob("*.json")) for row in json.loads(p.read_text())]
    write_result("repr.soft_q", __doc__.splitlines()[0], rows, claims_of(rows))


if __name__ == "__main__":
    main()
