"""Questions of the console about detectors."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ocr.console.limits import within
from ocr.console.resident.photos import device_of, find_text
from ocr.console.resident.split import SplitPredictions
from ocr.errors import UserError
from ocr.jobs.build import find_model, open_detector
from ocr.jobs.command_line.compose import any_target, compose_job, config_message
from ocr.jobs.command_line.overrides import text_of
from ocr.jobs.settings import TestSettings, read, with_data_of
from ocr.training.data_record import PATHS, TrainingOverlap, drop_seen_images, read_record
from ocr.utils.config import instantiate

MAX_VIEWS = 4  # splits that are held open
IDLE_SECONDS = 60  # after which one that no page has asked for gives way to another
_work = Path(tempfile.mkdtemp(prefix="console_"))
atexit.register(shutil.rmtree, _work, ignore_errors=True)


@dataclass
class _View:
    split: SplitPredictions
    written: int  # time of the checkpoint's file
    asked: float  # when a page last did


_open: dict[tuple[str, str, str], _View] = {}


def look(view: Mapping[str, Any], question: str, **arguments: Any) -> Any:
    """Call a method of :class:`SplitPredictions` on a checkpoint's predictions on a split.

    Args:
        view: ``checkpoint``, ``split``, ``root`` of its data (empty for where it lay), ``folders`` that data may lie
            in, and ``accelerator``.
        question: the method.
        arguments: of the method.

    Raises:
        UserError: the checkpoint cannot be read, or its data lie in none of the folders; or too many views are open.
    """
    checkpoint, now = Path(view["checkpoint"]), time.monotonic()
    key = view["checkpoint"], view["split"], view["root"]
    try:
        written = checkpoint.stat().st_mtime_ns
    except OSError:
        raise UserError(f"{checkpoint} is not there any more") from None
    if key in _open and _open[key].written != written:
        _close(key)
    if key not in _open:
        if len(_open) >= MAX_VIEWS:
            oldest = min(_open, key=lambda other: _open[other].asked)
            if now - _open[oldest].asked <= IDLE_SECONDS:
                raise UserError(
                    f"{MAX_VIEWS} views of predictions are open: close the page of one, and try again in a minute"
                )
            _close(oldest)
        _open[key] = _View(_opened(view, checkpoint), written, now)
    _open[key].asked = time.monotonic()
    return getattr(_open[key].split, question)(**arguments)


def _close(key: tuple[str, str, str]) -> None:
    shutil.rmtree(_open.pop(key).split.folder, ignore_errors=True)


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
            for path in paths_of(settings.data[view["split"]], settings.data["root"]):
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
    return SplitPredictions(checkpoint, module, data, overlap, protocols, folder, device_of(view["accelerator"]))


def paths_of(sources: Iterable[Mapping[str, Any]], root: str | None) -> Iterator[Path | str]:
    """Paths of the files of sources in a job's complete data settings, whose root is given."""
    for source in sources:
        own = source.get("root") or root
        yield from paths_of(source.get("of") or (), own)
        if "images" in source and own:
            yield own
        for key in PATHS:
            if isinstance(path := source.get(key), str):
                yield path if "://" in path else Path(own or ".").expanduser() / path


FUNCTIONS = {"look": look, "find_text": find_text}
