"""Send W&B runs that are only on disk: ``python runners/sync.py [folder ...]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import _launch  # noqa: F401  (finds the library from a plain checkout)


def main() -> int:
    """0 when the server has everything, 1 when something is left, 2 without a server or a key."""
    parser = argparse.ArgumentParser(prog="runners/sync.py", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="runs, or folders with runs (default: runs, $WANDB_DIR)")
    parser.add_argument("--dry-run", action="store_true", help="only list them")
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="for each run (default: 3600)")
    parser.add_argument("--silence", type=float, default=60, metavar="SECONDS",
                        help="without an answer of the server, before it is given up (default: 60)")  # fmt: skip
    options = parser.parse_args()

    from ocr.errors import UserError
    from ocr.tracking.credentials import key_fault, load_env_variables, server_url, stored_key

    load_env_variables()
    from ocr.tracking.start import clear_run_variables
    from ocr.tracking.tools.local_runs import find_runs, record_folders
    from ocr.tracking.tools.sync import ASK_INTERVAL_SECONDS, server_fault, sync_run

    clear_run_variables()
    runs = [run for run in find_runs(options.folders or record_folders()) if not run.synced]
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
    try:
        key = stored_key()
        fault = key_fault(key) if key else "no WANDB_API_KEY"
    except UserError as error:
        fault = str(error)
    if fault:
        print(f"error: {fault}: set it in .env, or run: wandb login", file=sys.stderr)
        return 2
    print(f"asking {server_url()}", flush=True)
    if fault := server_fault():
        print(f"error: {server_url()} does not answer within {ASK_INTERVAL_SECONDS} s ({fault}): {len(waiting)} run(s)"
              " stay on disk; check network, proxy and WANDB_BASE_URL, then run make sync again",
              file=sys.stderr)  # fmt: skip
        return 2
    failed = 0
    for number, run in enumerate(waiting, 1):
        print(f"{run.shown}: sending ({number} of {len(waiting)})", flush=True)
        report = sync_run(run, options.timeout, options.silence)
        failed += bool(report.problems)
        print(f"{run.shown}: {'; '.join(report.problems) or 'sent and confirmed'}")
        for note in report.notes:
            print(f"    {note}")
    print(f"{len(waiting) - failed} of {len(waiting)} run(s) sent" + (f", {failed} left" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
