"""Cards of this machine for one worker: two workers never share one unless they are told to."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ocr.errors import UserError
from ocr.utils.locks import lock_file

LOCKS = "receipt-text-detection-gpus"  # folder of lock files, one for all sweeps of a machine


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """UUIDs of the cards that this process may use, as ``nvidia-smi`` lists them; none without a driver.

    Args:
        environment: of the process; ``CUDA_VISIBLE_DEVICES`` may name some of them by index or UUID.
    """
    return restrict(nvidia_smi("uuid"), environment.get("CUDA_VISIBLE_DEVICES"))


def nvidia_smi(query: str, timeout: float | None = None) -> list[str]:
    """A line per card of this machine; none without a driver, a card, or an answer within ``timeout`` seconds.

    Args:
        query: names of figures, see ``nvidia-smi --help-query-gpu``.
        timeout: seconds; None to wait.
    """
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.splitlines()


def restrict(gpus: Sequence[str], visible: str | None) -> list[str]:
    """Cards that ``CUDA_VISIBLE_DEVICES`` leaves; as CUDA does, nothing after one that is not there.

    >>> restrict(["GPU-a", "GPU-b", "GPU-c"], "2,GPU-a"), restrict(["GPU-a"], "0,5,0"), restrict(["GPU-a"], "")
    (['GPU-c', 'GPU-a'], ['GPU-a'], [])
    """
    if visible is None:
        return list(gpus)
    chosen: list[str] = []
    for name in filter(None, visible.split(",")):
        by_index = gpus[int(name)] if name.isdigit() and int(name) < len(gpus) else None
        card = by_index or next((gpu for gpu in gpus if gpu.startswith(name)), None)
        if card is None or card in chosen:
            break
        chosen.append(card)
    return chosen


def workers_for(gpus: int, gpus_per_job: float) -> int:
    """Workers that a machine has cards for, at least one.

    >>> workers_for(8, 2), workers_for(2, 0.5), workers_for(0, 1)
    (4, 4, 1)
    """
    return max(1, gpus * _shares(gpus_per_job) // max(1, int(gpus_per_job)))


def _shares(gpus_per_job: float) -> int:
    """Workers of one card; 1 where each has one or more."""
    return max(1, math.floor(1 / gpus_per_job + 1e-9))


@contextlib.contextmanager
def take_gpus(gpus: Sequence[str], gpus_per_job: float, locks: Path | None = None) -> Iterator[list[str]]:
    """Cards that no other worker of this machine has, inside; of a fraction the share of one.

    Args:
        gpus: of the machine, by UUID.
        gpus_per_job: how many, a whole number, or a fraction of one.
        locks: folder of the lock files; None for one that all sweeps of the machine share.

    Yields:
        Their UUIDs; none on a machine without cards.

    Raises:
        UserError: fewer are free, or it is neither a whole number nor a fraction of one.
    """
    if gpus_per_job > 1 and gpus_per_job % 1:
        raise UserError(f"sweep.gpus_per_job={gpus_per_job:g}: a whole number of cards, or a fraction of one")
    if not gpus:
        yield []
        return
    folder = locks or Path(tempfile.gettempdir(), f"{LOCKS}-{os.getuid() if hasattr(os, 'getuid') else 'all'}")
    needed = max(1, int(gpus_per_job))
    shares = _shares(gpus_per_job)
    with contextlib.ExitStack() as held:
        taken: list[str] = []
        for share in range(shares):  # an idle card before one that another worker uses, too
            for gpu in gpus:
                if gpu in taken or len(taken) == needed:
                    continue
                with contextlib.suppress(BlockingIOError), contextlib.ExitStack() as locked:
                    locked.enter_context(lock_file(folder / gpu, wait=False, shared=shares > 1))
                    if shares > 1:
                        locked.enter_context(lock_file(folder / f"{gpu}-share-{share}-of-{shares}", wait=False))
                    held.enter_context(locked.pop_all())
                    taken.append(gpu)
        if len(taken) < needed:
            raise UserError(
                f"sweep.gpus_per_job={gpus_per_job:g}: of {len(gpus)} cards {len(taken)} are free, the others belong to"
                " workers of a sweep; fewer workers, or sweep.gpus_per_job=0.5, with which two share a card"
            )
        yield taken
