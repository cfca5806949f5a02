"""``csv/metrics.csv`` keeps its rows whatever happens to the next ones."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ocr.errors import DiskFull
from ocr.training.csv_log import CsvLog
from tests.disks import fill, small_disk


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_new_columns_leave_the_rows_that_were_there(tmp_path: Path):
    log = CsvLog(tmp_path, name="", version="csv")
    log.log_metrics({"train/loss": 3.0}, step=0)
    log.save()
    log.log_metrics({"train/loss": 2.0, "val/hmean": 0.5}, step=1)
    log.finalize("success")
    assert rows(tmp_path) == [{"step": "0", "train/loss": "3.0", "val/hmean": ""},
                              {"step": "1", "train/loss": "2.0", "val/hmean": "0.5"}]  # fmt: skip


def test_a_full_disk_takes_no_row_that_was_written_and_hides_no_other_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with small_disk(tmp_path / "disk", 1) as disk:
        log = CsvLog(disk, name="", version="csv", flush_logs_every_n_steps=10_000)
        for step in range(50):
            log.log_metrics({"train/loss": 3.0}, step=step)
        log.save()
        fill(disk)
        for step in range(50, 1000):
            log.log_metrics({"val/hmean": 0.5}, step=step)
        with pytest.raises(DiskFull, match=r"metrics\.csv needs"):
            log.save()
        assert [row["step"] for row in rows(disk)] == [str(step) for step in range(50)]
        with pytest.raises(KeyError):
            try:
                raise KeyError("a bug")
            except KeyError:
                log.finalize("failed")
                raise
        assert "the last rows of metrics.csv are lost: no space left" in caplog.text
