"""Receipts drawn on the fly: a data set that needs no files and has exact labels.

Receipt ``i`` of seed ``s`` is the same in every process of a machine (the fonts installed there take part).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ocr.data.index.identity import hashes
from ocr.data.sources.render_cache import RenderCache, RenderedSample, cache_key
from ocr.data.synthetic import fonts
from ocr.data.synthetic.camera import check_difficulty, project_points, simulate_camera
from ocr.data.synthetic.layout import draw_receipt
from ocr.errors import UserError
from ocr.geometry.polygons import normal_form, normal_quads
from ocr.types import LazySample, Truth


@dataclass
class SyntheticReceipts:
    """A source of drawn receipts.

    Attributes:
        count: how many.
        seed: a split's own; splits with different seeds share no receipt.
        difficulty: 0 for clean scans to 1 for crumpled phone pictures; scales every disturbance.
        weight: share of the source drawn per epoch, as for any source.
    """

    count: int
    seed: int
    difficulty: float = 0.5
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"a synthetic source needs a count of at least 1, got {self.count}")
        check_difficulty(self.difficulty)
        fonts_key = [[path, Path(path).stat().st_size] for path in fonts.system_fonts()]
        self._cache = RenderCache(cache_key("synthetic", self.seed, self.difficulty, fonts_key))

    def __len__(self) -> int:
        return self.count

    def name(self, i: int) -> str:
        return f"synthetic_{self.seed}_{i:06d}.jpg"

    def load(self, i: int) -> tuple[np.ndarray, Truth]:
        """Image uint8 (H, W, 3) RGB and its truth, one polygon a text cell."""
        sample = self.open(i)
        return sample.pixels(1), sample.truth

    def open(self, i: int) -> LazySample:
        """The same with pixels only as fine as they are needed."""
        return self._cache(str(i), partial(self._render, i)).lazy()

    def _render(self, i: int) -> RenderedSample:
        rng = np.random.default_rng([self.seed, i])
        paper, cells = draw_receipt(rng)
        jpeg, frame, matrix = simulate_camera(paper, rng, self.difficulty)
        quads = project_points(np.concatenate([cell.quad for cell in cells]), matrix).reshape(-1, 4, 2)
        sound, normal = normal_quads(quads, *frame)
        polygons = [normal[k] if sound[k] else normal_form(quads[k]) for k in range(len(cells))]
        return RenderedSample(
            jpeg, *frame, Truth(polygons, np.zeros(len(polygons), bool), [cell.text for cell in cells])
        )

    def sizes(self) -> None:
        """Unknown before they are drawn."""
        return None

    def counts(self) -> dict[str, int]:
        """Numbers of images and, estimated from a few, of instances."""
        few = [len(self.load(i)[1].polygons) for i in range(min(4, self.count))]
        return {"images": self.count, "instances": round(sum(few) / len(few) * self.count), "ignored": 0}

    def fingerprint(self) -> str:
        """Hex digest of the settings, the fonts and the first receipt's pixels."""
        digest = hashlib.sha256(f"{self.count} {self.seed} {self.difficulty} {len(fonts.system_fonts())}".encode())
        digest.update(self.load(0)[0].tobytes())
        return digest.hexdigest()[:16]

    def identities(self) -> np.ndarray:
        """Hashes of name and difficulty."""
        return hashes(f"{self.name(i)} {self.difficulty}" for i in range(self.count))
