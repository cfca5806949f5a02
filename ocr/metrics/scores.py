"""Precision, recall and their harmonic mean from counts."""

from __future__ import annotations


def scores(precision_sum: float, detected: float, recall_sum: float, texts: float) -> dict[str, float]:
    """``precision``, ``recall`` and their harmonic mean ``hmean``; 0 where a ratio has no denominator.

    An image set with no text to find in which nothing was found scores 1 throughout.

    Args:
        precision_sum, detected: what the detections earned, of how many.
        recall_sum, texts: what the labelled texts earned, of how many.
    """
    if detected == 0 and texts == 0:
        return {"precision": 1.0, "recall": 1.0, "hmean": 1.0}
    precision = precision_sum / detected if detected else 0.0
    recall = recall_sum / texts if texts else 0.0
    total = precision + recall
    return {"precision": precision, "recall": recall, "hmean": 2 * precision * recall / total if total else 0.0}


def sample_scores(matched: int, detected: int, texts: int) -> dict[str, float]:
    """:func:`scores` of one image or batch, as the ICDAR 2015 script lists them per sample.

    Recall is 1 where there is no text to find, whatever was detected; the pooled recall of such a set is 0.
    """
    result = scores(matched, detected, matched, texts)
    return result if texts else result | {"recall": 1.0}
