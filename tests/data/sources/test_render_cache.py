from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from ocr.data.sources import render_cache
from ocr.data.sources.render_cache import RenderCache, RenderedSample, cache_key
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.types import Truth
from tests.disks import small_disk


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of rendered images."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "receipt-text-detection/rendered"


def assert_same(first: tuple, second: tuple) -> None:
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(np.concatenate(first[1].polygons), np.concatenate(second[1].polygons))
    assert [len(p) for p in first[1].polygons] == [len(p) for p in second[1].polygons]
    assert first[1].texts == second[1].texts and first[1].ignore.tolist() == second[1].ignore.tolist()


def test_a_receipt_is_rendered_once_for_all_sources_with_its_settings(place: Path):
    source = SyntheticReceipts(4, 7)
    first, other = source.load(2), source.load(1)
    assert_same(first, source.load(2))
    [folder] = place.iterdir()
    shutil.copy(folder / "1", folder / "2")
    assert_same(other, source.load(2))
    assert_same(other, SyntheticReceipts(9, 7).load(2))
    assert SyntheticReceipts(4, 8).load(2)[1].texts != SyntheticReceipts(4, 7, difficulty=0.2).load(2)[1].texts
    assert len(list(place.iterdir())) == 3, "another seed or difficulty is another folder"


def test_a_file_that_is_cut_off_is_rendered_again(place: Path):
    source = SyntheticReceipts(2, 7)
    first = source.load(1)
    [folder] = place.iterdir()
    whole = (folder / "1").read_bytes()
    for part in (whole[:20], whole[:-9], b"", b"\xff\xd8"):
        (folder / "1").write_bytes(part)
        assert_same(source.load(1), first)
        assert (folder / "1").read_bytes() == whole


class Texts(Dataset):
    """How many texts each receipt of a source has."""

    def __init__(self, source: SyntheticReceipts) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> int:
        return len(self.source.open(i).truth.texts)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_what_workers_rendered_other_processes_read(method: str, place: Path):
    source = SyntheticReceipts(6, 7)
    loader = DataLoader(Texts(source), batch_size=None, num_workers=2, multiprocessing_context=method)
    by_workers = [int(count) for count in loader]
    assert by_workers == [len(source.load(i)[1].texts) for i in range(6)]
    [folder] = place.iterdir()
    assert sorted(path.name for path in folder.iterdir()) == list("012345")


def _render_slowly(notes: Path, barrier: Any) -> None:
    cache = RenderCache("shared")

    def render(i: int) -> RenderedSample:
        with notes.open("a") as file:
            file.write(f"{i}\n")
        time.sleep(0.05)
        return RenderedSample(np.full(100, i, np.uint8), 10, 10, Truth([], np.zeros(0, bool), []))

    barrier.wait()
    for i in range(6):
        assert cache(str(i), lambda i=i: render(i)).jpeg[0] == i


def test_processes_that_start_together_render_each_once(place: Path, tmp_path: Path):
    """As the ranks of a machine do with the receipts that they count first."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_render_slowly, args=(tmp_path / "notes", barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted((tmp_path / "notes").read_text().split()) == list("012345")
    assert sorted(path.name for path in (place / "shared").iterdir()) == list("012345")


def test_the_key_tells_settings_and_code_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert cache_key("a", 1) == cache_key("a", 1) != cache_key("a", 2)
    before = cache_key("a", 1)
    (tmp_path / "sources").mkdir()
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic/layout.py").write_text("changed = True\n")
    monkeypatch.setattr(render_cache, "__file__", str(tmp_path / "sources/render_cache.py"))
    assert cache_key("a", 1) != before


def test_folders_that_nobody_used_for_a_month_go(place: Path):
    RenderCache("old")
    kept = RenderCache("kept")
    os.utime(place / "old", (time.time() - 40 * 24 * 3600,) * 2)
    os.utime(place / "kept", (time.time() - 40 * 24 * 3600,) * 2)
    RenderCache("kept")
    assert kept.folder.is_dir() and not (place / "old").exists()


def test_a_full_disk_is_said_once_and_the_set_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    free = render_cache.FREE_LIMIT_BYTES / 2**20 + 100
    with small_disk(tmp_path / "disk", free, files=4) as disk:  # itself, and three folders
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        source = SyntheticReceipts(3, 7)
        with caplog.at_level(logging.WARNING):
            assert_same(source.load(1), source.load(1))
        [message] = [record.getMessage() for record in caplog.records]
        assert "No space left on device" in message and message.endswith("XDG_CACHE_HOME names another place")
        assert not list(disk.rglob("*.part"))


def test_a_nearly_full_disk_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    with small_disk(tmp_path / "disk", megabytes=100) as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        source = SyntheticReceipts(3, 7)
        assert_same(source.load(2), source.load(2))
        assert not [path for path in disk.rglob("*") if path.is_file()] and not caplog.records


def test_no_more_is_written_than_the_limit(place: Path):
    made = []

    def render(i: int) -> RenderedSample:
        made.append(i)
        return RenderedSample(np.full(40_000, i, np.uint8), 10, 10, Truth([], np.zeros(0, bool), []))

    cache = RenderCache("key", limit=100_000)
    for _ in range(2):
        assert [int(cache(str(i), lambda i=i: render(i)).jpeg[0]) for i in range(5)] == list(range(5))
    assert made == [0, 1, 2, 3, 4, 2, 3, 4]
    assert sum(path.stat().st_size for path in place.glob("*/[0-9]*")) <= 100_000


def test_a_crop_that_needs_few_pixels_decodes_few():
    sample = SyntheticReceipts(1, 7).open(0)
    whole, half = sample.pixels(1), sample.pixels(2)
    assert whole.shape[:2] == (sample.height, sample.width)
    assert half.shape[:2] == (-(-sample.height // 2), -(-sample.width // 2))
    mean = cv2.resize(whole, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(mean.astype(int) - half).mean() < 3, "the same image, channels in the same order"
    assert np.abs(mean[..., ::-1].astype(int) - half).mean() > 3
