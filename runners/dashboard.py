"""Make the project's W&B workspace: ``python runners/dashboard.py [--dry-run] [key=value ...]``."""

from __future__ import annotations

import argparse
import sys

import _launch  # noqa: F401  (finds the library from a plain checkout)


def main() -> int:
    """0 when the workspace is saved, 2 with a line on what is missing."""
    parser = argparse.ArgumentParser(prog="runners/dashboard.py", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for train.py, e.g. logger.project_name=receipts")
    parser.add_argument("--dry-run", action="store_true", help="print the panels, save nothing")
    options = parser.parse_args()

    from ocr.errors import UserError, first_line
    from ocr.jobs.command_line.compose import compose_job, register_resolvers
    from ocr.tracking.credentials import key_fault, load_env_variables, stored_key
    from ocr.tracking.tools.dashboard import build_workspace

    try:
        load_env_variables()
        register_resolvers()
        logger = compose_job("train", options.overrides).logger
        key, entity = stored_key(), logger.entity
        if not options.dry_run and (not key or key_fault(key)):
            raise UserError("no usable WANDB_API_KEY: see make doctor")
        if not entity and not options.dry_run:
            import wandb

            entity = wandb.Api(timeout=20).default_entity
        workspace = build_workspace(entity or "<entity>", logger.project_name)
        for section in workspace.sections:
            titles = [str(getattr(panel, "title", None) or type(panel).__name__) for panel in section.panels]
            print(f"{section.name}: {', '.join(titles)}")
        if not options.dry_run:
            workspace.save()
            print(f"saved: {workspace.url}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # the clients raise many kinds for no network, no right, a bad override
        print(f"error: the workspace was not made: {first_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
