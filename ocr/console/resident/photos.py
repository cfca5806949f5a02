"""Text in a single picture, by a detector that stays loaded."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from ocr.data.index.check import read_header
from ocr.data.transforms.decode import UndecodableImage, decode, resize_and_pad
from ocr.drawing.polygons import draw_detections
from ocr.errors import UserError
from ocr.jobs.build import find_model, load_detector
from ocr.jobs.command_line.compose import any_target, compose_job, config_message
from ocr.jobs.command_line.overrides import text_of
from ocr.jobs.settings import PredictSettings, read
from ocr.training.module import DetectionModule
from ocr.training.page_reader import PageReader
from ocr.training.process import prepare_process

MAX_DETECTORS = 2  # detectors that stay loaded
MAX_SIDE = 65_500  # pixels of a JPEG


@lru_cache(MAX_DETECTORS)
def _detector(checkpoint: str, written: int, accelerator: str) -> DetectionModule:
    """A detector, read again where its file was ``written`` again."""
    arguments = [f"ckpt_path={text_of(checkpoint)}", "source=.", "output=."]
    prepare_process()
    try:
        with any_target():
            settings = read(compose_job("predict", arguments), PredictSettings)
            module = load_detector(settings, find_model(settings), accelerator)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(config_message(error, "predict", arguments)) from error
    module.page_reader = PageReader(settings.upright, settings.legible_height)
    return module


def device_of(accelerator: str) -> torch.device:
    """The device that ``accelerator`` (``auto``, ``cpu`` or ``gpu``) means here; the CPU where there is no card."""
    return torch.device("cuda" if accelerator in ("auto", "gpu") and torch.cuda.is_available() else "cpu")


def find_text(checkpoint: str, photo: str, max_pixels: int, accelerator: str) -> dict[str, Any]:
    """Text in a picture; beside its file ``<photo>.shown.jpg`` and one with the outlines, ``<photo>.overlay.jpg``.

    Args:
        checkpoint: a file, a run folder or the name of stock weights.
        photo: the file.
        max_pixels: of a picture that is taken.
        accelerator: ``auto``, ``cpu`` or ``gpu``.

    Returns:
        ``width``, ``height``, ``orientation``, ``polygons`` and ``scores`` as in ``predictions.jsonl``; ``seconds``
        from the file to the polygons.

    Raises:
        UserError: it is no picture, or too large; the detector cannot be loaded.
    """
    path = Path(photo)
    try:
        width, height = read_header(path).size
        if max(width, height) > MAX_SIDE:
            raise UserError(f"{width} x {height} pixels: more than {MAX_SIDE} on a side")
        if width * height > max_pixels:
            raise UserError(f"{width} x {height} pixels: more than the {max_pixels / 1e6:g} megapixels taken here")
        file = Path(checkpoint)
        written = file.stat().st_mtime_ns if file.is_file() else 0
        module = _detector(checkpoint, written, accelerator).to(device_of(accelerator))
        began = time.perf_counter()
        pixels = decode(path)
    except UndecodableImage as error:
        raise UserError(f"this is no picture that can be read: {str(error).removeprefix(f'{path}: ')}") from error
    padded = torch.from_numpy(resize_and_pad(pixels, module.pipeline.resize, module.pipeline.fill_colour))
    [detections] = module.read([padded.to(module.device)], [(pixels.shape[1], pixels.shape[0])], [lambda: pixels])
    done = time.perf_counter()
    for kind, image in (("overlay", draw_detections(pixels, detections)), ("shown", pixels)):
        jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        Path(f"{photo}.{kind}.jpg").write_bytes(jpeg.tobytes())
    return {
        "width": pixels.shape[1], "height": pixels.shape[0],
        "polygons": [[[round(float(v), 2) for v in point] for point in polygon] for polygon in detections.polygons],
        "scores": [round(float(score), 4) for score in detections.scores],
        "orientation": detections.orientation, "seconds": done - began,
    }  # fmt: skip
