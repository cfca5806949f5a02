"""Near-duplicates: images that show the same receipt or scene, within a split and across splits.

A difference hash alone is weak on receipts, which are white paper and rows of print, alike in all receipts of a shop.
It is joined with the layout of the labelled polygons and with the transcriptions: numbers (dates, totals, invoices)
tell receipts of one shop apart.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from ocr.types import Truth

HASH_SIDE = 16  # cells per side of a hash
CELL_PIXELS = 16  # pixels per side of a cell, whose mean it is
MIN_STEP = 0.15  # of the standard deviation of the cells: neighbours that differ by less are equal
MIN_TEXTURE = 32  # cells that differ from their neighbours, of an image that a hash tells something of
MIN_LIKENESS = 0.9  # of two hashes, see _likeness; receipts of one shop have up to 0.87 of each other
MIN_LAYOUT = 0.8  # of the polygons that have a counterpart
MIN_OVERLAP = 0.5  # intersection over union of a box and its counterpart
MIN_FRAMING = 5  # polygons whose common box is the frame, so that margins of paper count for nothing; fewer: the image
MIN_NUMBERS = 3  # without which transcriptions do not tell that two images are the same
SHARED_NUMBERS, SHARED_WORDS = 0.95, 0.7  # of the image that has fewer, for two scans of one receipt
MIN_SHARED = 0.6  # both, where the pictures are alike, too: each annotator reads otherwise
MIN_NUMBERS_RATIO = 0.5  # of the numbers of both images: else one may be labelled at its letterhead alone
MAX_IMAGES_PER_NUMBER = 50  # images that share a number which is looked at no further: it is a shop's
NUMBER = re.compile(r"\d(?:[\d:/.,\-]*\d)?")
MIN_DIGITS = 3  # of a number that tells receipts apart
BLOCK_IMAGES = 2048  # images whose hashes are compared at once


@dataclass(frozen=True)
class Fingerprint:
    """Features by which two images are compared.

    Attributes:
        hashes: int8 (2, HASH_SIDE ** 2), of the whole image and of its framed part, see :func:`difference_hash`.
        boxes: float64 (M, 4), x0, y0, x1, y1 of the polygons in fractions of the frame.
        words: of the transcriptions, in small letters.
        numbers: those of at least :data:`MIN_DIGITS` digits among them.
        digest: of the pixels, equal for copies.
    """

    hashes: np.ndarray
    boxes: np.ndarray
    words: frozenset[str]
    numbers: frozenset[str]
    digest: bytes

    @classmethod
    def of(cls, image: np.ndarray, truth: Truth, width: int, height: int) -> Fingerprint:
        """The fingerprint of an image.

        Args:
            image: uint8 (h, w, 3), of any scale.
            truth: its labels.
            width, height: the frame of the labels, pixels.
        """
        boxes = np.array([[*p.min(axis=0), *p.max(axis=0)] for p in truth.polygons], np.float64).reshape(-1, 4)
        whole = frame = np.array([0, 0, width, height], np.float64)
        if len(boxes) >= MIN_FRAMING:
            frame = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        size = np.maximum(np.tile(frame[2:] - frame[:2], 2), 1e-6)
        texts = [t.casefold() for t, ignore in zip(truth.texts, truth.ignore) if t and not ignore]
        numbers = (match for text in texts for match in NUMBER.findall(text))
        scale = np.tile(np.array(image.shape[1::-1]) / (width, height), 2)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return cls(
            np.stack([difference_hash(grey, part * scale) for part in (whole, frame)]),
            (boxes - np.tile(frame[:2], 2)) / size,
            frozenset(word for text in texts for word in text.split()),
            frozenset(n for n in numbers if sum(map(str.isdigit, n)) >= MIN_DIGITS),
            hashlib.blake2b(image.tobytes(), digest_size=16).digest(),
        )


def difference_hash(grey: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Whether each cell of a grid is lighter (1) or darker (-1) than its left neighbour, int8 (HASH_SIDE ** 2,).

    Cells that hardly differ are 0: on blank paper noise would decide.

    Args:
        grey: uint8 (H, W).
        frame: x0, y0, x1, y1, the part of it that the grid covers, pixels.
    """
    columns, rows = (HASH_SIDE + 1) * CELL_PIXELS, HASH_SIDE * CELL_PIXELS
    x0, y0, x1, y1 = frame.tolist()
    step_x, step_y = (x1 - x0) / columns, (y1 - y0) / rows
    to_image = np.array([[step_x, 0, x0 + step_x / 2 - 0.5], [0, step_y, y0 + step_y / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    part = cv2.warpAffine(grey, to_image, (columns, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    cells = cv2.resize(part, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    step = np.diff(cells, axis=1)
    step[np.abs(step) <= MIN_STEP * max(float(cells.std()), 1.0)] = 0
    return np.sign(step).astype(np.int8).ravel()


def near_duplicates(fingerprints: Sequence[Fingerprint]) -> list[list[int]]:
    """Groups of images that show the same, by their places, largest first."""
    groups = [[k] for k in range(len(fingerprints))]  # of each image; all images of a group have the same list
    for a, b in sorted(_candidates(fingerprints)):
        if groups[a] is not groups[b] and are_same(fingerprints[a], fingerprints[b]):
            joined = groups[b]
            groups[a] += joined
            for k in joined:
                groups[k] = groups[a]
    several = {id(group): sorted(group) for group in groups if len(group) > 1}
    return sorted(several.values(), key=lambda group: (-len(group), group))


def are_same(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether two images show the same receipt or scene.

    They do where nearly all numbers of the one are on the other, or where they look the same and nothing in their
    labels speaks against it.
    """
    if a.digest == b.digest:
        return True
    words, numbers = _shared(a.words, b.words), _shared(a.numbers, b.numbers)
    fewer, more = sorted((len(a.numbers), len(b.numbers)))
    read_alike = numbers >= SHARED_NUMBERS and words >= SHARED_WORDS
    if read_alike and fewer >= MIN_NUMBERS and fewer >= MIN_NUMBERS_RATIO * more:
        return True
    if float(_likeness(a.hashes, b.hashes).diagonal().max()) < MIN_LIKENESS:
        return False
    if read_alike and fewer:  # words of one are labelled, lines of the other, or a part of it alone
        return True
    if (a.words and b.words and words < MIN_SHARED) or (fewer and numbers < MIN_SHARED):
        return False
    return not (len(a.boxes) and len(b.boxes)) or _layout(a.boxes, b.boxes) >= MIN_LAYOUT


def _candidates(fingerprints: Sequence[Fingerprint]) -> set[tuple[int, int]]:
    """Pairs that are copies, share a number which few images have, or have like hashes."""
    by_number: dict[str, list[int]] = defaultdict(list)
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for k, fingerprint in enumerate(fingerprints):
        by_digest[fingerprint.digest].append(k)
        for number in fingerprint.numbers:
            by_number[number].append(k)
    pairs = {(a, b) for ks in by_digest.values() for a, b in pairwise(ks)}
    pairs |= {(a, b) for ks in by_number.values() if len(ks) <= MAX_IMAGES_PER_NUMBER for a in ks for b in ks if a < b}
    for kind in range(2):
        hashes = np.array([f.hashes[kind] for f in fingerprints], np.float32).reshape(len(fingerprints), HASH_SIDE**2)
        for start in range(0, len(hashes), BLOCK_IMAGES):
            rows, columns = np.nonzero(_likeness(hashes[start : start + BLOCK_IMAGES], hashes) >= MIN_LIKENESS)
            pairs |= {(a, b) for a, b in zip((rows + start).tolist(), columns.tolist()) if a < b}
    return pairs


def _likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cells that agree, less those that differ, over those that either image has; 0 where one has too few.

    Args:
        a, b: hashes (A, HASH_SIDE ** 2) and (B, HASH_SIDE ** 2).

    Returns:
        float32 (A, B).
    """
    a, b = a.astype(np.float32), b.astype(np.float32)
    of_a, of_b = np.abs(a).sum(axis=1)[:, None], np.abs(b).sum(axis=1)[None]
    either = of_a + of_b - np.abs(a) @ np.abs(b).T
    return np.where(np.minimum(of_a, of_b) >= MIN_TEXTURE, a @ b.T / np.maximum(either, 1), 0)


def _shared(a: frozenset[str], b: frozenset[str]) -> float:
    """The fraction that both have, of the one that has fewer."""
    return len(a & b) / max(min(len(a), len(b)), 1)


def _layout(a: np.ndarray, b: np.ndarray) -> float:
    """The lesser of the fractions of boxes (M, 4) that have a counterpart among the others."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    area_a, area_b = (np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9).prod(axis=1) for boxes in (a, b))
    met = shared / (area_a[:, None] + area_b[None] - shared) >= MIN_OVERLAP
    return float(min(met.any(axis=1).mean(), met.any(axis=0).mean()))
