"""How well several receipts of one photo are found: ``python -m tests.benchmark.several_receipts <SROIE>``.

Scans of ``val.txt`` lie side by side on a table, 3,000 x 4,000 pixels, tilted by up to 6 degrees, upright or turned by
quarters at random. Printed are hmean at IoU 0.5 and seconds per photo, of a single pass and as ``predict`` reads.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import yaml

from ocr.data.sources.build import Source, build_sources
from ocr.data.transforms.decode import resize_and_pad
from ocr.metrics.matching import match_pairs, pair
from ocr.models.pretrained.ppocr import weights_file
from ocr.training.loading import load_module
from ocr.training.page_reader import PageReader

WIDTH, HEIGHT = 3000, 4000  # pixels of a photo
PHOTOS = 6  # per row of the table
TILT = 6  # degrees


class Photo(NamedTuple):
    """Receipts on a table: uint8 (HEIGHT, WIDTH, 3), its texts, and which of them are ignored."""

    image: np.ndarray
    texts: list[np.ndarray]
    ignore: np.ndarray


def lay_out(scans: Source, count: int, turned: bool, seed: int) -> Photo:
    """A photo of ``count`` scans."""
    rng = np.random.default_rng([count, seed, int(turned)])
    columns = math.ceil(math.sqrt(count))
    cell = np.array([WIDTH / columns, HEIGHT / math.ceil(count / columns)])
    relief = cv2.resize(rng.integers(0, 40, (20, 15, 3)).astype(np.uint8), (WIDTH, HEIGHT))
    table = cv2.add(np.full((HEIGHT, WIDTH, 3), rng.integers(30, 140, 3), np.uint8), relief)
    texts: list[np.ndarray] = []
    ignore: list[bool] = []
    for k in range(count):
        scan, truth = scans.load(int(rng.integers(len(scans))))
        angle = math.radians(rng.uniform(-TILT, TILT) + 90 * int(rng.integers(4) if turned else 0))
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        size = np.array(scan.shape[1::-1])
        extent = abs(turn) @ size
        scale = 0.94 * (cell / extent).min()
        centre = (np.array([k % columns, k // columns]) + 0.5) * cell
        centre += rng.uniform(-0.3, 0.3, 2) * (cell - extent * scale)
        if scale < 1:
            scan = cv2.resize(scan, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        matrix = turn * scale
        to_photo = np.column_stack([matrix * (size / scan.shape[1::-1]), centre - matrix @ size / 2])
        paper = cv2.warpAffine(np.full(scan.shape[:2], 255, np.uint8), to_photo, (WIDTH, HEIGHT))
        table = np.where(paper[..., None] > 127, cv2.warpAffine(scan, to_photo, (WIDTH, HEIGHT)), table)
        texts += [(p @ matrix.T + centre - matrix @ size / 2).astype(np.float32) for p in truth.polygons]
        ignore += truth.ignore.tolist()
    return Photo(cv2.GaussianBlur(table, (0, 0), 0.7), texts, np.array(ignore, bool))


def main(root: str) -> None:
    """Print the table."""
    spec = {"format": "sroie", "images": "img", "annotations": "box", "ids": "val.txt"}
    [scans], _ = build_sources([spec], root, "val", strict=True)
    module = load_module(weights_file("receipts")).eval()
    config = yaml.safe_load(Path("configs/predict.yaml").read_text())
    as_predict = PageReader(config["upright"], config["legible_height"])
    readers = {"single pass": PageReader(False, 0), "as predict reads": as_predict}
    for turned in (False, True):
        for count in (1, 2, 4, 9):
            for name, module.page_reader in readers.items():
                matched, seconds = np.zeros(3, int), 0.0
                for seed in range(PHOTOS):
                    photo = lay_out(scans, count, turned, seed)
                    began = time.perf_counter()
                    padded = resize_and_pad(photo.image, module.pipeline.resize, module.pipeline.fill_colour)
                    original = lambda image=photo.image: image  # noqa: E731
                    [found] = module.read([torch.from_numpy(padded)], [(WIDTH, HEIGHT)], [original])
                    seconds += time.perf_counter() - began
                    hits = (match_pairs(pair(found.polygons, photo.texts), photo.ignore).truth >= 0).sum()
                    matched += hits, len(found), len(photo.texts)
                hmean = 2 * matched[0] / (matched[1] + matched[2])
                lie = "turned at random" if turned else "upright"
                print(f"{count} receipts, {lie}, {name}: hmean {hmean:.3f}, {seconds / PHOTOS:.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
