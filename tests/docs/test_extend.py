"""The "write your own" pages: their files are added to a copy of the project, their commands are run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ocr.data.sources.synthetic import SyntheticReceipts
from tests.conftest import ROOT
from tests.warm import run_warm

PAGES = sorted((ROOT / "docs/extend").glob("*.md"))
BLOCK = re.compile(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"`(python runners/[^`]+)`")
SMALL = ["logger.wandb.enabled=false", "data.num_workers=0", "trainer.max_epochs=1", "trainer.limit_train_batches=2"]


def boxes(folder: Path) -> None:
    """Receipts with their boxes in the format of the page."""
    import cv2

    source, rows = SyntheticReceipts(6, 5, difficulty=0.0), ["image,left,top,right,bottom,text"]
    (folder / "images").mkdir(parents=True)
    for i in range(len(source)):
        image, truth = source.load(i)
        cv2.imwrite(str(folder / f"images/{i}.jpg"), image[..., ::-1])
        for polygon in truth.polygons:
            rows.append(",".join([f"{i}.jpg", *(f"{v:.1f}" for v in (*polygon.min(0), *polygon.max(0))), "text"]))
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The page's name, and a copy of the project with the page's files."""
    for part in ("ocr", "runners", "configs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    blocks = BLOCK.findall(request.param.read_text())
    assert blocks
    for name, content in blocks:
        assert not (tmp_path / name).exists(), f"{name} would change a file: pages only add"
        (tmp_path / name).write_text(content)
    return request.param.stem, tmp_path


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, *command]
    if command[0].endswith(".py"):
        done = run_warm(words, cwd, dict(os.environ), timeout=400)
    else:
        done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_pages_are_short():
    assert [page.stem for page in PAGES] == ["callback", "label-format", "metric", "neck"]
    assert all(len(page.read_text().splitlines()) <= 40 for page in PAGES)


@pytest.mark.slow
def test_the_page_works_as_it_says(project: tuple[str, Path]):
    name, folder = project
    boxes(folder / "receipts")
    [command] = COMMAND.findall((ROOT / f"docs/extend/{name}.md").read_text())
    done = run([*shlex.split(command)[1:], *SMALL], folder)
    [metrics] = folder.glob("runs/*/*/metrics.json")
    values = json.loads(metrics.read_text())
    if name == "label-format":
        assert "found boxes labels in boxes.csv" in done.stderr and "instances, 0 ignored" in done.stderr
    if name == "metric":
        tested = [len(SyntheticReceipts(60, 3).load(i)[1].polygons) for i in range(4)]  # of debug=limit
        assert values["test/texts_per_image"] == pytest.approx(sum(tested) / 4) and min(tested) > 5
    if name == "callback":
        assert 0 <= values["train/text_share"] <= 1
    if name == "neck":
        run(["runners/test.py", f"ckpt_path={metrics.parent}", "trainer=cpu", *SMALL[:2], "name=again"], folder)
        checkpoint = metrics.parent / "checkpoints/best.ckpt"
        code = f"from ocr.training.loading import load_module; neck = load_module('{checkpoint}').network.neck; "
        code += "print(type(neck).__module__, float(neck.lateral[0].weight.abs().sum()))"
        stored = torch.load(checkpoint, weights_only=True)["state_dict"]["network.neck.lateral.0.weight"].abs().sum()
        assert run(["-c", code], folder).stdout.split() == ["ocr.models.necks.sum", str(float(stored))]
