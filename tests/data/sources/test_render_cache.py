from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from ocr.data.sources import render_cache as drawn
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.types import Truth
from tests.conftest import ROOT
from tests.disks import small_disk


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go."""
    temporary_files_in(tmp_path, monkeypatch)
    yield tmp_path
    monkeypatch.undo()
    tempfile.tempdir = None


def temporary_files_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    tempfile.tempdir = None
    assert tempfile.gettempdir() == str(folder)


def assert_same(first: tuple, second: tuple) -> None:
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(np.concatenate(first[1].polygons), np.concatenate(second[1].polygons))
    assert [len(p) for p in first[1].polygons] == [len(p) for p in second[1].polygons]
    assert first[1].texts == second[1].texts and first[1].ignore.tolist() == second[1].ignore.tolist()


def test_a_receipt_is_drawn_once_and_stays_the_same(place: Path):
    source = SyntheticReceipts(4, 7)
    first, other = source.load(2), source.load(1)
    assert_same(first, source.load(2))
    [folder] = place.iterdir()
    shutil.copy(folder / "1", folder / "2")
    assert_same(other, source.load(2))  # what was kept is taken
    assert_same(first, SyntheticReceipts(4, 7).load(2))  # another source is another set


class Texts(Dataset):
    """How many texts each receipt of a source has."""

    def __init__(self, source: SyntheticReceipts) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> int:
        return len(self.source.open(i).truth.texts)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_what_workers_drew_other_processes_read(method: str, place: Path):
    source = SyntheticReceipts(6, 7)
    loader = DataLoader(Texts(source), batch_size=None, num_workers=2, multiprocessing_context=method)
    by_workers = [int(count) for count in loader]
    assert by_workers == [len(source.load(i)[1].texts) for i in range(6)]
    [folder] = place.glob("receipts_*")
    (folder / "0").rename(folder / "6")
    for i in range(6):
        (folder / str(i + 1)).rename(folder / str(i))
    turned = by_workers[1:] + by_workers[:1]
    assert [len(source.load(i)[1].texts) for i in range(6)] == turned != by_workers, "it has nothing left to draw"


def test_the_folder_goes_with_its_source_and_not_with_a_worker(place: Path):
    source = SyntheticReceipts(2, 7)
    source.load(0)
    [folder] = place.iterdir()
    worker = multiprocessing.get_context("fork").Process(target=_forget, args=(source,))
    worker.start()
    worker.join()
    assert worker.exitcode == 0 and sorted(path.name for path in folder.iterdir()) == ["0", "in_use"]
    del source
    assert not folder.exists()


def _forget(source: SyntheticReceipts) -> None:
    source._drawn = None  # type: ignore[assignment]


def test_a_run_that_ends_leaves_nothing(place: Path):
    code = (
        "from ocr.data.sources.synthetic import SyntheticReceipts as S; s = S(2, 7); s.load(0); print(s._drawn._folder)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).parent == place and list(place.iterdir()) == []


@pytest.mark.skipif(drawn.fcntl is None, reason="this system has no such locks")
def test_what_a_killed_run_left_goes_with_the_next(place: Path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    code = "import os, signal; from ocr.data.sources.synthetic import SyntheticReceipts as S; s = S(2, 7); s.load(0); "
    code += "os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == -signal.SIGKILL
    [left] = place.iterdir()
    assert (left / "0").stat().st_size > 1000
    others = place / "receipts_of_2024"
    others.mkdir()
    (others / "0").write_text("mine")
    first = SyntheticReceipts(2, 7)
    second = SyntheticReceipts(2, 7)
    folders = {source._drawn._folder for source in (first, second)}
    assert set(place.iterdir()) == {*folders, others} and len(folders) == 2
    assert (others / "0").read_text() == "mine"


def test_a_full_disk_is_said_once_and_the_set_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    free = drawn.LEAVE_FREE / 2**20 + 100
    with small_disk(place / "disk", free, files=5) as disk:  # itself, and of both sources a folder and its lock
        temporary_files_in(disk, monkeypatch)
        source, other = SyntheticReceipts(3, 7), SyntheticReceipts(3, 7)
        with caplog.at_level(logging.WARNING):
            assert_same(source.load(1), other.load(1))
            assert_same(source.load(1), other.load(1))
        assert not list(disk.glob("*/1*"))
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 2, "once for each source"
        for message in messages:
            assert message.startswith("drawn pictures cannot be kept ([Errno 28] No space left on device")
            assert message.endswith("each is drawn anew every epoch; TMPDIR names the place")


def test_no_place_for_temporary_files(place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    folder = place / "soon gone"
    folder.mkdir()
    temporary_files_in(folder, monkeypatch)
    folder.rmdir()
    source = SyntheticReceipts(3, 7)
    assert "cannot be kept" in caplog.text and source.load(0)[0].shape[2] == 3


def test_a_nearly_full_disk_is_left_to_others(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with small_disk(place / "disk", megabytes=100) as disk:
        temporary_files_in(disk, monkeypatch)
        source = SyntheticReceipts(3, 7)
        assert_same(source.load(2), source.load(2))
        assert not list(disk.glob("*/[0-9]*")) and not caplog.records


def test_no_more_is_kept_than_there_is_room_for(place: Path):
    made = []

    def draw(i: int) -> drawn.Drawing:
        made.append(i)
        return drawn.Drawing(np.full(40_000, i, np.uint8), 10, 10, Truth([], np.zeros(0, bool), []))

    kept = drawn.DrawnOnce(room=100_000)
    for _ in range(2):
        assert [int(kept(i, draw).jpeg[0]) for i in range(5)] == list(range(5))
    assert made == [0, 1, 2, 3, 4, 2, 3, 4]
    assert sum(path.stat().st_size for path in place.glob("*/[0-9]*")) <= 100_000


def test_a_crop_that_needs_few_pixels_decodes_few():
    picture = SyntheticReceipts(1, 7).open(0)
    whole, half = picture.pixels(1), picture.pixels(2)
    assert whole.shape[:2] == (picture.height, picture.width)
    assert half.shape[:2] == (-(-picture.height // 2), -(-picture.width // 2))
    mean = cv2.resize(whole, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(mean.astype(int) - half).mean() < 3, "the same picture, channels in the same order"
    assert np.abs(mean[..., ::-1].astype(int) - half).mean() > 3
