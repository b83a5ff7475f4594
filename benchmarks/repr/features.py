"""Which features of a peptide trajectory should I use: phi/psi, distances, TICA, VAMPnet, HSIC or a BEiT encoder?

Everything is fitted on one unbiased run (unlabelled where the method is unsupervised) and scored on a held-out run with
another seed (``benchmarks.repr.peptides``; the shipped encoders have seen the training runs only).

    states      mean recall over the basins (of phi and psi; for two residues their products seen in both runs) of a
                linear probe with 40 or 400 labelled frames of the training run; mean and 95 % limits over five draws
    kinetics    features -> 20 principal components -> TICA with a lag of 10 ps on the training run; on the held-out
                run: vamp2 = 1 + sum of the squared singular values of the three slowest coordinates, and the implied
                timescale of the slowest one. Both obey a variational principle: more is better. 95 % limits from a
                bootstrap over 20 blocks of the held-out run
    cost        microseconds per frame from positions to features, one core

The states are defined by phi and psi, so phi/psi is the answer sheet and not a competitor: it is what an expert knows
beforehand for these molecules and what one would not have for a ligand or a loop. Layer and pooling of the BEiT rows
are chosen on the two halves of the training run.

    python -m benchmarks.repr.features --work runs/peptides
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from scipy import stats
from sklearn.decomposition import PCA

from benchmarks.repr.peptides import REPORT_PS, SOURCES, states, torsions, trajectory
from benchmarks.result import Claim, write_result
from mlsim.repr import images, probe
from mlsim.repr.beit.beit_encoder import BeitEncoder
from mlsim.repr.beit.beit_network import initialise
from mlsim.repr.encoder import InputSettings
from mlsim.repr.registry import load_encoder
from mlsim.repr.shipped_encoders import PRETRAINED

SYSTEMS = ("alanine-dipeptide", "alanine-tripeptide")
SHIPPED = "beit-extension-map"
LAG = 10
COMPONENTS, SLOW = 20, 3
LABELS = (40, 400)
DRAWS = 5
BLOCKS, BOOTSTRAPS = 20, 200
FRAMES_FOR_LAYERS = 2000
Features = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Problem:
    """One system: positions (nm) and states of the two runs, and the topology."""

    name: str
    topology: Any
    train: NDArray[np.float32]
    test: NDArray[np.float32]
    train_states: NDArray[np.int64]
    test_states: NDArray[np.int64]

    def prepared(self, kind: str) -> Features:
        """Function from positions to inputs of this kind, flat."""
        chosen = InputSettings.parse({"kind": kind, "size": 24})
        return lambda x: images.prepare(x, self.topology, chosen).reshape(len(x), -1)


def load(name: str, work: Path) -> Problem:
    """Both runs of a system, states renumbered over those seen often enough in both."""
    runs = {role: trajectory(name, role, work) for role in ("train", "test")}
    positions = {role: run.replicas[0].positions() for role, run in runs.items()}
    numbers = {role: states(torsions(run, SOURCES[name].residues)) for role, run in runs.items()}
    return Problem(
        name, runs["train"].topology, positions["train"], positions["test"], numbers["train"], numbers["test"]
    )


def tica(problem: Problem) -> Features:
    """Four coordinates of TICA on the pair distances, lag as everywhere."""
    from deeptime.decomposition import TICA

    distances = problem.prepared("distances")
    model = TICA(lagtime=LAG, dim=4).fit_fetch(distances(problem.train).astype(np.float64))
    return lambda x: model.transform(distances(x).astype(np.float64))


def vampnet(problem: Problem) -> Features:
    """Six coordinates of a VAMPnet (deeptime) on the standardised pair distances."""
    from deeptime.decomposition.deep import VAMPNet
    from deeptime.util.data import TrajectoryDataset

    distances = problem.prepared("distances")
    x = distances(problem.train)
    mean, std = x.mean(0), np.maximum(x.std(0), 1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lobe = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], 64),
            torch.nn.ELU(),
            torch.nn.Linear(64, 64),
            torch.nn.ELU(),
            torch.nn.Linear(64, 6),
        )
        data = TrajectoryDataset(LAG, ((x - mean) / std).astype(np.float32))
        loader = torch.utils.data.DataLoader(data, batch_size=1024, shuffle=True)
        model = VAMPNet(lobe, learning_rate=1e-3).fit(loader, n_epochs=15).fetch_model()
    return lambda y: model.transform(((distances(y) - mean) / std).astype(np.float32))


def hsic(problem: Problem) -> Features:
    """Coordinates of TimeLaggedHSIC on the pair distances."""
    from mlsim.repr.hsic.time_lagged import TimeLaggedHSIC

    distances = problem.prepared("distances")
    learner = TimeLaggedHSIC(LAG).fit(distances(problem.train))
    return lambda x: learner.encoder.encode(distances(x), batch_size=4096)


def beit(problem: Problem, encoder: BeitEncoder) -> tuple[Features, str]:
    """Features of the layer and pooling that do best from one half of the training run to the other."""
    x = images.prepare(problem.train, problem.topology, encoder.inputs)
    half = len(x) // 2
    rng = np.random.default_rng(5)
    one = rng.permutation(half)[: FRAMES_FOR_LAYERS // 2]
    other = half + rng.permutation(len(x) - half)[: FRAMES_FOR_LAYERS // 2]
    found = []
    for layer in encoder.layers[1:]:
        for pool in ("mean", "grid"):
            a, b = (encoder.encode(x[rows], layer=layer, pool=pool) for rows in (one, other))
            few = one_of_each(problem.train_states[one], LABELS[1], np.random.default_rng(6))
            known = (a[few], problem.train_states[one][few], b, problem.train_states[other])
            found.append((probe.balanced_probe(*known), layer, pool))
    _, layer, pool = max(found)

    def features(positions: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = images.prepare(positions, problem.topology, encoder.inputs)
        return encoder.encode(inputs, layer=layer, pool=pool, batch_size=256)

    return features, f"{layer}, {pool}"


def fresh(encoder: BeitEncoder) -> BeitEncoder:
    """The same network with the initial parameters of its class: what training has added is what is missing here."""
    made = BeitEncoder.build(encoder.config, encoder.state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        initialise(made.model)  # type: ignore[arg-type]
        for module in made.model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
    made.inputs = encoder.inputs
    return made


def methods(problem: Problem) -> dict[str, Callable[[], tuple[Features, str]]]:
    """Every row of the table by name."""
    kinds = {
        "phi/psi (the definition)": "torsions",
        "pair distances": "distances",
        "contact map": "contact-map",
        "extension map": "extension-map",
    }
    found: dict[str, Callable[[], tuple[Features, str]]] = {
        name: lambda kind=kind: (problem.prepared(kind), "") for name, kind in kinds.items()
    }
    found["TICA of distances"] = lambda: (tica(problem), "4 coordinates")
    found["VAMPnet of distances"] = lambda: (vampnet(problem), "6 coordinates")
    found["HSIC time lag"] = lambda: (hsic(problem), "slow")
    encoder = load_encoder(SHIPPED)
    assert isinstance(encoder, BeitEncoder)
    found[f"BEiT {SHIPPED}"] = lambda: beit(problem, encoder)
    found["BEiT not trained"] = lambda: beit(problem, fresh(encoder))
    return found


def one_of_each(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` random rows, with at least one of every state."""
    order = rng.permutation(len(labels))
    first = [order[np.flatnonzero(labels[order] == c)[0]] for c in np.unique(labels)]
    rest = order[~np.isin(order, first)][: max(0, count - len(first))]
    return np.concatenate([first, rest]).astype(np.int64)


def limits(values: list[float]) -> list[float]:
    """Mean and 95 % limits of a mean."""
    mean = float(np.mean(values))
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return [mean, mean - half, mean + half]


def classification(problem: Problem, train: NDArray[Any], test: NDArray[Any], labels: int) -> list[float]:
    """Balanced accuracy of a linear probe over the label draws, in states that both runs visit 50 times or more."""
    seen = [np.bincount(s, minlength=256) for s in (problem.train_states, problem.test_states)]
    often = np.flatnonzero((seen[0] >= 50) & (seen[1] >= 50))
    rows = [np.flatnonzero(np.isin(s, often)) for s in (problem.train_states, problem.test_states)]
    scored = rows[1][:: max(1, len(rows[1]) // 5000)]
    result = []
    for draw in range(DRAWS):
        chosen = rows[0][one_of_each(problem.train_states[rows[0]], labels, np.random.default_rng(draw))]
        known = (train[chosen], problem.train_states[chosen], test[scored], problem.test_states[scored])
        result.append(probe.balanced_probe(*known))
    return limits(result)


def kinetics(train: NDArray[Any], test: NDArray[Any]) -> dict[str, list[float]]:
    """vamp2 and slowest timescale (ps) of the held-out run on coordinates of the training run, with limits."""
    from deeptime.decomposition import TICA

    a, b = probe.standardise(train, test)
    if a.shape[1] > COMPONENTS:
        pca = PCA(COMPONENTS, random_state=0).fit(a)
        a, b = pca.transform(a), pca.transform(b)
    model = TICA(lagtime=LAG, dim=min(SLOW, a.shape[1])).fit_fetch(a)
    z = model.transform(b)
    early, late = z[:-LAG], z[LAG:]
    blocks = np.array_split(np.arange(len(early)), BLOCKS)
    rng = np.random.default_rng(0)
    drawn = [np.concatenate([blocks[k] for k in rng.integers(0, BLOCKS, BLOCKS)]) for _ in range(BOOTSTRAPS)]
    numbers = np.array([_kinetic_numbers(early[rows], late[rows]) for rows in [np.arange(len(early)), *drawn]])
    low, high = np.percentile(numbers[1:], [2.5, 97.5], axis=0)
    names = ("vamp2", "timescale_ps")
    return {name: [float(v) for v in (numbers[0, k], low[k], high[k])] for k, name in enumerate(names)}


def _kinetic_numbers(early: NDArray[Any], late: NDArray[Any]) -> tuple[float, float]:
    x, y = early - early.mean(0), late - late.mean(0)
    c00, c11, c01 = x.T @ x / len(x), y.T @ y / len(x), x.T @ y / len(x)
    ridge = 1e-9 * np.eye(len(c00))
    halves = [np.linalg.inv(np.linalg.cholesky(c + ridge)) for c in (c00, c11)]
    score = 1.0 + float((np.linalg.svd(halves[0] @ c01 @ halves[1].T, compute_uv=False) ** 2).sum())
    rho = float(c01[0, 0] / np.sqrt(c00[0, 0] * c11[0, 0]))
    return score, -LAG * REPORT_PS / np.log(rho) if 0.0 < rho < 1.0 else 0.0


def row(problem: Problem, name: str, make: Callable[[], tuple[Features, str]]) -> dict[str, Any]:
    """All numbers of one method on one system."""
    began = time.monotonic()
    features, note = make()
    fitted = time.monotonic()
    train, test = features(problem.train), features(problem.test)
    spent = time.monotonic() - fitted
    found: dict[str, Any] = {
        "system": problem.name,
        "features": name,
        "note": note,
        "width": int(train.shape[1]),
        "fit_seconds": round(fitted - began, 1),
        "microseconds_per_frame": round(1e6 * spent / (len(train) + len(test)), 1),
    }
    for count in LABELS:
        found[f"states_{count}"] = classification(problem, train, test, count)
    return found | kinetics(train, test)


def show(rows: list[dict[str, Any]]) -> str:
    """The table as text."""
    lines = [f"{'system':<19s}{'features':<26s}{'states 40':>16s}{'states 400':>16s}{'vamp2':>18s}{'slowest, ps':>20s}"]
    for r in rows:
        a, b = (f"{r[f'states_{n}'][0]:.3f} +- {r[f'states_{n}'][2] - r[f'states_{n}'][0]:.3f}" for n in LABELS)
        v, t = ("{:.2f} [{:.2f}, {:.2f}]".format(*r["vamp2"]), "{:.0f} [{:.0f}, {:.0f}]".format(*r["timescale_ps"]))
        lines.append(f"{r['system']:<19s}{r['features']:<26s}{a:>16s}{b:>16s}{v:>18s}{t:>20s}")
    return "\n".join(lines)


def note_scores(rows: dict[str, dict[str, Any]]) -> None:
    """Put what was found into the card of the shipped encoder."""
    path = PRETRAINED / SHIPPED / "card.yaml"
    card = yaml.safe_load(path.read_text())
    card["scores"]["held_out_balanced_accuracy_40_labels"] = {
        system: {
            name: round(rows[f"{system}/{name}"]["states_40"][0], 3) for name in (f"BEiT {SHIPPED}", "pair distances")
        }
        for system in SYSTEMS
    }
    path.write_text(yaml.safe_dump(card, sort_keys=False, width=110))


def main() -> None:
    """Missing rows, then the table and the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/peptides"))
    parser.add_argument("--only", default="", help="part of the name of the system to compute, then stop")
    given = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    for system in SYSTEMS:
        if given.only not in system:
            continue
        kept = given.work / f"features-{system}.json"
        rows |= json.loads(kept.read_text()) if kept.is_file() else {}
        problem = load(system, given.work)
        for name, make in methods(problem).items():
            if f"{system}/{name}" not in rows:
                rows[f"{system}/{name}"] = row(problem, name, make)
                kept.write_text(json.dumps({key: r for key, r in rows.items() if r["system"] == system}))
                print(show([rows[f"{system}/{name}"]]).splitlines()[1], flush=True)
    if given.only:
        return
    ordered = list(rows.values())
    claims = []
    for system in SYSTEMS:
        for key, what in (("states_40", "states from 40 labels"), ("vamp2", "vamp2")):
            ours = rows[f"{system}/BEiT {SHIPPED}"][key][1]
            best = max(rows[f"{system}/{other}"][key][0] for other in ("pair distances", "TICA of distances"))
            said = f"{system}: {what}, lower limit of BEiT minus the better of distances and TICA"
            claims.append(Claim("5.5", said, ours - best, "> 0", ours > best))
    note_scores(rows)
    write_result("repr.features", __doc__.splitlines()[0], ordered, claims)
    print(show(ordered))


if __name__ == "__main__":
    main()
