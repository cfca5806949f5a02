"""Join a sweep as one more worker: ``python runners/sweep_worker.py <folder of the sweep> [key=value ...]``.

The same as the sweep's own command with ``sweep.resume=<folder>``, which it reads from the folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

TRAIN = Path(__file__).resolve().with_name("train.py")


def main(arguments: list[str]) -> int:
    """Start the worker in this process; 2 with a line where the folder is none of a sweep."""
    import _launch  # noqa: F401  # finds the project

    from ocr.errors import UserError
    from ocr.jobs.command_line.joining import joining_arguments

    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    try:
        own, cwd = joining_arguments(Path(arguments[0]).expanduser(), arguments[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    os.chdir(cwd)
    os.execv(sys.executable, [sys.executable, str(TRAIN), "-m", *own])  # noqa: S606
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
