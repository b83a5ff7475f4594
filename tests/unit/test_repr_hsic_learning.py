"""SSL-HSIC learners: time-lagged coordinates, image features, slow axes, encoders on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mlsim.errors import ArtifactError, InputError, UnphysicalError
from mlsim.repr.hsic.hsic_encoder import HsicEncoder
from mlsim.repr.hsic.hsic_pretrain import PretrainSettings
from mlsim.repr.hsic.image_features import AugmentationSettings, ImageSettings, augment, pretrain_images
from mlsim.repr.hsic.networks import whitening_of
from mlsim.repr.hsic.objectives import ObjectiveSettings
from mlsim.repr.hsic.slow_axes import lagged_pairs, slow_axes
from mlsim.repr.hsic.time_lagged import LaggedViews, TimeLaggedHSIC, TimeLaggedSettings
from mlsim.repr.hsic.twins import Twins
from mlsim.repr.registry import load_encoder


def hidden_switch(seed: int, frames: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Six features: a slow two-state switch inside a product with fast noise that no linear method sees, and noise."""
    rng = np.random.default_rng(seed)
    state = np.where(np.cumsum(rng.random(frames) < 0.02) % 2 == 0, 1.0, -1.0)
    sign = rng.choice([-1.0, 1.0], frames)
    pair = np.stack([sign * (1.0 + 0.4 * (state > 0)), sign * state], axis=1)  # the state is the product's sign
    noise = rng.normal(size=(frames, 4))
    return np.concatenate([pair + 0.1 * rng.normal(size=(frames, 2)), noise], axis=1), state


def quick(steps: int, **objective: object) -> TimeLaggedSettings:
    training = PretrainSettings(steps=steps, batch_size=128, objective=ObjectiveSettings.parse(dict(objective)))
    return TimeLaggedSettings(training=training, dimension=4, width=32)


def test_a_slow_product_is_found_that_linear_slow_axes_cannot_see() -> None:
    train, test = hidden_switch(1), hidden_switch(2)
    linear = slow_axes([train[0]], 5).project(test[0])[:, 0]
    learned = TimeLaggedHSIC(5, quick(200, gamma=0.3)).fit(train[0]).transform(test[0])[:, 0]
    assert abs(np.corrcoef(linear, test[1])[0, 1]) < 0.2
    assert abs(np.corrcoef(learned, test[1])[0, 1]) > 0.7


def test_coordinates_are_ordered_and_whitened_on_the_training_data() -> None:
    features, _ = hidden_switch(3, 2000)
    learner = TimeLaggedHSIC(5, quick(30)).fit([features[:900], features[900:]])
    found = learner.transform(features).astype(np.float64)
    assert np.all(np.diff(learner.timescales()) <= 1e-9)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(found.shape[1]), atol=0.1)


def test_saved_coordinates_are_the_same_after_loading(tmp_path: Path) -> None:
    features, _ = hidden_switch(4, 800)
    learner = TimeLaggedHSIC(5, quick(5)).fit(features)
    learner.save(tmp_path / "cv")
    loaded = load_encoder(tmp_path / "cv")
    assert isinstance(loaded, HsicEncoder)
    assert loaded.layers == ("hidden.1", "hidden.2", "features", "slow")
    np.testing.assert_array_equal(loaded.encode(features, batch_size=4096), learner.transform(features))
    assert loaded.encode(features, layer="hidden.1").shape == (800, 32)


def test_the_same_seed_gives_the_same_coordinates_and_another_seed_others() -> None:
    features, _ = hidden_switch(5, 800)
    first, again = (TimeLaggedHSIC(5, quick(10)).fit(features).transform(features) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = quick(10).model_copy(update={"training": PretrainSettings(steps=10, seed=2)})
    assert not np.allclose(first, TimeLaggedHSIC(5, other).fit(features).transform(features))


@pytest.mark.parametrize("name", ["hsic", "infonce", "byol"])
def test_every_objective_trains_on_images_and_lowers_its_loss(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((64, 8, 8))
    training = PretrainSettings(
        objective=ObjectiveSettings.parse({"name": name, "random_features": 64}),
        steps=6,
        batch_size=32,
        projector=(16, 8),
        target_decay=0.9 if name == "byol" else 0.0,
    )
    encoder = pretrain_images(images, ImageSettings(width=4, depth=2, training=training))
    features = encoder.encode(images)
    assert features.shape == (64, encoder.dimension)
    encoder.save(tmp_path / name)
    np.testing.assert_array_equal(HsicEncoder.from_pretrained(tmp_path / name).encode(images), features)
    assert encoder.encode(images, layer="conv.1", pool="flatten").shape == (64, 4 * 64)


def test_the_target_network_follows_by_its_decay_and_gets_no_gradient() -> None:
    from mlsim.repr.hsic.networks import Mlp, NetworkSettings

    generator = torch.Generator().manual_seed(0)
    twins = Twins(Mlp(NetworkSettings(shape=(3,), width=4, out=2), generator), (4, 2), 0.9, generator)
    x = torch.randn(5, 3, generator=generator)
    views = twins(x, x + 0.1)
    assert views.shape == (4, 5, 2)
    torch.testing.assert_close(views.norm(dim=-1), torch.ones(4, 5))
    views.sum().backward()
    assert twins.target is not None
    assert all(p.grad is None for p in twins.target.parameters())
    before = [p.clone() for p in twins.target.parameters()]
    with torch.no_grad():
        for p in twins.backbone.parameters():
            p.add_(1.0)
    twins.after_step()
    online = [*twins.backbone.parameters(), *twins.projector.parameters()]
    for old, new, fast in zip(before, twins.target.parameters(), online, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * fast)


def test_slow_axes_give_the_known_timescale_of_a_linear_process() -> None:
    rng, decay = np.random.default_rng(0), np.exp(-1 / 50)
    x = np.zeros((60_000, 2))
    for t in range(1, len(x)):
        x[t] = np.array([decay, 0.5]) * x[t - 1] + rng.normal(size=2) * np.array([0.2, 5.0])
    mixed = x @ np.array([[1.0, 2.0, 0.5], [3.0, -1.0, 1.0]])
    found = slow_axes([mixed[:30_000], mixed[30_000:]], 10)
    assert found.axes.shape == (3, 2)  # the third direction does not vary
    assert found.timescales()[0] == pytest.approx(50, rel=0.2)


def test_lagged_pairs_never_cross_from_one_trajectory_to_the_next() -> None:
    parts = [np.arange(5.0)[:, None], 100 + np.arange(4.0)[:, None], np.zeros((2, 1))]
    first, second = lagged_pairs(parts, 3)
    np.testing.assert_array_equal(second - first, 3.0 * np.ones((3, 1)))
    one, two = LaggedViews(parts, 3)(200, torch.Generator().manual_seed(0))
    torch.testing.assert_close(two - one, torch.full((200, 1), 3.0))


def test_whitening_drops_directions_without_variance() -> None:
    x = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[1.0, 0.0, 1.0], [0.0, 1e-2, 0.0]])
    mean, matrix = whitening_of(x)
    assert matrix.shape == (3, 2)
    np.testing.assert_allclose(np.cov(((x - mean) @ matrix).T, bias=True), np.eye(2), atol=1e-8)


def test_augmentation_shifts_and_erases_whole_patches_and_is_repeatable() -> None:
    image = torch.arange(1.0, 65.0).view(1, 1, 8, 8)
    quiet = AugmentationSettings(shift=1, contrast=0.0, noise=0.0, erase=0.0)
    shifts = {tuple(augment(image, quiet, torch.Generator().manual_seed(k)).flatten().tolist()) for k in range(60)}
    assert len(shifts) == 9
    erased = augment(image, quiet.model_copy(update={"shift": 0, "erase": 0.5}), torch.Generator().manual_seed(1))
    assert int((erased == 0).sum()) == 16
    torch.testing.assert_close(erased[erased != 0], image[erased != 0])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: TimeLaggedHSIC(0), "at least one frame"),
        (lambda: TimeLaggedHSIC(50).fit(np.random.default_rng(0).normal(size=(40, 2))), "longer than the lag"),
        (lambda: TimeLaggedHSIC(2).fit(np.ones((40, 2))), "constant"),
        (lambda: TimeLaggedHSIC(2).fit([np.zeros((40, 2)), np.zeros((40, 3))]), "shape"),
        (lambda: TimeLaggedHSIC(2).fit([]), "at least one array"),
        (lambda: TimeLaggedHSIC(2).transform(np.zeros((4, 2))), "call fit first"),
        (lambda: pretrain_images(np.zeros((4, 8, 6))), "square"),
    ],
)
def test_bad_input_is_refused_with_one_clear_line(call: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        call()  # type: ignore[operator]


def test_a_diverging_training_stops() -> None:
    settings = quick(50).model_copy(update={"training": PretrainSettings(steps=50, batch_size=32, learning_rate=1e30)})
    with pytest.raises(UnphysicalError, match="learning_rate"):
        TimeLaggedHSIC(2, settings).fit(np.random.default_rng(0).normal(size=(300, 3)))


def test_slow_axes_that_do_not_fit_the_configuration_are_refused(tmp_path: Path) -> None:
    features, _ = hidden_switch(6, 400)
    learner = TimeLaggedHSIC(5, quick(2)).fit(features)
    config, state = learner.encoder.config, dict(learner.encoder.state())
    state["slow.axes"] = state["slow.axes"][:, :1]
    with pytest.raises(ArtifactError, match="slow axes"):
        HsicEncoder.build(config, state)
    state.pop("slow.axes")
    with pytest.raises(ArtifactError, match="missing"):
        HsicEncoder.build(config, state)


def test_it_stands_in_a_pipeline_of_scikit_learn() -> None:
    pipeline = pytest.importorskip("sklearn.pipeline")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    features = np.random.default_rng(3).normal(size=(120, 3)).cumsum(axis=0)
    steps = [("scale", preprocessing.StandardScaler()), ("slow", TimeLaggedHSIC(2, quick(5)))]
    assert pipeline.Pipeline(steps).fit_transform(features).shape[0] == 120
