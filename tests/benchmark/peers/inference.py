"""Detection with stock PP-OCRv4 by ours and by RapidOCR, the same weights and settings, each in its own process."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ocr.benchmark.clock import in_turns
from ocr.benchmark.rows import Row
from ocr.errors import first_line
from ocr.utils.machine import cores

log = logging.getLogger(__name__)


def inference(config: DictConfig) -> list[Row]:
    """Stock PP-OCRv4 on pictures of the validation split by onnxruntime, from pixels to boxes, long side 1280.

    Each in a process of its own: ours keeps freed memory, as all its jobs do, which would speed up the other as well.
    """
    plain, spawn = OmegaConf.to_container(config, resolve=True), multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        works = {
            who: partial(_in_process, stack.enter_context(ProcessPoolExecutor(1, spawn)), who, plain) for who in READERS
        }
        try:
            (images, mine), (_, other) = (work() for work in works.values())
        except Exception as error:  # another version of theirs
            log.warning("peers: inference by rapidocr is not there: %s", first_line(error))
            return []
        if abs(mine - other) > 0.1 * max(mine, other):
            log.warning("peers: inference by rapidocr does not count: %d boxes, ours %d", other, mine)
            return []
        timings = in_turns(works, 5)
    on = f"{images} images of {config.data.name}, {cores()} threads"
    rows = [Row.of(f"peers.inference.{who}", timing, "ms", on, images) for who, timing in timings.items()]
    ratio = rows[0].value / rows[1].value
    return [*rows, Row.of("peers.inference.ours_over_fastest", [ratio], "x", f"{mine} boxes, theirs {other}")]


def _in_process(process: ProcessPoolExecutor, who: str, plain: Any) -> tuple[int, int]:
    return process.submit(_read, who, plain).result()


def _read(who: str, plain: dict[str, Any]) -> tuple[int, int]:
    """Images and boxes of a pass; the first one in a process prepares the reader."""
    if who not in _ready:
        _ready[who] = READERS[who](plain)
    return _ready[who]()


def _images(plain: dict[str, Any]) -> list[np.ndarray]:
    from ocr.benchmark.workload import load_data

    config = OmegaConf.create(plain)
    [source, *_] = load_data(config, "val").sources["val"]
    return [source.load(k)[0] for k in range(min(int(config.images), len(source)))]


def read_with_ours(plain: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """Gives images and boxes of a pass."""
    import torch

    from ocr.data.transforms.decode import resize_and_pad
    from ocr.utils.memory import disable_malloc_trimming

    disable_malloc_trimming()
    module, images = _ours_with_stock_weights(), _images(plain)
    resize, fill = module.pipeline.resize, module.pipeline.fill_colour

    def work() -> tuple[int, int]:
        found = 0
        for image in images:
            padded = torch.from_numpy(resize_and_pad(image, resize, fill))
            found += sum(len(one) for one in module.detect([padded], [image.shape[1::-1]]))
        return len(images), found

    return work


def read_with_rapidocr(plain: dict[str, Any]) -> Callable[[], tuple[int, int]]:
    """The same."""
    detector = _rapidocr_with_stock_weights()
    images = [np.ascontiguousarray(image[..., ::-1]) for image in _images(plain)]
    return lambda: (len(images), sum(len(detector(image)) for image in images))


READERS = {"ours": read_with_ours, "rapidocr": read_with_rapidocr}
_ready: dict[str, Callable[[], tuple[int, int]]] = {}


def _ours_with_stock_weights() -> Any:
    from ocr.models.pretrained.ppocr import weights_file
    from ocr.pipeline import Pipeline, PostProcess, ResizePolicy
    from ocr.training.module import DetectionModule

    network = {"_target_": "ocr.models.onnx.runtime.OnnxDetector", "path": str(weights_file("ppocr_v4")),
               "threads": cores()}  # fmt: skip
    post = PostProcess(0.3, 0.6, "ratio", 1.6, 3, 1000, "quad")
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # RapidOCR's
    return DetectionModule(network, Pipeline(ResizePolicy(1280, 32, 1.0), post, mean, std, "bgr").to_dict()).eval()


def _rapidocr_with_stock_weights() -> Any:
    rapidocr = importlib.import_module("rapidocr")
    from ocr.models.pretrained.ppocr import weights_file

    base = OmegaConf.load(Path(str(rapidocr.__file__)).with_name("config.yaml"))
    settings = {"model_path": str(weights_file("ppocr_v4")), "limit_side_len": 1280, "limit_type": "max",
                "thresh": 0.3, "box_thresh": 0.6, "unclip_ratio": 1.6, "use_dilation": False,
                "score_mode": "slow"}  # fmt: skip
    det = OmegaConf.merge(base.Det, settings)
    det.engine_cfg = base.EngineConfig.onnxruntime
    det.engine_cfg.intra_op_num_threads = cores()
    det.engine_type = rapidocr.EngineType.ONNXRUNTIME
    return importlib.import_module("rapidocr.ch_ppocr_det").TextDetector(det)
