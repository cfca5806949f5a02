"""What becomes larger with the set, and by how much: each must stay linear or better."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ocr.benchmark.rows import Row

SAMPLED = 200  # samples that are loaded of each set


def growth(config: DictConfig) -> list[Row]:
    """Sets of links to this data's images and labels, ten times as many each time up to ``config.growth_most``.

    A sample is what one costs after the first of a worker; the index is the set's arrays in memory, of which loader
    workers share the pages.
    """
    from ocr.benchmark.workload import load_data, train_set

    rows = []
    folder = Path(tempfile.mkdtemp(prefix="growth_"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        seed = _seed_files(config, folder / "seed")
        size = 100
        while size <= config.growth_most:
            root = _linked(folder / str(size), seed, size)
            data = {"root": str(root), "train": [_source()], "val": [_source()], "mix_share": 0.0}
            changed = OmegaConf.merge(config, {"data": data})
            began = time.perf_counter()
            loaded = load_data(changed, "train")
            fresh = time.perf_counter() - began
            began = time.perf_counter()
            load_data(changed, "train")
            again = time.perf_counter() - began
            index = loaded.sources["train"][0].index  # type: ignore[attr-defined]
            arrays = (index.points, index.point_offsets, index.ignore, index.instance_offsets, index.sizes,
                      index.paths.data, index.paths.offsets, index.texts.data, index.texts.offsets)  # fmt: skip
            made = train_set(loaded)
            chosen = np.random.default_rng(0).integers(0, len(made), SAMPLED).tolist()
            _ = made[chosen[0]]
            began = time.perf_counter()
            for k in chosen:
                _ = made[k]
            sample = (time.perf_counter() - began) / SAMPLED
            on = f"{size} images"
            rows += [
                Row.once(f"growth.{size}.first_start", fresh, "s", on),
                Row.once(f"growth.{size}.later_start", again, "s", on),
                Row.once(f"growth.{size}.index", sum(a.nbytes for a in arrays) / 1e6, "MB", on),
                Row.once(f"growth.{size}.sample", 1e3 * sample, "ms", on),
            ]
            size *= 10
        return rows
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
