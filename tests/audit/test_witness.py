"""Doubts of a witness, on maps and detections made for the purpose."""

from __future__ import annotations

import numpy as np
import pytest

from ocr.audit.witness import Doubt, Statement, WitnessReport, doubts, in_words
from ocr.types import Detections, Truth
from tests.conftest import quad

SIZE = (300, 400)


def array(*box: float) -> np.ndarray:
    return np.array(quad(*box), np.float32)


def doubted(labels: list[np.ndarray], found: list[np.ndarray], ink: list[np.ndarray], **more) -> list[tuple[str, int]]:
    """Doubts on a page with ink at some boxes, where the witness has found some, as (kind, label)."""
    grey, probability = np.full(SIZE[::-1], 250, np.uint8), np.zeros(SIZE[::-1], np.float32)
    for box in ink:
        (x0, y0), (x1, y1) = box.min(axis=0).astype(int), box.max(axis=0).astype(int)
        grey[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2 : 3] = 10
    noise = np.random.default_rng(0).normal(0, more.get("noise", 0), grey.shape)
    grey = np.clip(grey + noise, 0, 255).astype(np.uint8)
    for box in found:
        (x0, y0), (x1, y1) = box.min(axis=0).astype(int), box.max(axis=0).astype(int)
        probability[y0:y1, x0:x1] = 0.95
    ignore = np.zeros(len(labels), bool)
    ignore[more.get("ignored", [])] = True
    truth = Truth(labels, ignore, ["text"] * len(labels))
    scores = np.full(len(found), more.get("score", 0.95), np.float32)
    scale = np.ones(2) * more.get("scale", 1.0)
    return [(d.kind, d.label) for d in doubts(truth, Detections(found, scores), probability, grey, scale)]


LINES = [array(20, 20 + 40 * k, 150, 20) for k in range(5)]


def test_what_both_see_is_not_doubted():
    wider = [array(18, 17 + 40 * k, 155, 26) for k in range(5)]
    assert doubted(LINES, wider, LINES) == []
    assert doubted([], [], []) == []


def test_a_label_without_ink_is_doubted_and_one_with_ink_that_the_witness_misses_is_not():
    assert doubted(LINES, LINES[:4], LINES[:4]) == [("label_without_ink", 4)]
    assert doubted(LINES, LINES[:4], LINES) == []
    assert doubted(LINES, LINES[:4], LINES[:4], ignored=[4]) == []
    assert doubted(LINES, LINES[:4], LINES[:4], scale=0.2) == []  # of four pixels the witness is no judge


def test_text_without_a_label_is_doubted_unless_the_witness_is_unsure_or_it_is_ignored():
    assert doubted(LINES[:4], LINES, LINES) == [("ink_without_label", -1)]
    assert doubted(LINES[:4], LINES, LINES, score=0.7) == []
    assert doubted(LINES, LINES, LINES, ignored=[4]) == []


def test_unlabelled_print_comes_before_unlabelled_handwriting():
    handwriting, print_ = array(20, 300, 150, 50), array(20, 220, 150, 20)
    labels = np.array([array(20, 20 + 40 * k, 150, 20) for k in range(4)])
    grey, probability = np.full(SIZE[::-1], 250, np.uint8), np.zeros(SIZE[::-1], np.float32)
    truth = Truth([*labels], np.ones(4, bool), ["a"] * 4)
    detections = Detections([handwriting, print_], np.array([0.95, 0.9], np.float32))
    found = doubts(truth, detections, probability, grey, np.ones(2))
    assert [doubt.polygon.tolist() for doubt in found] == [print_.tolist(), handwriting.tolist()]


def test_two_lines_in_a_label_are_merged_and_two_words_of_a_line_are_not():
    upper, lower = array(20, 20, 150, 18), array(20, 42, 150, 18)
    assert doubted([array(18, 18, 155, 44)], [upper, lower], [upper, lower]) == [("merged", 0)]
    left, right = array(20, 20, 60, 20), array(110, 20, 60, 20)
    assert doubted([array(18, 18, 155, 24)], [left, right], [left, right]) == []


def test_a_label_that_ends_before_its_text_is_cut():
    text = array(20, 20, 240, 20)
    assert doubted([array(20, 20, 120, 20)], [text], [text]) == [("cut", 0)]
    assert doubted([array(20, 20, 120, 20), array(145, 20, 115, 20)], [text], [text]) == []
    assert doubted([array(20, 20, 120, 20)], [text], [text], ignored=[0]) == []


def test_labels_on_blank_paper_are_doubted_where_all_of_them_lie_there(recwarn: pytest.WarningsRecorder):
    elsewhere = [line + np.array([0, 220], np.float32) for line in LINES[:3]]
    assert sorted(doubted(elsewhere, [], LINES, noise=8)) == [("label_without_ink", k) for k in range(3)]
    assert sorted(doubted(LINES, [], [], noise=8)) == [("label_without_ink", k) for k in range(5)]
    assert not recwarn.list


def test_the_strongest_doubts_and_the_worst_images_come_first():
    box, truth = array(20, 30, 40, 10), Truth([array(20, 30, 40, 10)], np.zeros(1, bool), ["a"])
    weak, strong, large = Doubt("cut", 0.5, box, 0), Doubt("merged", 0.9, box, 0), Doubt("cut", 0.9, 2 * box, 0)
    said = [Statement("a", SIZE, truth, [weak], 2), Statement("b", SIZE, truth, []),
            Statement("c", SIZE, truth, [strong, large, weak], 1)]  # fmt: skip
    report = WitnessReport(said)
    assert [doubt for _, doubt in report.ranked()] == [large, strong, weak, weak]
    assert [doubt for _, doubt in report.ranked(1)] == [strong, weak]
    assert [statement.image for statement in report.to_relabel()] == ["c", "a"]
    assert report.counts() == {"cut": 3, "merged": 1}
    assert report.not_judged() == 3
    assert in_words(said[2], strong) == "c: merged at 20,30: 'a' (0.90)"
