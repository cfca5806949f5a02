"""CPU, memory and GPU load of this machine."""

from __future__ import annotations

import psutil

from ocr.sweeps.devices import nvidia_smi

QUERY = "index,utilization.gpu,memory.used,memory.total"
MIB_PER_GB = 1e9 / 2**20


def machine_load() -> str:
    """Load of processor and memory, and of each card that ``nvidia-smi`` lists, in words."""
    memory = psutil.virtual_memory()
    busy = psutil.cpu_percent(interval=0.1)
    parts = [f"CPU {busy:.0f} %, memory {memory.used / 1e9:.1f} of {memory.total / 1e9:.1f} GB"]
    return "; ".join([*parts, *filter(None, map(card_in_words, nvidia_smi(QUERY, timeout=5)))])


def card_in_words(line: str) -> str:
    """A line of ``nvidia-smi``'s answer in words; empty where it is none.

    >>> card_in_words("0, 87, 4200, 81559"), card_in_words("1, [N/A], 1, 2"), card_in_words("failed")
    ('GPU 0 87 %, memory 4.4 of 85.5 GB', 'GPU 1 memory 0.0 of 0.0 GB', '')
    """
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 4 or not (parts[2].isdigit() and parts[3].isdigit()):
        return ""
    used, total = (int(part) / MIB_PER_GB for part in parts[2:])
    load = f" {parts[1]} %," if parts[1].isdigit() else ""
    return f"GPU {parts[0]}{load} memory {used:.1f} of {total:.1f} GB"
