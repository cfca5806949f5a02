"""What the console asks of detectors."""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ocr.console.limits import within
from ocr.console.resident.photos import device_of, find_text
from ocr.console.resident.split import SAMPLE_IMAGES, SplitPredictions
from ocr.errors import UserError
from ocr.jobs.build import find_model, open_detector
from ocr.jobs.command_line.compose import any_target, compose_job, config_message
from ocr.jobs.command_line.overrides import text_of
from ocr.jobs.settings import TestSettings, read, with_data_of
from ocr.jobs.tune import write_with_pipeline
from ocr.training.data_record import PATHS, DataRecord, TrainingOverlap, drop_seen_images, read_record
from ocr.utils.config import instantiate

MAX_VIEWS = 4  # splits that are held open
IDLE_SECONDS = 60  # after which one that no page has asked for gives way to another
_work = Path(tempfile.mkdtemp(prefix="console_"))
atexit.register(shutil.rmtree, _work, ignore_errors=True)
_open: dict[tuple[Any, ...], tuple[SplitPredictions, Path]] = {}  # the newest last
_asked: dict[tuple[Any, ...], float] = {}  # when


def _split(view: Mapping[str, Any]) -> tuple[SplitPredictions, Path]:
    """A checkpoint's predictions on a split, and the checkpoint.

    Args:
        view: ``checkpoint``, ``split``, ``root`` of its data (empty for where it lay), ``folders`` that data may lie
            in, and ``accelerator``.

    Raises:
        UserError: it cannot be read, or lies in none of the folders; or too many are open.
    """
    checkpoint, now = Path(view["checkpoint"]), time.monotonic()
    try:
        key = (str(checkpoint), checkpoint.stat().st_mtime_ns, view["split"], view["root"])
    except OSError:
        raise UserError(f"{checkpoint} is not there any more") from None
    if key not in _open:
        same = [old for old in _open if old[0] == key[0] and old[2:] == key[2:]]  # its file was written again
        idle = [old for old in _open if now - _asked[old] > IDLE_SECONDS]
        if len(_open) >= MAX_VIEWS and not (same or idle):
            raise UserError(
                f"{MAX_VIEWS} views of predictions are open: close the page of one, and try again in a minute"
            )
        for old in same + (idle[:1] if len(_open) >= MAX_VIEWS else []):
            if old in _open:
                shutil.rmtree(_open.pop(old)[0].folder, ignore_errors=True)
        _open[key] = _opened(view, checkpoint), checkpoint
    _open[key] = _open.pop(key)
    _asked[key] = time.monotonic()
    return _open[key]


def _opened(view: Mapping[str, Any], checkpoint: Path) -> SplitPredictions:
    arguments = [f"ckpt_path={text_of(str(checkpoint))}", f"split={text_of(view['split'])}", "paths.run_dir=."]
    arguments += [f"data.root={text_of(view['root'])}"] if view["root"] else []
    try:
        config = compose_job("test", arguments)
        OmegaConf.resolve(config)
        with any_target():
            settings = read(config, TestSettings)
            settings = with_data_of(find_model(settings), settings)
            folders = [Path(folder) for folder in view["folders"]]
            for path in paths_of(settings.data, view["split"]):
                if not within(str(path), folders):
                    raise UserError(
                        f"its {view['split']} split lies in {path}: start the console with data_folders=[<folder>], too"
                    )
            settings = replace(settings, data=settings.data | {"num_workers": 0})
            module, data = open_detector(settings, checkpoint, whole=view["split"] == "test")
            protocols = {name: metric for name, metric in instantiate(settings.metrics).items() if metric is not None}
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(config_message(error, "test", arguments)) from error
    record = read_record(checkpoint)
    drop_seen_images(data, settings.split, record)
    overlap = TrainingOverlap.of(settings.split, data.identities(settings.split), record)
    folder = Path(tempfile.mkdtemp(dir=_work))
    return SplitPredictions(module, data, overlap, protocols, folder, device_of(view["accelerator"]))


def paths_of(data: Mapping[str, Any], split: str) -> Iterator[Path | str]:
    """Paths of a split's files, by a job's complete data settings."""
    for spec in data[split]:
        yield from _paths_of_source(spec, data["root"])


def _paths_of_source(spec: Mapping[str, Any], root: str | None) -> Iterator[Path | str]:
    root = spec.get("root") or root
    for part in spec.get("of") or ():
        yield from _paths_of_source(part, root)
    if "images" in spec and root:
        yield root
    for key in PATHS:
        if isinstance(path := spec.get(key), str):
            yield path if "://" in path else Path(root or ".").expanduser() / path


def advance(view: Mapping[str, Any], images: int) -> dict[str, Any]:
    """Show the network more of ``images``; how far it is, see :meth:`SplitPredictions.described`."""
    split, _ = _split(view)
    split.advance(images)
    return split.described()


def figures(view: Mapping[str, Any], sliders: Mapping[str, float], whole: bool = False) -> dict[str, Any]:
    """See :meth:`SplitPredictions.figures`."""
    split, _ = _split(view)
    return split.figures(split.post(sliders), whole)


def polygons(view: Mapping[str, Any], sliders: Mapping[str, float], indices: Sequence[int]) -> list[dict[str, Any]]:
    """See :meth:`SplitPredictions.polygons`."""
    split, _ = _split(view)
    return split.polygons(indices, split.post(sliders))


def picture(view: Mapping[str, Any], index: int, layer: str) -> str:
    """See :meth:`SplitPredictions.picture`.

    Raises:
        UserError: there is no such picture.
    """
    split, _ = _split(view)
    file = split.picture(index, layer)
    if file is None:
        raise UserError("there is no such picture")
    return str(file)


def evaluate(view: Mapping[str, Any], sliders: Mapping[str, float], restart: bool) -> dict[str, Any]:
    """See :meth:`SplitPredictions.evaluate`."""
    split, _ = _split(view)
    return split.evaluate(split.post(sliders), restart)


def keep(view: Mapping[str, Any], sliders: Mapping[str, float]) -> str:
    """Write the checkpoint again with these thresholds, beside it; its file.

    All images of the split count as ones that its thresholds were chosen on.
    """
    split, checkpoint = _split(view)
    if split.looked_at < min(SAMPLE_IMAGES, len(split.order)) or not split.seen:
        raise UserError("wait until the sample was seen: thresholds are kept with their figure")
    post = split.post(sliders)
    pipeline = replace(split.module.pipeline, postprocess=post)
    images = split.data.identities(split.overlap.split)
    record = read_record(checkpoint)
    record = record or DataRecord.of(split.data, split.overlap.split, private=True)
    figures = split.figures(post)
    said = {"by": "hand", "split": split.overlap.split, "images": len(images),
            "sample": {name: figures[name] for name in ("precision", "recall", "hmean", "images")}}  # fmt: skip
    target = checkpoint.parent / f"kept_{time.strftime('%Y-%m-%d_%H-%M-%S')}_{secrets.token_hex(2)}.ckpt"
    write_with_pipeline(checkpoint, split.module, pipeline, said, target, record.with_seen({"val": images}))
    return str(target)


def prepare() -> None:
    """Nothing more than the imports of this module."""


FUNCTIONS = {
    "advance": advance,
    "figures": figures,
    "polygons": polygons,
    "picture": picture,
    "evaluate": evaluate,
    "keep": keep,
    "find_text": find_text,
}
