"""The same inputs for all parts: drawn text of known layout, and samples of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from omegaconf import DictConfig

from ocr.data.datamodule import DetectionData
from ocr.data.targets.maps import TargetMaker
from ocr.jobs.build import build_data
from ocr.jobs.settings import ModuleSettings
from ocr.pipeline import Pipeline
from ocr.types import Detections, Truth
from ocr.utils.config import plain_config
from ocr.utils.typed import build


def lines(count: int, width: int, height: int, seed: int, angle: float = 3.0) -> list[np.ndarray]:
    """Text lines as a receipt has them: float32 (4, 2) each, in rows, all at one angle in degrees, within the image."""
    rng = np.random.default_rng(seed)
    a, centre = np.radians(angle), np.array([width, height]) / 2
    turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) * (1 - abs(np.sin(a)))
    pitch = height / count
    quads = []
    for k in range(count):
        w, h = rng.uniform(0.08, 0.6) * width, rng.uniform(0.7, 0.9) * pitch
        corner = rng.uniform(0, width - w), (k + 0.5) * pitch - h / 2
        box = np.array([[0, 0], [w, 0], [w, h], [0, h]]) + corner
        quads.append(((box - centre) @ turn + centre).astype(np.float32))
    return quads


def ideal_map(polygons: Sequence[np.ndarray], width: int, height: int, maker: TargetMaker) -> np.ndarray:
    """A probability map as a good network gives it: kernels with soft edges, float32 (height, width)."""
    maps = maker(polygons, np.zeros(len(polygons), bool), height, width)
    return cv2.GaussianBlur(maps[0].astype(np.float32) * 0.98, (0, 0), 1.0)


def boxes(images: int, count: int, seed: int) -> tuple[list[Detections], list[Truth]]:
    """Labels and detections a little off them, some missing, some too many."""
    rng = np.random.default_rng(seed)
    detections, truths = [], []
    for k in range(images):
        labelled = lines(count, 700, 1280, seed + k, angle=0.0)
        detected = [(p + rng.normal(0, 1.5, (4, 2))).astype(np.float32) for p in labelled if rng.random() > 0.05]
        detected += lines(2, 700, 1280, seed + k + 7)
        scores = np.sort(rng.uniform(0.5, 1, len(detected)))[::-1].astype(np.float32)
        detections.append(Detections(detected, scores))
        truths.append(Truth(labelled, np.zeros(count, bool), ["ABC 12.50"] * count))
    return detections, truths


def settings_of(config: DictConfig) -> ModuleSettings:
    """The settings that a module is made of."""
    return build(ModuleSettings, plain_config(config))


def load_data(config: DictConfig, *splits: str) -> DetectionData:
    """The config's data with these splits read."""
    settings = settings_of(config)
    return build_data(settings.data, Pipeline.from_dict(settings.model.pipeline), config.seed).load(*splits)
