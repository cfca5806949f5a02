"""Cores and instruction sets of the machine."""

from __future__ import annotations

import os
from typing import Any


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_openmp_spin() -> None:
    """Shorten the spinning of OpenMP threads that wait for each other; call it before torch is imported.

    GNU OpenMP's threads turn in a loop for some milliseconds until the last one is done. While a loader worker has the
    core of that last one, they hold the cores that it could move to. A setting of the user's own stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX512_BF16 or AMX); False where torch cannot say."""
    import torch

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.10
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
