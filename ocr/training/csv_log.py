"""``csv/metrics.csv``: the metrics of a run as a table that is whole at every moment."""

from __future__ import annotations

import csv
import io
import logging
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from ocr.errors import DiskFull, user_error
from ocr.utils.files import write_atomic

log = logging.getLogger(__name__)


class _Rows(ExperimentWriter):
    """Lightning's writer truncates the file for each new column: a kill or a full disk then takes all rows.

    A job that goes on in its own folder keeps the rows of before, up to the step that it starts from.
    """

    _begun = False

    def _check_log_dir_exists(self) -> None:
        """Lightning's removes the file of an earlier job."""

    def save(self) -> None:
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        rows: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        if not self._begun:
            first = min(int(row["step"]) for row in self.metrics)
            rows = [row for row in rows if int(row["step"]) < first]
            self._begun = True
        rows += self.metrics
        self.metrics_keys = sorted({key for row in rows for key in row})
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_atomic(path, text.getvalue())
        self.metrics = []


class CsvLog(CSVLogger):
    """Lightning's logger with a table that is replaced as a whole."""

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir)
        return self._experiment

    def finalize(self, status: str) -> None:
        """Write the last rows; if that fails in a job that has failed already, keep the job's own error."""
        ended_by = user_error(sys.exc_info()[1])
        try:
            super().finalize(status)
        except DiskFull as error:
            if status == "success":
                raise
            if not isinstance(ended_by, DiskFull):
                log.warning("the last rows of metrics.csv are lost: %s", error)
