"""What are the true energies, distances and basin weights of DW-4, LJ-13 and LJ-55?

Single-particle Metropolis Monte Carlo with parallel tempering in numba, written independently of ``mlsim.samplers``,
so that no sampler is judged by itself. Many independent walkers; each sweep tries one move per point (one in eight is
long); neighbouring temperatures swap every sweep. Accepted only if the virial <(x - c) . grad E> is within three
standard errors of (n - 1) s and (DW-4) the six mean pair distances agree within 1 %; then written to
``mlsim/samplers/targets/references/<name>.npz``.

    python benchmarks/references.py dw4
"""

# Compiled walkers seed and use numba's own generator, whose interface is numpy's legacy one.
# ruff: noqa: NPY002

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numba
import numpy as np

FOLDER = Path(__file__).resolve().parent.parent / "mlsim" / "samplers" / "targets" / "references"
#: points, space, kind (0 double well, 1 Lennard-Jones), inverse temperatures, walkers, burn-in, sweeps, thinning,
#: short and long move, stored configurations
PLANS = {
    "dw4": (4, 2, 0, (1.0, 0.5, 0.25, 0.1), 1000, 2000, 20000, 50, 0.5, 3.0, 5000),
    "lj13": (13, 3, 1, (1.0, 0.85, 0.72, 0.6), 600, 4000, 20000, 200, 0.18, 1.0, 3000),
    "lj55": (55, 3, 1, (1.0, 0.93, 0.86, 0.8), 24, 6000, 12000, 60, 0.14, 0.6, 500),
}
QUANTILES = 10000


@numba.njit(cache=True)
def pair_energy(squared, kind):
    if kind == 0:
        t = np.sqrt(squared) - 4.0
        return t * t * (0.9 * t * t - 4.0)
    inverse = 1.0 / (squared * squared * squared)
    return 2.0 * inverse * (inverse - 2.0)


@numba.njit(cache=True)
def energy_of(x, kind):
    n, s = x.shape
    total = 0.0
    for i in range(n):
        for j in range(i):
            squared = 0.0
            for a in range(s):
                squared += (x[i, a] - x[j, a]) ** 2
            total += pair_energy(squared, kind)
    if kind == 1:
        for a in range(s):
            centre = x[:, a].mean()
            for i in range(n):
                total += 0.5 * (x[i, a] - centre) ** 2
    return total


@numba.njit(cache=True)
def change_of(x, k, fresh, kind):
    """Energy change when point k moves to ``fresh``; the trap is 1/2 (sum x^2 - n c^2)."""
    n, s = x.shape
    change = 0.0
    for j in range(n):
        if j == k:
            continue
        old, new = 0.0, 0.0
        for a in range(s):
            old += (x[k, a] - x[j, a]) ** 2
            new += (fresh[a] - x[j, a]) ** 2
        change += pair_energy(new, kind) - pair_energy(old, kind)
    if kind == 1:
        for a in range(s):
            total = x[:, a].sum()
            shift = fresh[a] - x[k, a]
            change += 0.5 * (fresh[a] ** 2 - x[k, a] ** 2) - 0.5 * ((total + shift) ** 2 - total**2) / n
    return change


@numba.njit(cache=True)
def walk(x, betas, kind, burn, sweeps, thin, short, long, seed):
    """One tempered walker: x [K, n, s] -> recorded cold configurations and acceptance of cold short moves."""
    np.random.seed(seed)
    levels, n, s = x.shape
    kept = np.empty((sweeps // thin, n, s))
    energies = np.empty(levels)
    for k in range(levels):
        energies[k] = energy_of(x[k], kind)
    fresh = np.empty(s)
    tried, accepted = 0, 0
    for sweep in range(burn + sweeps):
        for level in range(levels):
            scale = 1.0 / np.sqrt(betas[level])
            for _ in range(n):
                k = np.random.randint(n)
                far = np.random.random() < 0.125
                step = long if far else short * scale
                for a in range(s):
                    fresh[a] = x[level, k, a] + step * np.random.normal()
                change = change_of(x[level], k, fresh, kind)
                taken = np.log(np.random.random()) < -betas[level] * change
                if taken:
                    x[level, k, :] = fresh
                    energies[level] += change
                if level == 0 and not far:
                    tried += 1
                    accepted += taken
        for low in range(sweep % 2, levels - 1, 2):
            gain = (betas[low] - betas[low + 1]) * (energies[low] - energies[low + 1])
            if np.log(np.random.random()) < gain:
                for i in range(n):
                    for a in range(s):
                        x[low, i, a], x[low + 1, i, a] = x[low + 1, i, a], x[low, i, a]
                energies[low], energies[low + 1] = energies[low + 1], energies[low]
        if sweep >= burn and (sweep - burn) % thin == thin - 1:
            kept[(sweep - burn) // thin] = x[0]
        if sweep % 1000 == 0:
            for level in range(levels):
                energies[level] = energy_of(x[level], kind)
                for a in range(s):
                    x[level, :, a] -= x[level, :, a].mean()
    return kept, accepted / tried


@numba.njit(cache=True)
def virial_of(x, kind):
    """(x - c) . grad E of one configuration."""
    n, s = x.shape
    total = 0.0
    for i in range(n):
        for j in range(i):
            squared = 0.0
            for a in range(s):
                squared += (x[i, a] - x[j, a]) ** 2
            if kind == 0:
                r = np.sqrt(squared)
                t = r - 4.0
                total += r * (3.6 * t**3 - 8.0 * t)
            else:
                inverse = 1.0 / squared**3
                total += -24.0 * inverse * (inverse - 1.0)
    if kind == 1:
        for a in range(s):
            centre = x[:, a].mean()
            for i in range(n):
                total += (x[i, a] - centre) ** 2
    return total


def over_walkers(values):
    """Mean and standard error of [walkers, ...] values, walkers being independent."""
    means = values.reshape(len(values), -1).mean(1)
    return {"mean": float(means.mean()), "stderr": float(means.std(ddof=1) / np.sqrt(len(means)))}


def start_of(n, s, kind, rng):
    """A start without overlaps: on a jittered lattice."""
    side = int(np.ceil(n ** (1.0 / s)))
    lattice = np.stack(np.meshgrid(*[np.arange(side)] * s), -1).reshape(-1, s)[:n] * (3.0 if kind == 0 else 1.15)
    x = lattice + 0.05 * rng.standard_normal((n, s))
    return x - x.mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(PLANS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--walkers", type=int, default=0, help="override the plan (0 keeps it)")
    chosen = parser.parse_args()
    n, s, kind, betas, walkers, burn, sweeps, thin, short, long, stored = PLANS[chosen.name]
    walkers = chosen.walkers or walkers
    rng = np.random.default_rng(chosen.seed)
    began = time.time()
    kept, rates = [], []
    for walker in range(walkers):
        x = np.stack([start_of(n, s, kind, rng) for _ in betas])
        run, rate = walk(x, np.array(betas), kind, burn, sweeps, thin, short, long, int(rng.integers(2**31)))
        kept.append(run - run.mean(2 - 1, keepdims=True))
        rates.append(rate)
        if walker in (0, 9, 99):
            print(f"{walker + 1} walkers, {time.time() - began:.1f} s", flush=True)
    runs = np.stack(kept)
    energies = np.array([[energy_of(x, kind) for x in run] for run in runs])
    virials = np.array([[virial_of(x, kind) for x in run] for run in runs])
    first, second = np.triu_indices(n, 1)
    distances = np.linalg.norm(runs[:, :, first] - runs[:, :, second], axis=-1)
    pair_means = distances.mean((0, 1))
    record = {
        "command": f"python benchmarks/references.py {chosen.name} --seed {chosen.seed} --walkers {walkers}",
        "machine": f"{platform.machine()}, {platform.system()}, one core",
        "seconds": round(time.time() - began, 1),
        "plan": {"betas": betas, "walkers": walkers, "burn_in": burn, "sweeps": sweeps, "thin": thin},
        "acceptance": float(np.mean(rates)),
        "virial": over_walkers(virials) | {"expected": (n - 1) * s},
        "energy": over_walkers(energies) | {"sd": float(energies.std())},
        "distance": over_walkers(distances),
        "pair_mean_spread": float((pair_means.max() - pair_means.min()) / pair_means.mean()),
        "half_runs": [
            float(energies[:, : energies.shape[1] // 2].mean()),
            float(energies[:, energies.shape[1] // 2 :].mean()),
        ],
    }
    if kind == 0:
        longs = (distances > 4.0).sum(-1)
        record["long_edges"] = [over_walkers((longs == k).astype(float)) for k in range(7)]
    print(json.dumps(record, indent=1))
    virial = record["virial"]
    if abs(virial["mean"] - virial["expected"]) > 3.0 * virial["stderr"]:
        raise SystemExit("virial is off by more than three standard errors: not written")
    if kind == 0 and record["pair_mean_spread"] > 0.01:
        raise SystemExit("pair distances are not exchange symmetric: not written")
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    flat = runs.reshape(-1, n * s)
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(
        FOLDER / f"{chosen.name}.npz",
        positions=flat[rng.permutation(len(flat))[:stored]].astype(np.float32),
        energies=np.quantile(energies, levels).astype(np.float32),
        distances=np.quantile(distances, levels).astype(np.float32),
        record=json.dumps(record),
    )


if __name__ == "__main__":
    main()
