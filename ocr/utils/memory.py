"""Settings of the allocator: memory that was freed stays with the process."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of <malloc.h>


def disable_malloc_trimming() -> bool:
    """Keep freed memory instead of giving it back to the system and asking for it again in the next step.

    glibc maps every large block again, and the kernel then clears each page at its first use: on a CPU that took about
    half of a training step. Other C libraries and systems are left as they are: then it returns False.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, 2**31 - 1), mallopt(M_TOP_PAD, 64 << 20)])


def trim_malloc() -> bool:
    """Give the system what is free now, after something large that does not come again; whether there was any."""
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
