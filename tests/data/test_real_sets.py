"""The whole real sets, where they are: set OCR_TEST_DATA to a folder with sroie/ and icdar2015/."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ocr.data.sources.build import build_sources
from ocr.data.targets.maps import SHRINK_MAP, TargetMaker
from ocr.metrics.hmean import Hmean
from ocr.metrics.protocol import evaluate
from ocr.models.postprocess.db import detect
from ocr.pipeline import ResizePolicy
from tests.conftest import SHARED_DATA

pytestmark = pytest.mark.skipif(
    not (SHARED_DATA / "sroie").is_dir(), reason="wants SROIE and ICDAR 2015: set OCR_TEST_DATA=<folder of both>"
)


@pytest.mark.parametrize(
    "spec, images",
    [
        ({"format": "sroie", "images": "sroie/img", "annotations": "sroie/box", "ids": "sroie/train.txt"}, 521),
        (
            {"format": "icdar", "images": "icdar2015/img", "annotations": "icdar2015/gt", "ids": "icdar2015/train.txt"},
            850,
        ),
    ],
)
def test_whole_sets_load_with_every_image(spec: dict, images: int):
    [source], report = build_sources([spec], str(SHARED_DATA), "train", strict=False)
    assert len(source) == images and not report.counts.keys() & {"unparsable_line", "unreadable_image"}
    assert source.counts()["instances"] > 5 * images


def test_a_perfect_network_would_read_the_receipts(pipeline):
    """Ideal shrink maps through the post-processing: the geometry is not the limit."""
    spec = {"format": "sroie", "images": "sroie/img", "annotations": "sroie/box", "ids": "sroie/val.txt"}
    [source], _ = build_sources([spec], str(SHARED_DATA), "val", strict=True)
    exact = replace(pipeline.postprocess, unclip="exact", unclip_ratio=0.4, min_size=1)
    pipeline = replace(pipeline, resize=ResizePolicy(960, 32, 2.0), postprocess=exact)
    make, found, truths = TargetMaker(0.4, 1), [], []
    for i in range(len(source)):
        width, height = source.index.sizes[i].tolist()
        truth = source.index.truth(i)
        content = pipeline.resize.content_size(width, height)
        padded_w, padded_h = pipeline.resize.padded_size(width, height)
        scale = np.float32([content[0] / width, content[1] / height])
        maps = make([p * scale for p in truth.polygons], truth.ignore, padded_h, padded_w)
        found.append(detect(maps[SHRINK_MAP].astype(np.float32), width, height, pipeline))
        truths.append(truth)
    assert evaluate(Hmean(), found, truths)["hmean"] > 0.998
