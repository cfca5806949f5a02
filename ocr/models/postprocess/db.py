"""Probability map to polygons (Liao et al. 2020, section 3.5)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import shapely

from ocr.geometry.offsets import unclip_distance
from ocr.pipeline import Pipeline, PostProcess
from ocr.types import Detections


def detect(probability: np.ndarray, width: int, height: int, pipeline: Pipeline) -> Detections:
    """Text in one image.

    Args:
        probability: float32 (H, W), 0..1, of the padded network input.
        width, height: of the original image.

    Returns:
        Polygons in the original image's pixels, clipped to it, the most certain first.
    """
    content_w, content_h = pipeline.resize.content_size(width, height)
    polygons, scores = find_polygons(probability[:content_h, :content_w], pipeline.postprocess)
    polygons = to_image(polygons, (content_w, content_h), (width, height))
    order = np.argsort(-np.asarray(scores), kind="stable")
    return Detections([polygons[i] for i in order], np.asarray(scores, np.float32)[order])


def to_image(polygons: list[np.ndarray], size: tuple[int, int], original: tuple[int, int]) -> list[np.ndarray]:
    """Polygons from a map of ``size``, (width, height), to the original image's pixels, clipped to it; float32."""
    scale = np.array(original, np.float64) / size
    return [np.clip(p * scale, 0, original).astype(np.float32) for p in polygons]


@dataclass(frozen=True)
class Candidates:
    """Kernels of one map, before any is unclipped or dropped for its score.

    Attributes:
        contours: int32 (N, 2) each, through pixel centres.
        centres: float64 (M, 2) of their minimum-area rectangles, in coordinates of pixel centres.
        sides: float64 (M, 2), lengths of the rectangles with the half pixel that lies outside the contour.
        angles: float64 (M,), radians, of the first side.
        scores: float64 (M,), mean probability inside.
    """

    contours: list[np.ndarray]
    centres: np.ndarray
    sides: np.ndarray
    angles: np.ndarray
    scores: np.ndarray

    def where(self, keep: np.ndarray) -> Candidates:
        """Select candidates, bool (M,)."""
        contours = [self.contours[k] for k in np.flatnonzero(keep)]
        return Candidates(contours, self.centres[keep], self.sides[keep], self.angles[keep], self.scores[keep])


def find_polygons(probability: np.ndarray, params: PostProcess) -> tuple[list[np.ndarray], np.ndarray]:
    """Polygons (N, 2) float64 in the map's continuous pixels, and their scores float64 (M,)."""
    candidates = find_candidates(probability, params.thresh, params.min_size, params.max_candidates)
    candidates = candidates.where(candidates.scores >= params.box_thresh)
    polygons, kept = unclip(candidates, params)
    return polygons, candidates.scores[kept]


def find_candidates(probability: np.ndarray, thresh: float, min_size: float, max_candidates: int) -> Candidates:
    """Connected areas above ``thresh`` of a map, float32 (H, W) in 0..1; see :class:`ocr.pipeline.PostProcess`.

    The published code takes the outlines of holes in kernels for kernels, too: each hole would be a false detection
    on top of its text. Only outer outlines are taken here.
    """
    bitmap = (probability > thresh).view(np.uint8)
    contours, hierarchy = cv2.findContours(bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if contours:
        contours = [contour for contour, (*_, parent) in zip(contours, hierarchy[0].tolist()) if parent < 0]
    if len(contours) > max_candidates:
        contours = sorted(contours, key=cv2.contourArea, reverse=True)[:max_candidates]
    kept, rectangles, scores = [], [], []
    for contour in contours:
        centre, (w, h), angle = cv2.minAreaRect(contour)
        if min(w, h) + 1 < min_size:
            continue
        contour = contour.reshape(-1, 2)
        kept.append(contour)
        rectangles.append((*centre, w + 1, h + 1, np.deg2rad(angle)))
        scores.append(mean_inside(probability, contour))
    table = np.array(rectangles, np.float64).reshape(-1, 5)
    certain = np.clip(np.array(scores, np.float64), 0, 1)  # of a map of half precision, or that no network gave
    return Candidates(kept, table[:, :2], table[:, 2:4], table[:, 4], certain)


def mean_inside(probability: np.ndarray, contour: np.ndarray) -> float:
    """Mean probability of the pixels in a contour, int32 (N, 2), its outline included."""
    x0, y0 = contour.min(axis=0)
    x1, y1 = contour.max(axis=0) + 1
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [contour - (x0, y0)], 1)
    return cv2.mean(probability[y0:y1, x0:x1], mask)[0]


def unclip(candidates: Candidates, params: PostProcess) -> tuple[list[np.ndarray], np.ndarray]:
    """Kernels to text polygons, float64 (N, 2) in continuous pixels; and which of them gave one, bool (M,)."""
    if params.shape == "quad":
        quads, kept = _unclip_quads(candidates, params)
        return list(quads + 0.5), kept
    outlines = [_unclip_outline(contour, params) for contour in candidates.contours]
    return [p + 0.5 for p in outlines if p is not None], np.array([p is not None for p in outlines], bool)


def _unclip_quads(candidates: Candidates, params: PostProcess) -> tuple[np.ndarray, np.ndarray]:
    """Minimum-area rectangles offset outwards on all sides, (M, 4, 2)."""
    distance = unclip_distance(
        candidates.sides.prod(axis=1), 2 * candidates.sides.sum(axis=1), params.unclip, params.unclip_ratio
    )
    sides = candidates.sides + 2 * distance[:, None]
    kept = sides.min(axis=1, initial=np.inf) >= params.min_size
    cos, sin = np.cos(candidates.angles[kept]), np.sin(candidates.angles[kept])
    along = np.stack([cos, sin], axis=1) * sides[kept, :1] / 2
    across = np.stack([-sin, cos], axis=1) * sides[kept, 1:] / 2
    corners = [-along - across, along - across, along + across, across - along]
    return candidates.centres[kept, None] + np.stack(corners, axis=1), kept


def _unclip_outline(contour: np.ndarray, params: PostProcess) -> np.ndarray | None:
    """The simplified contour offset outwards by the same distance with round corners, float64 (N, 2)."""
    length = cv2.arcLength(contour, True)
    outline = cv2.approxPolyDP(contour, 0.002 * length, True).reshape(-1, 2)
    if len(outline) < 3:
        return None
    shape = shapely.Polygon(outline).buffer(0.5, join_style="mitre")
    if shape.is_empty:
        return None
    distance = unclip_distance(shape.area, shape.length, params.unclip, params.unclip_ratio)
    unclipped = shape.buffer(distance, quad_segs=2)
    if not isinstance(unclipped, shapely.Polygon):
        return None
    (_, sides, _) = cv2.minAreaRect(shapely.get_coordinates(unclipped).astype(np.float32))
    if min(sides) < params.min_size:
        return None
    return shapely.get_coordinates(unclipped.exterior.simplify(0.5))[:-1]
