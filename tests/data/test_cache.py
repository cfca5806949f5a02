from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from ocr.data import cache, sources
from ocr.data.index import SampleIndex
from ocr.data.report import Report
from ocr.data.sources import build_source
from ocr.errors import UserError
from tests.conftest import quad, write_image


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images, one label line unsound; the cache holds sets of any size and lies in the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTHWHILE", 1)
    (tmp_path / "labels").mkdir()
    for k in range(3):
        write_image(tmp_path / f"images/{k}.jpg")
        values = ",".join(str(v) for p in quad(5 + k, 5) for v in p)
        (tmp_path / f"labels/gt_{k}.txt").write_text(f"{values},téxt\n" + ("broken\n" if k == 1 else ""))
    return tmp_path


def load(folder: Path, strict: bool = False):
    report = Report(strict)
    return build_source({"format": "icdar", "images": "images", "annotations": "labels"}, folder, report), report


def test_second_start_reads_no_label_and_gives_the_same(labelled: Path, monkeypatch: pytest.MonkeyPatch):
    first, report = load(labelled)
    monkeypatch.setattr("ocr.data.sources.reader", lambda name: pytest.fail)
    second, again = load(labelled)
    assert again.to_dict() == report.to_dict() and again.counts == {"unparsable_line": 1}
    assert second.fingerprint() == first.fingerprint()
    assert [second.name(i) for i in range(3)] == [first.name(i) for i in range(3)]
    assert second.index.truth(2).texts == ["téxt"]


def test_what_building_an_index_took_is_given_back(labelled: Path, monkeypatch: pytest.MonkeyPatch):
    times = []
    monkeypatch.setattr(cache, "give_back_freed_memory", lambda: times.append(1))
    load(labelled)
    assert len(times) == 1
    load(labelled)
    assert len(times) == 1, "nothing was built"


@pytest.mark.parametrize("change", ["label", "new image", "removed"])
def test_a_changed_set_is_read_anew(change: str, labelled: Path):
    load(labelled)
    if change == "label":
        path = labelled / "labels/gt_1.txt"
        path.write_text(path.read_text().replace("broken", "1,1,9,1,9,9,1,9,x"))
    elif change == "new image":
        write_image(labelled / "images/3.jpg")
        os.rename(labelled / "labels/gt_0.txt", labelled / "labels/gt_3.txt")
    else:
        (labelled / "images/2.jpg").unlink()
        (labelled / "labels/gt_2.txt").unlink()
    source, report = load(labelled)
    if change == "label":
        assert source.counts()["instances"] == 4 and not report.counts
    elif change == "new image":
        assert {Path(source.name(i)).stem for i in range(3)} == {"1", "2", "3"}
    else:
        assert len(source) == 2


def test_strict_never_trusts_the_cache(labelled: Path):
    load(labelled)
    with pytest.raises(UserError, match="gt_1.txt:2"):
        load(labelled, strict=True)


@pytest.mark.parametrize("damage", ["cut short", "not an array", "missing", "no report"])
def test_a_damaged_cache_is_a_warning(damage: str, labelled: Path, caplog: pytest.LogCaptureFixture):
    load(labelled)
    [points] = (labelled / "cache").rglob("points.npy")
    if damage == "cut short":
        os.truncate(points, 130)
    elif damage == "not an array":
        points.write_bytes(b"PK")
    else:
        (points if damage == "missing" else points.with_name("report.json")).unlink()
    source, report = load(labelled)
    assert len(source) == 3 and "cannot be read" in caplog.text and report.counts == {"unparsable_line": 1}
    np.testing.assert_array_equal(source.index.truth(0).polygons[0], quad(5, 5))
    caplog.clear()
    assert len(load(labelled)[0]) == 3 and not caplog.text, "the damaged one was replaced"
    assert [path.name for path in points.parent.parent.iterdir()] == [points.parent.name], "nothing is left lying about"


def test_a_folder_that_cannot_be_written_is_a_warning(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (labelled / "cache").write_text("a file, not a folder")
    source, _ = load(labelled)
    assert len(source) == 3 and source.index.folder is None and "cannot be stored" in caplog.text


def test_another_process_maps_the_same_files(labelled: Path):
    source, _ = load(labelled)
    data = pickle.dumps(source)
    assert len(data) < 1000, "no labels in it"
    other = pickle.loads(data)
    assert other.fingerprint() == source.fingerprint() and other.name(2) == source.name(2)
    assert not other.index.points.flags.writeable
    in_memory = pickle.loads(pickle.dumps(build(labelled)))
    assert in_memory.fingerprint() == source.fingerprint() and in_memory.folder is None


def build(folder: Path) -> SampleIndex:
    return sources.build_index("icdar", folder / "images", folder / "labels", None, (0.0, 1.0), Report())


@pytest.mark.parametrize("ids", [None, ["0.jpg", "1.jpg", "lonely.jpg"]])
def test_several_processes_read_what_one_reads(ids, labelled: Path, monkeypatch: pytest.MonkeyPatch):
    (labelled / "labels/gt_orphan.txt").write_text("1,1,9,1,9,9,1,9,x")
    write_image(labelled / "images/lonely.jpg")
    results = []
    for threshold in (10**9, 1):
        monkeypatch.setattr(sources, "PARALLEL_FROM", threshold)
        monkeypatch.setattr(sources, "PART", 2)
        report = Report()
        index = sources.build_index("icdar", labelled / "images", labelled / "labels", ids, (0.0, 1.0), report)
        results.append((index.fingerprint(), [index.truth(i).texts for i in range(len(index))], report.to_dict()))
    assert results[0] == results[1]
    report = Report(strict=True)
    with pytest.raises(UserError, match=r"gt_1\.txt:2|orphan|lonely"):
        sources.build_index("icdar", labelled / "images", labelled / "labels", ids, (0.0, 1.0), report)
