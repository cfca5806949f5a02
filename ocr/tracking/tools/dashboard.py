"""A W&B workspace for this project's runs, made by code, so that every team looks at the same panels."""

from __future__ import annotations

from typing import Any

from ocr.errors import UserError
from ocr.tracking.batch_images import TABLE
from ocr.tracking.summary import STEP

NAME = "Receipt text detection"
LEARNING_RATES = "^lr-.*"  # lr-<optimizer>/<parameter group>: both differ between recipes


def build_workspace(entity: str, project: str) -> Any:
    """A project's workspace: quality, loss, speed, the worst batches, and what sets the runs apart.

    Raises:
        UserError: the extra ``dashboard`` is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError("make dashboard needs an extra: pip install -e '.[dashboard]'") from error

    def lines(*metrics: str) -> list[Any]:
        return [panels.LinePlot(title=metric, x=STEP, y=[metric]) for metric in metrics]

    quality = [*lines("val/hmean", "val/precision", "val/recall")]
    quality += [panels.BarPlot(title="test/hmean", metrics=["test/hmean"])]
    quality += [panels.BarPlot(title="best val/hmean", metrics=["best/val/hmean"])]
    loss = lines("train/loss", "train/loss_bce", "train/loss_l1", "train/loss_dice")
    loss += [panels.LinePlot(title="learning rate", x=STEP, metric_regex=LEARNING_RATES)]
    worst: list[Any] = [
        panels.MediaBrowser(title=f"batch {idx}", media_keys=[f"problematic_batch_{idx}_images"], num_columns=3)
        for idx in range(4)
    ]
    worst += lines("problematic_batches/seconds", "problematic_batches/left_out")
    importance = panels.ParameterImportancePlot(with_respect_to="best/val/hmean")
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            ws.Section(name="Quality", panels=quality, is_open=True),
            ws.Section(name="Loss", panels=loss, is_open=True),
            ws.Section(name=f"Worst batches (scores of single images: the table {TABLE})", panels=worst),
            ws.Section(name="Comparison", panels=[panels.RunComparer(diff_only="split"), importance]),
            ws.Section(name="Speed", panels=lines("train/images_per_second", "test/images_per_second")),
        ],
    )
