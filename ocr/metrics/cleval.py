"""CLEval: detection measured in characters (Baek et al. 2020), as the authors' package ``cleval`` 0.1.1 has it.

Each text is as many points on its middle line as it has characters. A detection matches a text whose points it
holds, one to one, one to many or many to one; found points count, each split and each merge costs one character, and
a detection that matches nothing counts as the characters that its shape has room for. Pooled over images, that is the
published metric; the mean of the images' own scores is what a receipt competition ranks by.

Where the package works with quads cut to whole pixels, polygons are used as they are here, and the shape of a detection
does not depend on the corner it starts with. Text without a transcription, which the package cannot take, has the
number of characters that it gives to don't-care text.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import shapely

from ocr.geometry.polygons import aspect_ratios
from ocr.metrics.matching import ComparedImage, Pairs, scores
from ocr.types import Detections, Truth

AREA_PRECISION = 0.3
VERTICAL = 0.5  # below this ratio of first to second side text runs along the second
MAX_CHARACTERS = 10  # of text whose length is guessed from its shape
EDGE_PIXELS = 1e-6  # pixels, which decide for points on an edge


def side_ratios(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """First and third side / second and fourth of quads, float64 (M,); of others :func:`aspect_ratios`.

    Labels of quads start where the text does, so that this is length / height of text in any direction.
    """
    ratios = aspect_ratios(polygons)
    quads = [k for k, p in enumerate(polygons) if len(p) == 4]
    if quads:
        corners = np.stack([polygons[k] for k in quads]).astype(np.float64)
        sides = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=2)
        pairs = (sides[:, :2] + sides[:, 2:]) / 2
        ratios[quads] = (pairs[:, 0] + 1e-5) / (pairs[:, 1] + 1e-5)
    return ratios


def guessed_length(ratio: float) -> int:
    """Characters of text whose transcription is unknown, from its aspect ratio."""
    return min(round(0.5 + max(ratio, 1 / ratio)), MAX_CHARACTERS)


def character_centres(polygon: np.ndarray, length: int, ratio: float) -> np.ndarray:
    """Points on the middle line, float64 (length, 2).

    Args:
        polygon: (N, 2), clockwise from the top left; the first half of the points is the upper edge. Of an odd number
            of points the minimum-area rectangle is taken.
        length: how many.
        ratio: see :func:`side_ratios`; below :data:`VERTICAL` the text of a quad runs along its second side.
    """
    points = np.asarray(polygon, np.float64)
    if len(points) % 2:
        points = cv2.boxPoints(cv2.minAreaRect(points.astype(np.float32))).astype(np.float64)
        points = np.roll(points, -int(points.sum(axis=1).argmin()), axis=0)
    if len(points) == 4 and ratio < VERTICAL:
        points = np.roll(points, 1, axis=0)
    half = len(points) // 2
    share = (np.arange(length) + 0.5) / length
    edges = [_along(edge, share) for edge in (points[:half], points[half:][::-1])]
    return (edges[0] + edges[1]) / 2


def _along(line: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Points at shares of a polyline's vertices' way, float64 (K, 2)."""
    position = share * (len(line) - 1)
    return np.stack([np.interp(position, np.arange(len(line)), line[:, axis]) for axis in (0, 1)], axis=1)


def cleval(pairs: Pairs, detections: Detections, truth: Truth) -> np.ndarray:
    """Counts of one image, in characters: float64 (5,).

    Returns:
        (found, merges, in detections, splits, in texts); precision is (found - merges) / in detections, recall
        (found - splits) / in texts.
    """
    ignore = np.asarray(truth.ignore, bool)
    texts, detected = len(truth.polygons), len(detections)
    ratio_g, ratio_d = side_ratios(truth.polygons), aspect_ratios(detections.polygons)
    strings = truth.texts or [""] * texts
    lengths = [guessed_length(r) if skip or not text else len(text) for r, skip, text in zip(ratio_g, ignore, strings)]
    centres = [character_centres(p, n, r) for p, n, r in zip(truth.polygons, lengths, ratio_g)]
    owner = np.repeat(np.arange(texts), lengths)
    inside = _inside(pairs, np.concatenate(centres) if centres else np.zeros((0, 2)), owner)  # (D, C)
    held = np.zeros((texts, detected), np.int64)
    np.add.at(held, owner, inside.T)

    precision = pairs.area_precision(_less_ignored(pairs, ignore))
    enough = precision >= AREA_PRECISION
    skip = (enough[ignore]).any(axis=0)
    skip |= (precision[ignore] * (held[ignore] > 0)).sum(axis=0) >= AREA_PRECISION
    both = ~ignore[:, None] & ~skip[None]

    touch = enough & (held > 0)
    matched = touch & (touch.sum(axis=1) == 1)[:, None] & (touch.sum(axis=0) == 1)[None] & both
    split = touch & both
    matched |= split & (split.sum(axis=1) >= 2)[:, None]
    merged = (held > 0) & both
    many = (merged.sum(axis=0) >= 2) & ((precision * merged).sum(axis=0) >= AREA_PRECISION)
    matched |= merged & many[None]

    counted = inside & matched[owner].T  # (D, C)
    found = counted.any(axis=0).sum()
    merges, splits = (np.maximum(matched.sum(axis=axis) - 1, 0).sum() for axis in (0, 1))  # a character each
    lost = ~skip & ~matched.any(axis=0)
    guessed = sum(min(round(0.5 + 1 / (1e-5 + r)), MAX_CHARACTERS) for r in ratio_d[lost])
    in_texts = sum(n for n, ignored in zip(lengths, ignore) if not ignored)
    return np.array([found, merges, counted.sum() + guessed, splits, in_texts], np.float64)


def character_scores(matched: float, merges: float, detected: float, splits: float, texts: float) -> dict[str, float]:
    """Precision, recall and hmean from what :func:`cleval` returns, of one image or summed."""
    return scores(max(0.0, matched - merges), detected, max(0.0, matched - splits), texts)


def _inside(pairs: Pairs, points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Bool (D, C): which characters lie in which detection; only boxes that meet are looked at.

    As in the package, a point on the left or upper edge lies inside and one on the right or lower edge does not.
    """
    inside = np.zeros((len(pairs.area_d), len(points)), bool)
    first = np.searchsorted(owner, pairs.g, side="left")
    count = np.searchsorted(owner, pairs.g, side="right") - first
    d = np.repeat(pairs.d, count)
    c = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    shapely.prepare(pairs.detections)
    inside[d, c] = shapely.intersects_xy(pairs.detections[d], points[c] + EDGE_PIXELS)
    return inside


def _less_ignored(pairs: Pairs, ignore: np.ndarray) -> np.ndarray:
    """Intersection areas (G, D), ignored text without the parts that counted text covers."""
    shared = pairs.dense()
    if not ignore.any() or ignore.all():
        return shared
    text = shapely.union_all(pairs.truths[~ignore])
    cut = np.flatnonzero(ignore & shapely.intersects(pairs.truths, text))
    for k in cut:
        rest = shapely.difference(pairs.truths[k], text)
        touched = np.flatnonzero(shared[k] > 0)
        shared[k, touched] = shapely.area(shapely.intersection(pairs.detections[touched], rest))
    return shared


class CLEval:
    """Characters pooled over all images, and the mean over images.

    >>> import numpy as np
    >>> from ocr.metrics.protocol import evaluate
    >>> from ocr.types import Detections, Truth
    >>> word = np.array([[0, 0], [40, 0], [40, 10], [0, 10]], np.float32)
    >>> half, truth = Detections([word * (0.5, 1)], np.ones(1)), Truth([word], np.zeros(1, bool), ["text"])
    >>> evaluate(CLEval(), [half], [truth])["cleval_recall"]
    0.5
    """

    size = 7

    def count(self, image: ComparedImage) -> np.ndarray:
        """Counts of :func:`cleval`, then the image's own hmean and 1, float64 (7,)."""
        sums = cleval(image.pairs, image.detections, image.truth)
        return np.append(sums, [character_scores(*sums.tolist())["hmean"], 1.0])

    def scores(self, totals: np.ndarray) -> dict[str, float]:
        """``cleval_precision``, ``_recall``, ``_hmean`` (pooled) and ``_image_hmean`` (mean over images)."""
        *sums, hmeans, images = totals.tolist()
        values = character_scores(*sums) | {"image_hmean": hmeans / images if images else 0.0}
        return {f"cleval_{name}": value for name, value in values.items()}
