"""Labelled scans as a phone's camera would see them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ocr.data.sources.joined import Sources
from ocr.data.sources.render_cache import RenderCache, RenderedSample, RenderedSource, cache_key
from ocr.data.synthetic.camera import MAX_PAGE_SIDE, check_camera, simulate_camera
from ocr.types import Truth

if TYPE_CHECKING:
    from ocr.data.sources.build import Source


@dataclass
class CameraSimulation(RenderedSource):
    """The images of other sources as a phone would see them, each one picture, the same in every process.

    Attributes:
        of: sources of the scans.
        seed: of the disturbances.
        difficulty, effects: see :func:`simulate_camera`.
        weight: as for any source.
    """

    of: Sequence[Source]
    seed: int = 0
    difficulty: float = 0.5
    weight: float = 1.0
    effects: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        check_camera(self.difficulty, self.effects)
        self._scans = Sources(self.of)
        self._cache = RenderCache(cache_key("camera", *self._settings()))

    def _settings(self) -> list[str]:
        """The settings and scans, which tell the pictures of one source from those of another."""
        effects = [str(sorted(self.effects.items()))] if self.effects else []
        return [str(self.seed), str(self.difficulty), *effects, *(source.fingerprint() for source in self.of)]

    def __len__(self) -> int:
        return len(self._scans)

    def name(self, i: int) -> str:
        """The page's with what tells this picture from it, and from pictures of it with other disturbances."""
        effects = "_phone" if self.effects else ""
        return f"{self._scans.name(i)}_camera_{self.difficulty:g}{effects}_{self.seed}.jpg"

    def _file_name(self, i: int) -> str:
        """With the size and time of the scan's file."""
        try:
            status = Path(self._scans.name(i)).stat()
        except OSError:
            return str(i)
        return f"{i}_{status.st_size}_{status.st_mtime_ns}"

    def _render(self, i: int) -> RenderedSample:
        paper, truth = self._scans.load(i)
        scale = min(1.0, MAX_PAGE_SIDE / max(paper.shape[:2]))
        size = [max(1, round(side * scale)) for side in paper.shape[1::-1]]
        sheet = cv2.resize(paper, size, interpolation=cv2.INTER_AREA) if scale < 1 else paper
        photo = simulate_camera(sheet, np.random.default_rng([self.seed, i]), self.difficulty, self.effects)
        shrink = np.array([size[0] / paper.shape[1], size[1] / paper.shape[0]])
        polygons = photo.project_polygons([polygon * shrink for polygon in truth.polygons])
        return RenderedSample(photo.jpeg, *photo.size, Truth(polygons, truth.ignore, truth.texts))

    def counts(self) -> dict[str, int]:
        return self._scans.counts()

    def fingerprint(self) -> str:
        """Hex digest of the settings and of the scans."""
        return hashlib.sha256(" ".join(self._settings()).encode()).hexdigest()[:16]

    def identities(self) -> np.ndarray:
        """Identities of the scans: who has seen the scan knows its text."""
        return self._scans.identities()
