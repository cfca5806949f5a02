"""Start and end of every runner: environment first, user errors as one line with exit code 2."""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs from a plain checkout, too

from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.errors import HydraException  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from ocr.errors import UserError, first_line, one_line, printable, user_error  # noqa: E402
from ocr.jobs.command_line.arguments import check_command_line  # noqa: E402
from ocr.jobs.command_line.compose import any_target, config_message, register_resolvers  # noqa: E402
from ocr.jobs.command_line.hydra_job import folder_of_rank  # noqa: E402
from ocr.jobs.command_line.hydra_log import clean_settings, known_secrets  # noqa: E402
from ocr.jobs.command_line.overrides import CONFIGS as CONFIG_FOLDER  # noqa: E402
from ocr.jobs.command_line.resume import with_earlier_overrides  # noqa: E402
from ocr.migrations import migrate_overrides  # noqa: E402
from ocr.tracking.credentials import load_env_variables  # noqa: E402
from ocr.tracking.ending import abandoned, ending_of  # noqa: E402
from ocr.tracking.secrets import Redactor, redactor_for  # noqa: E402
from ocr.utils.config import plain_config  # noqa: E402
from ocr.utils.machine import limit_openmp_spin  # noqa: E402

CONFIGS = str(CONFIG_FOLDER)
log = logging.getLogger(__name__)


def launch(main: Callable[[], Any]) -> None:
    """Run a Hydra main function; exit code 0, 2 for what the user can fix, 1 with a traceback for a bug."""
    code = 1
    try:
        _run(main)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    except BaseException:
        print(known_secrets().text(traceback.format_exc()), file=sys.stderr, end="")
        sys.exit(code)
    finally:
        _leave(code)


def _leave(code: int) -> None:
    """End the process at once when an upload was given up.

    The interpreter would end the thread that hangs in it in the middle of a call, and now and then that aborts the
    whole process: a job that was done would then have failed.
    """
    if abandoned.is_set():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(main: Callable[[], Any]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions arrive here whole
    register_resolvers()
    try:
        load_env_variables()
        limit_openmp_spin()
        arguments, notes = migrate_overrides(check_command_line(sys.argv[1:]))
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        with any_target():
            sys.argv[1:] = check_command_line(with_earlier_overrides(arguments)) + folder_of_rank(arguments)
            main()
    except UserError as error:
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(config_message(error, Path(sys.argv[0]).stem, sys.argv[1:]))
    except (KeyboardInterrupt, SystemExit) as error:
        ending = ending_of(error)
        if ending.tag in ("interrupted", "terminated"):
            print(ending.reason, file=sys.stderr)
        sys.exit(ending.exit_code)
    except Exception as error:
        if str(error).startswith("Config group override must be"):
            _fail("a config group (data, trainer, ...) takes the name of one of its files, neither null nor a number; "
                  "~<group> removes one")  # fmt: skip
        fault = user_error(error)  # a disk that is full before the job begins
        if fault is None:
            raise
        _fail(str(fault))


def job(function: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Wrap a Hydra task: its errors end a single run at once; in a sweep they fail that job, and others go on.

    From here on neither log and screen nor the settings that Hydra has written hold secrets.
    """

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> Any:
        settings = HydraConfig.get()
        redactor = redactor_for(plain_config(config))
        overrides = OmegaConf.to_container(settings.overrides.task, resolve=False)
        redactor.learn_overrides([*map(str, overrides), *sys.argv[1:]])
        redactor.guard_logging()
        logging.raiseExceptions = False  # else each line that a full disk does not take is a traceback on the screen
        folder, multirun = Path(settings.runtime.output_dir), settings.mode == RunMode.MULTIRUN
        for path in [*folder.glob(".hydra/*.yaml"), *(folder.parent.glob("multirun.yaml") if multirun else ())]:
            clean_settings(path, redactor)
        try:
            if "sweep" in config and "sampler" in config.sweep:
                raise UserError("+sweep=... is for many trainings: add -m to the command")
            for key in sorted(OmegaConf.missing_keys(config)):
                raise UserError(f"{key} is not set: add {key}=<value> to the command")
            if config.get("name") is not None:
                config.name = str(config.name)  # name=2024
            return function(config)
        except Exception as error:
            if (ending := ending_of(error)).tag == "terminated":
                print(ending.reason, file=sys.stderr)
                raise SystemExit(ending.exit_code) from None
            fault = user_error(error, folder)
            if fault is None and isinstance(error, OmegaConfBaseException):
                fault = UserError(one_line(error))
            if multirun:
                said = redactor.text(first_line(fault or error))
                log.error("job %d failed: %s", settings.job.num, said)
                if fault is None:
                    _log_to_file(redactor.text(traceback.format_exc()))
                from ocr.jobs.sweep.failure import record_failure

                record_failure(config, said, fault or error)
                raise (UserError if fault else RuntimeError)(said) from None
            if fault is not None:
                _fail(str(fault), redactor)
            print(redactor.text(traceback.format_exc()), file=sys.stderr, end="")
            sys.exit(1)

    return wrapped


def _log_to_file(text: str) -> None:
    """A line of the job's own log that the sweep's screen does not show."""
    record = log.makeRecord(log.name, logging.ERROR, __file__, 0, text, (), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _fail(message: str, redactor: Redactor | None = None) -> None:
    print(f"error: {printable((redactor or known_secrets()).text(message))}", file=sys.stderr)
    sys.exit(2)
