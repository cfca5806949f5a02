"""Camera simulation: folds, shadows, perspective, a table behind the paper, blur, JPEG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ocr.data.synthetic.effects import EFFECTS, Curl, bend, clutter, glare, hand_shadow, low_light, motion_blur
from ocr.data.transforms.random import add_noise
from ocr.errors import UserError
from ocr.geometry.polygons import flatten, unflatten

MAX_PAGE_SIDE = 2000  # pixels that the longer side of a page is shrunk to before it is seen by a camera
CURL_POINTS = 4  # per edge of a polygon on a bent page
LIGHT_EFFECTS = {"shadow": hand_shadow, "glare": glare, "motion": motion_blur, "low_light": low_light}


@dataclass(frozen=True)
class Photo:
    """A simulated picture of a page.

    Attributes:
        jpeg: uint8 (B,), RGB stored without conversion.
        size: (width, height), pixels.
        matrix: float64 (3, 3), homography from the flat page to the picture, continuous coordinates.
        curl: how the page is bent; None: not.
    """

    jpeg: np.ndarray
    size: tuple[int, int]
    matrix: np.ndarray
    curl: Curl | None = None

    def project(self, points: np.ndarray) -> np.ndarray:
        """The page's points (P, 2) in the picture, float32."""
        points = np.asarray(points, np.float64).reshape(-1, 2)
        flat = self.curl.seen(points) if self.curl else points
        return cv2.perspectiveTransform(flat.reshape(-1, 1, 2), self.matrix).reshape(-1, 2).astype(np.float32)

    def project_polygons(self, polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The page's polygons (N, 2); those of a bent page get :data:`CURL_POINTS` points per edge."""
        if self.curl:
            share = np.linspace(0, 1, CURL_POINTS, endpoint=False)[:, None]
            polygons = [
                np.concatenate([a + share * (b - a) for a, b in zip(p, np.roll(p, -1, axis=0))]) for p in polygons
            ]
        points, starts = flatten(polygons)
        return unflatten(self.project(points), starts) if len(points) else []


def simulate_camera(
    paper: np.ndarray, rng: np.random.Generator, difficulty: float, effects: Mapping[str, float] | None = None
) -> Photo:
    """A picture of a page.

    Args:
        paper: uint8, grey (h, w) or RGB (h, w, 3).
        difficulty: 0 for a clean scan to 1 for a crumpled sheet under a phone; scales every disturbance.
        effects: probability, 0 to 1, per name in :data:`ocr.data.synthetic.effects.EFFECTS`.
    """
    hit = {name: rng.random() < share for name, share in (effects or {}).items()}
    curl = None
    if hit.get("curl"):
        curl = Curl.draw(paper.shape[1], paper.shape[0], difficulty, rng)
        paper = bend(paper, curl)
    h, w = paper.shape[:2]
    shade = 1 + 0.12 * difficulty * _smooth_noise((h, w), int(rng.integers(2, 6)), rng)
    for _ in range(rng.poisson(1.5 * difficulty)):
        shade *= _fold(h, w, rng, difficulty)
    shade = shade.reshape(h, w, *(1,) * (paper.ndim - 2))
    paper = np.clip(paper * shade, 0, 255).astype(np.uint8)
    paper = add_noise(paper, 1 + 5 * difficulty * rng.random(), rng)

    margin = rng.uniform(0.01, 0.03 + 0.12 * difficulty, 4)
    if hit.get("far"):
        margin = margin + rng.uniform(0, 0.8, 4) * (w, w, min(w, h), min(w, h)) / np.array([w, w, h, h])
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
    if hit.get("clutter"):
        scene = clutter(scene, difficulty, rng)
    sheet = cv2.warpPerspective(paper, to_index, (width, height), flags=cv2.INTER_LINEAR)
    cover = cv2.warpPerspective(np.full((h, w), 255, np.uint8), to_index, (width, height), flags=cv2.INTER_LINEAR)
    alpha = cover.astype(np.float32) * (1 / 255)
    coloured = cv2.LUT(
        sheet if sheet.ndim == 3 else cv2.merge([sheet] * 3), (np.arange(256)[:, None] * tint).astype(np.uint8)[None]
    )
    image = cv2.blendLinear(coloured, scene, alpha, 1 - alpha)
    light = 1 + 0.25 * difficulty * _smooth_noise((height, width), 2, rng)
    image = cv2.multiply(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)
    for name, effect in LIGHT_EFFECTS.items():
        if hit.get(name):
            image = effect(image, difficulty, rng)
    sigma = rng.uniform(0, 0.9) * difficulty + 0.2
    image = cv2.GaussianBlur(image, (0, 0), sigma)
    quality = int(rng.integers(95 - round(55 * difficulty), 97))
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return Photo(jpeg, (width, height), matrix, curl)


def check_camera(difficulty: float, effects: Mapping[str, float] | None) -> None:
    """Check the settings of a camera.

    Raises:
        UserError: a value outside 0..1, or an unknown effect.
    """
    if not 0 <= difficulty <= 1:
        raise UserError(f"difficulty must lie in 0..1, got {difficulty}")
    for name, share in (effects or {}).items():
        if name not in EFFECTS:
            raise UserError(f"unknown effect {name!r} of the camera; there are {', '.join(EFFECTS)}")
        if not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise UserError(f"effects.{name} is a probability, 0..1, got {share!r}")


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
