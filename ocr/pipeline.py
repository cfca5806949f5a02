"""Pipeline of a detector: from image to network input, and from network output to polygons.

The config makes it, the checkpoint carries it, and everything that uses a trained detector reads it back, so
that nobody repeats a resize, a mean or a threshold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ocr.errors import UserError
from ocr.geometry.offsets import check_unclip

log = logging.getLogger(__name__)
FORMAT_VERSION = 2  # 1: kernels were measured from pixel centres, one pixel too small


def _positive(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise UserError(f"{type(owner).__name__}.{name} must be a positive number, got {value!r}")


def _share(owner: object, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if not (isinstance(value, (int, float)) and 0 <= value <= 1):
            raise UserError(f"{type(owner).__name__}.{name} must lie in 0..1, got {value!r}")


@dataclass(frozen=True)
class ResizePolicy:
    """Resizing of an image to network size: aspect ratio kept, then padded at the right and bottom.

    Attributes:
        long_side: length in pixels that the longer side is brought to.
        multiple: both sides are padded up to a multiple of this (the network's coarsest stride).
        max_upscale: the image is never enlarged by more than this factor.
        max_aspect: an image that is longer than this times its shorter side is scaled as if it were no longer, so that
            the print of very long scans stays legible; None for no such limit.
    """

    long_side: int
    multiple: int
    max_upscale: float
    max_aspect: float | None = None

    def __post_init__(self) -> None:
        _positive(self, "long_side", "multiple", "max_upscale")
        if self.max_aspect is not None:
            _positive(self, "max_aspect")
            if self.max_aspect < 1:
                raise UserError(f"ResizePolicy.max_aspect must be at least 1, got {self.max_aspect}")

    def scale(self, width: int, height: int) -> float:
        """Factor from original to network pixels."""
        longest: float = max(width, height)
        if self.max_aspect is not None:
            longest = min(longest, self.max_aspect * min(width, height))
        return min(self.long_side / longest, self.max_upscale)

    def content_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the resized image, before padding."""
        scale = self.scale(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def padded_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the network input."""
        content = self.content_size(width, height)
        return tuple(math.ceil(side / self.multiple) * self.multiple for side in content)  # type: ignore[return-value]


@dataclass(frozen=True)
class PostProcess:
    """Parameters of the way from probability map to polygons, see :mod:`ocr.models.postprocess.db`.

    Attributes:
        thresh: a pixel belongs to text when its probability is above this.
        box_thresh: a contour is kept when the mean probability inside it is at least this.
        unclip: how the offset from kernel to text is computed, see :mod:`ocr.geometry.offsets`.
        unclip_ratio: its amount: u of ``ratio``, r of ``exact``.
        min_size: contours and boxes with a shorter side below this many network pixels are dropped.
        max_candidates: at most this many contours per image are looked at, the largest first.
        shape: "quad" for minimum-area rectangles, "polygon" for outlines.
    """

    thresh: float
    box_thresh: float
    unclip: str
    unclip_ratio: float
    min_size: float
    max_candidates: int
    shape: str

    def __post_init__(self) -> None:
        _share(self, "thresh", "box_thresh")
        _positive(self, "min_size", "max_candidates")
        check_unclip("PostProcess.unclip", self.unclip, self.unclip_ratio)
        if self.shape not in ("quad", "polygon"):
            raise UserError(f"PostProcess.shape must be quad or polygon, got {self.shape!r}")


@dataclass(frozen=True)
class Pipeline:
    """Resize policy, normalisation and post-processing of one detector.

    Attributes:
        mean, std: per channel, in the network's order, on pixel values scaled to 0..1.
        channels: the order that the network takes, "rgb" or "bgr".
        fill: colour of the padding, uint8 (R, G, B); None for the one that normalises to zero.
    """

    resize: ResizePolicy
    postprocess: PostProcess
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    channels: str = "rgb"
    fill: tuple[int, int, int] | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.channels not in ("rgb", "bgr"):
            raise UserError(f"Pipeline.channels must be rgb or bgr, got {self.channels!r}")
        if self.fill is not None:
            object.__setattr__(self, "fill", tuple(int(v) for v in self.fill))
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise UserError(f"Pipeline.mean and std need three values each, std positive: {self.mean}, {self.std}")

    @property
    def fill_colour(self) -> tuple[int, int, int]:
        """Colour of the padding, uint8 (R, G, B)."""
        if self.fill is not None:
            return self.fill
        mean = self.mean[::-1] if self.channels == "bgr" else self.mean
        return tuple(round(255 * value) for value in mean)  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, fit for a checkpoint or JSON."""
        plain = asdict(self)
        plain["mean"], plain["std"] = list(self.mean), list(self.std)
        plain["fill"] = None if self.fill is None else list(self.fill)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Pipeline:
        """Inverse of :meth:`to_dict`.

        Raises:
            UserError: a key is missing or unknown, a value is out of range, or the version is newer than this code.
        """
        version = plain.get("format_version", FORMAT_VERSION)
        if version == 1:
            plain = {**plain, "postprocess": {"unclip": "ratio"} | dict(plain.get("postprocess") or {})}
            log.warning("the stored pipeline is of the first format, whose boxes were a pixel smaller: runners/tune.py "
                        "chooses its thresholds again")  # fmt: skip
        elif version != FORMAT_VERSION:
            raise UserError(f"its pipeline has format {version}, newer than this code's {FORMAT_VERSION}: update")
        if missing := {"mean", "std"} - set(plain):
            raise UserError(f"Pipeline needs the setting {', '.join(sorted(missing))}")
        return cls(
            resize=_build(ResizePolicy, plain.get("resize")),
            postprocess=_build(PostProcess, plain.get("postprocess")),
            mean=plain["mean"],
            std=plain["std"],
            channels=plain.get("channels", "rgb"),
            fill=plain.get("fill"),
        )


def _build(cls: type, values: Any) -> Any:
    names = {f.name for f in fields(cls)}
    needed = {f.name for f in fields(cls) if f.default is MISSING}
    if not isinstance(values, Mapping) or not needed <= set(values) <= names:
        raise UserError(f"{cls.__name__} needs exactly the settings {sorted(names)}, got {values!r}")
    return cls(**values)
