"""The one exception whose message is meant for the user."""

from __future__ import annotations

from omegaconf.errors import OmegaConfBaseException


class UserError(Exception):
    """Something the user can fix: a bad override, a broken file, a missing folder.

    The message names the file or setting and the fix. Runners print it as one line and exit with code 2;
    every other exception keeps its traceback and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its kind when it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def load_error(error: BaseException) -> str:
    """Why ``torch.load`` failed, in one line, without its advice to load what is not safe."""
    text = first_line(error)
    return "damaged, or more in it than tensors and plain values" if text.startswith("Weights only load") else text


def one_line(error: BaseException) -> str:
    """All that an exception says, its lines joined."""
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__


def user_error(error: BaseException | None) -> UserError | None:
    """The user error that ``error`` is or comes from; a constructor that rejects its arguments counts as one."""
    cause = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        if isinstance(cause, OmegaConfBaseException):
            return UserError(one_line(cause))
        if isinstance(cause, TypeError) and "argument" in str(cause) and "__init__()" in str(cause):
            return UserError(f"{first_line(error)}: {cause}")
        cause = cause.__cause__
    return None
