"""The one exception whose message is meant for the user."""


class UserError(Exception):
    """Something the user can fix: a bad override, a broken file, a missing folder.

    The message names the file or setting and the fix. Runners print it as one line and exit with code 2;
    every other exception keeps its traceback and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """What an exception says, in one line; its kind when it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
