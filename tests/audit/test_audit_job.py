"""The audit as a whole: its files, its page, its list to re-label, its exit code."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from ocr.data.formats import label_format
from ocr.data.index.report import Report
from ocr.errors import UserError
from ocr.jobs.make_data import write_icdar
from tests.conftest import FIXTURES, quad, write_image
from tests.jobs.test_convert import audited
from tests.tiny import run

HOSTILE = '<script>alert("x")</script><img src=http://example.org/x.png>'


@pytest.fixture
def receipts(tmp_path: Path) -> Path:
    """Two real receipts in a training split, a second scan of one of them in that of validation."""
    root = tmp_path / "set"
    shutil.copytree(FIXTURES / "sroie/img", root / "img")
    shutil.copytree(FIXTURES / "sroie/box", root / "box")
    scan = cv2.imread(str(root / "img/019.jpg"))
    cv2.imwrite(str(root / "img/019_again.jpg"), cv2.convertScaleAbs(scan, alpha=0.9), [cv2.IMWRITE_JPEG_QUALITY, 60])
    shutil.copyfile(root / "box/019.csv", root / "box/019_again.csv")
    (root / "train.txt").write_text("019\n284\n")
    (root / "val.txt").write_text("019_again\n")
    return root


def test_a_second_scan_in_the_other_split_is_found_and_shown(
    receipts: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert not audited(receipts, tmp_path / "out")
    result = json.loads((tmp_path / "out/audit.json").read_text())
    assert result["problems"] == {"near_duplicate": 1}
    assert [[Path(p).name for p in group] for group in result["near_duplicates"]] == [["019.jpg", "019_again.jpg"]]
    assert "1 group(s) of images show the same, 1 of them across splits" in capsys.readouterr().out
    page = (tmp_path / "out/audit.html").read_text()
    assert "train: 019.jpg" in page
    assert "val: 019_again.jpg" in page
    pictures = re.findall(r'src="([^"]*)"', page)
    assert len(pictures) >= 2
    for picture in pictures:  # nothing is fetched
        assert picture.startswith("data:image/jpeg;base64,")
    assert not re.search(r"https?://", page)


def test_the_quick_audit_writes_no_page_and_needs_no_pixels(receipts: Path, tmp_path: Path):
    assert audited(receipts, tmp_path / "out", quick=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["audit.json"]
    result = json.loads((tmp_path / "out/audit.json").read_text())
    assert (result["ceiling"], result["near_duplicates"], result["witness"]) == (None, None, None)
    assert sum(result["text"]["angle_histogram"].values()) <= result["text"]["texts"]
    for key in ("text_height_histogram", "aspect_histogram"):
        assert sum(result["text"][key].values()) == result["text"]["texts"] > 100
    assert sum(result["text"]["texts_per_image_histogram"].values()) == 3


def test_what_labels_hold_is_text_on_the_page(tmp_path: Path):
    write_image(tmp_path / "in/img/a.png", 1472, 400)
    (tmp_path / "in/gt").mkdir()
    rows = ["100,100,300,100,300,140,100,140,LARGE", f"400,100,420,100,420,104,400,104,{HOSTILE}"]
    (tmp_path / "in/gt/a.txt").write_text("\n".join(rows))
    audited(tmp_path / "in", tmp_path / "out")
    page = (tmp_path / "out/audit.html").read_text()
    assert "&lt;script&gt;alert(" in page
    assert "<script" not in page
    assert "<img src=http" not in page


def test_the_runner_keeps_stdout_for_the_json(receipts: Path, tmp_path: Path):
    done = run("audit", f"data.root={receipts}", "json=true", "output=out", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["problems"] == {"near_duplicate": 1}
    assert (tmp_path / "out/audit.html").is_file()
    assert "Traceback" not in done.stderr
    again = run("audit", f"data.root={receipts}", "json=true", "quick=true", "output=null", cwd=tmp_path)
    assert again.returncode == 0
    refused = run("audit", f"data.root={receipts}", "quick=true", "witness=true", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: quick=true looks at labels alone")


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_an_output_that_is_no_folder_is_refused(output: str, receipts: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = run("audit", f"data.root={receipts}", "json=true", "quick=true", f"output={output}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: output={output}: ")


def test_an_image_in_two_splits_with_other_labels_is_named_with_its_own(tmp_path: Path):
    write_image(tmp_path / "in/img/a.jpg", 400, 400)
    entries = [{"transcription": f"t{k}", "points": quad(10, 20 * k + 5, 60, 3 if k else 12)} for k in range(9)]
    for part, some in (("train", entries), ("val", entries[:1])):
        (tmp_path / f"in/{part}_label.txt").write_text(f"img/a.jpg\t{json.dumps(some)}\n")
    assert not audited(tmp_path / "in", tmp_path / "out")
    result = json.loads((tmp_path / "out/audit.json").read_text())
    assert result["problems"] == {"in_two_splits": 1}
    assert result["total"]["instances"] == 10


@pytest.mark.parametrize("text", ["###", "tiny"])
def test_a_training_split_without_text_to_learn_is_refused_whatever_the_others_have(text: str, tmp_path: Path):
    for part, shown, height in (("train", text, 4 if text == "tiny" else 20), ("val", "TOTAL", 20)):
        write_image(tmp_path / f"in/{part}/img/r_{part}.png", 1472, 400)
        (tmp_path / f"in/{part}/gt").mkdir(parents=True)
        row = f"10,10,90,10,90,{10 + height},10,{10 + height},{shown}\n"
        (tmp_path / f"in/{part}/gt/r_{part}.txt").write_text(row)
    with pytest.raises(UserError, match="in the train split|all 1 texts are below 4 pixels"):
        audited(tmp_path / "in", quick=True)


def test_notes_of_a_label_file_that_splits_share_count_once(tmp_path: Path):
    entry = {"transcription": "x", "points": quad(10, 10), "difficult": True}
    rows = []
    for k in range(4):
        (tmp_path / "in/img").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"in/img/{k}.png"), np.random.default_rng(k).integers(0, 255, (90, 90), np.uint8))
        rows.append(f"img/{k}.png\t{json.dumps([entry, {'transcription': 'y', 'points': quad(10, 40)}])}\n")
    (tmp_path / "in/Label.txt").write_text("".join(rows))
    (tmp_path / "in/train.txt").write_text("0\n1\n2\n")
    (tmp_path / "in/val.txt").write_text("3\n")
    assert audited(tmp_path / "in", tmp_path / "out")
    result = json.loads((tmp_path / "out/audit.json").read_text())
    assert result["notes"] == {"difficult": 4}
    assert result["total"]["ignored"] == 4


def test_drawn_receipts_have_no_ceiling(tmp_path: Path):
    drawn = ["data.train=[{format: synthetic, count: 2, seed: 1}]", "data.val=null", "data.test=null"]
    done = run("audit", "data=synthetic", *drawn, "json=true", "output=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ceiling"] is None


def test_names_that_are_no_unicode_or_steer_a_terminal_are_written_and_shown(tmp_path: Path):
    names = ["r\udc80.png", "r\x1b[2Jred.png"]
    (tmp_path / "in/gt").mkdir(parents=True)
    for name in names:
        write_image(tmp_path / "in/img/x.png", 1472, 400).rename(tmp_path / "in/img" / name)
        rows = ["100,100,300,100,300,140,100,140,LARGE", "400,100,420,100,420,104,400,104,tiny"]
        (tmp_path / "in/gt" / name.replace(".png", ".txt")).write_text("\n".join(rows))
    done = run("audit", f"data.root={tmp_path / 'in'}", "output=out", cwd=tmp_path)
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert (tmp_path / "out/audit.html").is_file()
    assert len(json.loads((tmp_path / "out/audit.json").read_text())["ceiling"]["examples"]) == 2


@pytest.mark.slow
def test_the_witness_finds_a_label_that_was_taken_away_and_one_that_was_made_up(stock_weights: Path, tmp_path: Path):
    root = tmp_path / "set"
    images = write_icdar(root, 3, 0, 0.0) / "images"
    first = sorted((root / "labels").iterdir())[0]
    lines = first.read_text(encoding="utf-8-sig").splitlines()
    widest = max(lines, key=lambda line: int(float(line.split(",")[2])) - int(float(line.split(",")[0])))
    kept = [line for line in lines if line != widest]
    blank = _blank_place(next(images.glob(f"{first.stem.removeprefix('gt_')}.*")))
    x, y, w, h = blank
    first.write_text("\n".join([*kept, f"{x},{y},{x + w},{y},{x + w},{y + h},{x},{y + h},INVENTED"]))
    ask = {"witness": True, "witness_model": "ppocr_v6", "witness_format": "paddle"}
    audited(root, tmp_path / "out", **ask)
    said = json.loads((tmp_path / "out/audit.json").read_text())["witness"]
    assert {"ink_without_label", "label_without_ink"} <= set(said["doubts"]), said
    assert any("'INVENTED'" in example for example in said["examples"])
    listed = (tmp_path / "out/relabel/doubts.txt").read_text()
    assert "label_without_ink" in listed
    samples = list(label_format("paddle").read(images, tmp_path / "out/relabel/Label.txt", None, Report()))
    assert samples[0].image.stem == first.stem.removeprefix("gt_"), "the worst image comes first"
    assert len(samples[0].instances) >= len(lines) + 1
    with pytest.raises(UserError, match=r"relabel is there already, perhaps with your corrections"):
        audited(root, tmp_path / "out", **ask)
    assert "?" in [instance.text for instance in samples[0].instances]


def _blank_place(path: Path) -> tuple[int, int, int, int]:
    """A box of 90 x 24 pixels on the paper, without ink: x, y, width, height."""
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    width, height = 90, 24
    spread = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((height + 12, width + 12), np.uint8))
    inner = spread[height : -height - 24, width // 2 : -width]
    y, x = np.unravel_index(int(np.argmin(inner)), inner.shape)
    return int(x), int(y + height - height // 2), width, height
