from __future__ import annotations

import numpy as np
import pytest

from ocr.metrics.breakdown import STEPS, Breakdown
from ocr.metrics.matching import compare
from ocr.types import Detections, Truth
from tests.conftest import quad


def test_tables_by_height_aspect_and_score_of_an_image_counted_by_hand():
    """A line that is found, a square that is missed, an ignored text that is found, and a false detection."""
    texts = [np.array(quad(*box), np.float32) for box in ((0, 0, 44, 10), (100, 0, 20, 20), (0, 100, 44, 14))]
    found = [texts[0], texts[2], np.array(quad(200, 200, 70, 30), np.float32)]
    scores = np.array([0.9, 0.5, 0.0025], np.float32)
    truth = Truth(texts, np.array([False, False, True]))
    breakdown = Breakdown()
    totals = breakdown.count(compare(Detections(found, scores), truth))
    assert breakdown.scores(totals) == {"mean_iou": pytest.approx(1.0)}
    tables = breakdown.tables(totals)
    assert [(r["from"], r["texts"], r["recall"], r["precision"]) for r in tables["height"]] == [
        (8, 1, 1.0, 1.0), (16, 1, 0.0, 0.0), (24, 0, 0.0, 0.0),
    ]  # fmt: skip
    assert [(r["from"], r["texts"], r["recall"], r["precision"]) for r in tables["aspect"]] == [
        (1, 1, 0.0, 0.0), (2, 0, 0.0, 0.0), (4, 1, 1.0, 1.0),
    ]  # fmt: skip
    curve = {round(r["threshold"] * STEPS): (r["precision"], r["recall"]) for r in tables["curve"]}
    assert curve[0] == (0.5, 0.5)
    assert curve[1] == curve[round(0.9 * STEPS) - 1] == (1.0, 0.5)
    assert max(curve) in (round(0.9 * STEPS) - 1, round(0.9 * STEPS))
