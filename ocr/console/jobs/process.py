"""Process of one console job: wait for a turn and for devices, run the command, record its exit status.

``python -m ocr.console.jobs.process <folder of the job>``, in a session of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ocr.console.jobs.queue import TRAINING, jobs_of, read_json
from ocr.errors import UserError
from ocr.sweeps.devices import take_gpus, visible_gpus
from ocr.utils.files import write_atomic
from ocr.utils.locks import lock_file

WAIT_SECONDS = 0.5


@contextlib.contextmanager
def turn(folder: Path, gpus: int) -> Iterator[dict[str, str]]:
    """Wait until all earlier jobs have begun and devices are free, and hold them inside.

    A job that was stopped waits no more.

    Cards are taken with the lock files that sweeps heed, too. Jobs without cards share the processor, one at a time.

    Yields:
        Environment variables of the job.
    """
    cards, runs = visible_gpus(), folder.parent.parent
    while not (folder / "stop").exists():
        waiting = [job for job in jobs_of(runs) if job.folder.name < folder.name and job.state == "queued"]
        with contextlib.ExitStack() as held:
            if not waiting and gpus and cards:
                with contextlib.suppress(UserError):
                    taken = held.enter_context(take_gpus(cards, len(cards) if gpus < 0 else min(gpus, len(cards))))
                    yield {"CUDA_VISIBLE_DEVICES": ",".join(taken)}
                    return
            elif not waiting:
                with contextlib.suppress(BlockingIOError):
                    held.enter_context(lock_file(folder.parent / "cpu.lock", wait=False))
                    yield {}
                    return
        time.sleep(WAIT_SECONDS)
    yield {}


def main(folder: Path) -> int:
    """Its exit code: that of the job."""
    signal.signal(signal.SIGINT, lambda *_: None)  # of the process group: the job's to heed
    job = read_json(folder / "job.json")
    waits = job.get("kind", TRAINING) == TRAINING
    with contextlib.ExitStack() as held:
        environment = held.enter_context(turn(folder, job["gpus"])) if waits else {}
        write_atomic(folder / "began", "")  # from here on it is stopped by a signal
        code = 130
        if not (folder / "stop").exists():
            code = subprocess.run(job["command"], env=os.environ | environment, stdin=subprocess.DEVNULL).returncode
    code = code if code >= 0 else 128 - code
    write_atomic(folder / "end.json", json.dumps({"exit_code": code, "time": time.time()}))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
