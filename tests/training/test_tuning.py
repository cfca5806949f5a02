"""The shortcuts of tuning give what the real way gives; cross-validation never looks at what it scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr.data.targets import SHRINK_MAP, TargetMaker
from ocr.errors import UserError
from ocr.metrics.deteval import DetEval
from ocr.metrics.hmean import DetectionHmean
from ocr.metrics.matching import match
from ocr.models.postprocess import detect
from ocr.pipeline import Pipeline
from ocr.training.plots import plot_surface
from ocr.training.tune_job import tuning_metrics
from ocr.training.tuning import CachedImage, Grid, choose, count_images
from ocr.types import Truth

UNCLIP = {"ratio": (1.0, 1.8), "exact": (0.4,), "height": (0.2,)}
GRID = Grid((), (0.2, 0.5), (0.3, 0.7), (2, 5), UNCLIP, folds=3, repeats=2, metric="hmean", slack=0.0005)


def blurred_receipt(seed: int, pipeline: Pipeline) -> CachedImage:
    """Lines of text as a hesitant network would draw them."""
    rng = np.random.default_rng(seed)
    polygons = []
    for row in range(8):
        x, y, w, h = rng.uniform(5, 60), 20 + row * 34 + rng.uniform(0, 4), rng.uniform(40, 160), rng.uniform(7, 18)
        polygons.append(np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32))
    size = (240, 320)
    truth = Truth(polygons, rng.random(8) < 0.2)
    side = pipeline.resize.long_side
    assert pipeline.resize.content_size(*size) == size and side == 320
    kernels = TargetMaker("area", 0.4, 1)(polygons, np.zeros(8, bool), size[1], size[0])[SHRINK_MAP]
    soft = cv2.GaussianBlur(kernels.astype(np.float32) * rng.uniform(0.4, 1.0), (0, 0), 1.0)
    grey = np.rint(soft * 255).astype(np.uint8)
    return CachedImage(str(seed), size, truth, {side: cv2.imencode(".png", grey)[1]})


@pytest.fixture
def images(pipeline: Pipeline) -> list[CachedImage]:
    return [blurred_receipt(seed, pipeline) for seed in range(6)]


def test_counts_equal_those_of_the_real_way(images: list[CachedImage], pipeline: Pipeline):
    counts = count_images(images, GRID, pipeline.postprocess, num_workers=0)
    combinations = GRID.combinations([320])
    assert counts.shape == (6, len(combinations), 5)
    hmeans = []
    for k, combination in enumerate(combinations):
        params = {name: value for name, value in combination.items() if name != "long_side"}
        real = replace(pipeline, postprocess=replace(pipeline.postprocess, **params))
        metric, fit = DetectionHmean(), 0.0
        for image in images:
            found = detect(image.probability(320), *image.size, real)
            metric.update([found], [image.truth])
            fit += match(found.polygons, image.truth.polygons, image.truth.ignore).iou.sum()
        matched, detected, again, wanted, overlap = counts[:, k].sum(axis=0).tolist()
        assert overlap == pytest.approx(fit)
        assert metric.counts.tolist() == [matched, detected, wanted] and again == matched, combination
        hmeans.append(float(metric.compute()["hmean"]))
    assert max(hmeans) - min(hmeans) > 0.1, "the grid makes a difference"
    tuned = choose(counts, combinations, combinations[0], GRID.folds)
    assert tuned.best["hmean"] == pytest.approx(max(hmeans), abs=1e-6)
    assert tuned.table[0]["hmean"] == tuned.best["hmean"] and len(tuned.table) == len(combinations)


def test_deteval_may_be_what_is_tuned(images: list[CachedImage], pipeline: Pipeline):
    grid = replace(GRID, metric="deteval_hmean")
    counts = count_images(images, grid, pipeline.postprocess, num_workers=0)
    combinations = grid.combinations([320])
    tuned = choose(counts, combinations, combinations[0], 3, grid.metric)
    metric = DetEval()
    for image in images:
        metric.update([detect(image.probability(320), *image.size, tuned.pipeline(pipeline))], [image.truth])
    assert tuned.best["hmean"] == pytest.approx(float(metric.compute()["hmean"]), abs=1e-6)
    assert tuning_metrics(tuned)["tune/tuned_deteval_hmean"] == tuned.best["hmean"] > tuned.before["hmean"]


def test_parallel_counting_changes_nothing(images: list[CachedImage], pipeline: Pipeline):
    alone, together = (count_images(images, GRID, pipeline.postprocess, num_workers=n) for n in (0, 2))
    np.testing.assert_array_equal(alone, together)


def test_held_out_scores_come_from_choices_made_without_them():
    """Two combinations, each perfect on the images on which the other fails: chosen elsewhere, both look bad."""
    right, wrong = [10.0, 10, 10, 10, 8], [0.0, 10, 0, 10, 0]
    counts = np.array([[right, wrong], [wrong, right]])
    combinations = [{"long_side": 1, "k": 0}, {"long_side": 1, "k": 1}]
    tuned = choose(counts, combinations, combinations[0], folds=2)
    assert tuned.before["hmean"] == tuned.best["hmean"] == pytest.approx(0.5)
    assert tuned.best["k"] == 0, "what there is wins a tie"
    assert tuned.held_out["hmean"] == 0 and tuned.gain == pytest.approx(-0.5)


def test_images_are_dealt_out_anew():
    """Every other image is of one kind: dealt out in turn each fold is chosen for by the other kind, and loses."""
    present, other = [50.0, 100, 50, 100, 40], [90.0, 100, 90, 100, 80]
    strange = [0.0, 100, 0, 100, 0]
    counts = np.array([[present, other, strange], [present, strange, other]] * 20)
    combinations = [{"long_side": 1, "k": k} for k in range(3)]
    once, often = (choose(counts, combinations, combinations[0], folds=2, repeats=n) for n in (1, 50))
    assert once.held_out["hmean"] == 0 and once.kept
    assert 0.2 < often.held_out["hmean"] < 0.5, "kinds are mixed, so that some are chosen for by their own"


@pytest.mark.parametrize("slack, chosen", [(0.0, 0), (0.2, 1)])
def test_what_loses_on_held_out_images_is_not_taken(slack: float, chosen: int):
    """Each of two combinations is better than the present one on one fold, and worse on the other."""
    present, first, second = [80.0, 100, 80, 100, 60], [100.0, 100, 100, 100, 90], [70.0, 100, 70, 100, 50]
    counts = np.array([[present, first, second], [present, second, first]])
    combinations = [{"long_side": 1, "k": k} for k in range(3)]
    tuned = choose(counts, combinations, combinations[0], folds=2, slack=slack)
    assert tuned.held_out["hmean"] == pytest.approx(0.7) and tuned.gain == pytest.approx(-0.1)
    assert tuned.table[0]["hmean"] == pytest.approx(0.85), "the best one, had it been taken"
    assert tuned.best["k"] == chosen and tuned.kept == (chosen == 0)


@pytest.mark.parametrize("slack, chosen", [(0.0, 0), (0.005, 1), (0.2, 2)])
def test_boxes_that_fit_win_among_those_that_are_nearly_the_best(slack: float, chosen: int):
    counts = np.array([[[900.0, 1000, 900, 1000, 600], [898, 1000, 898, 1000, 700], [800, 1000, 800, 1000, 720]]] * 2)
    combinations = [{"k": k} for k in range(3)]
    tuned = choose(counts, combinations, combinations[0], folds=2, slack=slack)
    assert tuned.best["k"] == chosen and tuned.best["mean_iou"] == pytest.approx([600 / 900, 700 / 898, 0.9][chosen])
    assert tuned.held_out["hmean"] == pytest.approx(tuned.best["hmean"])
    assert tuned.table[0]["k"] == 0, "the table is in the order of hmean"


def test_a_single_image_cannot_be_held_out():
    counts = np.array([[[5.0, 10, 5, 10, 4], [9.0, 10, 9, 10, 7]]])
    combinations = [{"long_side": 1, "k": 0}, {"long_side": 1, "k": 1}]
    tuned = choose(counts, combinations, combinations[0], folds=5)
    assert tuned.best["k"] == 1 and tuned.gain == 0, "nothing is claimed for other images"
    values = [*tuned.best.values(), *tuned.before.values(), *tuned.held_out.values(), tuned.held_out_spread]
    assert {type(v) for v in values} <= {int, float}, "checkpoints hold plain types"


def test_the_pipeline_gets_the_best_and_keeps_the_rest(images: list[CachedImage], pipeline: Pipeline, tmp_path: Path):
    counts = count_images(images, GRID, pipeline.postprocess, num_workers=0)
    combinations = GRID.combinations([320])
    tuned = choose(counts, combinations, combinations[-1], GRID.folds)
    new = tuned.pipeline(pipeline)
    for name in ("thresh", "box_thresh", "unclip", "unclip_ratio", "min_size"):
        assert getattr(new.postprocess, name) == tuned.best[name]
    assert (new.mean, new.postprocess.shape, new.resize.multiple) == (pipeline.mean, "quad", 32)
    picture = cv2.imread(str(plot_surface(tuned, tmp_path / "surface.png")))
    assert picture.shape[1] > 800 and picture.std() > 10


def test_the_current_values_are_among_those_compared(pipeline: Pipeline):
    grid = GRID.with_current(pipeline)
    post = pipeline.postprocess
    now = {"long_side": 320, "thresh": post.thresh, "unclip": post.unclip, "unclip_ratio": post.unclip_ratio,
           "box_thresh": post.box_thresh, "min_size": post.min_size}  # fmt: skip
    assert now in grid.combinations(grid.long_side)


@pytest.mark.parametrize("change", [{"thresh": ()}, {"unclip": {}}, {"folds": 1}, {"repeats": 0}, {"metric": "f1"}])
def test_a_grid_with_nothing_in_it(change: dict):
    with pytest.raises(UserError, match="tuning"):
        replace(GRID, **change)
