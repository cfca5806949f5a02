"""DetEval on cases counted by hand, after the Robust Reading Competition's script."""

from __future__ import annotations

import numpy as np
import pytest

from ocr.metrics.deteval import DetEval, deteval
from ocr.metrics.matching import pair
from ocr.metrics.protocol import evaluate
from ocr.types import Detections, Truth


def box(x: float, y: float, w: float, h: float) -> np.ndarray:
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)


LINE = box(0, 0, 100, 10)


@pytest.mark.parametrize(
    "found, wanted, ignored, result",
    [
        ([LINE], [LINE], [0], (1, 1, 1, 1)),
        ([], [LINE], [0], (0, 0, 1, 0)),
        ([LINE], [], [], (0, 0, 0, 1)),
        ([box(0, 0, 82, 10)], [LINE], [0], (1, 1, 1, 1)),  # area recall 0.82
        ([box(0, 0, 78, 10)], [LINE], [0], (0, 0, 1, 1)),  # 0.78: too little
        ([box(0, 0, 100, 24)], [LINE], [0], (1, 1, 1, 1)),  # area precision 0.42
        ([box(0, 0, 100, 26)], [LINE], [0], (0, 0, 1, 1)),  # 0.38: too large
        ([box(0, 0, 50, 10), box(50, 0, 50, 10)], [LINE], [0], (0.8, 1.6, 1, 2)),  # split into two
        ([box(0, 0, 30, 10), box(70, 0, 30, 10)], [LINE], [0], (0, 0, 1, 2)),  # 0.6 of it in all
        ([box(0, 0, 210, 10)], [LINE, box(110, 0, 100, 10)], [0, 0], (2, 1, 2, 1)),  # two merged into one
        ([box(0, 0, 50, 10)], [LINE, LINE], [1, 0], (0, 0, 1, 0)),  # on ignored text: left out
        ([LINE, box(0, 100, 5, 5)], [LINE], [0], (1, 1, 1, 2)),
    ],
)
def test_one_image(found, wanted, ignored, result):
    assert deteval(pair(found, wanted), np.array(ignored, bool)) == pytest.approx(result)


def test_four_fifths_of_a_text_and_two_fifths_of_a_detection_are_enough():
    """To the digit, as with the script's whole pixels, whatever the last bits of an area are."""
    for width in range(20, 400, 20):
        line = box(1000, 700, width, 20)
        assert deteval(pair([box(1000, 700, width * 4 / 5, 20)], [line]), np.zeros(1, bool))[0] == 1, width
        assert deteval(pair([box(1000, 700, width * 4 / 5 - 1, 20)], [line]), np.zeros(1, bool))[0] == 0, width
        assert deteval(pair([box(1000, 700, width, 50)], [line]), np.zeros(1, bool))[0] == 1, width
        assert deteval(pair([box(1000, 700, width, 51)], [line]), np.zeros(1, bool))[0] == 0, width


def test_a_text_that_two_detections_touch_matches_only_as_one_of_many():
    """One detection covers it, another grazes it: the script counts the pair in its second round, at full worth."""
    found = [LINE, box(95, 0, 40, 10)]
    assert deteval(pair(found, [LINE]), np.zeros(1, bool)) == pytest.approx((1, 1, 1, 2))


def test_images_are_pooled():
    cases = [([LINE], [LINE]), ([box(0, 0, 50, 10), box(50, 0, 50, 10)], [LINE]), ([], [LINE])]
    images = [(Detections(f, np.ones(len(f))), Truth(w, np.zeros(len(w), bool))) for f, w in cases]
    scores = evaluate(DetEval(), *zip(*images))
    assert scores["deteval_recall"] == pytest.approx(1.8 / 3)
    assert scores["deteval_precision"] == pytest.approx(2.6 / 3)


def test_exactly_two_fifths_on_ignored_text_counts_and_two_fifths_of_a_merge_are_enough():
    detection = box(0, 0, 100, 10)
    on_ignored = deteval(pair([detection], [box(0, 0, 40, 10)]), np.array([True]))
    assert on_ignored == (0.0, 0.0, 0, 1), "only more than two fifths is don't care"
    two_texts = pair([detection], [box(0, 0, 20, 10), box(50, 0, 20, 10)])
    recall_sum, precision_sum, texts, detections = deteval(two_texts, np.zeros(2, bool))
    assert (recall_sum, precision_sum, texts, detections) == (2, 1, 2, 1)
