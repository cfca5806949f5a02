"""How every runner starts and ends: environment first, user errors as one line with exit code 2."""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # runs from a plain checkout, too

from omegaconf import DictConfig, OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402

from ocr.errors import UserError  # noqa: E402
from ocr.tracking.credentials import load_env_variables  # noqa: E402
from ocr.training.resume import with_earlier_overrides  # noqa: E402

CONFIGS = str(ROOT / "configs")


def launch(main: Callable[[], Any]) -> None:
    """Run a Hydra main function; exit code 0, 2 for what the user can fix, 1 with a traceback for a bug."""
    from hydra.errors import HydraException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions arrive here whole
    OmegaConf.register_new_resolver("token", lambda: os.urandom(3).hex(), use_cache=True, replace=True)
    load_env_variables()
    try:
        sys.argv[1:] = with_earlier_overrides(sys.argv[1:])
        main()
    except UserError as error:
        _fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        _fail(_config_message(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def job(function: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Wrap a Hydra task: its user errors end a single run at once; in a sweep they fail that job."""

    @functools.wraps(function)
    def wrapped(config: DictConfig) -> Any:
        from hydra.core.hydra_config import HydraConfig
        from hydra.errors import InstantiationException
        from hydra.types import RunMode

        try:
            for key in sorted(OmegaConf.missing_keys(config)):
                raise UserError(f"{key} is not set: add {key}=<value> to the command")
            return function(config)
        except (UserError, InstantiationException, OmegaConfBaseException) as error:
            found = _user_error(error)
            if found is None:
                raise
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise found from error
            _fail(str(found))

    return wrapped


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _user_error(error: BaseException) -> UserError | None:
    """The user error that ``error`` is or comes from; a constructor that rejects its arguments counts as one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, OmegaConfBaseException):
            return UserError(_config_message(cause))
        if isinstance(cause, TypeError) and "argument" in str(cause) and "__init__()" in str(cause):
            return UserError(f"{str(error).splitlines()[0]}: {cause}")
        cause = cause.__cause__
    return None


def _config_message(error: Exception) -> str:
    """Hydra's or OmegaConf's words in one line, with the nearest setting where a key is unknown."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    if first.startswith("Could not override"):
        key = first.split("'")[1]
        return f"there is no setting {key!r}{_nearest(key)} (+{key}=... adds a new one)"
    return " ".join(lines)


def _nearest(key: str) -> str:
    """ ", did you mean ...?" from the settings of the composed default config."""
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    try:
        from hydra import initialize_config_dir

        GlobalHydra.instance().clear()
        with initialize_config_dir(CONFIGS, version_base="1.3"):
            known = _keys(compose(Path(sys.argv[0]).stem))
    except Exception:  # a suggestion is a courtesy: without one the message still stands
        return ""
    parent, _, leaf = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == parent and k.rpartition(".")[2].startswith(leaf)]
    close = siblings or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def _keys(config: DictConfig, prefix: str = "") -> list[str]:
    found = []
    for key in config:
        name = f"{prefix}{key}"
        found.append(name)
        node = config._get_node(key)
        if (
            isinstance(node, DictConfig)
            and not node._is_none()
            and not node._is_missing()
            and not node._is_interpolation()
        ):
            found += _keys(node, f"{name}.")
    return found
