"""How much a detector gains from more labelled images: a power law fitted to short trainings on parts of a set.

The error 1 - score falls as a * n ** -b with n training images (Hestness et al. 2017, "Deep Learning Scaling is
Predictable, Empirically", section 2), which is a straight line in logarithms: ordinary least squares, Student's t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocr.errors import UserError

CONFIDENCE = 0.9  # of the bands
MIN_ERROR = 1e-4  # a score of 1 has no logarithm
DRAWS = 20_000  # of the fitted line, for the band of a difference


@dataclass(frozen=True)
class Estimate:
    """A figure with the band that holds it with a probability of :data:`CONFIDENCE`, if the power law holds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """log(1 - score) = intercept + slope * (log(n) - centre).

    Attributes:
        intercept, slope, centre: of the line; the slope is -b of the power law.
        spread: standard deviation of the residuals.
        points: number of trainings fitted.
        width: sum of (log(n) - centre) ** 2 over them.
    """

    intercept: float
    slope: float
    centre: float
    spread: float
    points: int
    width: float

    @classmethod
    def fit(cls, images: Sequence[int], scores: Sequence[float]) -> LearningCurve:
        """The curve through trainings with these numbers of images and scores, 0..1.

        Raises:
            UserError: there are fewer than three trainings, or all have the same number of images.
        """
        check_points(images)
        x = np.log(np.asarray(images, float))
        y = np.log(np.maximum(1 - np.asarray(scores, float), MIN_ERROR))
        width = float(((x - x.mean()) ** 2).sum())
        slope = float(((x - x.mean()) * y).sum() / width)
        residuals = y - y.mean() - slope * (x - x.mean())
        spread = float(np.sqrt((residuals**2).sum() / (len(x) - 2)))
        return cls(float(y.mean()), slope, float(x.mean()), spread, len(x), width)

    def score(self, images: int) -> Estimate:
        """The score of one training on that many images, with the interval that a new training would lie in."""
        intercepts, slopes, noise = self._draws()
        return _estimate(self._score(images), _score(intercepts + slopes * self._x(images) + noise))

    def gain(self, images: int, more: int) -> Estimate:
        """Gain of the mean score when ``more`` images are added to ``images``."""
        intercepts, slopes, _ = self._draws()
        before, after = (_score(intercepts + slopes * self._x(n)) for n in (images, images + more))
        return _estimate(self._score(images + more) - self._score(images), after - before)

    def _x(self, images: int) -> float:
        return float(np.log(images) - self.centre)

    def _score(self, images: int) -> float:
        return float(_score(np.array(self.intercept + self.slope * self._x(images))))

    def _draws(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lines that the trainings agree with, and the residual of a new training: float64 (DRAWS,) each.

        With an uncertain spread the three are normal over the root of one chi-square variable: Student's t.
        """
        rng, freedom = np.random.default_rng(0), self.points - 2
        spreads = self.spread * np.sqrt(freedom / rng.chisquare(freedom, DRAWS))
        intercepts, slopes, noise = rng.standard_normal((3, DRAWS)) * spreads
        return self.intercept + intercepts / np.sqrt(self.points), self.slope + slopes / np.sqrt(self.width), noise


def check_points(images: Sequence[int]) -> None:
    """Raise UserError where a curve does not follow from trainings with these numbers of images."""
    if len(images) < 3 or len(set(images)) < 2:
        raise UserError(
            f"a learning curve needs three trainings of two sizes at least, here are {len(images)} of "
            f"{len(set(images))}: more curve.fractions or curve.draws"
        )


def _score(log_error: np.ndarray) -> np.ndarray:
    return 1 - np.exp(np.minimum(log_error, 0.0))


def _estimate(value: float, draws: np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))
