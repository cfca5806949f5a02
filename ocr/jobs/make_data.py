"""Synthetic receipts as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.errors import UserError


def write_icdar(output: str | Path, count: int, seed: int, difficulty: float) -> Path:
    """Draw receipts into ``images/`` and their labels, ICDAR 2015 form, into ``labels/`` of a folder; its path.

    Raises:
        UserError: it already holds images.
    """
    folder = Path(output).expanduser()
    images, labels = folder / "images", folder / "labels"
    if images.is_dir() and any(images.iterdir()):
        raise UserError(f"{images} is not empty: name another output or remove it")
    source = SyntheticReceipts(count, seed, difficulty)
    for path in (images, labels):
        path.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, truth = source.load(i)
        path = images / source.name(i)
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        lines = [
            ",".join(f"{v:.2f}".rstrip("0").rstrip(".") for v in np.ravel(polygon)) + f",{text}\n"
            for polygon, text in zip(truth.polygons, truth.texts)
        ]
        (labels / f"gt_{path.stem}.txt").write_text("\ufeff" + "".join(lines), encoding="utf-8")
    return folder
