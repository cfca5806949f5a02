"""Credentials and switches from the environment and from ``.env`` files."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

ENV_FILES = (".env.local", ".env")  # the first that sets a variable wins; the environment wins over both


def load_env_variables(folder: str | os.PathLike[str] | None = None) -> list[Path]:
    """Load ``.env.local`` and ``.env`` into the environment without overriding what it has.

    White space and quotes around values are removed, the usual fault of a pasted key. Empty values are skipped, so
    that an unfilled line of ``.env.example`` sets nothing.

    Args:
        folder: where the files lie; the current folder, then the project's root when it is another.

    Returns:
        The files that were read.
    """
    root = Path(__file__).resolve().parents[2]
    folders = [Path(folder)] if folder is not None else list(dict.fromkeys([Path.cwd(), root]))
    read = []
    for place in folders:
        for name in ENV_FILES:
            path = place / name
            if path.is_file():
                read.append(path)
                for key, value in dotenv_values(path).items():
                    value = (value or "").strip().strip("'\"").strip()
                    if value and not os.environ.get(key):
                        os.environ[key] = value
    return read
