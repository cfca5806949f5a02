"""Learning curve: trainings on parts of a set, a power law fitted to their scores, the gain of more images."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from rich.console import Console
from rich.table import Table

from ocr.audit.learning_curve import CONFIDENCE, LearningCurve, check_points
from ocr.data.samplers import draws_per_epoch
from ocr.drawing.plots import plot_learning_curve
from ocr.errors import UserError
from ocr.jobs.build import build_data
from ocr.jobs.command_line.overrides import text_of
from ocr.pipeline import Pipeline
from ocr.utils.files import make_folder, write_atomic
from ocr.utils.typed import Count, Seed

log = logging.getLogger(__name__)
TRAIN = Path(__file__).resolve().parents[2] / "runners" / "train.py"
SETTINGS = "settings.json"  # of the trainings in a folder
OWN_SETTINGS = ("curve", "hydra")  # of the runner, not of the trainings
PartOfSet = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class CurveSettings:
    """``configs/learning_curve.yaml``; the settings of ``configs/train.yaml`` beside it go to the trainings."""

    fractions: list[PartOfSet]
    draws: Count
    held_out: list[PartOfSet]
    more: list[Count]
    output: str
    runs: str | None
    data: dict[str, Any]
    pipeline: dict[str, Any]
    seed: Seed
    metric: str
    overrides: list[str]


class Point(NamedTuple):
    """A finished training: its training images, its score, and whether the curve goes through it."""

    images: int
    score: float
    fitted: bool


def learning_curve(settings: CurveSettings) -> None:
    """Train on parts of the training split, fit, print, and write ``learning_curve.json`` and ``.png``.

    Raises:
        UserError: a training failed, or there are too few of them for a curve.
    """
    output = Path(settings.output).expanduser()
    if settings.runs:
        paths = sorted(Path(settings.runs).expanduser().glob("*/metrics.json"))
        if not paths:
            raise UserError(f"curve.runs={settings.runs}: no folder in it has a metrics.json")
        points = [_point(path, settings.metric, True) for path in paths]
        whole = max(p.images for p in points)
    else:
        points, whole = _train_points(settings, output)
    fitted = [p for p in points if p.fitted]
    curve = LearningCurve.fit([p.images for p in fitted], [p.score for p in fitted])
    if max(p.score for p in fitted) <= 0:
        raise UserError(
            f"{settings.metric} is 0 in all trainings: nothing was learned; train longer (trainer.max_epochs)"
        )
    result = {
        "metric": settings.metric,
        "confidence": CONFIDENCE,
        "points": [p._asdict() for p in points],
        "exponent": -curve.slope,
        "images": whole,
        "score": {str(n): asdict(curve.score(n)) for n in (whole, 2 * whole)},
        "gain": {str(more): asdict(curve.gain(whole, more)) for more in settings.more},
    }
    write_atomic(output / "learning_curve.json", json.dumps(result, indent=2) + "\n")
    title = f"{settings.metric}, {CONFIDENCE:.0%} band"
    picture = plot_learning_curve(points, curve.score, whole, output / "learning_curve.png", title)
    _print(result, settings.metric, points)
    print(f"results  {output / 'learning_curve.json'}\npicture  {picture}")


def _train_points(settings: CurveSettings, output: Path) -> tuple[list[Point], int]:
    """Points of ``fractions`` and ``held_out``, and the images of the whole training split.

    Each training is a process with a run folder of its own.
    """
    if settings.data["train_fraction"] != 1 or settings.data["train_draw"]:
        raise UserError("data.train_fraction and data.train_draw are what the curve varies: curve.fractions=[...]")
    data = build_data(settings.data, Pipeline.from_dict(settings.pipeline), settings.seed).load("train")
    draws = draws_per_epoch(data.sources["train"], data.sources.get("mix", []), data.mix_ratio)
    images, samples = data.counts()["train"]["images"], settings.data["epoch_samples"] or sum(draws)
    check_points([round(fraction * images) for fraction in settings.fractions for _ in range(settings.draws)])
    log.info("%d training images; every training sees %d samples per epoch", images, samples)
    make_folder(output, "curve.output")
    training = {"overrides": settings.overrides, "data": data.fingerprint()["train"]}
    path = output / SETTINGS
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else training
    if before != training:
        what = "with other settings" if before.get("data") == training["data"] else "on other images or labels"
        raise UserError(f"curve.output={output} has trainings {what} ({path}): name another folder")
    jobs = [(fraction, draw, True) for fraction in settings.fractions for draw in range(settings.draws)]
    jobs += [(fraction, 0, False) for fraction in settings.held_out]
    points: list[Point] = []
    for k, (fraction, draw, fitted) in enumerate(jobs):
        folder = output / f"fraction_{fraction:g}_draw_{draw}"
        if not (folder / "metrics.json").is_file():
            log.info("training %d of %d: fraction %g, draw %d", k + 1, len(jobs), fraction, draw)
            own = [f"data.train_fraction={fraction}", f"data.train_draw={draw}", f"data.epoch_samples={samples}"]
            _run([*settings.overrides, *own, f"hydra.run.dir={text_of(str(folder))}"], folder)
        if not points:  # the first is done: a command that failed before leaves the folder to another one
            write_atomic(path, json.dumps(training, ensure_ascii=False, indent=1) + "\n")
        points.append(_point(folder / "metrics.json", settings.metric, fitted))
    return points, images


def _run(overrides: Sequence[str], folder: Path) -> None:
    """Train in a process of its own; whatever ends this one ends it, too."""
    process = subprocess.Popen([sys.executable, str(TRAIN), *overrides], stdout=sys.stderr)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code:
        raise UserError(f"a training of the curve ended with exit code {code}, its messages are above: {folder}")


def _point(path: Path, metric: str, fitted: bool) -> Point:
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        images, score = metrics.get("train_images"), metrics.get(metric)
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(images, int) or not isinstance(score, float | int):
        missing = metric if isinstance(images, int) else "train_images"
        raise UserError(f"{path} has no {missing}: was a validation run, by a training of this release?")
    return Point(images, float(score), fitted)


def _print(result: dict[str, Any], metric: str, points: Sequence[Point]) -> None:
    table = Table(title=f"learning curve of {metric}", title_justify="left")
    for column in ("training images", "score", ""):
        table.add_column(column, justify="right")
    for point in sorted(points, key=lambda p: p.images):
        table.add_row(str(point.images), f"{point.score:.4f}", "" if point.fitted else "not fitted")
    for images, estimate in result["score"].items():
        band = f"expected, {estimate['low']:.4f} to {estimate['high']:.4f}"
        table.add_row(images, f"{estimate['value']:.4f}", band, style="bold")
    Console().print(table)
    for more, gain in result["gain"].items():
        low, value, high = (100 * gain[key] for key in ("low", "value", "high"))
        words = f"{more} more images are worth {low:.1f} to {high:.1f} points of {metric} (expected: {value:.1f})"
        print(words + ("; these trainings show no gain" if low <= 0 else ""))
