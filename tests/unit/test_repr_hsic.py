"""HSIC: estimators against double loops, random features, kernel scales, objectives, the permutation test."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlsim.errors import InputError, SettingsError
from mlsim.repr.hsic.dependence import hsic_test
from mlsim.repr.hsic.estimators import from_grams, hsic, hsic_random, identity_hsic, identity_hsic_random
from mlsim.repr.hsic.hsic_pretrain import PretrainSettings
from mlsim.repr.hsic.objectives import ObjectiveSettings, objective_for
from mlsim.repr.hsic.random_features import KERNELS, kernel_named
from mlsim.repr.hsic.scale import KernelScale


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=stream(seed), dtype=torch.float64)


def plain_kernel(name: str, a: torch.Tensor, b: torch.Tensor, c: float) -> float:
    if name == "linear":
        return float(a @ b)
    squared = float(((a - b) ** 2).sum())
    return c / math.sqrt(c * c + squared) if name == "imq" else math.exp(-squared / (2 * c * c))


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_exact_hsic_equals_the_double_loop(name: str) -> None:
    n, c = 7, 0.8
    x, y = points(n, 3, 1), points(n, 2, 2)
    k = [[plain_kernel(name, a, b, c) for b in x] for a in x]
    l = [[plain_kernel(name, a, b, c) for b in y] for a in y]
    total = 0.0
    for i in range(n):
        for j in range(n):
            row = sum(k[i][m] for m in range(n)) / n
            column = sum(k[m][j] for m in range(n)) / n
            mean = sum(map(sum, k)) / n**2
            total += (k[i][j] - row - column + mean) * l[i][j] / n**2
    kernel = kernel_named(name)
    assert float(hsic(x, y, (kernel, kernel), (c, c))) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("n_views", [2, 3, 4])
def test_identity_hsic_equals_the_double_loop_and_hsic_with_one_hot_labels(n_views: int) -> None:
    things, c = 5, 0.7
    views = points(n_views * things, 4, 3).view(n_views, things, 4)
    kernel = kernel_named("imq")
    pairs = [(p, q) for p in range(n_views) for q in range(n_views)]
    k = {
        (p, i, q, j): plain_kernel("imq", views[p, i], views[q, j], c)
        for p, q in pairs
        for i in range(things)
        for j in range(things)
    }
    same = np.mean([k[p, i, q, i] for p, q in pairs if p != q for i in range(things)])
    assert float(identity_hsic(views, kernel, c)) == pytest.approx(same - np.mean(list(k.values())), abs=1e-12)
    # The textbook form with one-hot labels differs by the p = q terms (k = 1) and the factor 1/B (1 - 1/K).
    labels = torch.eye(things, dtype=torch.float64).repeat(n_views, 1)
    rows = views.flatten(0, 1)
    textbook = float(hsic(rows, labels, (kernel, kernel_named("linear")), (c, 1.0))) * things
    mean = np.mean(list(k.values()))
    assert textbook == pytest.approx(same * (1 - 1 / n_views) + 1 / n_views - mean, abs=1e-12)


@pytest.mark.parametrize("name", ["imq", "rbf"])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("width", [1, 8, 64])
def test_random_features_have_the_kernel_as_their_mean_product(name: str, scale: float, width: int) -> None:
    x = torch.nn.functional.normalize(points(6, width, 5), dim=1)
    kernel = kernel_named(name)
    phi = kernel.features(x, 100_000, scale, stream(1))
    assert float((phi @ phi.mT - kernel.gram(x, x, scale)).abs().max()) < 4 * math.sqrt(0.5 / 100_000) * 1.5


def test_random_feature_hsic_is_within_three_sigma_of_the_exact_value() -> None:
    x = points(60, 5, 1)
    y = torch.tanh(x[:, :2]) + 0.5 * points(60, 2, 2)
    kernels, scales = (kernel_named("imq"), kernel_named("rbf")), (1.0, 1.5)
    generator = stream(3)
    draws = np.array([float(hsic_random(x, y, kernels, scales, 64, generator)) for _ in range(400)])
    exact = float(hsic(x, y, kernels, scales))
    assert abs(draws.mean() - exact) < 3 * draws.std(ddof=1) / math.sqrt(len(draws))
    views = torch.nn.functional.normalize(points(40, 5, 4).view(2, 20, 5), dim=-1)
    draws = np.array([float(identity_hsic_random(views, kernels[0], 1.0, 64, generator)) for _ in range(400)])
    exact = float(identity_hsic(views, kernels[0], 1.0))
    assert abs(draws.mean() - exact) < 3 * draws.std(ddof=1) / math.sqrt(len(draws))


@given(st.integers(2, 4), st.integers(2, 6), st.sampled_from(["imq", "rbf"]))
@settings(deadline=None, max_examples=25)
def test_collapsed_views_have_no_dependence(n_views: int, things: int, name: str) -> None:
    views = torch.ones(n_views, things, 3, dtype=torch.float64)
    assert float(identity_hsic(views, kernel_named(name), 1.0)) == pytest.approx(0.0, abs=1e-14)


@given(st.integers(2, 8))
@settings(deadline=None, max_examples=10)
def test_equal_clusters_are_worth_the_root_of_their_number_less_one(clusters: int) -> None:
    centres = 1e9 * torch.eye(clusters, dtype=torch.float64)  # far apart: the kernel between clusters vanishes
    views = centres.repeat(500, 1)[None].expand(2, -1, -1)
    rows = views.flatten(0, 1)
    gram = kernel_named("imq").gram(rows, rows, 1.0)
    assert float(identity_hsic(views, kernel_named("imq"), 1.0)) == pytest.approx(1 - 1 / clusters, rel=1e-6)
    ratio = (1 - 1 / clusters) / math.sqrt(float(from_grams(gram, gram)))
    assert ratio == pytest.approx(math.sqrt(clusters - 1), rel=1e-6)


@pytest.mark.parametrize("name", ["imq", "rbf"])
def test_a_learned_scale_finds_half_the_squared_distance(name: str) -> None:
    corners = math.sqrt(0.5) * torch.eye(6)  # all distances are one
    scale = KernelScale(kernel_named(name), start=3.0, rate=0.05)
    for _ in range(600):
        scale.update(corners)
    assert float(scale.value) ** 2 == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("name", ["hsic", "infonce", "byol"])
@pytest.mark.parametrize("random_features", [0, 32])
def test_every_objective_prefers_agreeing_views(name: str, random_features: int) -> None:
    settings_ = ObjectiveSettings(name=name, random_features=random_features, gamma=0.3)
    objective = objective_for(settings_)
    first, second = (torch.nn.functional.normalize(points(32, 6, k).float(), dim=-1) for k in (1, 2))
    agreeing = torch.stack([first, first, first, first])
    other = torch.stack([first, second, second.roll(1, 0), first.roll(1, 0)])
    assert float(objective(agreeing, stream(1))) < float(objective(other, stream(1)))


def test_infonce_equals_the_double_loop() -> None:
    views = torch.nn.functional.normalize(points(8, 3, 1).view(2, 4, 3), dim=-1)
    rows = views.flatten(0, 1)
    total = 0.0
    for i in range(8):
        partner = (i + 4) % 8
        others = [math.exp(float(rows[i] @ rows[j]) / 0.2) for j in range(8) if j != i]
        total -= math.log(math.exp(float(rows[i] @ rows[partner]) / 0.2) / sum(others)) / 8
    found = objective_for(ObjectiveSettings(name="infonce", temperature=0.2))(views, stream())
    assert float(found) == pytest.approx(total, abs=1e-12)


def test_byol_without_a_target_is_refused() -> None:
    with pytest.raises(SettingsError, match="target_decay"):
        PretrainSettings.parse({"objective": {"name": "byol"}})


def test_the_permutation_test_finds_nonlinear_dependence_that_correlation_misses() -> None:
    x = np.random.default_rng(0).normal(size=200)
    y = x**2 + 0.3 * np.random.default_rng(1).normal(size=200)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.2
    assert hsic_test(x, y, permutations=199).p_value == pytest.approx(1 / 200)


def test_p_values_of_independent_samples_are_uniform() -> None:
    values = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        values.append(hsic_test(rng.normal(size=40), rng.normal(size=40), permutations=59, seed=seed).p_value)
    share = np.mean(np.array(values) <= 0.2)
    assert abs(share - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 120)


def test_cyclic_shifts_do_not_call_two_independent_slow_series_dependent() -> None:
    found: dict[str, list[bool]] = {"frames": [], "cyclic": []}
    for seed in range(25):
        rng = np.random.default_rng(seed)
        series = []
        for _ in range(2):
            noise, x = rng.normal(size=300), np.zeros(300)
            for t in range(1, 300):
                x[t] = 0.98 * x[t - 1] + noise[t]
            series.append(x)
        for pairing, hits in found.items():
            test = hsic_test(series[0], series[1], pairing=pairing, permutations=99, seed=seed)  # type: ignore
            hits.append(test.p_value <= 0.05)
    assert np.mean(found["frames"]) > 0.5
    assert np.mean(found["cyclic"]) < 0.25


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros(5), np.zeros(5), "8 to 5000"),
        (np.zeros(20), np.zeros(21), "paired"),
        (np.full(20, np.nan), np.zeros(20), "finite"),
    ],
)
def test_bad_samples_are_refused(x: np.ndarray, y: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        hsic_test(x, y)


def test_unknown_kernels_are_refused() -> None:
    with pytest.raises(SettingsError, match="imq"):
        kernel_named("cosine")


def test_unless_told_otherwise_slow_series_are_not_called_dependent() -> None:
    rejected = 0
    for seed in range(40):
        rng = np.random.default_rng(500 + seed)
        series = np.zeros((2, 200))
        for t in range(1, 200):
            series[:, t] = 0.9 * series[:, t - 1] + rng.normal(size=2)
        rejected += hsic_test(series[0], series[1], permutations=99, seed=seed).p_value <= 0.05
    assert rejected <= 6  # 2 expected; shuffled frames reject in about 30
