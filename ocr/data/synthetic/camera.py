"""A sheet of paper as a camera or scanner would see it: folds, shadows, perspective, a table behind it, blur, JPEG."""

from __future__ import annotations

import math

import cv2
import numpy as np

from ocr.data.transforms.random import add_noise
from ocr.errors import UserError

MAX_PAGE_SIDE = 2000  # pixels that the longer side of a page is shrunk to before it is seen by a camera


def simulate_camera(
    paper: np.ndarray, rng: np.random.Generator, difficulty: float
) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
    """A picture of a page.

    Args:
        paper: uint8, grey (h, w) or RGB (h, w, 3).
        difficulty: 0 for a clean scan to 1 for a crumpled sheet under a phone; scales every disturbance.

    Returns:
        The picture as a JPEG, uint8 (B,), RGB stored without conversion; its (width, height); and the homography (3, 3)
        float64 from the page to it, continuous coordinates.
    """
    h, w = paper.shape[:2]
    shade = 1 + 0.12 * difficulty * _smooth_noise((h, w), int(rng.integers(2, 6)), rng)
    for _ in range(rng.poisson(1.5 * difficulty)):
        shade *= _fold(h, w, rng, difficulty)
    shade = shade.reshape(h, w, *(1,) * (paper.ndim - 2))
    paper = np.clip(paper * shade, 0, 255).astype(np.uint8)
    paper = add_noise(paper, 1 + 5 * difficulty * rng.random(), rng)

    margin = rng.uniform(0.01, 0.03 + 0.12 * difficulty, 4)
    width, height = round(w * (1 + margin[0] + margin[1])), round(h * (1 + margin[2] + margin[3]))
    angle = math.radians(rng.normal(0, 4 * difficulty))
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float64)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = (corners - corners.mean(axis=0)) @ turn.T + (width / 2, height / 2)
    moved += rng.uniform(-1, 1, (4, 2)) * 0.04 * difficulty * w
    low, high = moved.min(axis=0), moved.max(axis=0)
    moved -= np.minimum(low, 0)
    width, height = max(width, math.ceil(high[0] - min(low[0], 0))), max(height, math.ceil(high[1] - min(low[1], 0)))
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), moved.astype(np.float32))
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    to_index = np.linalg.inv(half) @ matrix @ half

    tint = rng.uniform(0.93, 1.0, 3)
    scene = _background(height, width, rng)
    sheet = cv2.warpPerspective(paper, to_index, (width, height), flags=cv2.INTER_LINEAR)
    cover = cv2.warpPerspective(np.full((h, w), 255, np.uint8), to_index, (width, height), flags=cv2.INTER_LINEAR)
    alpha = cover.astype(np.float32) * (1 / 255)
    coloured = cv2.LUT(
        sheet if sheet.ndim == 3 else cv2.merge([sheet] * 3), (np.arange(256)[:, None] * tint).astype(np.uint8)[None]
    )
    image = cv2.blendLinear(coloured, scene, alpha, 1 - alpha)
    light = 1 + 0.25 * difficulty * _smooth_noise((height, width), 2, rng)
    image = cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)
    sigma = rng.uniform(0, 0.9) * difficulty + 0.2
    image = cv2.GaussianBlur(image, (0, 0), sigma)
    quality = int(rng.integers(95 - round(55 * difficulty), 97))
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], (width, height), matrix


def project_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (P, 2) through a homography (3, 3), float32."""
    return (
        cv2.perspectiveTransform(points.reshape(-1, 1, 2).astype(np.float64), matrix).reshape(-1, 2).astype(np.float32)
    )


def check_difficulty(value: float) -> None:
    """Raises UserError outside 0..1."""
    if not 0 <= value <= 1:
        raise UserError(f"difficulty must lie in 0..1, got {value}")


def _smooth_noise(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
    """float32 (H, W) in -1..1 without high frequencies."""
    height, width = shape
    coarse = rng.uniform(-1, 1, (cells, max(2, round(cells * width / height)))).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _fold(h: int, w: int, rng: np.random.Generator, difficulty: float) -> np.ndarray:
    """Brightness factor (h, w) of a crease: dark on one side of a line, bright on the other."""
    angle = rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.05)
    x0, y0 = rng.uniform(0, w), rng.uniform(0, h)
    xs, ys = np.arange(w, dtype=np.float32) - x0, np.arange(h, dtype=np.float32) - y0
    distance = np.add.outer(ys * np.float32(math.cos(angle)), xs * np.float32(math.sin(angle)))
    reach = np.float32(rng.uniform(8, 40))
    return 1 - np.float32(0.3 * difficulty) * np.sign(distance) * np.exp(-np.abs(distance) / reach)


def _background(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3): a table, a scanner bed or cloth, with a few edges that are no text."""
    base = rng.uniform(20, 235, 3).astype(np.float32)
    relief = np.float32(rng.uniform(5, 30)) * _smooth_noise((height, width), int(rng.integers(2, 12)), rng)
    scene = cv2.add(cv2.merge([relief] * 3), (*base.tolist(), 0.0), dtype=cv2.CV_8U)  # type: ignore[call-overload]
    for _ in range(rng.integers(0, 5)):
        a, b = (tuple(int(v) for v in rng.uniform((0, 0), (width, height))) for _ in range(2))
        colour = tuple(float(v) for v in np.clip(base + rng.uniform(-60, 60, 3), 0, 255))
        cv2.line(scene, a, b, colour, int(rng.integers(1, 12)), cv2.LINE_AA)
    return scene
