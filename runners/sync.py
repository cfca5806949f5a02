"""Send W&B runs that are only on disk: ``python runners/sync.py [folder ...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import _launch  # noqa: F401  (finds the library from a plain checkout)


def main() -> int:
    """0 when the server has everything, 1 when something is left."""
    parser = argparse.ArgumentParser(prog="runners/sync.py", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="runs, or folders with runs (default: runs, $WANDB_DIR)")
    parser.add_argument("--dry-run", action="store_true", help="only list them")
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="for each run (default: 3600)")
    options = parser.parse_args()

    from ocr.tracking.credentials import key_fault, load_env_variables, stored_key

    load_env_variables()
    from ocr.tracking.sync import find_runs, local_places, sync_run

    runs = [run for run in find_runs(options.folders or local_places()) if not run.synced]
    waiting = [run for run in runs if not run.active]
    for run in runs:
        if run.active:
            print(f"{run.shown}: still running, left alone")
    if not waiting:
        print("nothing to send")
        return 0
    if options.dry_run:
        for run in waiting:
            print(f"{run.shown}: would be sent")
        return 0
    key = stored_key()
    if not key or (fault := key_fault(key)):
        print(f"error: {fault if key else 'no WANDB_API_KEY'}: set it in .env, or run: wandb login", file=sys.stderr)
        return 2
    failed = 0
    for run in waiting:
        report = sync_run(run, options.timeout)
        failed += bool(report.problems)
        print(f"{run.shown}: {'; '.join(report.problems) or 'sent and confirmed'}")
        for note in report.notes:
            print(f"    {note}")
    print(f"{len(waiting) - failed} of {len(waiting)} run(s) sent" + (f", {failed} left" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
