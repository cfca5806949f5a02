"""Checks whether this machine can record a run: ``python runners/doctor.py [--json] [key=value ...]``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace

from _launch import known_secrets


def main() -> int:
    """1 when there is a fault, else 0."""
    parser = argparse.ArgumentParser(prog="runners/doctor.py", description=__doc__)
    parser.add_argument("overrides", nargs="*", help="as for train.py")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    parser.add_argument("--timeout", type=float, default=5, metavar="SECONDS", help="for each question to the server")
    options, unknown = parser.parse_known_args()

    from hydra.errors import HydraException

    from ocr.errors import UserError, one_line
    from ocr.jobs.command_line.arguments import check_command_line
    from ocr.jobs.command_line.compose import compose_job, register_resolvers
    from ocr.tracking.credentials import EnvReport, read_environment
    from ocr.tracking.tools.doctor import Finding, examine
    from ocr.utils.config import plain_config

    register_resolvers()
    findings: list[Finding] = []
    environment = EnvReport()
    try:
        environment = read_environment()
    except UserError as error:
        findings.append(Finding("environment", "fault", str(error), "correct it in the environment or .env"))
    try:
        checked = check_command_line([*options.overrides, *unknown])
        overrides = [argument for argument in checked if not argument.startswith("-")]
        config = compose_job("train", [*overrides, "paths.run_dir=${paths.output}"])
    except (HydraException, UserError) as error:
        findings.append(Finding("config", "fault", one_line(error), "correct the override"))
    else:
        findings += examine(plain_config(config), environment, options.timeout)
    redactor = known_secrets()
    findings = [replace(f, found=redactor.text(f.found), fix=redactor.text(f.fix)) for f in findings]
    faults = sum(f.level == "fault" for f in findings)
    warnings = sum(f.level == "warning" for f in findings)
    if options.json:
        print(json.dumps({"faults": faults, "warnings": warnings, "checks": [asdict(f) for f in findings]}, indent=1))
    else:
        for f in findings:
            print(f"{f.level:7}  {f.check:22} {f.found}" + (f"\n{'':32}fix: {f.fix}" if f.fix else ""))
        print(f"{faults} fault(s), {warnings} warning(s)")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
