"""Probability map to polygons (Liao et al. 2020, section 3.5)."""

from __future__ import annotations

import math

import cv2
import numpy as np
import shapely

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
    scale = np.array([width / content_w, height / content_h])
    limit = np.array([width, height], np.float64)
    polygons = [np.clip(p * scale, 0, limit).astype(np.float32) for p in polygons]
    order = np.argsort(-np.asarray(scores), kind="stable")
    return Detections([polygons[i] for i in order], np.asarray(scores, np.float32)[order])


def find_polygons(probability: np.ndarray, params: PostProcess) -> tuple[list[np.ndarray], list[float]]:
    """Polygons (N, 2) float64 in the map's continuous pixels, and their scores."""
    bitmap = (probability > params.thresh).view(np.uint8)
    contours, _ = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > params.max_candidates:
        contours = sorted(contours, key=cv2.contourArea, reverse=True)[: params.max_candidates]
    kept, scores = [], []
    for contour in contours:
        contour = contour.reshape(-1, 2)
        (_, sides, _) = rectangle = cv2.minAreaRect(contour)
        if min(sides) + 1 < params.min_size:  # a contour runs through pixel centres
            continue
        score = mean_inside(probability, contour)
        if score < params.box_thresh:
            continue
        polygon = _grown_quad(rectangle, params) if params.shape == "quad" else _grown_outline(contour, params)
        if polygon is not None:
            kept.append(polygon + 0.5)  # from pixel centres to continuous coordinates
            scores.append(score)
    return kept, scores


def mean_inside(probability: np.ndarray, contour: np.ndarray) -> float:
    """Mean probability of the pixels in a contour, int32 (N, 2), its outline included."""
    x0, y0 = contour.min(axis=0)
    x1, y1 = contour.max(axis=0) + 1
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [contour - (x0, y0)], 1)
    return cv2.mean(probability[y0:y1, x0:x1], mask)[0]


def _grown_quad(rectangle: tuple, params: PostProcess) -> np.ndarray | None:
    """The minimum-area rectangle moved out by area * ratio / perimeter on all sides, float64 (4, 2)."""
    centre, (w, h), angle = rectangle
    w, h = max(w, 1e-3), max(h, 1e-3)
    distance = w * h * params.unclip_ratio / (2 * (w + h))
    w, h = w + 2 * distance, h + 2 * distance
    if min(w, h) < params.min_size:
        return None
    return cv2.boxPoints((centre, (w, h), angle)).astype(np.float64)


def _grown_outline(contour: np.ndarray, params: PostProcess) -> np.ndarray | None:
    """The simplified contour moved out likewise with round corners, float64 (N, 2)."""
    length = cv2.arcLength(contour, True)
    outline = cv2.approxPolyDP(contour, 0.002 * length, True).reshape(-1, 2)
    if len(outline) < 3:
        return None
    shape = shapely.Polygon(outline)
    if not shape.is_valid:
        shape = shape.buffer(0)
    if shape.is_empty or not shape.length:
        return None
    grown = shape.buffer(shape.area * params.unclip_ratio / shape.length, quad_segs=2)
    if not isinstance(grown, shapely.Polygon):
        return None
    (_, sides, _) = cv2.minAreaRect(shapely.get_coordinates(grown).astype(np.float32))
    if min(sides) < params.min_size or math.isclose(grown.area, 0):
        return None
    return shapely.get_coordinates(grown.exterior.simplify(0.5))[:-1]
