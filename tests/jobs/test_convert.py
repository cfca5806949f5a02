"""Every format into every other and back: the same polygons, texts and ignore flags, within what a format can hold."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import hydra
import numpy as np
import pytest
import yaml

from ocr.audit.splits import read_splits
from ocr.data.formats.writers import writable
from ocr.errors import UserError
from ocr.jobs.audit import AuditSettings, audit
from ocr.jobs.convert import ConvertSettings, convert
from ocr.utils.config import plain_config
from ocr.utils.typed import build
from tests.conftest import ROOT, write_image

SIZE = (400, 300)
NO_TEXTS = {"competition_csv", "doctr", "yolo"}
NO_MARKS = {name for name, form in writable().items() if not form.marks_ignored}
TEXTS = ["TOTAL", "12,50", "1,234,567.00", 'a "b", c', "Café 小票", "x & <y>", "9 90 900 9000", "0"]


def folder(root: Path) -> dict:
    auto = {"format": "auto", "images": "auto", "annotations": "auto", "ids": "auto"}
    ranges = {"train": [0.0, 0.8], "val": [0.8, 0.9], "test": [0.9, 1.0]}
    return {"root": str(root), **{name: [{"split": name, **auto, "hash_range": r}] for name, r in ranges.items()}}


def audited(root: Path, output: Path | None = None, **more: bool) -> bool:
    """An audit with the pipeline and targets of ``configs/``."""
    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = hydra.compose("audit", overrides=[f"data.root={root}"])
    plain = plain_config(config)
    settings = {"pipeline": plain["model"]["pipeline"], "output": str(output) if output else None}
    return audit(build(AuditSettings, plain | settings | more))


def labels_of(root: Path) -> dict[str, list[tuple[list, str, bool]]]:
    """Labels by image, sorted by place."""
    labels = {}
    for split in read_splits(folder(root), whole=True).values():
        assert not split.report.problems, split.report.lines()
        for source in split.sources:
            for i in range(len(source)):
                truth = source.index.truth(i)
                rows = zip((p.tolist() for p in truth.polygons), truth.texts, truth.ignore.tolist())
                labels[Path(source.name(i)).stem] = sorted(rows)
    return labels


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images of random quads and outlines, ignored text and every kind of text, in COCO form."""
    from ocr.data.formats.per_set.coco import write

    root = tmp_path_factory.mktemp("original")
    rng = np.random.default_rng(0)
    lines = []
    for name in ("a", "b"):
        write_image(root / f"images/{name}.png", *SIZE)
        polygons = []
        for k in range(len(TEXTS)):
            x, y = rng.uniform(10, 200, 2).round(3)
            y = round(8 + 32.5 * k, 3)
            outline = [[x, y], [x + 90.5, y + 1.25], [x + 90, y + 21.375], [x + 1, y + 20]]
            if k % 3 == 2:
                outline = [[x, y], [x + 40, y - 3], [x + 90, y], [x + 90, y + 20], [x + 40, y + 17.75], [x, y + 20]]
            polygons.append(np.round(outline, 3).tolist())
        ignore = [k == 4 for k in range(len(TEXTS))]
        lines.append({"width": SIZE[0], "height": SIZE[1], "polygons": polygons, "scores": [1.0] * len(TEXTS),
                      "texts": TEXTS, "ignore": ignore})  # fmt: skip
    (root / "coco.json").write_text(write(lines, ["a.png", "b.png"]), encoding="utf-8")
    return root


@pytest.mark.parametrize("first, second", list(itertools.product(sorted(writable()), repeat=2)))
def test_any_format_into_any_other_keeps_the_labels(first: str, second: str, original: Path, tmp_path: Path):
    convert(ConvertSettings(folder(original), first, str(tmp_path / "first"), 1))
    convert(ConvertSettings(folder(tmp_path / "first"), second, str(tmp_path / "second"), 1))
    wanted, got = labels_of(original), labels_of(tmp_path / "second")
    assert got.keys() == wanted.keys() == {"a", "b"}
    for name, rows in wanted.items():
        rows = [row for row in rows if not row[2] or not {first, second} & NO_MARKS]
        assert len(got[name]) == len(rows)
        for (a, text, ignore), (b, other_text, other_ignore) in zip(rows, got[name]):
            np.testing.assert_allclose(a, b, atol=2.1e-3)
            assert other_ignore == ignore
            if not {first, second} & NO_TEXTS and not ignore:
                assert other_text == text


@pytest.mark.parametrize("name", sorted(writable()))
def test_a_printed_star_stays_a_text_that_counts(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """SROIE has texts ``*`` and ``###``; in most other formats they mark text to ignore."""
    write_image(tmp_path / "in/img/a.png", *SIZE)
    (tmp_path / "in/box").mkdir()
    rows = [f"10,{y},90,{y},90,{y + 20},10,{y + 20},{text}\n" for y, text in ((10, "*"), (40, "###"), (70, "TOTAL"))]
    (tmp_path / "in/box/a.csv").write_text("".join(rows))
    convert(ConvertSettings(folder(tmp_path / "in"), name, str(tmp_path / "out"), 1))
    [rows] = labels_of(tmp_path / "out").values()
    assert [ignore for _, _, ignore in rows] == [False] * 3
    assert ("2 text(s) that count read like the mark" in caplog.text) == writable()[name].marks_ignored


def test_yolo_gets_the_file_that_its_trainer_reads_and_lost_transcriptions_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    for part in ("train", "val"):
        write_image(tmp_path / f"in/{part}/img/r_{part}.png")
        (tmp_path / f"in/{part}/gt").mkdir(parents=True)
        (tmp_path / f"in/{part}/gt/r_{part}.txt").write_text("10,10,60,10,60,30,10,30,TOTAL\n")
    convert(ConvertSettings(folder(tmp_path / "in"), "yolo", str(tmp_path / "out"), 1))
    described = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert described == {"train": "train/images", "val": "val/images", "names": {0: "text"}}
    for images in ("train/images", "val/images"):
        [image] = (tmp_path / "out" / images).iterdir()
        assert (image.parent.parent / "labels" / f"{image.stem}.txt").is_file()
    assert "train: yolo has no transcriptions: those of 1 text(s) are lost" in caplog.text
    assert labels_of(tmp_path / "out").keys() == {"r_train", "r_val"}


def test_parts_and_names_are_kept_and_nothing_is_overwritten(tmp_path: Path):
    for part, shop in (("train", "shop1"), ("train", "shop2"), ("test", "shop1")):
        write_image(tmp_path / f"in/{part}/img/{shop}/r0.png")
        (tmp_path / f"in/{part}/gt/{shop}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"in/{part}/gt/{shop}/r0.txt").write_text("10,10,60,10,60,30,10,30,x\n")
    convert(ConvertSettings(folder(tmp_path / "in"), "paddle", str(tmp_path / "out"), 1))
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")) == [
        "test/Label.txt", "test/images/r0.png", "train/Label.txt", "train/images/r0.png", "train/images/shop2_r0.png"
    ]  # fmt: skip
    with pytest.raises(UserError, match="is not an empty folder"):
        convert(ConvertSettings(folder(tmp_path / "in"), "paddle", str(tmp_path / "out"), 1))
    with pytest.raises(UserError, match="format=xml cannot be written; known: .*shards"):
        convert(ConvertSettings(folder(tmp_path / "in"), "xml", str(tmp_path / "other"), 1))
    drawn = {"root": None, "train": [{"format": "synthetic", "count": 1, "seed": 1}]}
    with pytest.raises(UserError, match="no files"):
        convert(ConvertSettings(drawn, "paddle", str(tmp_path / "drawn"), 1))


def test_an_audit_counts_what_is_wrong_with_a_set_without_parts_once(tmp_path: Path, capsys: pytest.CaptureFixture):
    for k in range(30):
        (tmp_path / "img").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"img/{k}.png"), np.random.default_rng(k).integers(0, 255, (100, 200), np.uint8))
        (tmp_path / "gt").mkdir(exist_ok=True)
        (tmp_path / f"gt/{k}.txt").write_text("10,10,60,10,60,30,10,30,x\n" * 2)
    assert not audited(tmp_path, tmp_path / "out")
    out = capsys.readouterr().out
    assert "repeated x 30" in out and "a faultless network would have hmean 1.0000 here: 0 text(s) lost" in out
    result = json.loads((tmp_path / "out/audit.json").read_text())
    assert result["problems"] == {"repeated": 30} and result["ceiling"]["hmean"] == 1
    assert result["total"] == {"images": 30, "instances": 30, "ignored": 0}


def test_a_set_without_a_usable_image_is_not_converted(tmp_path: Path):
    write_image(tmp_path / "in/img/a.png")
    (tmp_path / "in/gt").mkdir()
    (tmp_path / "in/gt/a.txt").write_text("910,10,960,10,960,30,910,30,x\n" * 3)
    with pytest.raises(UserError, match=r"nothing to convert: no usable image \(.*outside_image x 3"):
        convert(ConvertSettings(folder(tmp_path / "in"), "coco", str(tmp_path / "out"), 1))
    assert not (tmp_path / "out").exists()


def test_an_audit_refuses_what_nothing_can_be_learned_from(tmp_path: Path):
    write_image(tmp_path / "img/a.png")
    (tmp_path / "gt").mkdir()
    (tmp_path / "gt/a.txt").write_text("10,10,60,10,60,30,10,30,###\n")
    with pytest.raises(UserError, match=r"nothing can be learned: all 1 instances are ignored in 1 image"):
        audited(tmp_path, json=True)
    with pytest.raises(UserError, match="the data has no split"):
        read_splits({"root": None, "train": [], "val": [], "test": []})


def test_texts_that_a_pipeline_loses_lower_its_ceiling(tmp_path: Path, capsys: pytest.CaptureFixture):
    write_image(tmp_path / "img/a.png", 1472, 400)
    (tmp_path / "gt").mkdir()
    rows = ["100,100,300,100,300,140,100,140,LARGE", "400,100,420,100,420,104,400,104,tiny"]
    (tmp_path / "gt/a.txt").write_text("\n".join(rows))
    audited(tmp_path, tmp_path / "out")
    ceiling = json.loads((tmp_path / "out/audit.json").read_text())["ceiling"]
    assert ceiling["lost"] == 1 and "'tiny'" in ceiling["examples"][0] and ceiling["recall"] == 0.5
    assert "1 text(s) are below 4 pixels and never learned" in capsys.readouterr().out
