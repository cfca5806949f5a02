"""Effects of a phone's camera on a picture of a sheet, each on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from ocr.data.transforms.random import add_noise

EFFECTS = ("curl", "glare", "shadow", "motion", "low_light", "clutter", "far")


@dataclass(frozen=True)
class Curl:
    """Page curl by a displacement field: the pixel u shows the paper's point u + d(u), d being a sum of waves.

    Attributes:
        vectors: float64 (K, 2), wave vectors, radians per pixel.
        phases: float64 (K,), radians.
        shifts: float64 (K, 2), amplitudes, pixels.
    """

    vectors: np.ndarray
    phases: np.ndarray
    shifts: np.ndarray

    @classmethod
    def draw(cls, width: int, height: int, strength: float, rng: np.random.Generator) -> Curl:
        """One or two waves about as long as the sheet is wide, most of the shift along the text's height."""
        count = int(rng.integers(1, 3))
        lengths = width * rng.uniform(0.9, 2.5, count)
        angles = rng.normal(0, 0.25, count) + (np.pi / 2) * (rng.random(count) < 0.3)
        vectors = 2 * np.pi / lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        steep = strength * rng.uniform(0.03, 0.22, count) / np.linalg.norm(vectors, axis=1)  # slope at most 0.22
        shifts = steep[:, None] * np.stack([0.3 * rng.normal(0, 1, count), np.ones(count)], axis=1)
        return cls(vectors, rng.uniform(0, 2 * np.pi, count), shifts)

    def shift(self, points: np.ndarray) -> np.ndarray:
        """The shift d at points (..., 2), pixels."""
        return np.sin(points @ self.vectors.T + self.phases) @ self.shifts

    def seen(self, points: np.ndarray) -> np.ndarray:
        """Project the paper's points q (..., 2): u with u + d(u) = q, by fixed-point iteration."""
        flat = points.astype(np.float64)
        for _ in range(12):
            flat = points - self.shift(flat)
        return flat


def bend(paper: np.ndarray, curl: Curl) -> np.ndarray:
    """Bend the paper, with the light and shade of its slopes; same size, white beyond it."""
    h, w = paper.shape[:2]
    ys, xs = np.mgrid[0:h:8, 0:w:8].astype(np.float64) + 0.5
    shift = cv2.resize(curl.shift(np.stack([xs, ys], axis=-1)).astype(np.float32), (xs.shape[1] * 8, xs.shape[0] * 8))
    shift = shift[:h, :w]
    grid_x, grid_y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    bent = cv2.remap(paper, grid_x + shift[..., 0], grid_y + shift[..., 1], cv2.INTER_LINEAR, None,
                     cv2.BORDER_CONSTANT, (250, 250, 250))  # fmt: skip
    slope = np.gradient(shift[..., 1], axis=1)
    shade = np.clip(1 + 0.8 * slope, 0.6, 1.15).astype(np.float32).reshape(h, w, *(1,) * (paper.ndim - 2))
    return np.clip(bent * shade, 0, 255).astype(np.uint8)


def glare(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A spot in which a lamp is mirrored: uint8 (H, W, 3) to the same."""
    height, width = image.shape[:2]
    centre, radius = rng.uniform((0, 0), (width, height)), rng.uniform(0.06, 0.3) * min(width, height) + 2
    stretch, angle = rng.uniform(1, 3), rng.uniform(0, math.pi)
    ys, xs = np.ogrid[:height, :width]
    dx, dy = xs - centre[0], ys - centre[1]
    along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
    spot = np.exp(-((along / (radius * stretch)) ** 2 + (across / radius) ** 2) / 2)
    light = (spot * strength * rng.uniform(60, 190)).astype(np.float32)
    return cv2.add(image, cv2.merge([light] * 3), dtype=cv2.CV_8U)


def hand_shadow(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Add the soft shadow of a hand or a phone that reaches in from one side, uint8 (H, W, 3)."""
    height, width = image.shape[:2]
    small: np.ndarray = np.ones((64, 64), np.float32)
    side = rng.integers(4)
    tips = [(rng.uniform(8, 56), rng.uniform(10, 44), rng.uniform(3, 16)) for _ in range(rng.integers(1, 5))]
    for along, depth, thick in tips:
        a, b = ((along, -4), (along + rng.normal(0, 10), depth)) if side < 2 else ((-4, along), (depth, along))
        cv2.line(small, tuple(int(v) for v in a), tuple(int(v) for v in b), 0.0, max(1, int(thick)))
    small = np.ascontiguousarray(small[::-1, ::-1]) if side % 2 else small
    small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.5, 4)))
    dark = 1 - strength * float(rng.uniform(0.2, 0.6)) * (1 - cv2.resize(small, (width, height)))
    return cv2.multiply(image, cv2.merge([dark] * 3), dtype=cv2.CV_8U)


def motion_blur(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A hand that was not still, up to seven pixels: uint8 (H, W, 3) to the same."""
    length, angle = strength * rng.uniform(1.5, 7), rng.uniform(0, math.pi)
    kernel = np.zeros((9, 9), np.float32)
    step = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    for t in np.linspace(-1, 1, 33):
        x, y = 4 + t * step
        kernel[min(max(round(y), 0), 8), min(max(round(x), 0), 8)] += 1
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def low_light(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A dark room: little light of a colour, and the sensor's noise: uint8 (H, W, 3) to the same."""
    light = 1 - strength * rng.uniform(0.2, 0.65)
    tint = np.clip(light * (1 + strength * rng.uniform(-0.15, 0.12, 3)), 0, 1)
    dim = cv2.LUT(image, (np.arange(256)[:, None] * tint).astype(np.uint8)[None])
    noisy = add_noise(dim, strength * rng.uniform(2, 14), rng)
    return cv2.GaussianBlur(noisy, (0, 0), float(rng.uniform(0.3, 0.9)))  # a phone smooths what it brightens


def clutter(scene: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Things on the table behind the paper: uint8 (H, W, 3), changed in place and returned."""
    height, width = scene.shape[:2]
    if rng.random() < 0.5:  # grain of wood or cloth
        period, angle = rng.uniform(4, 60), rng.uniform(0, math.pi)
        ys, xs = np.ogrid[:height, :width]
        wave = np.sin(
            (xs * math.cos(angle) + ys * math.sin(angle)) * 2 * math.pi / period + rng.uniform(0, 6) * np.sin(ys / 90)
        )
        grain = (wave * rng.uniform(5, 35) * strength).astype(np.float32)
        scene = cv2.add(scene, cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    for _ in range(rng.integers(0, 14)):
        colour = tuple(float(v) for v in rng.uniform(0, 255, 3))
        x, y = (int(v) for v in rng.uniform((0, 0), (width, height)))
        w, h = (int(v) for v in rng.uniform(6, 0.3 * min(width, height) + 7, 2))
        kind = rng.integers(3)
        if kind == 0:
            corners = cv2.boxPoints(((x, y), (w, h), float(rng.uniform(0, 90)))).astype(np.int32)
            cv2.fillPoly(scene, [corners], colour, cv2.LINE_AA)
        elif kind == 1:
            cv2.ellipse(
                scene, (x, y), (w // 2, h // 2), float(rng.uniform(0, 180)), 0, 360, colour, int(rng.choice([-1, 2, 5]))
            )
        else:  # keys or tiles
            step = int(rng.integers(14, 60))
            for kx in range(x, min(x + 6 * step, width), step):
                for ky in range(y, min(y + 3 * step, height), step):
                    cv2.rectangle(scene, (kx, ky), (kx + step * 3 // 4, ky + step * 3 // 4), colour, -1)
    return cv2.GaussianBlur(scene, (0, 0), float(rng.uniform(0.6, 3)))
