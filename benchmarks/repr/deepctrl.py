"""Can the strength of a rule be dialled after training, and which claims of the DeepCTRL article hold here?

Every row is kept as soon as it is done. Parts:

* ``pendulum``     the published double pendulum: sweep of the strength for the controlled network, and baselines;
* ``variants``     what breaks it: a plain head, the balance of every epoch anew, beta = 1 (one seed each);
* ``motion``       alanine dipeptide 0.6 ps ahead under "bonds near their lengths, no clashes"; trained at 300 K, tested
                   on another run at 300 K and, without labels for the choice of the strength, at 500 K;
* ``heat``         energy of alanine dipeptide from (T, phi, psi) under "grows with T"; 300-400 K known, asked to 550 K.

Epochs were fixed on seed 101; reported are seeds 1-3.

    python -m benchmarks.repr.deepctrl --work runs/deepctrl
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.repr import deepctrl_molecule as molecule
from benchmarks.repr.pendulum import NOISE, Pendulum
from benchmarks.result import Claim, write_result
from mlsim.repr.deepctrl.balance import BalanceWarning
from mlsim.repr.deepctrl.control import match_ratio, select_alpha, sweep
from mlsim.repr.deepctrl.dial_network import NetworkSettings, RuleControlled
from mlsim.repr.deepctrl.rules import Rule
from mlsim.repr.deepctrl.training import Fitted, TrainingSettings, fit
from mlsim.seeds import numpy_stream, torch_stream

SEEDS = (1, 2, 3)
ALPHAS = (-0.4, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4)
INSIDE = tuple(a for a in ALPHAS if 0 <= a <= 1)
PARTS = ("pendulum", "variants", "motion", "heat")
PENDULUM = {"epochs": 12, "batch_size": 64, "input_noise": NOISE}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain head": ({"output": "plain"}, {"rho_low": 1e-9}),
    "balance anew in every epoch": ({}, {"rho": "epoch", "rho_low": 1e-9}),
    "beta 1": ({}, {"beta": 1.0}),
}
#: objective -> (settings of the network, settings of the training)
OBJECTIVES: dict[str, dict[str, Any]] = {
    "controlled": {"objective": "controlled"},
    "task": {"objective": "task"},
    "task+rule": {"objective": "task+rule", "rule_weight": 1.0},
}
Data = tuple[torch.Tensor, torch.Tensor]


@cache
def pendulum_parts(work: Path) -> tuple[Data, Data, Data]:
    """The trajectory, integrated once."""
    path = work / "pendulum.npz"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        named = zip(("train", "valid", "test"), Pendulum().parts(), strict=True)
        np.savez(path, **{f"{n}_{k}": part[i].numpy() for n, part in named for i, k in enumerate("xy")})
    with np.load(path) as saved:
        train, valid, test = (
            (torch.from_numpy(saved[f"{n}_x"]), torch.from_numpy(saved[f"{n}_y"])) for n in ("train", "valid", "test")
        )
    return train, valid, test


def train_and_sweep(
    objective: str,
    rule: Rule,
    parts: tuple[Data, Data, Data],
    shape: dict[str, Any],
    training: dict[str, Any],
    seed: int,
) -> tuple[RuleControlled, Fitted, dict[str, Any]]:
    """Train one network and turn its dial on the test data."""
    train, valid, test = parts
    encoders = "two" if objective == "controlled" else "one"
    settings = NetworkSettings.parse(
        {"inputs": train[0].shape[1], "outputs": train[1].shape[1], "encoders": encoders, **shape}
    )
    network = RuleControlled(settings, torch_stream(seed, "weights"))
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BalanceWarning)  # the unclamped balance is in the row
        found = fit(network, rule, train, valid, TrainingSettings.parse({**training, **OBJECTIVES[objective]}), seed)
    alphas = ALPHAS if objective == "controlled" else (0.0,)
    row = {
        "method": objective,
        "seed": seed,
        "rho": found.balance.rho,
        "rho_unclamped": found.balance.unclamped,
        "epochs": found.epochs,
        "cpu_s": time.process_time() - began,
        "test": [s.row() for s in sweep(network, rule, *test, alphas)],
        "valid": [s.row() for s in sweep(network, rule, *valid, alphas)],
    }
    return network, found, row


def pendulum(work: Path, objective: str, seed: int) -> dict[str, Any]:
    """One network on the published pendulum."""
    shape = {"output": "residual"}
    row = train_and_sweep(objective, Pendulum().rule(), pendulum_parts(work), shape, PENDULUM, seed)[2]
    return {"part": "pendulum", **row}


def variant(work: Path, label: str) -> dict[str, Any]:
    """The controlled network with one thing changed."""
    shape, training = VARIANTS[label]
    row = train_and_sweep(
        "controlled", Pendulum().rule(), pendulum_parts(work), {"output": "residual", **shape},
        {**PENDULUM, "rho_high": 1e9 if "rho_low" in training else 10.0, **training}, 1,
    )[2]  # fmt: skip
    return {"part": "variants", "variant": label, **row}


def motion(work: Path, objective: str, seed: int) -> dict[str, Any]:
    """One propagator of alanine dipeptide, its test at 300 K, and the strength chosen at 500 K without labels."""
    known = molecule.trajectory(work, 300.0, 0.4, 11)
    rule = molecule.geometry_rule(known)
    pairs = molecule.motion(known)
    test, hot = (molecule.motion(molecule.trajectory(work, t, 0.2, s)) for t, s in ((300.0, 12), (500.0, 13)))
    cut = 1700
    parts = (pairs.take(0, cut), pairs.take(cut + molecule.LAG, len(pairs.x)), (test.x, test.y))
    shape = {"output": "residual", "shared": (128, 64), "encoder": (128, 64), "head": (128,)}
    network, _, row = train_and_sweep(objective, rule, parts, shape, {"epochs": 20, "task_loss": "mse"}, seed)
    shifted = sweep(network, rule, hot.x, hot.y, ALPHAS if objective == "controlled" else (0.0,))
    row |= {"part": "motion", "hot": [s.row() for s in shifted], "copy_mae": float((test.y - test.x).abs().mean())}
    if objective == "controlled":
        wanted = 0.9
        valid = sweep(network, rule, *parts[1], INSIDE)
        here = select_alpha(valid, wanted)
        there = match_ratio(network, rule, hot.x, here.ratio, INSIDE)
        row |= {"alpha_300K": here.alpha, "ratio_300K": here.ratio, "alpha_500K_without_labels": there}
    return row


def heat(work: Path, objective: str, seed: int) -> dict[str, Any]:
    """One energy model; ``hot`` is the test at temperatures above all that were known."""
    runs = {t: molecule.trajectory(work, t, 0.05, 20 + k) for k, t in enumerate(molecule.ASKED_K)}
    rule = molecule.heat_rule()
    known = {t: runs[t] for t in molecule.KNOWN_K}
    few = molecule.heat(known, 30, numpy_stream(seed, "heat train"))
    asked = molecule.heat({t: runs[t] for t in molecule.ASKED_K if t not in known}, 60, numpy_stream(seed, "heat hot"))
    same = molecule.heat(known, 60, numpy_stream(seed, "heat test"))
    parts = (few.take(0, 60), few.take(60, 90), (same.x, same.y))
    shape = {"shared": (32, 16), "encoder": (32, 32), "head": (32,)}
    training = {"epochs": 150, "patience": 40, "batch_size": 20, "learning_rate": 3e-3, "rho_low": 1e-3}
    # violations are counted in kJ/mol, so that the balance is small
    network, _, row = train_and_sweep(objective, rule, parts, shape, training, seed)
    shifted = sweep(network, rule, asked.x, asked.y, ALPHAS if objective == "controlled" else (0.0,))
    return {"part": "heat", **row, "hot": [s.row() for s in shifted]}


def jobs(work: Path) -> dict[str, Callable[[], dict[str, Any]]]:
    """Every row's name and how it is made."""
    table: dict[str, Callable[[], dict[str, Any]]] = {}
    makers = {"pendulum": pendulum, "motion": motion, "heat": heat}
    for seed in SEEDS:
        for part, make in makers.items():
            for objective in OBJECTIVES:
                table[f"{part}/{objective}/{seed}"] = lambda f=make, o=objective, s=seed: f(work, o, s)  # type: ignore[misc]
    for label in VARIANTS:
        table[f"variants/{label}"] = lambda v=label: variant(work, v)  # type: ignore[misc]
    return table


def main() -> None:
    """Make the missing rows and write the result."""
    from benchmarks.repr.deepctrl_claims import claims_of

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/deepctrl"))
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--only", default="", help="rows whose name begins like this")
    given = parser.parse_args()
    for name, make in jobs(given.work).items():
        path = given.work / "rows" / (name.replace("/", "--").replace(" ", "_") + ".json")
        if name.split("/")[0] not in given.parts or not name.startswith(given.only) or path.is_file():
            continue
        row = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row))
        print(name, f"{row['cpu_s']:.0f} s", flush=True)
    rows = [json.loads(p.read_text()) for p in sorted((given.work / "rows").glob("*.json"))]
    claims: list[Claim] = claims_of(rows)
    write_result("repr.deepctrl", __doc__.splitlines()[0], rows, claims)


if __name__ == "__main__":
    main()
