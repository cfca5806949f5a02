"""Why text was missed and what false detections are, for people who look at them.

Kinds of one-to-one matching at IoU 0.5: a missed text is ``merged`` where a detection holds most of it
and of another text, ``split`` where several detections lie on it, ``inexact`` where one does, and else ``unseen``.
"""

from __future__ import annotations

import numpy as np

from ocr.metrics.matching import ComparedImage

MIN_SHARE = 0.5  # of a text, or of a detection, that counts as most of it
MIN_TOUCHED = 0.1  # share of a text below which nothing was seen of it
FOUND, IGNORED = "found", "ignored"
MISSED = ("merged", "split", "inexact", "unseen")
FALSE = ("merges", "part", "elsewhere")


def kinds(image: ComparedImage) -> tuple[list[str], list[str]]:
    """The kind of each text and of each detection of an image.

    Returns:
        texts: ``found``, ``ignored`` or one of :data:`MISSED`.
        detections: ``found``, ``ignored``, or of :data:`FALSE`: ``merges`` several texts, ``part`` of a text (or around
            one, below the IoU), or ``elsewhere``.
    """
    ignore, match, pairs = np.asarray(image.truth.ignore, bool), image.match, image.pairs
    recall, precision = pairs.area_recall(), pairs.area_precision()  # (G, D)
    free = ~ignore[:, None] & ~match.dont_care[None]
    holds, lies = (recall > MIN_SHARE) & free, (precision > MIN_SHARE) & free
    merging = holds.sum(axis=0) >= 2
    merged, split = (holds & merging).any(axis=1), lies.sum(axis=1) >= 2
    unseen = (recall * free).sum(axis=1) < MIN_TOUCHED
    texts = np.select(
        [ignore, match.truth >= 0, merged, split, unseen], [IGNORED, FOUND, "merged", "split", "unseen"], "inexact"
    )
    near = ((recall > MIN_TOUCHED) & free).any(axis=0) | lies.any(axis=0)
    detections = np.select(
        [match.dont_care, match.detection >= 0, merging, near], [IGNORED, FOUND, "merges", "part"], "elsewhere"
    )
    return texts.tolist(), detections.tolist()
