"""Training throughput beside docTR's own script: same images, backbone, size and batch, on the same machine."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from ocr.benchmark.rows import Row
from ocr.errors import UserError
from ocr.utils.machine import cores

log = logging.getLogger(__name__)

# Random weights for the backbone, which docTR would fetch; the script itself runs as it is.
SCRIPT = """
import runpy, sys
from doctr.models.detection.differentiable_binarization import pytorch as models
build = models._dbnet
models._dbnet = lambda *args, **options: build(*args, **{**options, "pretrained_backbone": False})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
PAIRS = 2  # of a short and a long epoch


def training(config: DictConfig) -> list[Row]:
    """Seconds a step of ``references/detection/train.py`` and of ours, from epochs of two lengths each.

    The difference of a long and a short run is the steps' time: start, validation and checkpoint fall out of it.

    Raises:
        UserError: docTR is not installed, or its repository not checked out below ``peers_root``.
    """
    place = Path("doctr", "references", "detection", "train.py")
    if not config.peers_root:
        raise UserError(f"it needs peers_root=<folder>, with docTR's repository in it ({place})")
    script = Path(config.peers_root, place).expanduser().resolve()
    if not script.is_file():
        raise UserError(f"no docTR repository at peers_root={config.peers_root}: {script} is not there")
    if importlib.util.find_spec("doctr") is None:
        raise UserError("it needs docTR itself: pip install python-doctr, in this environment")
    batch, steps = int(config.data.batch_size), int(config.steps)
    backbone = str(config.model.backbone.name)
    rows: dict[str, list[float]] = {"doctr": [], "ours": []}
    with tempfile.TemporaryDirectory() as folder:
        sets = {count: _as_doctr(config, Path(folder, str(count)), count * batch) for count in (2, 2 + steps)}
        for _ in range(PAIRS):
            for who in rows:
                seconds = {}
                for count, root in sets.items():
                    if who == "doctr":
                        seconds[count] = _timed(_doctr(config, script, root), script.parent)
                    else:
                        seconds[count] = _timed(_ours(config, root, count * batch), root)
                rows[who].append((seconds[2 + steps] - seconds[2]) / steps)
                log.info("peer_training: %s %.3f s a step", who, rows[who][-1])
    on = f"{backbone}, batches of {batch} x {_side(config)}, {steps} steps, {cores()} cores"
    ratios = [theirs / ours for theirs, ours in zip(rows["doctr"], rows["ours"])]
    return [
        Row.of("peer_training.doctr", rows["doctr"], "s", on),
        Row.of("peer_training.ours", rows["ours"], "s", on),
        Row.of("peer_training.throughput_ratio", ratios, "x", "ours over docTR's script"),
    ]


def _side(config: DictConfig) -> int:
    width, height = config.data.geometry.crop_size
    if width != height:
        raise UserError("docTR's script trains on squares, data.geometry.crop_size is none")
    return int(width)


def _as_doctr(config: DictConfig, root: Path, images: int) -> Path:
    """Pictures of the data, again and again up to a number, and one to validate on, in docTR's format."""
    import cv2

    from ocr.benchmark.workload import load_data

    [source, *_] = load_data(config, "train").sources["train"]
    for part, count in (("train", images), ("val", 1)):
        place, labels = root / part / "images", {}
        place.mkdir(parents=True)
        for k in range(count):
            image, truth = source.load(k % len(source))
            cv2.imwrite(str(place / f"{k}.jpg"), image[..., ::-1])
            corners = [np.rint(p).astype(int).tolist() for p in truth.polygons if len(p) == 4]
            labels[f"{k}.jpg"] = {"img_dimensions": image.shape[:2], "img_hash": "", "polygons": corners}
        (root / part / "labels.json").write_text(json.dumps(labels), encoding="utf-8")
    return root


def _doctr(config: DictConfig, script: Path, root: Path) -> list[str]:
    name = str(config.model.backbone.name)
    return [sys.executable, "-c", SCRIPT, str(script), f"db_{name}", "--train_path", str(root / "train"),
               "--val_path", str(root / "val"), "--epochs", "1", "-b", str(int(config.data.batch_size)),
               "--input_size", str(_side(config)), "-j", str(cores()), "--output_dir", str(root),
               "--optim", "adamw"]  # fmt: skip


def _ours(config: DictConfig, root: Path, images: int) -> list[str]:
    train = Path(__file__).resolve().parents[3] / "runners" / "train.py"
    source = "{format:doctr,images:%s/images,annotations:%s/labels.json}"
    parts = {part: source % (part, part) for part in ("train", "val")}
    return [sys.executable, str(train), "data=folder", f"data.root={root}", f"data.train=[{parts['train']}]",
               f"data.val=[{parts['val']}]", f"data.test=[{parts['val']}]", "model=dbnet_resnet18",
               f"model.backbone.name={config.model.backbone.name}", "model.backbone.pretrained=false",
               f"data.batch_size={config.data.batch_size}", f"data.epoch_samples={images}",
               f"data.geometry.crop_size=[{_side(config)},{_side(config)}]", "trainer.max_epochs=1", "test=false",
               "logger.wandb.enabled=false", f"paths.output={root}"]  # fmt: skip


def _timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    environment: dict[str, Any] = {**os.environ, "WANDB_MODE": "offline"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    if done.returncode:
        raise RuntimeError(f"{command[2:6]} ended with {done.returncode}: {done.stderr[-3000:]}")
    return time.perf_counter() - began
