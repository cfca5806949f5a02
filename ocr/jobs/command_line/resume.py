"""The command line of a resumed run.

It starts from the stopped run's own command line: its overrides come first, those of the new command after them, so
that ``resume=<run folder> trainer.max_epochs=40`` repeats nothing else. Its data is that of the stopped run, whatever
the defaults are by now.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ocr.jobs.command_line.compose import compose_job
from ocr.jobs.command_line.overrides import key_of, text_of, value_of
from ocr.jobs.command_line.stopped_run import StoppedRun
from ocr.training.resume import find_checkpoint, say_once


def with_earlier_overrides(arguments: Sequence[str]) -> list[str]:
    """The command line of a resumed run, with the stopped run's overrides and data in front.

    Returns:
        The same list when there is no ``resume=`` or the stopped run left no ``.hydra/overrides.yaml``; else the
        list with ``resume=`` pointing at the checkpoint itself.

    Raises:
        UserError: there is no checkpoint; the stopped run's settings would run what nobody named; or this command
            asks for another network.
    """
    given = {key_of(a): a for a in arguments if "=" in a and not a.startswith("-")}
    requested = value_of(given["resume"]) if "resume" in given else None
    if requested in (None, False, ""):
        return list(arguments)
    runs = Path(str(value_of(given.get("paths.output", "paths.output=runs"))))
    if "name" in given:
        runs = runs / str(value_of(given["name"]))
    elif requested is True and "experiment" in given:
        of_name = [given[key] for key in ("experiment", "data", "data.name") if key in given]
        runs = runs / str(compose_job("train", of_name).name)
    path = find_checkpoint(True if requested is True else str(requested), runs)
    assert path is not None
    mine = [a for a in arguments if not a.startswith("resume=")] + [f"resume={text_of(str(path))}"]
    stopped = StoppedRun.read(path.parent.parent)
    if stopped is None:
        return mine
    if stopped.hidden:
        say_once(f"not taken from the stopped run, for they hold secrets: {', '.join(stopped.hidden)}")
    overrides = [a for a in mine if not a.startswith("-")]
    earlier = stopped.overrides_before(overrides)
    compose = partial(compose_job, "train", with_hydra=True)
    before, now = compose(stopped.overrides), compose([*earlier, *overrides])
    kept = stopped.settings_to_keep(before, now)
    stopped.check_targets(compose([*earlier, *kept, *overrides]) if kept else now, overrides)
    stopped.check_model(before, now)
    return [*earlier, *kept, *mine]
