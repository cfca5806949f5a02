"""A real W&B run, offline, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb


@pytest.fixture(autouse=True)
def _settings_of_this_test() -> None:
    """wandb reads the environment once per process: what an earlier test had in it is forgotten."""
    wandb.teardown()


@pytest.fixture
def offline_run(tmp_path: Path) -> Iterator[wandb.Run]:
    """In progress, named as the runners name theirs, finished after the test."""
    run = wandb.init(mode="offline", dir=str(tmp_path), name="ann_x_SCORE_PLACEHOLDER", reinit="finish_previous",
                     settings=wandb.Settings(silent=True, console="off"))  # fmt: skip
    yield run
    run.finish()
    wandb.teardown()
