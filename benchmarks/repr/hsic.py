"""Is SSL-HSIC right, and do its features find what is slow, or what is in an image, as well as known methods do?

Four parts, kept row by row in the work directory:

    estimators   exact HSIC against a double loop; random features against exact
    well         double well under fast noise: state accuracy of a linear probe on 4 coordinates from 40 labelled
                 frames of held-out trajectories; gamma swept; the settings were chosen on another system
    digits       scikit-learn's 8 x 8 digits, convolutional network, probe with 2, 10 and all labels per class
    peptide      alanine dipeptide, heavy-atom distances: does the slowest coordinate tell the phi > 0 basin from the
                 rest on held-out frames, and what is its implied timescale (``alanine``)

Baselines: PCA, TICA (``slow_axes`` of the raw features), VAMPnets (deeptime), InfoNCE and BYOL, random networks.

    python -m benchmarks.repr.hsic --work runs/hsic [--parts well digits]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from benchmarks.repr import alanine, double_well
from benchmarks.repr.rows import Rows, interval
from benchmarks.result import Claim, write_result
from mlsim.repr.hsic.estimators import hsic, hsic_random
from mlsim.repr.hsic.hsic_encoder import HsicEncoder
from mlsim.repr.hsic.hsic_pretrain import PretrainSettings
from mlsim.repr.hsic.image_features import ImageSettings, pretrain_images
from mlsim.repr.hsic.networks import Cnn, Mlp, NetworkSettings, whitening_of
from mlsim.repr.hsic.objectives import ObjectiveSettings
from mlsim.repr.hsic.random_features import KERNELS
from mlsim.repr.hsic.slow_axes import slow_axes
from mlsim.repr.hsic.time_lagged import TimeLaggedHSIC, TimeLaggedSettings
from mlsim.seeds import torch_stream

GAMMAS = (0.0, 0.3, 1.0, 3.0)
LAG, COORDINATES, LABELS, DRAWS = 10, 4, 40, 20
REPORTED = (11, 12, 13, 14)
DIGIT_SEEDS = (11, 12, 13)
Encode = Callable[[NDArray[Any]], NDArray[Any]]


# ---- estimators ----


def double_loop(k: NDArray[Any], l: NDArray[Any]) -> float:
    """HSIC of two Gram matrices, element by element."""
    n, total = len(k), 0.0
    for i in range(n):
        for j in range(n):
            row = sum(k[i][m] for m in range(n)) / n
            column = sum(k[m][j] for m in range(n)) / n
            everything = sum(k[a][b] for a in range(n) for b in range(n)) / n**2
            total += (k[i][j] - row - column + everything) * l[i][j] / n**2
    return float(total)


def estimators(name: str) -> dict[str, Any]:
    """Largest error of the exact estimator, and how many standard errors the random one is off."""
    kernel = KERNELS[name]
    generator = torch_stream(1, f"benchmark.{name}")
    worst, sigmas = 0.0, []
    for n, d in ((8, 2), (12, 5), (16, 20)):
        x = torch.randn(n, d, generator=generator, dtype=torch.float64)
        y = torch.sin(x[:, :2]) + 0.3 * torch.randn(n, 2, generator=generator, dtype=torch.float64)
        grams = [kernel.gram(z, z, 0.9).numpy() for z in (x, y)]
        exact = float(hsic(x, y, (kernel, kernel), (0.9, 0.9)))
        worst = max(worst, abs(exact - double_loop(*grams)))
        draws = [float(hsic_random(x, y, (kernel, kernel), (0.9, 0.9), 512, generator)) for _ in range(400)]
        error = np.std(draws, ddof=1) / math.sqrt(len(draws))
        sigmas.append(float(abs(np.mean(draws) - exact) / error) if error > 1e-15 else 0.0)
    return {"part": "estimators", "kernel": name, "largest_error": worst, "sigmas_of_random_features": sigmas}


# ---- probes ----


def probe_states(encode: Encode, test: double_well.Hidden, seed: int) -> dict[str, float]:
    """Accuracy from LABELS random frames of the held-out trajectories, mean of DRAWS draws; 4 coordinates and 1."""
    coordinates, states = encode(test.rows()), test.states()
    found = {}
    for name, columns in (("accuracy", coordinates[:, :COORDINATES]), ("accuracy_1", coordinates[:, :1])):
        scores = []
        for draw in range(DRAWS):
            rng = np.random.default_rng([seed, draw])
            chosen = rng.choice(len(states), LABELS, replace=False)
            rest = np.setdiff1d(rng.choice(len(states), 5000, replace=False), chosen)
            mean, std = columns[chosen].mean(0), columns[chosen].std(0) + 1e-9
            probe = LogisticRegression(max_iter=1000).fit((columns[chosen] - mean) / std, states[chosen])
            scores.append(probe.score((columns[rest] - mean) / std, states[rest]))
        found[name] = float(np.mean(scores))
    return found


def lagged(name: str, gamma: float, seed: int) -> TimeLaggedSettings:
    """Settings of one objective on the double well; all have the same network and number of steps."""
    objective = ObjectiveSettings(name=name, gamma=gamma)  # type: ignore[arg-type]
    decay = 0.98 if name == "byol" else 0.0
    training = PretrainSettings(objective=objective, seed=seed, target_decay=decay, steps=400, batch_size=128)
    return TimeLaggedSettings(training=training)


def well_encoder(method: str, train: double_well.Hidden, seed: int) -> Encode:
    """Coordinates of one method, fitted on the training trajectories."""
    if method == "pca":
        fitted = PCA(COORDINATES).fit(train.rows())
        return lambda x: np.asarray(fitted.transform(x))
    if method == "tica":
        return slow_axes(train.features, LAG).project
    if method == "random network":
        mean, matrix = whitening_of(train.rows())
        shape = NetworkSettings(shape=(double_well.N_FEATURES,), out=8, whitened=matrix.shape[1])
        network = Mlp(shape, torch_stream(seed, "hsic.backbone"))
        network.use_whitening(mean, matrix)
        encoder = HsicEncoder(network, shape)
        return lambda x: encoder.encode(x, batch_size=4096)
    name, _, gamma = method.partition(" gamma ")
    learner = TimeLaggedHSIC(LAG, lagged(name, float(gamma or 0), seed)).fit(train.features)
    return learner.transform


def well(method: str, seed: int) -> dict[str, Any]:
    """One method on one system."""
    train, test = double_well.sample(seed, "train"), double_well.sample(seed, "test")
    scores = probe_states(well_encoder(method, train, seed), test, seed)
    return {"part": "well", "method": method, "seed": seed, **scores}


# ---- digits ----


def digits(method: str, seed: int) -> dict[str, Any]:
    """Probe accuracy of one method; half of the digits are never seen before the probe is scored."""
    images, classes = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8) / 16.0
    order = np.random.default_rng(seed).permutation(len(images))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    if method == "pixels":
        features = images.reshape(len(images), -1)
    elif method == "random network":
        shape = NetworkSettings(kind="cnn", shape=(1, 8, 8), width=32, depth=3)
        network = Cnn(shape, torch_stream(seed, "hsic.backbone"))
        with torch.no_grad():
            network.train()(torch.tensor(images[train, None], dtype=torch.float32))  # statistics of batch normalisation
        features = HsicEncoder(network, shape).encode(images)
    else:
        name, _, gamma = method.partition(" gamma ")
        training = PretrainSettings(
            objective=ObjectiveSettings(name=name, gamma=float(gamma or 0)),  # type: ignore[arg-type]
            projector=(128, 64),
            steps=150,
            batch_size=128,
            learning_rate=3e-3,
            target_decay=0.98 if name == "byol" else 0.0,
            seed=seed,
        )
        features = pretrain_images(images[train], ImageSettings(training=training)).encode(images)
    mean, std = features[train].mean(0), features[train].std(0) + 1e-6
    scaled = (features - mean) / std
    found: dict[str, Any] = {"part": "digits", "method": method, "seed": seed}
    for per_class in (2, 10, 0):
        scores = []
        for draw in range(5 if per_class else 1):
            rng = np.random.default_rng([seed, draw])
            labelled = train
            if per_class:
                labelled = np.concatenate([rng.permutation(train[classes[train] == c])[:per_class] for c in range(10)])
            probe = LogisticRegression(max_iter=300, C=0.1).fit(scaled[labelled], classes[labelled])
            scores.append(probe.score(scaled[test], classes[test]))
        found[f"accuracy_{per_class or 'all'}"] = float(np.mean(scores))
    return found


# ---- table and claims ----


def column(rows: Rows, part: str, method: str, name: str, seeds: tuple[int, ...]) -> list[float]:
    """One number of one method, seed by seed."""
    return [rows.rows[f"{part}/{method}/{seed}"][name] for seed in seeds]


def summary(
    rows: Rows, part: str, methods: tuple[str, ...], names: tuple[str, ...], seeds: tuple[int, ...]
) -> list[Any]:
    """Means with intervals."""
    table = []
    for method in methods:
        values = {name: interval(column(rows, part, method, name, seeds)) for name in names}
        table.append({"part": part, "method": method, "seeds": list(seeds), **values})
    return table


WELL = ("pca", "tica", "random network", *(f"hsic gamma {g:g}" for g in GAMMAS), "infonce", "byol")
DIGITS = ("pixels", "random network", "hsic gamma 0", "hsic gamma 1", "infonce", "byol")
OURS_WELL, OURS_DIGITS = "hsic gamma 0.3", "hsic gamma 1"


def main() -> None:
    """Missing rows, then the table and the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/hsic"))
    parser.add_argument("--parts", nargs="*", default=["estimators", "well", "digits", "peptide"])
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(given.work / "rows.json")
    table: list[Any] = []
    claims: list[Claim] = []
    if "estimators" in given.parts:
        made = [rows.get(f"estimators/{name}", lambda name=name: estimators(name)) for name in KERNELS]
        table += made
        worst = max(row["largest_error"] for row in made)
        sigmas = max(max(row["sigmas_of_random_features"]) for row in made)
        claims.append(
            Claim("5.2", "exact HSIC against a double loop, largest error", worst, "<= 1e-10", worst <= 1e-10)
        )
        claims.append(Claim("5.2", "random features off the exact value, standard errors", sigmas, "<= 3", sigmas <= 3))
    if "well" in given.parts:
        for method in WELL:
            for seed in REPORTED:
                rows.get(f"well/{method}/{seed}", lambda method=method, seed=seed: well(method, seed))
        table += summary(rows, "well", WELL, ("accuracy", "accuracy_1"), REPORTED)
        ours = np.array(column(rows, "well", OURS_WELL, "accuracy", REPORTED))
        for other, bound in (("pca", 0.25), ("tica", 0.0)):
            gain = ours - np.array(column(rows, "well", other, "accuracy", REPORTED))
            text = f"double well, state accuracy, {OURS_WELL} minus {other}, 95 % {interval(gain.tolist())[1:]}"
            claims.append(Claim("5.2", text, gain.mean(), f">= {bound}", gain.mean() >= bound))
    if "digits" in given.parts:
        for method in DIGITS:
            for seed in DIGIT_SEEDS:
                rows.get(f"digits/{method}/{seed}", lambda method=method, seed=seed: digits(method, seed))
        names = ("accuracy_2", "accuracy_10", "accuracy_all")
        table += summary(rows, "digits", DIGITS, names, DIGIT_SEEDS)
        for name in names:
            loss = np.array(column(rows, "digits", "infonce", name, DIGIT_SEEDS)) - np.array(
                column(rows, "digits", OURS_DIGITS, name, DIGIT_SEEDS)
            )
            text = f"digits, {name}: InfoNCE minus {OURS_DIGITS}, 95 % {interval(loss.tolist())[1:]}"
            claims.append(Claim("5.2", text, loss.mean(), "<= 0.05", loss.mean() <= 0.05))
    if "peptide" in given.parts:
        made = alanine.compare(rows)
        table += made
        claims += alanine.claims(made)
    if set(given.parts) == {"estimators", "well", "digits", "peptide"}:
        write_result("repr.hsic", str(__doc__).splitlines()[0], table, claims)
    for row in table:
        print(row)
    for claim in claims:
        print(f"{claim.id}  {claim.claim}: {claim.value:.4g} ({claim.bound}) {'holds' if claim.holds else 'MISSED'}")


if __name__ == "__main__":
    main()
