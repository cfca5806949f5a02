"""Random geometry and light for training: one warp of the pixels, the polygons carried along exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np

from ocr.errors import UserError
from ocr.pipeline import ResizePolicy
from ocr.types import Truth

NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)])  # what random bytes stand for in noise
NORMAL /= NORMAL.std()


@dataclass(frozen=True)
class RandomGeometry:
    """Crop around text with random scale, aspect ratio and rotation.

    Attributes:
        crop_size: (width, height) of the crop, network pixels.
        scale: range of the factor on the scale that the resize policy would give, drawn log-uniformly.
        aspect: range of the factor on width / height, drawn log-uniformly, the area kept.
        rotate: largest angle in degrees, either way, drawn uniformly.
        text_share: probability that the crop is centred near a text instance rather than anywhere.
    """

    crop_size: tuple[int, int]
    scale: tuple[float, float]
    aspect: tuple[float, float]
    rotate: float
    text_share: float

    def __post_init__(self) -> None:
        for name in ("scale", "aspect"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise UserError(f"data.geometry.{name} must be a range [low, high] with 0 < low <= high")
        if len(self.crop_size) != 2 or any(side <= 0 or side % 32 for side in self.crop_size):
            raise UserError(f"data.geometry.crop_size must be [width, height], multiples of 32, got {self.crop_size}")

    def matrix(
        self, width: int, height: int, truth: Truth, policy: ResizePolicy, rng: np.random.Generator
    ) -> np.ndarray:
        """Affine (2, 3) float64 from image to crop, continuous coordinates."""
        scale = policy.scale(width, height) * math.exp(rng.uniform(*np.log(self.scale)))
        aspect = math.sqrt(math.exp(rng.uniform(*np.log(self.aspect))))
        scale_x, scale_y = scale * aspect, scale / aspect
        angle = math.radians(rng.uniform(-self.rotate, self.rotate))
        centre = self._centre(width, height, truth, rng)
        half = np.array(self.crop_size) / 2
        reach = half / (scale_x, scale_y)
        jitter = rng.uniform(-0.5, 0.5, 2) * reach
        size = np.array([width, height])
        low, high = np.minimum(reach, size - reach), np.maximum(reach, size - reach)
        centre = np.clip(centre + jitter, low, high)
        cos, sin = math.cos(angle), math.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale_x, scale_y])
        return np.column_stack([linear, half - linear @ centre])

    def _centre(self, width: int, height: int, truth: Truth, rng: np.random.Generator) -> np.ndarray:
        candidates = np.flatnonzero(~np.asarray(truth.ignore, bool))
        if len(candidates) and rng.random() < self.text_share:
            polygon = truth.polygons[candidates[rng.integers(len(candidates))]]
            low, high = polygon.min(axis=0), polygon.max(axis=0)
            return rng.uniform(low, high)
        return rng.uniform((0, 0), (width, height))


def warp_image(image: np.ndarray, matrix: np.ndarray, size: Sequence[int], fill: Sequence[int]) -> np.ndarray:
    """uint8 (H, W, 3) through an affine matrix of continuous coordinates to ``size``, (width, height)."""
    to_index = matrix.copy()
    to_index[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # cv2 counts from pixel centres
    return cv2.warpAffine(
        image, to_index, tuple(size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=tuple(fill)
    )


def warp_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (P, 2) through the same matrix, float32."""
    return (points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


@dataclass(frozen=True)
class RandomLight:
    """Photometric change: each number is the largest relative or absolute change, drawn uniformly.

    Attributes:
        brightness: shift, as a share of full scale.
        contrast: factor 1 - c .. 1 + c about mid-grey.
        gamma: exponent 1 / (1 + g) .. 1 + g.
        colour: factor 1 - c .. 1 + c a channel.
        blur: probability of a small Gaussian blur (sigma up to 1 pixel).
        noise: largest standard deviation of Gaussian noise in grey levels, applied to half of the crops.
    """

    brightness: float
    contrast: float
    gamma: float
    colour: float
    blur: float
    noise: float

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 (H, W, 3) to the same shape."""
        level = np.arange(256) / 255.0
        level = level ** ((1 + self.gamma) ** rng.uniform(-1, 1))
        level = (level - 0.5) * (1 + rng.uniform(-self.contrast, self.contrast)) + 0.5
        level = level + rng.uniform(-self.brightness, self.brightness)
        table = level[:, None] * (1 + rng.uniform(-self.colour, self.colour, 3))
        table = np.clip(table * 255, 0, 255).round().astype(np.uint8)[None]
        image = cv2.LUT(image, table)
        if rng.random() < self.blur:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.0))
        if self.noise > 0 and rng.random() < 0.5:
            image = add_noise(image, rng.uniform(0, self.noise), rng)
        return image


def add_noise(image: np.ndarray, sigma: float, rng: np.random.Generator, tile: int = 192) -> np.ndarray:
    """Gaussian noise of standard deviation ``sigma`` grey levels, repeated every ``tile`` pixels for speed.

    Args:
        image: uint8 (H, W) or (H, W, 3).
    """
    height, width = image.shape[:2]
    ranks = np.frombuffer(rng.bytes(tile * tile * image[0, 0].size), np.uint8).reshape(tile, tile, *image.shape[2:])
    noise = cv2.LUT(ranks, np.rint(NORMAL * sigma).astype(np.int16))
    noise = np.tile(noise, (-(-height // tile), -(-width // tile)) + (1,) * (image.ndim - 2))[:height, :width]
    return cv2.add(image, noise, dtype=cv2.CV_8U)
