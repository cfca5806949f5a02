"""Loader processes end with the process that started them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ocr.data.loader_workers import worker_count
from ocr.errors import UserError
from tests.conftest import ROOT

STUCK_AT_EXIT = """
import os, signal, time
from torch.utils.data import DataLoader
from ocr.data.loader_workers import start_worker

class Stuck:
    def __len__(self):
        return 4

    def __getitem__(self, i):
        print("worker", os.getpid(), flush=True)
        if i == 1:
            time.sleep(300)
        return i

loader = iter(DataLoader(Stuck(), batch_size=1, num_workers=1, worker_init_fn=start_worker))
next(loader)
os.killpg(0, signal.SIGTERM)  # as a scheduler does it; this process heeds it in its own way
"""


def test_worker_count():
    assert worker_count(0) == 0 and worker_count(3) == 3
    assert 1 <= worker_count("auto") <= max(1, os.cpu_count() or 1)
    assert worker_count("auto", training=True) <= worker_count("auto")
    with pytest.raises(UserError):
        worker_count(-1)


def test_a_worker_that_is_stuck_does_not_keep_the_process():
    code = "import signal; signal.signal(signal.SIGTERM, lambda *_: None)\n" + STUCK_AT_EXIT
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    worker = int(done.stdout.split()[1])
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
