"""Export as a job: the file is written only when what it finds equals what the checkpoint finds."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ocr.data.datasets import EvalSet
from ocr.errors import UserError
from ocr.geometry.offsets import unclip_distance
from ocr.jobs.build import build_data, load_detector, trainable
from ocr.jobs.results import print_results
from ocr.jobs.settings import ExportSettings
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import pair
from ocr.metrics.protocol import evaluate
from ocr.models.onnx.export import export_onnx, to_fp16, to_fp16_weights, to_int8
from ocr.models.postprocess.db import find_candidates
from ocr.models.tta import TestTimeAugmentation
from ocr.pipeline import Pipeline
from ocr.training.data_record import KEY, read_record
from ocr.training.loading import load_module
from ocr.training.module import DetectionModule
from ocr.training.process import prepare_process
from ocr.types import Detections
from ocr.utils.files import copy_atomic, write_atomic

log = logging.getLogger(__name__)
SAME_IOU = 0.98  # polygons that overlap this much are the same
SAME_RATIO = 0.995  # of the polygons; a pixel whose probability is the threshold may fall either way


def export(settings: ExportSettings, checkpoint: Path) -> None:
    """Write ``output``, and beside it the settings that RapidOCR needs.

    Raises:
        UserError: the file would not find what the checkpoint finds, or cost more hmean than ``max_loss``.
    """
    prepare_process()
    module = trainable(load_detector(settings, checkpoint, "cpu"), checkpoint)
    if tta := module.tta.changed():
        log.warning("the checkpoint was tuned for test-time augmentation (%s), an exported file does a single pass: "
                    "tune it again without", tta)  # fmt: skip
        module.tta = TestTimeAugmentation()
    images = _images(settings, module.pipeline)
    expected, hmean = _read(module, images)
    output = Path(settings.output).expanduser()
    metadata = {"source": checkpoint.name, "made_by": "receipt-text-detection"}
    if (data_record := read_record(checkpoint)) is not None:
        metadata[KEY] = (data_record if settings.data_paths else data_record.without_paths()).to_json()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fp32.onnx")
        wants = export_onnx(module.network, module.pipeline, file, metadata)
        found, measured = _read(load_module(file), images)
        same, total = agreement(expected, found)
        if same < SAME_RATIO * total or not total:
            raise UserError(
                f"not written: of {total} polygons in {len(images)} images the exported file gives {same} alike"
                + ("" if total else " (none were found: nothing is shown by that; give images with text: data=...)")
            )
        results: dict[str, Any] = {"polygons alike": f"{same} of {total}", "hmean of the checkpoint": hmean}
        if settings.precision != "fp32":
            file = _smaller(settings, file, images)
            found, measured = _read(load_module(file), images)
            same, total = agreement(expected, found)
            results[f"polygons alike in {settings.precision}"] = f"{same} of {total}"
            if hmean - measured > settings.max_loss:
                raise UserError(
                    f"not written: {settings.precision} costs {hmean - measured:.4f} of hmean on "
                    f"{len(images)} images, more than max_loss={settings.max_loss:g}"
                )
        results["hmean of the file"] = measured
        copy_atomic(file, output)
    for_rapidocr = output.with_suffix(".rapidocr.yaml")
    write_atomic(for_rapidocr, rapidocr_settings(wants, output, kernel_sides(module, images)))
    results["size"] = f"{output.stat().st_size / 1e6:.1f} MB"
    print_results("export", results, {"file": output, "settings for RapidOCR": for_rapidocr})


def _images(settings: ExportSettings, pipeline: Pipeline) -> list[dict[str, Any]]:
    data = build_data(settings.data, pipeline, settings.seed)
    chosen = EvalSet(data.load(settings.split).sources[settings.split], pipeline)
    count = min(settings.images, len(chosen))
    indices = np.linspace(0, len(chosen) - 1, count).round().astype(int)
    items = [item for k in indices.tolist() if (item := chosen[k]) is not None]
    if not items:
        raise UserError("no image for the check can be decoded")
    return items


def _read(module: DetectionModule, images: list[dict[str, Any]]) -> tuple[list[Detections], float]:
    """The text that a detector finds on the images of the check, and its hmean there."""
    detections = [module.detect([item["image"]], [item["size"]])[0] for item in images]
    return detections, evaluate(Hmean(), detections, [item["truth"] for item in images])["hmean"]


def agreement(one: list[Detections], other: list[Detections]) -> tuple[int, int]:
    """Polygons that both have, and the larger number of polygons, summed over images."""
    same = total = 0
    for a, b in zip(one, other, strict=True):
        pairs = pair(a.polygons, b.polygons)
        close = pairs.iou >= SAME_IOU
        same += min(len(set(pairs.d[close].tolist())), len(set(pairs.g[close].tolist())))
        total += max(len(a), len(b))
    return same, total


def _smaller(settings: ExportSettings, file: Path, images: list[dict[str, Any]]) -> Path:
    target = file.with_name(f"{settings.precision}.onnx")
    if settings.precision == "fp16":
        to_fp16(file, target)
    elif settings.precision == "fp16_weights":
        to_fp16_weights(file, target)
    else:
        module, chosen = load_module(file), images[: settings.calibration_images]
        to_int8(file, target, [np.array(module.normalise(item["image"][None]), np.float32) for item in chosen])
    return target


def kernel_sides(module: DetectionModule, images: list[dict[str, Any]]) -> np.ndarray:
    """Sides of the kernels that are kept, float64 (M, 2), network pixels."""
    post, sides = module.pipeline.postprocess, [np.zeros((0, 2))]
    for item in images:
        [probability] = module.probability_maps(item["image"][None])
        width, height = module.pipeline.resize.content_size(*item["size"])
        inside = np.ascontiguousarray(probability[:height, :width])
        candidates = find_candidates(inside, post.thresh, post.min_size, post.max_candidates)
        sides.append(candidates.sides[candidates.scores >= post.box_thresh])
    return np.concatenate(sides)


def rapidocr_settings(pipeline: Pipeline, file: Path, sides: np.ndarray) -> str:
    """YAML of RapidOCR's detection section that comes closest to the pipeline.

    RapidOCR measures contours from pixel centres, half a pixel short on each side, and knows ``unclip=ratio`` only:
    its ratio is the one that gives the middle one of these kernels the same polygon. It also scales the input to
    multiples of 32 instead of padding it, and drops boxes of 3 pixels and below.

    Args:
        pipeline, file: of the export.
        sides: of kernels, see :func:`kernel_sides`.
    """
    post, ratio = pipeline.postprocess, 1.6
    sides = sides[sides.min(axis=1, initial=np.inf) > 1]
    if len(sides):
        unclipped = unclip_distance(sides.prod(axis=1), 2 * sides.sum(axis=1), post.unclip, post.unclip_ratio) + 0.5
        short = sides - 1
        ratio = float(np.median(unclipped * 2 * short.sum(axis=1) / short.prod(axis=1)))
    section = {
        "model_path": file.name, "limit_side_len": pipeline.resize.long_side, "limit_type": "max",
        "mean": list(pipeline.mean), "std": list(pipeline.std), "thresh": post.thresh, "box_thresh": post.box_thresh,
        "max_candidates": post.max_candidates, "unclip_ratio": round(ratio, 3), "use_dilation": False,
        "score_mode": "slow",
    }  # fmt: skip
    return yaml.safe_dump({"Det": section}, sort_keys=False)
