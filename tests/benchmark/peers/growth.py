"""What becomes larger with the set, and by how much: each must stay linear or better."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ocr.benchmark.memory import memory_of_family
from ocr.benchmark.rows import Row
from ocr.data.datamodule import DetectionData

SAMPLED = 400  # samples that are loaded of each set
EVALUATED = 20_000  # images of the largest evaluation
WORKERS = 4


def growth(config: DictConfig) -> list[Row]:
    """Sets of links to this data's images and labels, ten times as many each time up to ``config.growth_most``.

    The network takes the same time for every image, whatever the size of the set, and is left out. ``memory`` is what
    the main process and its loader workers take together, shared pages counted once.
    """
    rows = []
    folder = Path(tempfile.mkdtemp(prefix="growth_"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        seed = _seed_files(config, folder / "seed")
        size = 100
        while size <= config.growth_most:
            root = _linked(folder / str(size), seed, size)
            data = {"root": str(root), "train": [_source()], "val": [_source()], "mix_ratio": 0.0,
                    "num_workers": WORKERS, "epoch_samples": SAMPLED}  # fmt: skip
            rows += _of_one_size(OmegaConf.merge(config, {"data": data}), size)
            size *= 10
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_one_size(config: DictConfig, size: int) -> list[Row]:
    from ocr.benchmark.workload import load_data

    began = time.perf_counter()
    loaded = load_data(config, "train")
    fresh = time.perf_counter() - began
    del loaded  # a job reads the index once
    began = time.perf_counter()
    loaded = load_data(config, "train")
    again = time.perf_counter() - began
    index = loaded.sources["train"][0].index  # type: ignore[attr-defined]
    arrays = (index.points, index.point_offsets, index.ignore, index.instance_offsets, index.sizes,
              index.paths.data, index.paths.offsets, index.texts.data, index.texts.offsets)  # fmt: skip
    epoch, memory = _epoch(loaded)
    evaluation, evaluated = _evaluation(min(size, EVALUATED))
    on = f"{size} images"
    return [
        Row.of(f"growth.{size}.first_start", [fresh], "s", on),
        Row.of(f"growth.{size}.later_start", [again], "s", on),
        Row.of(f"growth.{size}.index", [sum(a.nbytes for a in arrays) / 1e6], "MB", on),
        Row.of(f"growth.{size}.epoch_image", [epoch], "ms", f"{on}, {WORKERS} workers, no network"),
        Row.of(f"growth.{size}.memory", [memory], "MB", f"{on}, main process and {WORKERS} workers"),
        Row.of(f"growth.{size}.evaluation_image", [evaluation], "ms", f"all protocols, {evaluated} images"),
    ]


def _epoch(data: DetectionData) -> tuple[float, float]:
    """Seconds a sample of an epoch of :data:`SAMPLED`, drawing their order included, and MB of memory in it."""
    loader = data.train_dataloader()
    for epoch in range(2):  # in the second the workers are there
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        began, done = time.perf_counter(), 0
        for batch in loader:
            done += len(batch["image"])
        seconds = time.perf_counter() - began
    return seconds / done, memory_of_family()


def _evaluation(images: int) -> tuple[float, int]:
    """Seconds an image of all protocols, their result included, on images of 10 boxes."""
    from ocr.benchmark.workload import boxes
    from tests.conftest import all_metrics

    detections, truths = boxes(100, 10, seed=0)
    evaluation = all_metrics()
    began = time.perf_counter()
    for k in range(images):
        evaluation.update(detections[k % 100 : k % 100 + 1], truths[k % 100 : k % 100 + 1])
    evaluation.compute()
    return (time.perf_counter() - began) / images, images


def _source() -> dict[str, str]:
    return {"format": "icdar", "images": "img", "annotations": "gt"}


def _seed_files(config: DictConfig, folder: Path) -> list[tuple[Path, Path]]:
    """A few pictures of the data and their labels, as files of ICDAR's format in a new folder."""
    import cv2

    from ocr.benchmark.workload import load_data

    [source, *_] = load_data(config, "train").sources["train"]
    folder.mkdir()
    files = []
    for k in range(min(100, len(source))):
        image, truth = source.load(k)
        picture, label = folder / f"{k}.jpg", folder / f"gt_{k}.txt"
        cv2.imwrite(str(picture), image[..., ::-1])
        corners = [np.rint(p).astype(int).reshape(-1).tolist() for p in truth.polygons if len(p) == 4]
        lines = [",".join(map(str, values)) + ",A 1.00" for values in corners]
        label.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files.append((picture, label))
    return files


def _linked(root: Path, files: list[tuple[Path, Path]], size: int) -> Path:
    for name in ("img", "gt"):
        (root / name).mkdir(parents=True)
    for k in range(size):
        picture, label = files[k % len(files)]
        os.symlink(picture, root / "img" / f"{k:07d}.jpg")
        os.symlink(label, root / "gt" / f"gt_{k:07d}.txt")
    return root
