"""What several tests share: real fixtures, a small pipeline, sets in every label format."""

from __future__ import annotations

import atexit
import html
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from ocr.data.transforms.decode import resize_and_pad
from ocr.errors import UserError
from ocr.metrics.collection import MetricCollection
from ocr.models.pretrained.ppocr import weights_file
from ocr.pipeline import Pipeline, PostProcess, ResizePolicy
from ocr.training.module import DetectionModule
from ocr.types import Detections, Sample

if "RECEIPTS_TEST_CACHE" not in os.environ:  # once, for all processes of the tests
    os.environ["RECEIPTS_TEST_CACHE"] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="receipts_cache_")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
FIXTURES = Path(__file__).parent / "fixtures"
ROOT = Path(__file__).parents[1]
SHARED_DATA = Path(os.environ.get("OCR_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds a key, a mode or a project of the person who runs it."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", os.devnull)


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Jobs that are called in the tests' process flush denormal numbers to zero: the next test has them again."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline(
        ResizePolicy(long_side=320, multiple=32, max_upscale=2.0),
        PostProcess(
            thresh=0.3, box_thresh=0.5, unclip="ratio", unclip_ratio=2.0, min_size=3, max_candidates=1000, shape="quad"
        ),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training that has learned something, to be read only; one for all workers of pytest-xdist.

    Its splits are those of :data:`tests.tiny.CLEAN`.
    """
    from tests.tiny import LEARNS, OFF, run, run_folder

    shared = "PYTEST_XDIST_WORKER" in os.environ
    cwd = (tmp_path_factory.getbasetemp().parent if shared else tmp_path_factory.getbasetemp()) / "learned"
    with FileLock(f"{cwd}.lock"):
        if not (cwd / "runs").is_dir():
            cwd.mkdir(exist_ok=True)
            done = run("train", *LEARNS, OFF, "name=learned", cwd=cwd)
            assert done.returncode == 0, done.stderr
            (cwd / "stdout").write_text(done.stdout)
            (cwd / "stderr").write_text(done.stderr)
    folder = run_folder(cwd, "learned")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["val/hmean"] > 0.5, "nothing was learned, so that equal figures would show nothing"
    return folder


@pytest.fixture(scope="session")
def stock_weights() -> Path:
    """The file of PP-OCRv6's weights; skips where the extra ``[ppocr]`` is not installed, which the message names."""
    try:
        return weights_file("ppocr_v6")
    except UserError as error:
        pytest.skip(str(error))


def all_metrics() -> MetricCollection:
    """The collection of ``configs/metrics/default.yaml``."""
    return MetricCollection(instantiate(OmegaConf.load(ROOT / "configs/metrics/default.yaml")))


def found_by(module: DetectionModule, image: np.ndarray) -> Detections:
    """A detector's findings in an image uint8 (H, W, 3), RGB."""
    padded = resize_and_pad(image, module.pipeline.resize, module.pipeline.fill_colour)
    height, width = image.shape[:2]
    return module.read([torch.from_numpy(padded)], [(width, height)], [lambda: image])[0]


def write_image(path: Path, width: int = 200, height: int = 100) -> Path:
    """A grey JPEG or PNG with some structure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((height, width, 3), 200, np.uint8)
    cv2.putText(image, "receipt", (10, height // 2), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    assert cv2.imwrite(str(path), image)
    return path


def quad(x: float, y: float, w: float = 40, h: float = 12) -> list[list[float]]:
    """A rectangle, clockwise from its top left."""
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h]]


def write_format(name: str, samples: list[Sample], folder: Path) -> tuple[Path, Path]:
    """Labels of samples in a label format; (folder of the images, annotations). An oracle apart from the readers."""
    images = samples[0].image.parent
    rows = {s.image: [(i.polygon.tolist(), i.text, i.ignore) for i in s.instances] for s in samples}
    folder.mkdir(parents=True, exist_ok=True)
    if name in ("icdar", "sroie"):
        labels = folder / "labels"
        labels.mkdir(exist_ok=True)
        for image, instances in rows.items():
            lines = []
            for points, text, ignore in instances:
                shown = "###" if ignore and name == "icdar" else text
                lines.append(",".join(f"{v:g}" for p in points for v in p) + f",{shown}\n")
            target = labels / (f"gt_{image.stem}.txt" if name == "icdar" else f"{image.stem}.csv")
            target.write_bytes((b"\xef\xbb\xbf" if name == "icdar" else b"") + "".join(lines).encode())
        return images, labels
    if name == "labelme":
        labels = folder / "labels"
        labels.mkdir(exist_ok=True)
        for image, instances in rows.items():
            shapes = [{"label": "###" if g else t, "points": p, "shape_type": "polygon"} for p, t, g in instances]
            (labels / f"{image.stem}.json").write_text(json.dumps({"shapes": shapes, "imagePath": image.name}))
        return images, labels
    if name in ("yolo", "cord"):
        labels = folder / "labels"
        labels.mkdir(exist_ok=True)
        for image, instances in rows.items():
            with Image.open(image) as picture:
                w, h = picture.size
            lines = [f"0 {' '.join(f'{x / w:.9f} {y / h:.9f}' for x, y in p)}\n" for p, _, _ in instances]
            keys = [f"{axis}{k}" for k in range(1, 5) for axis in "xy"]
            words = [
                {"quad": dict(zip(keys, np.ravel(p).tolist())), "text": "###" if g else t} for p, t, g in instances
            ]
            content = {"valid_line": [{"words": words}], "meta": {"image_size": {"width": w, "height": h}}}
            text = "".join(lines) if name == "yolo" else json.dumps(content)
            (labels / f"{image.stem}.{'txt' if name == 'yolo' else 'json'}").write_text(text)
        return images, labels
    if name == "wildreceipt":
        lines = [
            json.dumps({"file_name": f"image_files/{image.name}",
                        "annotations": [{"box": np.ravel(p).tolist(), "text": "###" if g else t, "label": 1}
                                        for p, t, g in v]})
            for image, v in rows.items()
        ]  # fmt: skip
        (folder / "train.txt").write_text("\n".join(lines))
        return images, folder / "train.txt"
    if name == "cvat":
        shapes_of = {
            i.name: "".join(
                f'<polygon label="text" points="{";".join(f"{x},{y}" for x, y in p)}">'
                f'<attribute name="text">{html.escape("###" if g else t)}</attribute></polygon>'
                for p, t, g in v
            )
            for i, v in rows.items()
        }
        cells = "".join(f'<image name="{name}">{shapes}</image>' for name, shapes in shapes_of.items())
        (folder / "labels.xml").write_text(f"<?xml version='1.0'?><annotations>{cells}</annotations>", encoding="utf-8")
        return images, folder / "labels.xml"
    target = folder / ("label.txt" if name == "paddle" else "labels.json")
    if name == "paddle":
        lines = []
        for image, instances in rows.items():
            entries = [{"transcription": "###" if g else t, "points": p} for p, t, g in instances]
            lines.append(f"{image.name}\t{json.dumps(entries, ensure_ascii=False)}\n")
        target.write_text("".join(lines), encoding="utf-8")
    elif name == "doctr":
        content = {i.name: {"img_dimensions": [1, 1], "polygons": [p for p, _, _ in v]} for i, v in rows.items()}
        target.write_text(json.dumps(content))
    elif name == "coco":
        pictures = [{"id": k, "file_name": image.name} for k, image in enumerate(rows)]
        annotations = [
            {"image_id": k, "segmentation": [np.ravel(p).tolist()], "iscrowd": int(g), "attributes": {"text": t}}
            for k, instances in enumerate(rows.values())
            for p, t, g in instances
        ]
        target.write_text(json.dumps({"images": pictures, "annotations": annotations}))
    elif name == "competition":
        content = {
            image.name: {
                "words": {str(k): {"points": p, "transcription": "###" if g else t} for k, (p, t, g) in enumerate(v)}
            }
            for image, v in rows.items()
        }
        target.write_text(json.dumps({"images": content}))
    elif name == "via":
        content = {
            f"{i.name}1": {
                "filename": i.name,
                "regions": [
                    {"shape_attributes": {"name": "polygon", "all_points_x": [q[0] for q in p],
                                          "all_points_y": [q[1] for q in p]},
                     "region_attributes": {"text": "###" if g else t}}
                    for p, t, g in v
                ],
            }
            for i, v in rows.items()
        }  # fmt: skip
        target.write_text(json.dumps(content))
    elif name == "label_studio":
        tasks = []
        for image, instances in rows.items():
            with Image.open(image) as picture:
                w, h = picture.size
            result = []
            for k, (p, t, g) in enumerate(instances):
                shared = {"id": f"r{k}", "original_width": w, "original_height": h}
                points = [[100 * x / w, 100 * y / h] for x, y in p]
                result.append(
                    {**shared, "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["Text"]}}
                )
                result.append({**shared, "type": "textarea", "value": {"text": ["###" if g else t]}})
            data = {"image": f"/data/upload/1/0a1b2c3d-{image.name}"}
            tasks.append({"id": 1, "data": data, "annotations": [{"result": result}]})
        target.write_text(json.dumps(tasks))
    elif name == "competition_csv":
        cells = {i.name: "|".join(" ".join(str(v) for q in p for v in q) for p, _, _ in v) for i, v in rows.items()}
        target.write_text("filename,polygons\n" + "".join(f"{image},{cell}\n" for image, cell in cells.items()))
    return images, target
