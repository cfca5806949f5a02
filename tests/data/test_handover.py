from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from ocr.data import handover as module
from ocr.data.handover import Filled, Handover, HandoverLoader, possible

SHAPES = {"image": (4, 5, 6, 3), "targets": (4, 4, 5, 6)}


class Numbered(Dataset):
    """Item k is full of k, modulo 251; ``meanwhile`` is called for each, and what it returns is in it."""

    def __init__(self, length: int, meanwhile: Callable[[], int] = int) -> None:
        self.length, self.meanwhile = length, meanwhile

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, k: int) -> dict[str, Any]:
        shades = torch.full((4, 5, 6), k % 251, dtype=torch.uint8)
        return {"index": k, "meanwhile": self.meanwhile(), "image": shades[:3].movedim(0, 2), "targets": shades}


def loader(length: int, workers: int = 2, meanwhile: Callable[[], int] = int) -> HandoverLoader:
    return HandoverLoader(
        Numbered(length, meanwhile),
        handover=Handover(SHAPES, workers, ahead=2),
        batch_size=4,
        num_workers=workers,
        prefetch_factor=2,
        persistent_workers=True,
        multiprocessing_context="fork",
    )


def test_batches_are_those_of_the_loaders_own_way():
    for ours, plain in zip(loader(10), DataLoader(Numbered(10), batch_size=4), strict=True):
        assert ours.keys() == plain.keys()
        for key, values in plain.items():
            assert ours[key].dtype == values.dtype and torch.equal(ours[key], values), key


def test_a_batch_that_is_kept_stays_as_it_was():
    every = list(loader(400))
    assert [int(batch["index"][0]) for batch in every] == list(range(0, 400, 4))
    for batch in every:
        assert torch.equal(batch["image"][:, 0, 0, 0], (batch["index"] % 251).to(torch.uint8))
        assert torch.equal(batch["targets"][:, 3, 3, 5], (batch["index"] % 251).to(torch.uint8))


@pytest.mark.parametrize("workers", [1, 3])
def test_an_epoch_that_is_left_early_does_not_disturb_the_next(workers: int):
    batches = loader(400, workers)
    for taken in (1, 7, 2):
        first = list(itertools.islice(batches, taken))
        assert len(first) == taken
    last = list(batches)
    assert torch.cat([batch["index"] for batch in last]).tolist() == list(range(400))
    assert torch.cat([batch["image"][:, 0, 0, 0] for batch in last]).tolist() == [k % 251 for k in range(400)]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not list its mappings there")
def test_memory_does_not_lie_in_the_few_megabytes_of_a_container():
    """/dev/shm has 64 MB there unless told otherwise: three batches of 8 crops of 640 x 640 would not fit."""
    handover = Handover(SHAPES, workers=1, ahead=2)
    mapped = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    for memory in handover._memory.values():
        [place] = [m for m in mapped if int(m[0].split("-")[0], 16) <= memory.data_ptr() < int(m[0].split("-")[1], 16)]
        assert place[1].endswith("s") and "/dev/shm" not in place[-1], "shared, of no file there"


def test_without_forked_workers_the_loaders_own_way_is_taken(monkeypatch: pytest.MonkeyPatch):
    for method, forked in (("fork", True), ("spawn", False), ("forkserver", False)):
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda method=method: method)
        assert possible() is forked


def test_a_slot_that_was_overwritten_is_an_error():
    handover = Handover(SHAPES, workers=1, ahead=1)
    with pytest.raises(RuntimeError, match="prefetch_factor"):
        handover.take(Filled(0, 0, turn=1, count=4, seconds=0.0, rest={}))


@pytest.mark.parametrize("workers", [1, 3])
def test_an_epoch_whose_workers_are_changed_has_the_same_batches(
    workers: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    batches = loader(402, workers)
    monkeypatch.setattr(module, "LATE", -1.0)
    assert len(list(itertools.islice(batches, 1))) == 1, "the workers are changed when the second batch is asked for"
    for _ in range(3):
        every = list(batches)
        assert torch.cat([batch["index"] for batch in every]).tolist() == list(range(402))
        assert torch.cat([batch["image"][:, 0, 0, 0] for batch in every]).tolist() == [k % 251 for k in range(402)]
    assert len(caplog.records) == 1 and "no longer yield" in caplog.text


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system has no such priority")
def test_workers_run_only_while_a_core_is_idle_until_the_network_has_waited(monkeypatch: pytest.MonkeyPatch):
    batches = loader(40, 2, lambda: os.sched_getscheduler(0))
    assert {int(k) for batch in batches for k in batch["meanwhile"]} == {os.SCHED_IDLE}
    monkeypatch.setattr(module, "LATE", -1.0)
    first, *others = (set(batch["meanwhile"].tolist()) for batch in batches)
    assert first == {os.SCHED_IDLE} and all(other == {os.SCHED_OTHER} for other in others)
    assert {int(k) for batch in batches for k in batch["meanwhile"]} == {os.SCHED_OTHER}
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_hardly_runs_is_replaced_while_it_is_waited_for(workers: int, monkeypatch: pytest.MonkeyPatch):
    """The first ones never come to an end of their fourth item, those after them do."""
    first = multiprocessing.get_context("fork").Value("i", 0)

    def meanwhile() -> int:
        with first.get_lock():
            first.value += 1
        if first.value == 4:
            time.sleep(30)
        return 0

    monkeypatch.setattr(module, "LATE", 0.3)
    batches = loader(40, workers, meanwhile)
    for _ in range(2):
        assert [int(batch["index"][0]) for batch in batches] == list(range(0, 40, 4))
        assert not batches.yielding, "others, at the usual priority, have taken over"


@pytest.mark.parametrize("message", ["the item is bad", "the read timed out"])
def test_an_error_in_a_worker_is_no_wait(message: str):
    def meanwhile() -> int:
        raise RuntimeError(message)

    with pytest.raises(RuntimeError, match=message):
        list(loader(40, 1, meanwhile))


def test_waiting_for_the_processor_counts_and_waiting_for_its_work_does_not(monkeypatch: pytest.MonkeyPatch):
    def work() -> int:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        return 0

    monkeypatch.setattr(module, "LATE", 0.5)
    monkeypatch.setattr(module, "run_when_idle", lambda: None)  # other tests may keep the cores busy
    for meanwhile, yielding in ((work, True), (lambda: time.sleep(0.02) or 0, False)):
        batches = loader(60, 1, meanwhile)
        assert len(list(batches)) == 15
        assert batches.yielding is yielding
