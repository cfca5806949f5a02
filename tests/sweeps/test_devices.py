"""Cards of a machine, as stand-in lists: two workers never share one unless they are told to."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocr.errors import UserError
from ocr.sweeps.devices import restrict, take_gpus, visible_gpus, workers_for
from tests.conftest import ROOT

FOUR = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]
CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from ocr.sweeps.devices import take_gpus
with take_gpus(sys.argv[3:], float(sys.argv[2]), Path(sys.argv[1])) as cards:
    print(*cards, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_worker(locks: Path, gpus_per_job: float, gpus: list[str]):
    """Cards of a worker in a process of its own, which holds them inside."""
    command = [sys.executable, "-c", CHILD.format(root=str(ROOT)), str(locks), str(gpus_per_job), *gpus]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield child.stdout.readline().split()
        child.kill()


def test_workers_take_different_cards_until_there_are_none(tmp_path: Path):
    with another_worker(tmp_path, 2, FOUR) as first, another_worker(tmp_path, 1, FOUR) as second:
        assert first == ["GPU-a", "GPU-b"] and second == ["GPU-c"]
        with take_gpus(FOUR, 1, tmp_path) as third:
            assert third == ["GPU-d"]
        with pytest.raises(UserError, match="of 4 cards 1 are free"), take_gpus(FOUR, 2, tmp_path):
            pass
    with take_gpus(FOUR, 4, tmp_path) as all_of_them:
        assert all_of_them == FOUR, "a kill gives them back"


def test_halves_share_a_card_once_all_have_one_and_never_with_a_worker_that_has_it_whole(tmp_path: Path):
    two = FOUR[:2]
    with another_worker(tmp_path, 1, two) as whole, another_worker(tmp_path, 0.5, two) as half:
        assert whole == ["GPU-a"] and half == ["GPU-b"]
        with another_worker(tmp_path, 0.5, two) as other_half:
            assert other_half == ["GPU-b"]
            for size in (0.5, 1):
                with pytest.raises(UserError, match="of 2 cards 0 are free"), take_gpus(two, size, tmp_path):
                    pass


def test_a_machine_without_cards_asks_for_none(tmp_path: Path):
    with take_gpus([], 1, tmp_path) as cards:
        assert cards == []
    with pytest.raises(UserError, match="whole number of cards"), take_gpus(FOUR, 1.5, tmp_path):
        pass


def test_cards_are_those_that_the_driver_lists_and_cuda_visible_devices_leaves(tmp_path, monkeypatch):
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\nprintf 'GPU-a\\nGPU-b\\nGPU-c\\n'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert visible_gpus({}) == ["GPU-a", "GPU-b", "GPU-c"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2,0"}) == ["GPU-c", "GPU-a"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    driver.write_text("#!/bin/sh\nexit 9\n")
    assert visible_gpus({}) == [], "a driver without a card"
    assert restrict(FOUR, "-1") == []


def test_workers_follow_from_the_cards():
    assert [workers_for(8, n) for n in (1, 2, 3, 0.5, 0.25)] == [8, 4, 2, 16, 32]
    assert workers_for(1, 2) == 1 and workers_for(0, 1) == 1


@pytest.mark.gpu
def test_a_real_card_is_taken_once(tmp_path: Path):
    gpus = visible_gpus()
    if not gpus:
        pytest.skip("no CUDA card")
    with another_worker(tmp_path, 1, gpus) as cards:
        assert cards == gpus[:1]
        with pytest.raises(UserError), take_gpus(gpus[:1], 1, tmp_path):
            pass
