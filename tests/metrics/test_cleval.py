"""CLEval on cases counted by hand, after the authors' package."""

from __future__ import annotations

import numpy as np
import pytest

from ocr.geometry.polygons import aspect_ratios
from ocr.metrics.cleval import CLEval, character_centres, cleval, guessed_length
from ocr.metrics.matching import pair
from ocr.metrics.protocol import evaluate
from ocr.types import Detections, Truth
from tests.conftest import all_metrics


def box(x: float, y: float, w: float, h: float) -> np.ndarray:
    return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float32)


def count(found: list, wanted: list[tuple[np.ndarray, str, bool]]) -> list[float]:
    truth = Truth([p for p, _, _ in wanted], np.array([i for _, _, i in wanted], bool), [t for _, t, _ in wanted])
    detections = Detections(found, np.ones(len(found)))
    return cleval(pair(found, truth.polygons), detections, truth).tolist()


WORD = box(0, 0, 80, 10)  # eight characters of ten pixels
EIGHT = (WORD, "eight ch", False)


@pytest.mark.parametrize(
    "found, wanted, result",  # found, merges, characters in detections, splits, characters in texts
    [
        ([WORD], [EIGHT], [8, 0, 8, 0, 8]),
        ([], [EIGHT], [0, 0, 0, 0, 8]),
        ([box(0, 0, 41, 10)], [EIGHT], [4, 0, 4, 0, 8]),  # half of the word
        ([box(0, 0, 40, 10), box(40, 0, 40, 10)], [EIGHT], [8, 0, 8, 1, 8]),  # split in two
        ([box(0, 0, 80, 10), box(41, 0, 39, 10)], [EIGHT], [8, 0, 12, 1, 8]),  # four characters held twice
        ([box(0, 0, 180, 10)], [EIGHT, (box(100, 0, 80, 10), "eight ch", False)], [16, 1, 16, 0, 16]),  # merged
        ([WORD, box(0, 50, 10, 10)], [EIGHT], [8, 0, 9, 0, 8]),  # a false square counts one
        ([WORD, box(0, 50, 40, 10)], [EIGHT, (box(0, 50, 40, 10), "###", True)], [8, 0, 8, 0, 8]),  # don't care
        ([box(0, 0, 80, 100)], [EIGHT], [0, 0, 2, 0, 8]),  # a tenth of it is text: no match, and room for two
        ([box(0, 0, 45, 10)], [EIGHT], [4, 0, 4, 0, 8]),  # the fifth character's centre is on its right edge: outside
        ([box(45, 0, 35, 10)], [EIGHT], [4, 0, 4, 0, 8]),  # on its left edge: inside
        ([box(0, 0, 80, 5)], [EIGHT], [0, 0, 1, 0, 8]),  # on its lower edge: outside, and nothing is held
        ([box(0, 5, 80, 5)], [EIGHT], [8, 0, 8, 0, 8]),  # on its upper edge: inside
    ],
)
def test_one_image(found, wanted, result):
    assert count(found, wanted) == pytest.approx(result)


def test_characters_lie_on_the_middle_line():
    np.testing.assert_allclose(character_centres(WORD, 4, 8.0), [[10, 5], [30, 5], [50, 5], [70, 5]])
    tall = box(0, 0, 10, 80)
    np.testing.assert_allclose(sorted(character_centres(tall, 2, 0.125).tolist()), [[5, 20], [5, 60]], atol=1e-9)
    bent = np.array([[0, 0], [10, 10], [20, 0], [20, 10], [10, 20], [0, 10]], np.float64)
    np.testing.assert_allclose(character_centres(bent, 2, 2.0), [[5, 10], [15, 10]])


def test_a_match_needs_three_tenths_of_the_detection_on_the_text():
    """To the digit, whatever the last bits of an area are."""
    for width in range(20, 400, 20):
        word = box(1000, 700, width, 30)
        assert count([box(1000, 700, width, 100)], [(word, "word", False)])[0] == 4, width
        assert count([box(1000, 700, width, 101)], [(word, "word", False)])[0] == 0, width


def test_characters_follow_the_side_that_the_label_starts_with():
    """Text that runs downwards, labelled in reading order: first side down, not across."""
    down = np.array([[100, 0], [100, 160], [40, 160], [40, 0]], np.float32)  # its length is first, its height second
    half = box(40, 0, 60, 80)
    assert count([half], [(down, "downward", False)])[0] == 4
    tall = box(0, 0, 60, 160)  # labelled from its upper left corner: still along its length
    assert count([box(0, 0, 60, 80)], [(tall, "downward", False)])[0] == 4


def test_length_of_text_without_transcription():
    assert [guessed_length(r) for r in (1.0, 3.0, 0.25, 40.0)] == [2, 4, 4, 10]
    assert count([WORD], [(WORD, "", False)])[4] == guessed_length(8.0)


def test_aspect_ratio_does_not_depend_on_where_a_quad_starts():
    quads = [np.roll(WORD, k, axis=0) for k in range(4)] + [np.roll(WORD[::-1], k, axis=0) for k in range(4)]
    np.testing.assert_allclose(aspect_ratios(quads), 8, rtol=1e-4)


def test_pooled_and_by_image():
    truth = Truth([WORD], np.zeros(1, bool), ["eight ch"])
    result = evaluate(CLEval(), [Detections([WORD], np.ones(1)), Detections([], np.zeros(0))], [truth, truth])
    assert result["cleval_recall"] == pytest.approx(0.5) and result["cleval_precision"] == pytest.approx(1.0)
    assert result["cleval_hmean"] == pytest.approx(2 / 3) and result["cleval_image_hmean"] == pytest.approx(0.5)


def test_all_protocols_of_500_images_of_50_boxes():
    rng = np.random.default_rng(0)
    detections, truths = [], []
    for _ in range(500):
        x, w, h = rng.uniform(0, 900, 50), rng.uniform(60, 300, 50), rng.uniform(14, 22, 50)
        polygons = [box(a, 24.0 * k, b, c) for k, (a, b, c) in enumerate(zip(x, w, h))]
        truths.append(Truth(polygons, np.zeros(50, bool), ["ten of it."] * 50))
        detections.append(
            Detections([p + rng.normal(0, 1, (4, 2)).astype(np.float32) for p in polygons], rng.random(50))
        )
    metrics = all_metrics()
    metrics.update(detections, truths)
    values, tables = metrics.compute()
    assert values["hmean"] > 0.99 and values["cleval_hmean"] > 0.99 and 0.5 < values["mean_iou"] < 1
    assert sum(row["texts"] for row in tables["height"]) == 25000
    recalls = [row["recall"] for row in tables["curve"]]
    assert recalls == sorted(recalls, reverse=True), "fewer are found above a higher score"


def test_characters_of_an_outline_of_an_odd_number_of_points_lie_in_its_rectangle():
    pentagon = np.array([[0, 0], [20, 0], [40, 0], [40, 10], [0, 10]], np.float32)
    centres = character_centres(pentagon, 4, 4.0)
    assert centres == pytest.approx(np.array([[5, 5], [15, 5], [25, 5], [35, 5]]), abs=1e-3)


def test_no_image_scores_nothing_by_image():
    assert CLEval().scores(np.zeros(CLEval.size))["cleval_image_hmean"] == 0.0
