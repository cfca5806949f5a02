"""When a training has done its first step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L


class FirstStep(L.Callback):
    """Writes the time of the first step's end, seconds of ``time.time()``, into a file.

    Args:
        mark: the file.
    """

    def __init__(self, mark: str) -> None:
        self.mark = Path(mark)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0 and trainer.current_epoch == 0:
            self.mark.write_text(str(time.time()))
