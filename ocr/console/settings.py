"""Settings of the console, read from ``configs/console.yaml`` once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ocr.errors import UserError
from ocr.jobs.command_line.arguments import check_command_line
from ocr.jobs.command_line.compose import compose_job
from ocr.utils.config import plain_config
from ocr.utils.files import make_folder
from ocr.utils.typed import CLOSED, build


@dataclass(frozen=True)
class ConsoleSettings:
    """``configs/console.yaml``."""

    __pydantic_config__ = CLOSED

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    allowed_hosts: list[str]
    runs: str
    data_folders: list[str]
    all_users: bool
    accelerator: Literal["auto", "cpu", "gpu"]
    upload_mb: Annotated[int, Field(ge=1)]
    upload_megapixels: Annotated[int, Field(ge=1, le=178)]
    detectors: list[str]
    groups: list[str]
    fields: dict[str, list[str]]

    @property
    def runs_folder(self) -> Path:
        """The folder of all runs, absolute."""
        return Path(self.runs).expanduser().resolve()

    @property
    def folders(self) -> list[Path]:
        """All folders that settings may name, absolute."""
        return [self.runs_folder, *(Path(folder).expanduser().resolve() for folder in self.data_folders)]

    @property
    def upload_bytes(self) -> int:
        """Most bytes of a request that brings a picture, with what a form adds."""
        return self.upload_mb * 10**6 + 10_000


def read_settings(arguments: Sequence[str]) -> ConsoleSettings:
    """The settings of a command line.

    Raises:
        UserError: one is wrong, or a folder is not there.
        hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException: see ``config_message``.
    """
    settings = build(ConsoleSettings, plain_config(compose_job("console", check_command_line(arguments))))
    make_folder(settings.runs_folder, "runs")
    for folder in settings.folders[1:]:
        if not folder.is_dir():
            raise UserError(f"data_folders: there is no folder {folder}")
    return settings
