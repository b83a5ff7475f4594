"""The small detector: boxes, assignment, losses, makers of scenes, minima, training, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.repr.turned_shapes import shapes
from mlsim.errors import ArtifactError, CheckpointError, InputError, MissingError, SettingsError
from mlsim.repr.dynamic_head import minima, periodic
from mlsim.repr.dynamic_head.assignment.assign import assign, boxes_at, centreness, points, sides
from mlsim.repr.dynamic_head.assignment.boxes import giou, greedy, iou, suppress
from mlsim.repr.dynamic_head.assignment.detection_losses import focal
from mlsim.repr.dynamic_head.detector import Detector, DetectorSettings
from mlsim.repr.dynamic_head.detector_fit import CHECKPOINT, FitSettings, fit
from mlsim.repr.dynamic_head.network.block import DyHeadSettings
from mlsim.repr.dynamic_head.scenes import contacts, landscape
from mlsim.repr.dynamic_head.scenes.scene import Scene, overlap

TINY = DetectorSettings(
    classes=("square",),
    widths=(8, 16, 16),
    neck=DyHeadSettings(in_channels=16, channels=16, groups=4, blocks=1),
)
STREAM = np.random.default_rng


def random_boxes(count: int, seed: int, size: float = 20.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    low = size * torch.rand(count, 2, generator=generator)
    return torch.cat([low, low + 1.0 + size * torch.rand(count, 2, generator=generator)], dim=1)


def square(generator: np.random.Generator) -> Scene:
    """One bright square on a dark ground, 32 x 32."""
    image = np.full((32, 32), 0.2, dtype=np.float32)
    side = int(generator.integers(8, 15))
    x, y = generator.integers(0, 32 - side, 2)
    image[y : y + side, x : x + side] = 0.9
    return Scene(image, np.array([[x, y, x + side, y + side]], dtype=np.float64), np.zeros(1, dtype=np.int64))


# ---- boxes ----


def test_overlaps_of_known_boxes() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 0.0, 3.0, 2.0], [4.0, 0.0, 6.0, 2.0], [0.0, 0.0, 2.0, 2.0]])
    assert torch.allclose(iou(a, b), torch.tensor([[1.0 / 3.0, 0.0, 1.0]]))
    assert torch.allclose(giou(a.expand(3, 4), b), torch.tensor([1.0 / 3.0, -1.0 / 3.0, 1.0]))
    assert np.allclose(overlap(a.numpy(), b.numpy()), iou(a, b).numpy())


@given(count=st.integers(1, 40), seed=st.integers(0, 999), threshold=st.floats(0.1, 0.9))
@settings(max_examples=30, deadline=None)
def test_suppression_keeps_the_best_and_nothing_that_overlaps(count: int, seed: int, threshold: float) -> None:
    boxes, scores = random_boxes(count, seed), torch.rand(count, generator=torch.Generator().manual_seed(seed))
    kept = greedy(boxes, scores, threshold)
    between = iou(boxes[kept], boxes[kept]).fill_diagonal_(0.0)
    assert kept[0] == scores.argmax()
    assert (between <= threshold).all()
    dropped = sorted(set(range(count)) - set(kept.tolist()))
    for index in dropped:
        better = kept[scores[kept] >= scores[index]]
        assert iou(boxes[index][None], boxes[better]).max() > threshold


def test_own_suppression_equals_torchvisions() -> None:
    try:
        from torchvision.ops import batched_nms
    except Exception:
        pytest.skip("LOUD SKIP: torchvision cannot be imported here")
    for seed in range(20):
        boxes, scores = random_boxes(60, seed), torch.rand(60, generator=torch.Generator().manual_seed(seed))
        labels = torch.arange(60) % 3
        theirs = batched_nms(boxes, scores, labels, 0.5).tolist()
        assert suppress(boxes, scores, labels, 0.5).tolist() == theirs
        assert greedy(boxes + 100.0 * labels[:, None], scores, 0.5).tolist() == theirs


def test_without_torchvision_the_own_suppression_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision.ops", None)  # makes the import fail
    boxes, scores = random_boxes(30, 1), torch.rand(30, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(30, dtype=torch.long)
    assert suppress(boxes, scores, labels, 0.4).tolist() == greedy(boxes, scores, 0.4).tolist()


# ---- assignment and losses ----


def test_every_box_gets_a_point_and_the_smaller_box_wins() -> None:
    places = points([(8, 8), (4, 4)], (4, 8))
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0], [10.0, 10.0, 20.0, 18.0], [13.0, 2.0, 15.5, 3.0]])
    chosen = assign(places, boxes)
    assert set(chosen.tolist()) == {-1, 0, 1, 2}
    fine, coarse = chosen[:64], chosen[64:]
    assert 0 not in fine.tolist()  # 16 pixels from centre to side: more than 3 strides of 4
    assert 0 in coarse.tolist()
    at = int(((places.xy[:64] - torch.tensor([14.0, 14.0])).abs().sum(1)).argmin())
    assert fine[at] == 1


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_no_box_is_forgotten_unless_another_needs_its_point(seed: int) -> None:
    places = points([(16, 16), (8, 8), (4, 4)], (4, 8, 16))
    box = random_boxes(1, seed, 30.0)
    assert (assign(places, box) == 0).any()


def test_sides_and_boxes_are_inverse_and_the_middle_is_most_central() -> None:
    xy, boxes = 10.0 * torch.rand(7, 2), random_boxes(7, 3)
    assert torch.allclose(boxes_at(xy, sides(xy, boxes)), boxes, atol=1e-5)
    box = torch.tensor([0.0, 0.0, 8.0, 4.0])
    here = centreness(sides(torch.tensor([[4.0, 2.0], [2.0, 2.0], [9.0, 2.0]]), box.expand(3, 4)))
    assert torch.allclose(here, torch.tensor([1.0, (2.0 / 6.0) ** 0.5, 0.0]), atol=1e-6)


def test_focal_loss_is_weighted_cross_entropy() -> None:
    logits, target = torch.tensor([0.7, -1.2]), torch.tensor([1.0, 0.0])
    p = torch.sigmoid(logits)
    expected = torch.stack([-0.25 * (1 - p[0]) ** 2 * p[0].log(), -0.75 * p[1] ** 2 * (1 - p[1]).log()])
    assert torch.allclose(focal(logits, target), expected)


def test_a_scene_without_boxes_has_a_finite_loss() -> None:
    empty = Scene(np.full((32, 32), 0.5, dtype=np.float32), np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
    loss = Detector(TINY).loss([empty, square(STREAM(1))])
    assert torch.isfinite(loss)
    assert torch.isfinite(Detector(TINY).loss([empty]))


# ---- scenes ----


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_boxes_of_shapes_and_contacts_lie_in_the_image(seed: int) -> None:
    for maker in (shapes, contacts.contacts, landscape.basins):
        scene = maker(STREAM(seed))
        assert scene.image.dtype == np.float32
        assert scene.image.min() >= 0.0
        assert scene.image.max() <= 1.0
        assert scene.boxes.shape == (len(scene.labels), 4)
        assert (scene.boxes >= 0.0).all()
        assert (scene.boxes <= 64.0).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()


def test_a_box_of_a_shape_is_as_tight_as_the_pixels() -> None:
    """Without noise the pixels that differ from the ground fill the box to one pixel."""

    class Quiet:
        """A generator whose noise is zero and which draws one shape."""

        def __init__(self, seed: int) -> None:
            self.inner = STREAM(seed)

        def normal(self, mean: float, width: float, size: object) -> np.ndarray:
            return np.zeros(size)

        def integers(self, low: int, high: int | None = None) -> int:
            return 1 if (low, high) == (2, 6) else int(self.inner.integers(low, high))

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    checked = 0
    for seed in range(40):
        scene = shapes(Quiet(seed))  # type: ignore[arg-type]
        for box in scene.boxes:
            rows, columns = np.nonzero(np.abs(scene.image - 0.5) > 0.02)
            seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert np.abs(seen - box).max() <= 1.6  # a sharp corner covers little of its last pixel
            checked += 1
    assert checked > 20


def test_stripes_of_contacts_are_where_the_boxes_are() -> None:
    generator, seen = STREAM(5), 0
    while seen < 30:
        scene = contacts.contacts(generator)
        assert np.allclose(scene.image, scene.image.T, atol=0.2)
        for box, label in zip(scene.boxes.astype(int), scene.labels, strict=True):
            if contacts.CLASSES[label] == "helix":
                continue
            inside = scene.image[box[1] : box[3], box[0] : box[2]]
            line = np.diagonal(inside if contacts.CLASSES[label] == "parallel" else inside[::-1])
            assert (line > 0.3).mean() > 0.4
            seen += 1


# ---- minima ----


def test_two_wells_of_known_depth_and_saddle() -> None:
    x = (np.arange(64) + 0.5) / 64
    line = 2.0 * np.cos(4.0 * np.pi * x) + 0.5 * np.sin(2.0 * np.pi * x)  # minima near 1/4 and 3/4
    surface = line[None, :] + 3.0 * np.cos(2.0 * np.pi * x)[:, None]
    found = minima.persistent(surface, least=0.5)
    assert len(found.boxes) == 2
    assert np.allclose(found.depth, [-2.5 - 3.0, -1.5 - 3.0], atol=0.05)
    assert np.isinf(found.persistence[0])
    barrier = line[np.abs(x - 0.5) < 0.1].max()
    other = line[(x < 0.1) | (x > 0.9)].max()
    assert found.persistence[1] == pytest.approx(min(barrier, other) - line[16 - 8 : 16 + 8].min(), abs=1.0)
    assert (np.abs(found.minima[:, 0] - 31.5) < 1.5).all()


def test_persistence_is_the_height_of_the_lower_saddle() -> None:
    surface = np.full((5, 7), 9.0)
    surface[2] = [4.0, 0.0, 3.0, 1.0, 2.5, 2.0, 5.0]
    found = minima.persistent(surface, least=0.1, depth=50.0, periodic=False)
    assert found.depth.tolist() == [0.0, 1.0, 2.0]
    assert found.persistence.tolist() == [np.inf, 2.0, 0.5]
    strict = minima.persistent(surface, least=1.0, depth=2.0, periodic=False)
    assert strict.boxes.tolist() == [[1, 2, 2, 3], [3, 2, 6, 3]]  # the third pool belongs to the second now
    assert strict.population.sum() < 1.0


def test_a_basin_across_the_seam_is_one() -> None:
    x = (np.arange(48) + 0.5) / 48
    surface = -4.0 * np.cos(2.0 * np.pi * (x[:, None] - 0.02)) - 4.0 * np.cos(2.0 * np.pi * x[None])
    around, flat = minima.persistent(surface), minima.persistent(surface, periodic=False)
    assert len(around.boxes) == 1
    assert len(flat.boxes) == 4
    box = around.boxes[0]
    assert box[0] < 0.0 < box[2]
    assert box[1] < 0.0 < box[3]


@given(seed=st.integers(0, 999), shift=st.tuples(st.integers(0, 23), st.integers(0, 23)))
@settings(max_examples=15, deadline=None)
def test_basins_move_with_the_surface(seed: int, shift: tuple[int, int]) -> None:
    surface = landscape.fourier(STREAM(seed), True)[::4, ::4]
    here, there = minima.persistent(surface), minima.persistent(np.roll(surface, shift, axis=(0, 1)))
    assert np.allclose(here.depth, there.depth)
    assert np.allclose(here.population, there.population)
    assert np.allclose(here.boxes[:, 2:] - here.boxes[:, :2], there.boxes[:, 2:] - there.boxes[:, :2])
    assert np.allclose((here.boxes[:, :2] + [shift[1], shift[0]] - there.boxes[:, :2]) % 24, 0.0)


def test_minimum_filter_finds_the_same_deep_wells() -> None:
    surface = landscape.torsion(STREAM(4), True)
    deep = minima.persistent(surface, least=2.0)
    filtered = minima.local(surface, radius=5, smooth=1.0)
    for place in deep.minima:
        apart = np.abs((filtered.minima - place + 48) % 96 - 48).max(axis=1)
        assert apart.min() <= 2


def test_surfaces_that_cannot_be_used_are_refused() -> None:
    for bad in (np.zeros(4), np.full((4, 4), np.inf), np.full((4, 4), np.nan)):
        with pytest.raises(InputError, match="surface: expected"):
            minima.persistent(bad)
        with pytest.raises(InputError, match="surface: expected"):
            landscape.image_of(bad)
    with pytest.raises(InputError, match="family: expected one of mixture, fourier, torsion, got 'x'"):
        landscape.landscape(STREAM(1), "x")


def test_a_sampled_surface_converges_to_the_exact_one() -> None:
    drawn = landscape.landscape(STREAM(8), frames=30_000_000)
    bins = len(drawn.sampled)
    block = landscape.FINE // bins
    exact = -np.log(np.exp(-drawn.exact).reshape(bins, block, bins, block).mean(axis=(1, 3)))
    exact -= exact.min()
    low = exact < 5.0
    assert np.abs(drawn.sampled - exact)[low].max() < 0.1


def test_the_image_of_a_surface_is_bright_where_it_is_low() -> None:
    surface = np.array([[0.0, 5.0], [np.inf, 20.0]])
    image = landscape.image_of(surface, 8)
    assert image.shape == (8, 8)
    assert image[0, 0] == pytest.approx(1.0)
    assert image[0, 7] == pytest.approx(0.5)
    assert image[7].max() == 0.0


# ---- training, use, files ----


@pytest.fixture(scope="module")
def trained() -> Detector:
    detector = Detector(TINY, seed=1)
    fit(detector, square, FitSettings(steps=120, batch_size=8, learning_rate=4e-3, warmup_steps=10))
    return detector


def test_a_tiny_detector_learns_to_box_squares(trained: Detector) -> None:
    generator, good = STREAM(77), 0
    for _ in range(20):
        scene = square(generator)
        found = trained.detect(scene.image, score=0.2)
        good += len(found.boxes) > 0 and overlap(found.boxes[:1], scene.boxes)[0, 0] > 0.6
    assert good >= 17


def test_a_square_across_the_seam_is_found_once(trained: Detector) -> None:
    image = np.full((32, 32), 0.2, dtype=np.float32)
    image[12:24, 10:22] = 0.9
    rolled = np.roll(image, (12, 14), axis=(0, 1))  # now at rows 24..36, columns 24..36
    truth = np.array([[24.0, 24.0, 36.0, 36.0]])
    found = periodic.detect(trained, rolled, score=0.3)
    assert len(found.boxes) == 1
    assert periodic.periodic_overlap(found.boxes, truth, (32, 32))[0, 0] > 0.6
    centre = 0.5 * (found.boxes[0, :2] + found.boxes[0, 2:])
    assert ((centre >= 0.0) & (centre < 32.0)).all()


def test_detections_do_not_depend_on_batch_neighbours_or_padding(trained: Detector) -> None:
    image = square(STREAM(9)).image[:29, :30]
    first, second = trained.detect(image), trained.detect(image)
    assert np.array_equal(first.boxes, second.boxes)
    assert (first.boxes[:, 2] <= 30.0).all()
    assert (first.boxes[:, 3] <= 29.0).all()


def test_saving_and_loading_gives_the_same_detections(trained: Detector, tmp_path: Path) -> None:
    again = Detector.from_pretrained(trained.save(tmp_path / "detector"))
    image = square(STREAM(3)).image
    assert np.array_equal(trained.detect(image, score=0.05).boxes, again.detect(image, score=0.05).boxes)
    assert sorted(p.name for p in (tmp_path / "detector").iterdir()) == ["detector.json", "weights.safetensors"]


def test_broken_detectors_are_refused(trained: Detector, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no detector there"):
        Detector.from_pretrained("nothing-of-this-name")
    place = trained.save(tmp_path / "detector")
    text = (place / "detector.json").read_text()
    (place / "detector.json").write_text(text.replace("mlsim-detector", "other"))
    with pytest.raises(ArtifactError, match="expected format 'mlsim-detector'"):
        Detector.from_pretrained(place)
    (place / "detector.json").write_text(text.replace('"blocks": 1', '"blocks": 2'))
    with pytest.raises(ArtifactError, match="weights do not fit"):
        Detector.from_pretrained(place)
    (place / "detector.json").write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        Detector.from_pretrained(place)


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    plan = FitSettings(steps=6, batch_size=2, checkpoint_steps=2, warmup_steps=0)

    class Killed(Exception):
        pass

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise Killed

    whole, halves = Detector(TINY, seed=2), Detector(TINY, seed=2)
    fit(whole, square, plan)
    with pytest.raises(Killed):
        fit(halves, square, plan, directory=tmp_path, progress=stop)
    fresh = Detector(TINY, seed=9)  # its weights come from the checkpoint
    steps: list[int] = []
    fit(fresh, square, plan, directory=tmp_path, progress=lambda done, _: steps.append(done))
    assert steps == [5, 6]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, fresh.state_dict()[name]), name


def test_offsets_move_at_their_own_rate() -> None:
    moved = {}
    for rate in (1.0, 0.1):
        detector = Detector(TINY, seed=3)
        before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
        fit(detector, square, FitSettings(steps=1, batch_size=2, warmup_steps=0, weight_decay=0.0, offset_rate=rate))
        moved[rate] = {n: float((t - before[n]).abs().max()) for n, t in detector.state_dict().items()}
    spatial = [name for name in moved[1.0] if ".space." in name]
    assert len(spatial) == 2 * TINY.neck.blocks
    for name, distance in moved[1.0].items():
        share = 0.1 if name in spatial else 1.0
        assert moved[0.1][name] == pytest.approx(share * distance, rel=1e-4), name
    assert min(moved[1.0][name] for name in spatial) > 0.0


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    fit(Detector(TINY), square, FitSettings(steps=1, batch_size=1), directory=tmp_path)
    with pytest.raises(CheckpointError, match="belongs to a training with other settings"):
        fit(Detector(TINY), square, FitSettings(steps=2, batch_size=1), directory=tmp_path)
    (tmp_path / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        fit(Detector(TINY), square, FitSettings(steps=1, batch_size=1), directory=tmp_path)


def test_images_and_settings_that_cannot_be_used_are_refused() -> None:
    detector = Detector(TINY)
    with pytest.raises(InputError, match="expected values in \\[0, 1\\], got \\[0, 2\\]"):
        detector.detect(np.linspace(0.0, 2.0, 256).reshape(16, 16))
    with pytest.raises(InputError, match="image: expected shape"):
        detector.detect(np.zeros((3, 16, 16)))
    with pytest.raises(InputError, match="multiples of 8, got 12"):
        Detector(DetectorSettings(classes=("a",), widths=(8, 12)))
    with pytest.raises(SettingsError, match="did you mean 'widths'"):
        DetectorSettings.parse({"classes": ["a"], "width": [8]})
