"""Pictures and table of the worst images: which, how many, in what colours, at what cost."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import wandb

from ocr.drawing.polygons import FALSE, FOUND, MISSED, draw_matches
from ocr.pipeline import Pipeline
from ocr.tracking.batch_images import ProblemBatches, WorstImages
from ocr.tracking.schema import PerBatchImages
from ocr.tracking.secrets import Redactor
from ocr.types import Detections, Truth
from tests.conftest import all_metrics, quad

SETTINGS = dict(
    enabled=True, recall_threshold=0.8, max_batches=2, max_images=2, max_side=64, seconds=60, table_rows=3
)  # fmt: skip


def polygons(*corners: tuple[float, float]) -> list[np.ndarray]:
    return [np.array(quad(x, y), np.float32) for x, y in corners]


def batch(found: list[list], truth: list[list]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch of white images of 128 x 96 with their truth and detections, as the module returns it."""
    truths = [Truth(polygons(*t), np.zeros(len(t), bool)) for t in truth]
    detections = [Detections(polygons(*f), np.ones(len(f))) for f in found]
    outputs = {"detections": detections, **vars(all_metrics().update(detections, truths))}
    names = [f"folder/image_{len(t)}_{k}.jpg" for k, t in enumerate(truth)]
    images = [torch.full((96, 128, 3), 255, dtype=torch.uint8) for _ in truth]
    return {"images": images, "sizes": [(128, 96)] * len(truth), "truths": truths, "names": names}, outputs


def logged(run: wandb.Run) -> dict[str, Any]:
    """The newest value under every key."""
    return {k: dict(v) if hasattr(v, "keys") else v for k, v in dict(run.summary).items() if not k.startswith("_")}


@pytest.fixture
def module(pipeline: Pipeline) -> Any:
    resize = SimpleNamespace(content_size=lambda width, height: (width, height))
    return SimpleNamespace(pipeline=SimpleNamespace(resize=resize))


TRAINER: Any = SimpleNamespace(
    sanity_checking=False, global_step=7, testing=False, current_epoch=1, world_size=1, global_rank=0
)
HIT, MISS, WRONG = (10, 10), (10, 40), (70, 70)


def one_pass(callback: ProblemBatches, batches: list, module: Any) -> None:
    callback.on_validation_epoch_start(TRAINER, module)
    for idx, (content, outputs) in enumerate(batches):
        callback.on_validation_batch_end(TRAINER, module, outputs, content, idx)
    callback.on_validation_epoch_end(TRAINER, module)


def test_the_worst_batches_below_the_threshold_under_the_documented_keys(offline_run, module):
    good = batch([[HIT]], [[HIT]])
    half = batch([[HIT]], [[HIT, MISS]])
    third = batch([[HIT], []], [[HIT], [HIT, MISS]])
    none = batch([[], [], []], [[HIT], [HIT], [MISS]])
    one_pass(ProblemBatches(offline_run, PerBatchImages(**SETTINGS), Redactor({})), [good, half, third, none], module)
    values = logged(offline_run)
    names = ("images", "count", "recall", "precision", "hmean")
    wanted = {f"problematic_batch_{idx}_{name}" for idx in (2, 3) for name in names}
    assert {key for key in values if key.startswith("problematic_batch_")} == wanted
    assert values["problematic_batch_3_count"] == 3 and values["problematic_batch_3_images"]["count"] == 2, "capped"
    assert values["problematic_batch_2_recall"] == pytest.approx(1 / 3)
    assert values["problematic_batches/left_out"] == 1 and values["problematic_batches/seconds"] > 0
    assert values["trainer/global_step"] == 7
    pictures = values["problematic_batch_2_images"]
    assert pictures["format"] == "jpg" and max(pictures["width"], pictures["height"]) == 64
    assert pictures["captions"][0] == "batch 2, recall 0.333: image_2_1.jpg, recall 0.000", "the worst image first"
    assert list(Path(offline_run.dir).glob("media/images/problematic_batch_2_images_*.jpg"))


def test_a_time_budget_of_nothing_logs_nothing_and_says_so(offline_run, module):
    limits = PerBatchImages(**{**SETTINGS, "seconds": 0.0})
    one_pass(ProblemBatches(offline_run, limits, Redactor({})), [batch([[]], [[HIT]])] * 4, module)
    values = logged(offline_run)
    assert not any("images" in key for key in values)
    assert values["problematic_batches/left_out"] == 4


def test_nothing_is_logged_when_every_batch_is_read(offline_run, module):
    one_pass(ProblemBatches(offline_run, PerBatchImages(**SETTINGS), Redactor({})), [batch([[HIT]], [[HIT]])], module)
    assert logged(offline_run) == {}


def test_three_colours_that_colour_blind_readers_tell_apart():
    content, outputs = batch([[HIT, WRONG]], [[HIT, MISS]])
    canvas = np.full((96, 128, 3), 255, np.uint8)
    draw_matches(canvas, np.ones(2), content["truths"][0], outputs["detections"][0], outputs["matches"][0])
    colours = np.array([FOUND, MISSED, FALSE])
    for k, (x, y) in enumerate((HIT, MISS, WRONG)):
        edge = canvas[y - 2 : y + 3, x + 10 : x + 30].reshape(-1, 3).astype(int)
        line = edge[edge.sum(axis=1).argmin()]
        assert np.abs(colours - line).sum(axis=1).argmin() == k, (line, k)
    white = as_seen(np.ones((1, 3)), "normal")[0]
    for vision in SIGHT:
        lab = as_seen(colours / 255, vision)
        assert min(np.linalg.norm(lab[a] - lab[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 40, vision
        assert np.linalg.norm(lab - white, axis=1).min() > 40, "paper is white"


SIGHT = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "normal": np.eye(3),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "protan": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "tritan": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def as_seen(srgb: np.ndarray, vision: str) -> np.ndarray:
    """Colours (N, 3) in 0..1 as CIELAB (D65) with a kind of colour vision."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) @ SIGHT[vision].T
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear, 0, 1) @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def test_the_table_has_the_worst_images_of_the_newest_pass(offline_run, module):
    worst = WorstImages(3, Redactor({}))
    for _ in range(2):
        worst.on_validation_epoch_start(TRAINER, module)
        for idx, (content, outputs) in enumerate([batch([[HIT]], [[HIT]]), batch([[HIT], []], [[HIT, MISS], [HIT]]),
                                                  batch([[WRONG]], [[HIT]])]):  # fmt: skip
            worst.on_validation_batch_end(TRAINER, module, outputs, content, idx)
        worst.on_validation_epoch_end(TRAINER, module)
    worst.write_table(offline_run)
    assert logged(offline_run)["worst_images"]["nrows"] == 3
    [path] = Path(offline_run.dir).glob("media/table/worst_images*.table.json")
    table = json.loads(path.read_text())
    rows = [dict(zip(table["columns"], row)) for row in table["data"]]
    assert [(r["batch"], r["hmean"]) for r in rows] == [(1, 0), (2, 0), (1, pytest.approx(2 / 3))]
    assert rows[0]["image"] == "image_1_1.jpg" and rows[1]["false"] == 1 and rows[2]["missed"] == 1
    assert rows[0]["stage"] == "val" and rows[0]["epoch"] == 1


def test_a_false_detection_where_there_is_no_text_is_not_missed_text(offline_run, module):
    """Its recall is 1, so that it is no problematic batch and images whose text was missed come before it."""
    empty, missed = batch([[WRONG]], [[]]), batch([[]], [[HIT]])
    one_pass(ProblemBatches(offline_run, PerBatchImages(**SETTINGS), Redactor({})), [empty, missed], module)
    assert {k for k in logged(offline_run) if k.endswith("_recall")} == {"problematic_batch_1_recall"}
    worst = WorstImages(3, Redactor({}))
    for idx, (content, outputs) in enumerate([empty, missed]):
        worst.on_validation_batch_end(TRAINER, module, outputs, content, idx)
    worst.write_table(offline_run)
    [path] = Path(offline_run.dir).glob("media/table/worst_images*.table.json")
    table = json.loads(path.read_text())
    rows = [dict(zip(table["columns"], row)) for row in table["data"]]
    assert [(r["batch"], r["recall"], r["precision"]) for r in rows] == [(1, 0, 0), (0, 1, 0)]
