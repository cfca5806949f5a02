"""Labels of any shape through checks, targets and metrics, and any map through post-processing."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocr.data.index.check import check_instances
from ocr.data.index.report import Report
from ocr.data.targets.maps import SHRINK_MAP, SHRINK_MASK, THRESH_MASK, TargetMaker
from ocr.metrics.cleval import CLEval
from ocr.metrics.deteval import DetEval
from ocr.metrics.hmean import Hmean
from ocr.metrics.matching import compare
from ocr.models.postprocess.db import detect
from ocr.pipeline import Pipeline, PostProcess, ResizePolicy
from ocr.types import Instance, Sample, Truth

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 400))
WIDTH, HEIGHT = 96, 64
SECONDS = 5.0
fuzzed = settings(max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip

near = st.floats(-20, 120, width=32) | st.integers(-4, 100).map(float)
anywhere = near | st.floats(width=32) | st.sampled_from([1e30, -1e30, 1e-30, 0.5, 2.0**24 + 1])
points = st.tuples(near, near) | st.tuples(anywhere, anywhere)
outlines = st.lists(points, min_size=0, max_size=9) | st.lists(st.tuples(near, near), min_size=4, max_size=4)
postprocesses = st.builds(
    PostProcess, thresh=st.sampled_from([0.0, 0.3, 0.999]), box_thresh=st.sampled_from([0.0, 0.5, 1.0]),
    unclip=st.just("ratio"), unclip_ratio=st.sampled_from([0.1, 1.5, 40.0]), min_size=st.sampled_from([0.5, 3.0]),
    max_candidates=st.sampled_from([1, 1000]), shape=st.sampled_from(["quad", "polygon"]),
)  # fmt: skip


@fuzzed
@given(st.lists(st.tuples(outlines, st.booleans()), max_size=6), st.floats(0.1, 0.9), st.sampled_from([0, 1, 3]))
def test_any_outline_is_checked_drawn_and_measured(labels: list, shrink_ratio: float, weight: int):
    started = time.perf_counter()
    instances = [Instance(np.array(o, np.float32).reshape(-1, 2), "a", ignore) for o, ignore in labels]
    report = Report(strict=False)
    kept = check_instances(Sample(Path("a.png"), instances), WIDTH, HEIGHT, report)
    assert len(kept) <= len(instances)
    for instance in kept:
        assert np.isfinite(instance.polygon).all()
        assert instance.polygon.min() >= 0
        assert (instance.polygon.max(axis=0) <= (WIDTH, HEIGHT)).all()
    polygons, ignore = [i.polygon for i in kept], np.array([i.ignore for i in kept], bool)

    targets = TargetMaker(shrink_ratio, 2, end_weight=1 + weight, end_reach=0.75, balance=weight / 3, balance_limit=4)
    maps = targets(polygons, ignore, HEIGHT, WIDTH)
    assert maps.shape == (4, HEIGHT, WIDTH)
    assert maps[SHRINK_MAP].max(initial=0) <= 1
    assert maps[SHRINK_MASK].max(initial=0) <= 4
    assert maps[THRESH_MASK].max(initial=0) <= 1

    pipeline = make_pipeline(PostProcess(thresh=0.3, box_thresh=0.5, unclip="exact", unclip_ratio=shrink_ratio,
                                         min_size=3, max_candidates=100, shape="quad"))  # fmt: skip
    detections = detect(maps[SHRINK_MAP].astype(np.float32), WIDTH, HEIGHT, pipeline)
    image = compare(detections, Truth(polygons, ignore, ["a"] * len(kept)))
    for metric in (Hmean(), DetEval(), CLEval()):
        for value in metric.scores(metric.count(image)).values():
            assert np.isfinite(value)
            assert 0 <= value <= 1 + 1e-9
    assert time.perf_counter() - started < SECONDS


def make_pipeline(postprocess: PostProcess) -> Pipeline:
    return Pipeline(ResizePolicy(long_side=WIDTH, multiple=32, max_upscale=1.0), postprocess, (0.5,) * 3, (0.5,) * 3)


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """Bits that may be any float, noise, or shapes of any value."""
    kind = draw(st.sampled_from(["bits", "noise", "shapes"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if kind == "bits":
        return rng.integers(0, 2**32, (HEIGHT, WIDTH), np.uint32).view(np.float32)
    if kind == "noise":
        return (rng.random((HEIGHT, WIDTH)) < draw(st.floats(0, 1))).astype(np.float32)
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    values = st.sampled_from([0.0, 0.31, 0.7, 1.0, 1.5, -1.0, np.nan, np.inf, -np.inf, 1e-40, 3e38])
    for _ in range(draw(st.integers(0, 8))):
        x, y = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
        canvas[y : y + draw(st.integers(1, HEIGHT)), x : x + draw(st.integers(1, WIDTH))] = draw(values)
    return canvas


@fuzzed
@given(maps(), postprocesses)
def test_any_map_gives_polygons_within_the_image(probability: np.ndarray, postprocess: PostProcess):
    started = time.perf_counter()
    with np.errstate(all="ignore"):
        detections = detect(probability, WIDTH, HEIGHT, make_pipeline(postprocess))
    assert len(detections.polygons) == len(detections.scores) <= postprocess.max_candidates
    for polygon in detections.polygons:
        assert len(polygon) >= 3
        assert np.isfinite(polygon).all()
        assert polygon.min() >= 0
        assert (polygon.max(axis=0) <= (WIDTH, HEIGHT)).all()
    assert np.isfinite(detections.scores).all()
    assert time.perf_counter() - started < SECONDS


def test_the_postprocess_settings_of_the_fuzz_find_text_at_all():
    probability = np.zeros((HEIGHT, WIDTH), np.float32)
    probability[20:40, 10:80] = 0.9
    for shape in ("quad", "polygon"):
        postprocess = dataclasses.replace(make_pipeline(
            PostProcess(thresh=0.3, box_thresh=0.5, unclip="ratio", unclip_ratio=1.5, min_size=3, max_candidates=10,
                        shape="quad")).postprocess, shape=shape)  # fmt: skip
        [polygon] = detect(probability, WIDTH, HEIGHT, make_pipeline(postprocess)).polygons
        assert polygon.min() == pytest.approx(0, abs=5)
