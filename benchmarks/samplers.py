"""Which sampler is best at equal gradient evaluations and particles, and does E-SVGD keep its promises?

One table: every sampler of ``mlsim.samplers.sampler_catalog`` on DW-4, LJ-13, C4 and the circles, same starts, same
budget of gradient evaluations per particle, five seeds; the iid floor (reference draws of the same number) stands in
every row. Bandwidths come from the median rule. Rows are computed one seed at a time and kept in the JSON file, so that
an interrupted run goes on where it stopped.

    python -m benchmarks.samplers run        # all missing rows, then the exact checks, speed and claims
    python -m benchmarks.samplers run --only lj13/
    python -m benchmarks.samplers table      # print the table
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.published import PUBLISHED
from benchmarks.sampler_claims import claims_of
from mlsim.samplers import evaluate, sample
from mlsim.samplers.groups.symmetry import cyclic, trivial
from mlsim.samplers.kernels.bandwidth import Median
from mlsim.samplers.kernels.discrepancy import discrepancy
from mlsim.samplers.kernels.stein_kernel import ExplicitKernel
from mlsim.samplers.methods.svgd import Plain, svgd
from mlsim.samplers.sampler_catalog import SamplerSettings, stein_kernel
from mlsim.samplers.targets import Target, by_name, load, trial
from mlsim.samplers.targets.clusters import DW4_MINIMA
from mlsim.samplers.targets.scores import descend, nearest_minimum, quench
from mlsim.seeds import torch_stream

RESULT = Path(__file__).resolve().parent / "results" / "samplers.json"
SEEDS = (1, 2, 3, 4, 5)
#: Never looked at while anything was being chosen.
FRESH = (6, 7, 8, 9, 10)
#: The same for what was missed on the seeds before, and for minima along the run.
LATEST = (11, 12, 13, 14, 15)
#: The same for kinetic E-SVGD, whose friction was raised after seed 11.
LAST = (16, 17, 18, 19, 20)
AGAIN = (
    "mala",
    "hmc",
    "tempering",
    "esvgd+metropolised",
    "metropolised-esvgd",
    "noisy-esvgd",
    "esvgd",
)
SORTED = {"kernel": "pullback"}
#: Most particles that are quenched and given a Stein matrix.
SCORED = 500
ALL = ("svgd", "esvgd", "noisy-esvgd", "metropolised-esvgd", "esvgd+metropolised", "ula", "mala", "hmc", "tempering")
#: target, particles, gradients, extra settings, label of the extra settings, samplers, seeds
PLAN: tuple[tuple[str, int, int, dict[str, Any], str, tuple[str, ...], tuple[int, ...]], ...] = (
    ("dw4", 100, 500, {}, "", ALL, SEEDS),
    ("lj13", 64, 4000, {"hottest": 0.7, "levels": 2}, "", ("ula", "mala", "hmc", "tempering"), SEEDS),
    ("lj13", 64, 4000, SORTED | {"metropolised_weight": 0.02}, "sorted distances", ("metropolised-esvgd",), SEEDS),
    ("c4", 50, 500, {}, "", ("svgd", "esvgd", "metropolised-esvgd", "mala", "hmc", "tempering"), SEEDS),
    ("circles", 20, 500, {}, "", ("svgd", "esvgd", "metropolised-esvgd", "mala", "hmc", "tempering"), SEEDS),
    ("lj13", 64, 4000, SORTED | {"noisy_weight": 0.02}, "sorted distances", ("noisy-esvgd",), SEEDS[:3]),
    ("lj13", 64, 1000, SORTED, "sorted distances", ("metropolised-esvgd",), SEEDS[:2]),
    ("lj13", 64, 1000, {}, "", ("mala",), SEEDS[:2]),
    ("lj13", 64, 800, {}, "", ("svgd",), SEEDS[:2]),
    ("lj13", 64, 800, SORTED, "sorted distances", ("esvgd",), SEEDS[:2]),
    ("dw4", 100, 500, {"anneal_start": 1.0}, "no annealing", ("svgd", "esvgd"), SEEDS[:3]),
    ("dw4", 100, 500, {"kernel": "pullback"}, "pullback", ("esvgd",), SEEDS[:3]),
    ("dw4", 100, 500, {"bandwidth": "ksd"}, "ksd bandwidth", ("esvgd",), SEEDS[:2]),
    ("dw4", 100, 500, {"kernel": "alignment"}, "alignment", ("esvgd",), SEEDS[:1]),
    ("dw4", 100, 500, {}, "fresh seeds", ALL, FRESH),
    ("dw4", 100, 500, {}, "seeds 11-15", AGAIN, LATEST),
    ("dw4", 100, 500, {}, "seeds 16-20", ("kinetic-esvgd", "esvgd+kinetic"), LAST),
    ("lj13", 64, 4000, {"kinetic_weight": 0.02}, "seeds 16-20", ("kinetic-esvgd",), LAST),
    ("lj13", 64, 4000, {}, "seeds 11-15", ("mala", "hmc"), LATEST),
    ("dw4", 2000, 500, {}, "", ("mala", "hmc", "tempering"), LATEST[:2]),
    ("dw4", 20, 500, {}, "", ("svgd", "esvgd", "metropolised-esvgd", "mala"), SEEDS),
)
NOTES = (
    "Kinetic E-SVGD: the weights (0.03 on DW-4, 0.02 on LJ-13) were set on seeds 100 and 101 by the virial and Stein "
    "discrepancies, which prefer small weights, 0 included; mean energies of these seeds were seen too. The friction "
    "was raised from 0.3 to 1 / length after DW-4 seed 11 had come out hot (energy W2 0.88; that row is not kept), on "
    "seeds 100 and 101; so kinetic rows are seeds 16-20. The time step was not tuned. Rows 'sorted distances' of LJ-13 "
    "are older: that kernel breaks the Stein identity, and smoothed distances are the default now. Seeds 11-20 were "
    "first looked at after all other settings had been fixed. "
    "The weights of the Stein velocity in noisy and Metropolised E-SVGD were raised 30 and 10 times after a first run "
    "on seeds 1-5 (energy W2 on DW-4 then 0.51 and 0.45), to the values with the smallest Stein discrepancy on seeds "
    "100 and 101. The rows 'fresh seeds' (6-10) repeat DW-4 on seeds not seen before. On LJ-13 the weight is 0.02: "
    "larger ones slow the relaxation down (rows with 1,000 gradients)."
)


def one(target: Target, method: str, count: int, gradients: int, extra: dict[str, Any], seed: int) -> dict[str, Any]:
    """One run and its metrics."""
    known = {"method": method, "gradients": gradients, "length": target.length}
    every = (
        max(1, gradients // (10 * cost(method, extra)))
        if target.name == "dw4" and seed in LATEST + LAST and count <= SCORED
        else 0
    )
    outcome = trial.run(target, SamplerSettings.parse(known | extra), count, seed, every)
    x = outcome.samples.positions
    found: dict[str, Any] = {"seed": seed, "gradients": outcome.samples.gradients}
    found |= {"wall_s": outcome.wall_s, "cpu_s": outcome.cpu_s} | outcome.metrics
    if count > SCORED:
        return found
    if target.name in ("dw4", "c4", "circles"):
        kernel = stein_kernel(target.symmetry, SamplerSettings(method="esvgd"))
        _, score = evaluate(target.log_density, x)
        found["ksd"] = discrepancy(kernel, x, target.symmetry.project(score), 1.0)
    if target.name == "dw4":
        found["long_edges"] = trial.edge_shares(x).tolist()
        _, energies = quench(target.log_density, x)
        which = nearest_minimum(energies, tuple(energy for energy, _ in DW4_MINIMA))
        found["minima"] = [int((which == k).sum()) for k in range(5)]
        found["unquenched"] = int((which < 0).sum())
    if every:
        _, passed = descend(target.log_density, outcome.samples.trajectory.flatten(0, 1))
        seen = nearest_minimum(passed, tuple(energy for energy, _ in DW4_MINIMA))
        found["visited_minima"] = [int((seen == k).sum()) for k in range(5)]
        found["visited"] = len(passed)
    return found


def cost(method: str, extra: dict[str, Any]) -> int:
    """Gradients per particle of one step, so that ten snapshots are taken of every run."""
    settings = SamplerSettings.parse({"method": method} | extra)
    return {"hmc": settings.leaps, "tempering": settings.levels}.get(method, 1)


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of every number."""
    out: dict[str, Any] = {}
    for key, value in runs[0].items():
        if key == "seed":
            continue
        values = np.array([run[key] for run in runs], dtype=float)
        if isinstance(value, list):
            out[key] = values.mean(0).tolist()
        else:
            out[key] = float(values.mean())
            out[f"{key}_over_seeds_sd"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return out


def true_minima() -> list[float]:
    """Shares of the five DW-4 minima among 1,000 quenched reference configurations."""
    x = load("dw4").draw(1000, torch_stream(0, "minima"))
    _, energies = quench(by_name("dw4").log_density, x)
    which = nearest_minimum(energies, tuple(energy for energy, _ in DW4_MINIMA))
    return [float((which == k).double().mean()) for k in range(5)]


def exact_checks() -> dict[str, float]:
    """Orbit identity, equivariance of one moved particle, and the variance of N(0, 1)."""
    generator = torch_stream(0, "exact")
    group = cyclic(4)
    kernel, plain = ExplicitKernel(group), ExplicitKernel(trivial(2))
    x = torch.randn((20, 2), generator=generator, dtype=torch.float64) * 2.0
    copies = x
    target = by_name("c4")
    bound = {"orbit_identity": 0.0}
    elements = group.elements(torch.float64)
    for _ in range(20):
        _, score = evaluate(target.log_density, x)
        copies = torch.cat([group.act(g, x) for g in elements])
        _, scores = evaluate(target.log_density, copies)
        small, large = kernel.field(x, x, score, 0.7, None), plain.field(copies, copies, scores, 0.7, None)
        wanted = torch.cat([group.act(g, small) for g in elements])
        bound["orbit_identity"] = max(bound["orbit_identity"], float((large - wanted).abs().max()))
        x = x + 0.5 * small
    dw4 = by_name("dw4")
    exact = stein_kernel(dw4.symmetry, SamplerSettings(method="esvgd"))
    y = load("dw4").draw(50, generator)
    _, score = evaluate(dw4.log_density, y)
    before = exact.field(y, y, score, 0.7, None)
    element = dw4.symmetry.draw(generator, torch.float64)
    moved = y.clone()
    moved[7] = dw4.symmetry.act(element, y[7])
    _, score = evaluate(dw4.log_density, moved)
    after = exact.field(moved, moved, score, 0.7, None)
    others = torch.arange(50) != 7
    bound["field_size"] = float(before.norm(dim=1).mean())
    bound["others_change"] = float((after - before)[others].abs().max()) / bound["field_size"]
    turned = after[7] - dw4.symmetry.act(element, before[7])
    bound["own_turn_error"] = float(turned.abs().max()) / bound["field_size"]
    gaussian = by_name("gaussian1")
    start = gaussian.start(200, generator, torch.float64)
    runner = svgd(gaussian.log_density, 1, Median(), Plain(0.5))
    bound["variance"] = float(sample(runner, start, 2000, generator).positions.var(unbiased=False))
    return bound


def speed() -> list[dict[str, float]]:
    """Milliseconds of one exact DW-4 field by particles, one thread, best of a few.

    CPU time stands beside wall time because the machine may be shared (its load average is recorded).
    """
    target = by_name("dw4")
    kernel = stein_kernel(target.symmetry, SamplerSettings(method="esvgd"))
    rows = []
    for count, repeats in ((50, 15), (100, 15), (200, 25), (500, 3), (1000, 2), (2000, 1)):
        x = load("dw4").draw(count, torch_stream(0, "speed"))
        _, score = evaluate(target.log_density, x)
        walls, cpus = [], []
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            kernel.field(x, x, score, 0.7, None)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        row = {"particles": count, "threads": 1, "field_ms": min(walls) * 1e3, "cpu_ms": min(cpus) * 1e3}
        rows.append(row | {"load_average": os.getloadavg()[0]})
    return rows


def save(data: dict[str, Any]) -> None:
    """Write the result file, claims included."""
    data["claims"] = claims_of(data)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(data, indent=1) + "\n")


def run(only: str) -> None:
    """Compute the missing rows whose key contains ``only`` (all of them for an empty string)."""
    torch.set_num_threads(1)
    data: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    data.setdefault("rows", [])
    data["question"] = (__doc__ or "").splitlines()[0]
    data["command"] = "python -m benchmarks.samplers run"
    cpu = platform.processor() or platform.machine()
    data["machine"] = {"cpu": cpu, "cores": os.cpu_count(), "torch": torch.__version__, "threads": 1, "shared": True}
    data["published"], data["notes"] = (
        PUBLISHED | {k: v for k, v in data.get("published", {}).items() if k == "floor"},
        NOTES,
    )
    if "exact" not in data:
        data["exact"] = exact_checks()
    save(data)
    rows = {row["key"]: row for row in data["rows"]}
    floors: dict[tuple[str, int], dict[str, float]] = {}
    for name, count, gradients, extra, label, methods, seeds in PLAN:
        target = by_name(name)
        for method in methods:
            key = f"{name}/{count}/{gradients}/{method}" + (f" ({label})" if label else "")
            if only not in key:
                continue
            for seed in seeds:
                runs = rows[key]["runs"] if key in rows else []
                if any(existing["seed"] == seed for existing in runs):
                    continue
                if (name, count) not in floors:
                    floors[name, count] = trial.floor(target, count)
                runs = [*runs, one(target, method, count, gradients, extra, seed)]
                row = {"key": key, "target": name, "sampler": method, "variant": label, "particles": count}
                row["settings"] = extra
                rows[key] = row | summarise(runs) | {"floor": floors[name, count], "runs": runs}
                data["rows"] = list(rows.values())
                save(data)
                print(key, seed, {k: round(v, 3) for k, v in runs[-1].items() if isinstance(v, float)}, flush=True)
    if "floor" not in data["published"]:
        wide = {name: trial.floor(by_name(name), 2000)["energy_w2"] for name in ("dw4", "lj13")}
        data["published"] = PUBLISHED | {"floor": wide}
    if "reference_minima" not in data:
        data["reference_minima"] = true_minima()
    if "speed" not in data:
        data["speed"] = speed()
    save(data)


def table() -> None:
    """Print the table and the claims."""
    data = json.loads(RESULT.read_text())
    print(
        f"{'row':48s} {'E':>8s} {'E-W2':>12s} {'floor':>6s} {'TV50':>6s} {'floor':>6s} {'r-W2':>6s} {'cpu s':>6s} seeds"
    )
    for row in data["rows"]:
        floor = row["floor"]
        cells = [
            f"{row.get('energy', float('nan')):8.2f}",
            f"{row.get('energy_w2', float('nan')):6.2f}+-{row.get('energy_w2_over_seeds_sd', float('nan')):4.2f}",
            f"{floor.get('energy_w2', float('nan')):6.2f}",
            f"{row.get('tv50', float('nan')):6.3f}",
            f"{floor.get('tv50', float('nan')):6.3f}",
            f"{row.get('radius_w2', float('nan')):6.2f}",
            f"{row['cpu_s']:6.1f}",
        ]
        print(f"{row['key']:48s} " + " ".join(cells) + f" {len(row['runs'])}")
    for entry in data["claims"]:
        verdict = "holds" if entry["holds"] else "MISS "
        print(f"{entry['id']:5s} {verdict} {entry['value']:.4g} ({entry['bound']}) {entry['claim']}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--only", default="", help="part of the keys of the rows to compute")
    chosen = parser.parse_args()
    if chosen.what == "run":
        run(chosen.only)
    else:
        table()


if __name__ == "__main__":
    main()
