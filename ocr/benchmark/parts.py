"""The parts of a training and a test around the network, each timed by itself.

A part is a function of the composed config that gives rows; each runs in a process of its own, so that its peak of
memory is its own, see :mod:`ocr.benchmark.run`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from ocr.benchmark.clock import in_turns
from ocr.benchmark.rows import Row
from ocr.benchmark.workload import boxes, ideal_map, lines, load_data, settings_of
from ocr.data.targets.maps import TargetMaker
from ocr.data.transforms.random import warp_image
from ocr.metrics.collection import MetricCollection
from ocr.models.postprocess.db import find_polygons
from ocr.pipeline import Pipeline
from ocr.utils.config import instantiate
from ocr.utils.machine import cores

ROOT = Path(__file__).resolve().parents[2]


def startup(config: DictConfig) -> list[Row]:
    """Time of a command before it does anything, and of a training before its first step."""
    train = [sys.executable, str(ROOT / "runners" / "train.py")]
    commands = {
        "help": [*train, "--help"],
        "config": [*train, "--cfg", "job"],
        "import": [sys.executable, "-c", "import ocr.jobs.train"],
    }
    works = {name: partial(_run, command) for name, command in commands.items()}
    rows = [Row.of(f"startup.{k}", t, "s") for k, t in in_turns(works, config.repeats).items()]
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            mark = Path(folder, "first_step")
            settings = ["+callbacks.first_step._target_=ocr.benchmark.first_step.FirstStep",
                        f"+callbacks.first_step.mark={mark}", "trainer.max_steps=1", "test=false",
                        "logger.wandb.enabled=false", f"paths.output={folder}"]  # fmt: skip
            began = time.time()
            _run([*train, *settings])
            seconds.append(float(mark.read_text()) - began)
    return [*rows, Row.of("startup.first_step", seconds, "s", "the default job")]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")


def index(config: DictConfig) -> list[Row]:
    """Reading and checking the labels of the training split."""
    images = load_data(config, "train").counts()["train"]["images"]
    [timing] = in_turns({"index": lambda: load_data(config, "train")}, config.repeats).values()
    return [Row.of("index.image", timing, "ms", f"{images} images of {config.data.name}", images)]


def sample(config: DictConfig) -> list[Row]:
    """One training sample and its steps, on one core: decode, warp, light, targets; and a batch of them."""
    cv2.setNumThreads(1)
    data = load_data(config, "train")
    train_set, count = data.train_set(), min(config.images, data.counts()["train"]["images"])
    loaded = [train_set.samples.load(k) for k in range(count)]
    size, rng = data.geometry.crop_size, np.random.default_rng
    crops = [
        (image, data.geometry.matrix(image.shape[1], image.shape[0], truth, data.pipeline.resize, rng(k)))
        for k, (image, truth) in enumerate(loaded)
    ]
    text, plain = lines(50, 640, 640, seed=0), TargetMaker(0.4, 4)
    works: dict[str, Callable[[], Any]] = {
        "load": lambda: [train_set.samples.load(k) for k in range(count)],
        "warp": lambda: [warp_image(image, matrix, size, train_set.fill) for image, matrix in crops],
        "light": lambda: [data.light(image[: size[1], : size[0]], rng(k)) for k, (image, _) in enumerate(crops)],
        "whole": lambda: [train_set[k] for k in range(count)],
        "targets": lambda: [plain(text, np.zeros(50, bool), 640, 640) for _ in range(count)],
        "targets_recipe": lambda: [data.targets(text, np.zeros(50, bool), 640, 640) for _ in range(count)],
    }
    on = f"one core, {config.data.name}, crops of {size[0]} x {size[1]}"
    notes = {"targets": "one core, 640 x 640, 50 lines, as published", "targets_recipe": "the same, with this config's"}
    rows = [
        Row.of(f"sample.{name}", timing, "ms", notes.get(name, on), count)
        for name, timing in in_turns(works, config.repeats, budget=config.budget).items()
    ]
    batch = [train_set[k % count] for k in range(config.data.batch_size)]
    [collate] = in_turns({"": lambda: torch.utils.data.default_collate(batch)}, 20).values()
    return [*rows, Row.of("sample.collate", collate, "ms", f"a batch of {len(batch)}")]


def loader(config: DictConfig) -> list[Row]:
    """Samples per second by number of worker processes, nothing else running."""
    rows = []
    for workers in sorted({0, 1, 2, cores()} - {n for n in (1, 2) if n > cores()}):
        config.data.num_workers = workers
        # each worker is two batches ahead (prefetch_factor): what lies ready at the beginning is not counted
        ahead = max(4, 2 * workers)
        config.data.epoch_samples = (2 + config.repeats) * ahead * config.data.batch_size
        batches = iter(load_data(config, "train", "val").train_dataloader())
        for _ in range(2 * ahead):
            next(batches)
        rates = []
        for _ in range(config.repeats):
            began = time.perf_counter()
            done = sum(len(next(batches)["image"]) for _ in range(ahead))
            rates.append(done / (time.perf_counter() - began))
        rows.append(Row.of(f"loader.workers_{workers}", rates, "samples/s", config.data.name))
        del batches
    return rows


def postprocess(config: DictConfig) -> list[Row]:
    """From probability map to polygons: a receipt of 1280 pixels with 60 lines."""
    kernels = ideal_map(lines(60, 704, 1280, seed=1), 704, 1280, TargetMaker(0.4, 4))
    base = Pipeline.from_dict(settings_of(config).model.pipeline).postprocess
    works = {shape: partial(find_polygons, kernels, replace(base, shape=shape)) for shape in ("quad", "polygon")}
    return [
        Row.of(f"postprocess.{shape}", timing, "ms", "704 x 1280, 60 lines")
        for shape, timing in in_turns(works, 10 * config.repeats, budget=config.budget).items()
    ]


def metrics(config: DictConfig) -> list[Row]:
    """Every protocol by itself, and all of them as an evaluation has them: 500 images of 50 boxes, one core."""
    torch.set_num_threads(1)
    detections, truths = boxes(500, 50, seed=0)

    protocols = instantiate(OmegaConf.to_container(config.metrics))

    def work(names: Iterable[str]) -> None:
        collection = MetricCollection({name: protocols[name] for name in names})
        collection.update(detections, truths)
        collection.compute()

    chosen = {"plain": ["hmean"], "deteval": ["deteval"], "cleval": ["cleval"], "all": protocols}
    timings = in_turns({name: partial(work, names) for name, names in chosen.items()}, min(5, config.repeats))
    return [Row.of(f"metrics.{name}", timing, "s", "500 images of 50 boxes") for name, timing in timings.items()]
