"""Delete the local W&B records of runs that the server has: ``python runners/clean_runs.py [folder ...]``."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

import _launch  # noqa: F401  (finds the library from a plain checkout)


def main() -> int:
    """Checkpoints, metrics and predictions stay: only folders below ``wandb/`` go."""
    parser = argparse.ArgumentParser(prog="runners/clean_runs.py", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="runs, or folders with runs (default: runs, $WANDB_DIR)")
    parser.add_argument("--older-than", type=float, default=0, metavar="HOURS", help="keep younger ones (default: 0)")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options = parser.parse_args()

    from ocr.tracking.credentials import load_env_variables

    load_env_variables()
    from ocr.tracking.tools.local_runs import find_runs, record_folders

    runs = find_runs(options.folders or record_folders())
    old = time.time() - options.older_than * 3600
    gone = [run for run in runs if run.synced and not run.active and run.folder.stat().st_mtime <= old]
    total = 0
    for run in runs:
        if run in gone:
            total += (freed := run.freed())
            print(f"delete {run.shown} ({freed / 1e6:.1f} MB)")
        else:
            print(f"keep   {run.shown} ({'running' if run.active else 'young' if run.synced else 'not synced'})")
    if not gone:
        print("nothing to delete")
        return 0
    print(f"{len(gone)} record(s), {total / 1e6:.1f} MB")
    if not options.yes:
        if not sys.stdin.isatty():
            print("nothing deleted: answer needed, or --yes", file=sys.stderr)
            return 1
        if input("Delete them? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing deleted")
            return 1
    for run in gone:
        shutil.rmtree(run.folder)
    print("deleted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
