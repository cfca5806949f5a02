"""What is exported finds what the checkpoint finds, here and in RapidOCR."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from ocr.data.transforms.decode import decode
from ocr.errors import UserError
from ocr.geometry.offsets import unclip_distance
from ocr.jobs.build import build_module
from ocr.jobs.export import agreement, export_onnx, kernel_sides, rapidocr_settings
from ocr.metrics.matching import pair
from ocr.models.pretrained.ppocr import weights_file
from ocr.pipeline import Pipeline, PostProcess, ResizePolicy
from ocr.training.loading import load_module
from ocr.training.module import DetectionModule
from ocr.types import Detections
from tests.composing import settings
from tests.conftest import ROOT, found_by
from tests.tiny import network_config

RECEIPTS = sorted((ROOT / "tests/fixtures").glob("**/*.jpg"))
PPOCR = Pipeline(
    ResizePolicy(1280, 32, 2.0), PostProcess(0.3, 0.6, "ratio", 1.2, 3, 1000, "quad"),
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bgr",
)  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[DetectionModule, Path, Pipeline]:
    """PP-OCRv4 as a checkpoint would hold it, and as a file."""
    try:
        weights = weights_file("ppocr_v4")
    except UserError as error:
        pytest.skip(str(error))
    network = {"_target_": "ocr.models.pretrained.ppocr.pretrained_detector", "weights": str(weights)}
    module = DetectionModule(network, PPOCR.to_dict()).eval()
    path = tmp_path_factory.mktemp("export") / "detector.onnx"
    wants = export_onnx(module.network, module.pipeline, path, {})
    return module, path, wants


def rescaled(image: np.ndarray, long_side: int) -> np.ndarray:
    """As RapidOCR does it itself, so that both see the same pixels: multiples of 32, no padding."""
    scale = long_side / max(image.shape)
    return cv2.resize(image, [round(side * scale / 32) * 32 for side in image.shape[1::-1]])


def test_the_file_finds_what_the_checkpoint_finds(exported):
    module, path, _ = exported
    one, other = ([found_by(m, decode(p)) for p in RECEIPTS] for m in (module, load_module(path)))
    same, total = agreement(one, other)
    assert total > 40 and same >= 0.995 * total
    assert max(np.abs(np.sort(a.scores) - np.sort(b.scores)).max() for a, b in zip(one, other) if len(a)) < 1e-3


def agreement_with_rapidocr(module: DetectionModule, path: Path, images: list[np.ndarray]) -> tuple[int, int]:
    """Of a file with settings beside it: boxes that the real package finds, too, and the larger number of boxes."""
    rapidocr = pytest.importorskip("rapidocr", reason="make setup EXTRAS=ppocr installs it")
    from rapidocr.ch_ppocr_det import TextDetector

    settings = path.with_suffix(".rapidocr.yaml")
    base = OmegaConf.load(Path(rapidocr.__file__).with_name("config.yaml"))
    det = OmegaConf.merge(base.Det, OmegaConf.load(settings).Det, {"model_path": str(path)})
    det.engine_cfg = base.EngineConfig.onnxruntime
    det.engine_type = rapidocr.EngineType.ONNXRUNTIME
    detector = TextDetector(det)
    close = total = 0
    for image in images:
        mine = found_by(module, image)
        theirs = detector(np.ascontiguousarray(image[..., ::-1])).boxes
        theirs = [] if theirs is None else [np.asarray(b, np.float32) for b in theirs]
        pairs = pair(mine.polygons, theirs)
        close += len(set(pairs.d[pairs.iou > 0.7].tolist()))
        total += max(len(mine), len(theirs))
    return close, total


def test_rapidocr_finds_the_same_with_the_file(exported):
    """The real package, with the settings that the export writes beside the file."""
    module, path, wants = exported
    images = [rescaled(decode(picture), 1280) for picture in RECEIPTS]
    items = [{"image": torch.from_numpy(image), "size": image.shape[1::-1]} for image in images]
    path.with_suffix(".rapidocr.yaml").write_text(rapidocr_settings(wants, path, kernel_sides(module, items)))
    close, total = agreement_with_rapidocr(module, path, images)
    assert total > 60 and close >= 0.98 * total


@pytest.mark.parametrize("name", ["receipts", "receipts-small"])
def test_rapidocr_finds_the_same_with_the_detector_in_the_box(name: str):
    module = load_module(weights_file(name))
    images = [rescaled(decode(picture), module.pipeline.resize.long_side) for picture in RECEIPTS]
    close, total = agreement_with_rapidocr(module, weights_file(name), images)
    assert total > 60 and close >= 0.98 * total


def test_settings_for_rapidocr_grow_a_typical_kernel_alike():
    sides = np.array([[100.0, 6.0]] * 3 + [[20.0, 5.0]])
    plain = PPOCR.to_dict()
    for unclip, amount in (("ratio", 1.2), ("exact", 0.5)):
        changed = plain | {"postprocess": plain["postprocess"] | {"unclip": unclip, "unclip_ratio": amount}}
        det = OmegaConf.create(rapidocr_settings(Pipeline.from_dict(changed), Path("model.onnx"), sides)).Det
        mine = float(unclip_distance(600.0, 212.0, unclip, amount))
        assert det.unclip_ratio * (99 * 5) / (2 * (99 + 5)) == pytest.approx(mine + 0.5, rel=1e-3)
        assert (det.limit_side_len, det.limit_type, det.use_dilation) == (1280, "max", False)


def test_polygons_are_counted_as_alike_only_when_both_have_them():
    box = np.array([[0, 0], [40, 0], [40, 10], [0, 10]], np.float32)
    one, two = Detections([box], np.ones(1)), Detections([box, box + 50], np.ones(2))
    assert agreement([one], [one]) == (1, 1)
    assert agreement([one], [two]) == agreement([two], [one]) == (1, 2)
    assert agreement([one], [Detections([box + 1], np.ones(1))]) == (0, 1)


@pytest.mark.parametrize("channels", ["bgr", "rgb"])
def test_what_was_trained_from_scratch_and_exported_is_a_start_for_more(channels: str, tmp_path: Path):
    """A file of this project's own network reads back, and brings the normalisation that was put into it."""
    network = network_config("mobilenetv4_conv_small", 32, 8)
    module, path = DetectionModule(network, PPOCR.to_dict() | {"channels": channels}).eval(), tmp_path / "own.onnx"
    wants = export_onnx(module.network, module.pipeline, path, {})
    overrides = ["model=ppocr_v4", "optimizer=lamb", f"model.weights='{path}'", "model.temperature=1"]
    again = build_module(settings(*overrides)).eval()
    assert again.pipeline.mean == wants.mean != module.pipeline.mean
    image = torch.randint(0, 256, (1, 96, 160, 3), dtype=torch.uint8)
    np.testing.assert_allclose(again.probability_maps(image), module.probability_maps(image), atol=1e-3)
