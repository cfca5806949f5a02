"""Without the extras everything works but PP-OCR's own weights, and these say what is missing."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

CODE = """
import sys
for name in ("rapidocr", "rapidocr_onnxruntime", "wandb_workspaces"):
    sys.modules[name] = None  # as if it were not installed
import torch
from hydra import compose, initialize_config_dir
import ocr.jobs.export, ocr.jobs.tune, ocr.jobs.train
from ocr.errors import UserError
from ocr.training.loading import load_module
from ocr.models.pretrained.ppocr import pretrained_detector, weights_file
from ocr.jobs.build import build_module
from ocr.jobs.settings import TrainSettings, read

with initialize_config_dir(sys.argv[1] + "/configs", version_base="1.3"):
    config = compose("train", ["hydra/job_logging=none"])
module = build_module(read(config, TrainSettings)).eval()
with torch.inference_mode():
    print(module.network(torch.zeros(1, 3, 64, 64)).probability.shape)
print(load_module(weights_file("receipts")).pipeline.resize.long_side)
try:
    pretrained_detector("ppocr_v4")
except UserError as error:
    print(error)
"""


def test_training_and_the_detector_in_the_box_need_no_extras():
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT)], capture_output=True, text=True, timeout=200, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    shape, long_side, packaged = done.stdout.splitlines()
    assert "[1, 1, 64, 64]" in shape
    assert "rapidocr_onnxruntime, which is not installed: make setup EXTRAS=ppocr" in packaged
    assert int(long_side) >= 1280
