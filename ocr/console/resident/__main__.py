"""A resident process that has what needs torch: ``python -m ocr.console.resident settings`` or ``detectors``.

It reads a question per line of its standard input, ``{"function", "arguments"}``, and writes an answer per line,
``{"result"}`` or ``{"error"}``, all JSON.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys

from ocr.errors import UserError, one_line
from ocr.jobs.command_line.compose import register_resolvers

log = logging.getLogger(__name__)


def main(kind: str) -> None:
    """Answer until the input ends.

    Args:
        kind: the module beside this one whose ``FUNCTIONS`` are asked.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    register_resolvers()
    module = importlib.import_module(f"ocr.console.resident.{kind}")
    for line in sys.stdin:
        try:
            question = json.loads(line)
            answer = {"result": module.FUNCTIONS[question["function"]](**question["arguments"])}
        except UserError as error:
            answer = {"error": str(error)}
        except Exception as error:  # the next question is answered all the same
            log.exception("a question could not be answered")
            answer = {"error": f"{type(error).__name__}: {one_line(error)}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
