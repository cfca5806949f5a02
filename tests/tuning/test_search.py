"""The shortcuts of tuning give what the real way gives; cross-validation never looks at what it scores."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.data.targets.maps import SHRINK_MAP, TargetMaker
from ocr.drawing.plots import plot_surface
from ocr.errors import UserError
from ocr.jobs.tune import tuning_metrics
from ocr.metrics.deteval import DetEval
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import compare
from ocr.metrics.protocol import evaluate
from ocr.models.postprocess.db import detect
from ocr.pipeline import Pipeline
from ocr.training.loading import load_module
from ocr.tuning.choice import FIGURES, choose
from ocr.tuning.grid import Grid
from ocr.tuning.search import CachedImage, collect, count_images, pack
from ocr.types import Truth

UNCLIP = {"ratio": (1.0, 1.8), "exact": (0.4,)}
GRID = Grid((), (0.2, 0.5), (0.3, 0.7), (2, 5), UNCLIP, folds=3, repeats=2, deteval_weight=0.1)


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
    kernels = TargetMaker(0.4, 1)(polygons, np.zeros(8, bool), size[1], size[0])[SHRINK_MAP]
    soft = cv2.GaussianBlur(kernels.astype(np.float32) * rng.uniform(0.4, 1.0), (0, 0), 1.0)
    image = CachedImage(size, truth, {side: pack(soft)})
    np.testing.assert_allclose(image.probability(side), soft, atol=0.5 / 4095 + 1e-6)
    return image


@pytest.fixture
def images(pipeline: Pipeline) -> list[CachedImage]:
    return [blurred_receipt(seed, pipeline) for seed in range(6)]


def test_counts_equal_those_of_the_real_way(images: list[CachedImage], pipeline: Pipeline):
    counts = count_images(images, GRID, pipeline.postprocess, num_workers=0)
    combinations = GRID.combinations([320])
    assert counts.shape == (6, len(combinations), 7)
    objectives = []
    for k, combination in enumerate(combinations):
        params = {name: value for name, value in combination.items() if name != "long_side"}
        real = replace(pipeline, postprocess=replace(pipeline.postprocess, **params))
        sums, deteval_sums, fit = np.zeros(3), np.zeros(4), 0.0
        for image in images:
            found = detect(image.probability(320), *image.size, real)
            sums += Hmean().count(compare(found, image.truth))
            deteval_sums += DetEval().count(compare(found, image.truth))
            fit += compare(found, image.truth).match.iou.sum()
        texts, detections, matched, overlap, others, precision_sum, recall_sum = counts[:, k].sum(axis=0).tolist()
        assert overlap == pytest.approx(fit)
        assert sums.tolist() == [matched, detections, texts], combination
        assert deteval_sums.tolist() == pytest.approx([recall_sum, precision_sum, texts, others]), combination
        hmean, deteval_hmean = Hmean().scores(sums)["hmean"], DetEval().scores(deteval_sums)["deteval_hmean"]
        objectives.append(0.9 * hmean + 0.1 * deteval_hmean)
    assert max(objectives) - min(objectives) > 0.1, "the grid makes a difference"
    tuned = choose(counts, combinations, combinations[0], GRID.folds, GRID.deteval_weight, 1)
    assert tuned.best["objective"] == pytest.approx(max(objectives), abs=1e-6)
    assert tuned.table[0]["objective"] == tuned.best["objective"] and len(tuned.table) == len(combinations)


def test_either_metric_may_be_all_that_is_tuned_for(images: list[CachedImage], pipeline: Pipeline):
    counts = count_images(images, GRID, pipeline.postprocess, num_workers=0)
    combinations = GRID.combinations([320])
    plain, by_deteval = (choose(counts, combinations, combinations[-1], 3, weight, 1) for weight in (0.0, 1.0))
    for tuned, name, protocol in ((plain, "hmean", Hmean()), (by_deteval, "deteval_hmean", DetEval())):
        found = [detect(image.probability(320), *image.size, tuned.pipeline(pipeline)) for image in images]
        assert tuned.best[name] == pytest.approx(evaluate(protocol, found, [i.truth for i in images])[name], abs=1e-6)
        assert tuned.best[name] == tuned.best["objective"] == max(row[name] for row in tuned.table)
        assert tuning_metrics(tuned)[f"tune/tuned_{name}"] == tuned.best[name] > tuned.before[name]
    assert plain.best["deteval_hmean"] < by_deteval.best["deteval_hmean"], "they want different things"


def test_parallel_counting_changes_nothing(images: list[CachedImage], pipeline: Pipeline):
    alone, together = (count_images(images, GRID, pipeline.postprocess, num_workers=n) for n in (0, 2))
    np.testing.assert_array_equal(alone, together)


def test_pictures_of_one_name_are_tuned_on_each_with_its_own_truth(learned: Path):
    """As those of two sources may be called the same."""
    module = load_module(learned)
    sources = [SyntheticReceipts(2, 1, difficulty=d) for d in (0, 1)]
    assert [sources[0].name(i) for i in range(2)] == [sources[1].name(i) for i in range(2)]
    images = collect(module, sources, [160, 320], torch.device("cpu"), 0)
    assert len(images) == 4
    for image, (source, i) in zip(images, product(sources, range(2))):
        pixels, truth = source.load(i)
        assert image.size == pixels.shape[1::-1] and list(image.maps) == [160, 320]
        assert all(np.array_equal(a, b) for a, b in zip(image.truth.polygons, truth.polygons, strict=True))
    counts = count_images(images, GRID, module.pipeline.postprocess, 0)
    assert (counts[:, :, 2].max(axis=1) > 3).sum() >= 2, "flat receipts are found where they are"


def counted(matched: float, detections: float = 100, texts: float = 100, deteval: float | None = None) -> list[float]:
    """The counts of a combination on an image, and what it earns by DetEval, unless told otherwise the same."""
    earned = matched if deteval is None else deteval
    return [texts, detections, matched, 0.8 * matched, detections, earned, earned]


def test_held_out_scores_come_from_choices_made_without_them():
    """Two combinations, each perfect on the images on which the other fails: chosen elsewhere, both look bad."""
    right, wrong = counted(100), counted(0)
    counts = np.array([[right, wrong], [wrong, right]])
    combinations = [{"long_side": 1, "k": 0}, {"long_side": 1, "k": 1}]
    tuned = choose(counts, combinations, combinations[0], 2, 0.0, 1)
    assert tuned.before["hmean"] == tuned.best["hmean"] == pytest.approx(0.5)
    assert tuned.best["k"] == 0, "what there is wins a tie"
    assert tuned.held_out["hmean"] == 0 and tuned.gain("hmean") == pytest.approx(-0.5)


def test_images_are_dealt_out_anew():
    """Every other image is of one kind: dealt out in turn each fold is chosen for by the other kind, and loses."""
    present, other, strange = counted(50), counted(90), counted(0)
    counts = np.array([[present, other, strange], [present, strange, other]] * 20)
    combinations = [{"long_side": 1, "k": k} for k in range(3)]
    once, often = (choose(counts, combinations, combinations[0], 2, 0.0, n) for n in (1, 50))
    assert once.held_out["hmean"] == 0 and once.kept_current
    assert 0.2 < often.held_out["hmean"] < 0.5, "kinds are mixed, so that some are chosen for by their own"


def test_what_loses_on_held_out_images_is_not_taken():
    """Each of two combinations is better than the present one on one fold, and worse on the other."""
    present, first, second = counted(80), counted(100), counted(70)
    counts = np.array([[present, first, second], [present, second, first]])
    combinations = [{"long_side": 1, "k": k} for k in range(3)]
    tuned = choose(counts, combinations, combinations[0], 2, 0.0, 1)
    assert tuned.held_out["hmean"] == pytest.approx(0.7) and tuned.gain() == pytest.approx(-0.1)
    assert tuned.table[0]["hmean"] == pytest.approx(0.85), "the best one, had it been taken"
    assert tuned.best["k"] == 0 and tuned.kept_current


def test_to_choose_what_there_is_is_no_loss():
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = rng.uniform(0.5, 0.9, 30)
        counts = np.array([[counted(97 * share, deteval=93 * share), counted(0)] for share in found])
        tuned = choose(counts, [{"k": 0}, {"k": 1}], {"k": 0}, 5, 0.1, 10)
        assert tuned.best["k"] == 0 and not tuned.kept_current and tuned.gain() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("weight, chosen", [(0.0, 0), (0.05, 0), (0.1, 1), (0.3, 1), (0.5, 2)])
def test_boxes_that_cover_their_text_are_worth_as_much_as_is_asked_for(weight: float, chosen: int):
    counts = np.array([[counted(97, deteval=82), counted(96, deteval=95), counted(93, deteval=99)]] * 2)
    combinations = [{"k": k} for k in range(3)]
    tuned = choose(counts, combinations, combinations[0], 2, weight, 1)
    assert tuned.best["k"] == tuned.table[0]["k"] == chosen
    assert tuned.held_out == pytest.approx({name: tuned.best[name] for name in FIGURES})
    assert tuned.best["objective"] == pytest.approx(
        (1 - weight) * [0.97, 0.96, 0.93][chosen] + weight * [0.82, 0.95, 0.99][chosen]
    )


def test_a_single_image_cannot_be_held_out():
    counts = np.array([[counted(50), counted(90)]])
    combinations = [{"long_side": 1, "k": 0}, {"long_side": 1, "k": 1}]
    tuned = choose(counts, combinations, combinations[0], 5, 0.0, 1)
    assert tuned.best["k"] == 1 and tuned.gain() == 0, "nothing is claimed for other images"
    values = [*tuned.best.values(), *tuned.before.values(), *tuned.held_out.values(), tuned.held_out_spread]
    assert {type(v) for v in values} <= {int, float}, "checkpoints hold plain types"


def test_the_pipeline_gets_the_best_and_keeps_the_rest(images: list[CachedImage], pipeline: Pipeline, tmp_path: Path):
    counts = count_images(images, GRID, pipeline.postprocess, num_workers=0)
    combinations = GRID.combinations([320])
    tuned = choose(counts, combinations, combinations[-1], GRID.folds, GRID.deteval_weight, 1)
    new = tuned.pipeline(pipeline)
    for name in ("thresh", "box_thresh", "unclip", "unclip_ratio", "min_size"):
        assert getattr(new.postprocess, name) == tuned.best[name]
    assert (new.mean, new.postprocess.shape, new.resize.multiple) == (pipeline.mean, "quad", 32)
    picture = cv2.imread(str(plot_surface(tuned.table, tmp_path / "surface.png", "title")))
    assert picture.shape[1] > 800 and picture.std() > 10


def test_the_current_values_are_among_those_compared(pipeline: Pipeline):
    grid = GRID.with_current(pipeline)
    post = pipeline.postprocess
    now = {"long_side": 320, "thresh": post.thresh, "unclip": post.unclip, "unclip_ratio": post.unclip_ratio,
           "box_thresh": post.box_thresh, "min_size": post.min_size}  # fmt: skip
    assert now in grid.combinations(grid.long_side)


@pytest.mark.parametrize(
    "change", [{"thresh": ()}, {"unclip": {}}, {"folds": 1}, {"repeats": 0}, {"deteval_weight": 1.1}]
)
def test_a_grid_with_nothing_in_it(change: dict):
    with pytest.raises(UserError, match="tuning"):
        replace(GRID, **change)
