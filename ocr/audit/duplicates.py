"""Near-duplicates: images that show the same receipt or scene, within a split and across splits.

A difference hash alone is weak on receipts, which are white paper and rows of print. It is joined with the layout of
the labelled polygons and with what tells receipts of one shop apart in their transcriptions: numbers, dates, times.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from ocr.types import Truth

HASH_SIDE = 16  # cells a side; a hash has one bit per cell
MAX_HASH_DISTANCE = 0.08  # of the bits, of two scans of one receipt
MIN_LAYOUT = 0.8  # of the polygons that have a counterpart
MIN_OVERLAP = 0.5  # intersection over union of a box and its counterpart
MIN_FRAMING = 5  # polygons whose common box is the frame, so that margins of paper count for nothing; fewer: the image
MIN_TOKENS = 3  # numbers without which transcriptions tell nothing
MIN_SHARED_TOKENS, MIN_SHARED_LINES = 0.9, 0.7  # Jaccard indices of transcriptions of one receipt
MIN_TOKENS_IF_ALIKE = 0.7  # the same for two that look alike, too
COMMON = 50  # images that share a number which is looked at no further: it is a shop's
NUMBER = re.compile(r"\d(?:[\d:/.\-]*\d)?")
MIN_DIGITS = 4  # of a number that tells receipts apart
BLOCK = 2048  # images whose hashes are compared at once


@dataclass(frozen=True)
class Fingerprint:
    """What two images are compared by.

    Attributes:
        bits: bool (HASH_SIDE ** 2,), difference hash of the framed part.
        boxes: float64 (M, 4), x0, y0, x1, y1 of the polygons in fractions of the frame.
        lines: transcriptions.
        tokens: numbers of at least :data:`MIN_DIGITS` digits in them.
        digest: of the pixels, equal for copies.
    """

    bits: np.ndarray
    boxes: np.ndarray
    lines: Counter[str]
    tokens: Counter[str]
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
        frame = np.array([0, 0, width, height], np.float64)
        if len(boxes) >= MIN_FRAMING:
            frame = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
        size = np.maximum(np.tile(frame[2:] - frame[:2], 2), 1e-6)
        texts = [t for t, ignore in zip(truth.texts, truth.ignore) if t and not ignore]
        numbers = (match for text in texts for match in NUMBER.findall(text))
        tokens = Counter(n for n in numbers if sum(map(str.isdigit, n)) >= MIN_DIGITS)
        lines = Counter(" ".join(text.split()).casefold() for text in texts)
        scale = np.array(image.shape[1::-1]) / (width, height)
        bits = difference_hash(image, frame * np.tile(scale, 2))
        digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        return cls(bits, (boxes - np.tile(frame[:2], 2)) / size, lines, tokens, digest)


def difference_hash(image: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Whether each cell of a grid is lighter than its left neighbour, bool (HASH_SIDE ** 2,).

    Args:
        image: uint8 (H, W, 3) RGB.
        frame: x0, y0, x1, y1, the part of it that the grid covers, pixels.
    """
    x0, y0, x1, y1 = np.rint(frame).astype(int).tolist()
    part = image[max(y0, 0) : max(y1, y0 + 1), max(x0, 0) : max(x1, x0 + 1)]
    if not part.size:
        part = image
    grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    return (cells[:, 1:] > cells[:, :-1]).ravel()


def near_duplicates(fingerprints: Sequence[Fingerprint]) -> list[list[int]]:
    """Groups of images that show the same, by their places, largest first."""
    parent = list(range(len(fingerprints)))

    def root(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = parent[k]
        return k

    for a, b in sorted(_candidates(fingerprints)):
        if root(a) != root(b) and are_same(fingerprints[a], fingerprints[b]):
            parent[root(a)] = root(b)
    groups: dict[int, list[int]] = defaultdict(list)
    for k in range(len(fingerprints)):
        groups[root(k)].append(k)
    return sorted((group for group in groups.values() if len(group) > 1), key=lambda group: (-len(group), group))


def are_same(a: Fingerprint, b: Fingerprint) -> bool:
    """Whether two images show the same receipt or scene.

    Where both have enough numbers these decide, for receipts of one shop look alike; a few may be read otherwise.
    """
    if a.digest == b.digest:
        return True
    layout = not len(a.boxes) or not len(b.boxes) or _layout(a.boxes, b.boxes) >= MIN_LAYOUT
    alike = layout and (a.bits != b.bits).mean() <= MAX_HASH_DISTANCE
    if min(a.tokens.total(), b.tokens.total()) < MIN_TOKENS:
        return bool(alike)
    needed = MIN_TOKENS_IF_ALIKE if alike else MIN_SHARED_TOKENS
    return _jaccard(a.tokens, b.tokens) >= needed and _jaccard(a.lines, b.lines) >= MIN_SHARED_LINES


def _candidates(fingerprints: Sequence[Fingerprint]) -> set[tuple[int, int]]:
    """Pairs that share a number which few images have, or have hashes near each other."""
    by_token: dict[str, list[int]] = defaultdict(list)
    for k, fingerprint in enumerate(fingerprints):
        for token in fingerprint.tokens:
            by_token[token].append(k)
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    for k, fingerprint in enumerate(fingerprints):
        by_digest[fingerprint.digest].append(k)
    pairs = {(a, b) for ks in by_digest.values() for a, b in pairwise(ks)}
    pairs |= {(a, b) for ks in by_token.values() if len(ks) <= COMMON for a in ks for b in ks if a < b}
    signs = np.array([f.bits for f in fingerprints], np.float32).reshape(len(fingerprints), HASH_SIDE**2) * 2 - 1
    for start in range(0, len(signs), BLOCK):
        distances = (1 - signs[start : start + BLOCK] @ signs.T / HASH_SIDE**2) / 2
        rows, columns = np.nonzero(distances <= MAX_HASH_DISTANCE)
        pairs |= {(a, b) for a, b in zip((rows + start).tolist(), columns.tolist()) if a < b}
    return pairs


def _jaccard(a: Counter[str], b: Counter[str]) -> float:
    return (a & b).total() / max((a | b).total(), 1)


def _layout(a: np.ndarray, b: np.ndarray) -> float:
    """The lesser of the fractions of boxes (M, 4) that have a counterpart among the others."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.maximum(high - low, 0).prod(axis=2)
    area_a, area_b = (np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-9).prod(axis=1) for boxes in (a, b))
    met = shared / (area_a[:, None] + area_b[None] - shared) >= MIN_OVERLAP
    return float(min(met.any(axis=1).mean(), met.any(axis=0).mean()))
