"""Detectors as the jobs open them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.jobs.build import load_detector
from ocr.jobs.settings import PredictSettings, read
from ocr.metrics.matching import pair
from ocr.models.onnx.graph import GraphDetector
from ocr.models.onnx.runtime import OnnxDetector
from ocr.models.pretrained.ppocr import weights_file
from ocr.pipeline import Pipeline
from ocr.training.module import DetectionModule
from tests.conftest import ROOT, found_by
from tests.tiny import network_config


@pytest.fixture
def job() -> Iterator[Callable[[list[str]], PredictSettings]]:
    """Makes Hydra's config of a prediction with these overrides that of this process, as a runner does."""

    def start(overrides: list[str]) -> PredictSettings:
        with initialize_config_dir(str(ROOT / "configs"), version_base=None):
            config = compose(
                "predict",
                ["ckpt_path=x", "source=x", "output=x", "paths.run_dir=x", *overrides],
                return_hydra_config=True,
            )
        HydraConfig.instance().set_config(config)
        return read(config, PredictSettings)

    yield start
    HydraConfig.instance().cfg = None


def test_a_pipeline_that_a_checkpoint_does_not_need_is_said_to_change_nothing(
    pipeline: Pipeline, tmp_path: Path, job: Callable[[list[str]], PredictSettings], caplog: pytest.LogCaptureFixture
):
    path, module = tmp_path / "a.ckpt", DetectionModule(network_config(), pipeline.to_dict())
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    for changes, told in ((["overlays=true"], 0), (["overlays=true", "fallback_pipeline.postprocess.thresh=0.2"], 1)):
        load_detector(job(changes), path, "cpu")
        assert len(caplog.records) == told
    assert "fallback_pipeline.postprocess.thresh=0.2 changes nothing, resize.* and postprocess.* would" in caplog.text


def test_for_a_card_an_onnx_file_becomes_a_network_of_torch_where_it_can(
    job: Callable[[list[str]], PredictSettings], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    file = weights_file("receipts-small")
    on_cpu, on_card = (load_detector(job([]), file, accelerator) for accelerator in ("cpu", "auto"))
    assert isinstance(on_cpu.network, OnnxDetector) and isinstance(on_card.network, GraphDetector)
    image = SyntheticReceipts(1, 77, 0.5, style="shop").load(0)[0]
    one, other = (found_by(module, image).polygons for module in (on_cpu, on_card))
    assert len(one) == len(other) > 10 and (pair(one, other).iou > 0.98).sum() == len(one)
    monkeypatch.setattr(GraphDetector, "__init__", unreadable)
    assert isinstance(load_detector(job([]), file, "gpu").network, OnnxDetector)
    assert "cannot be read as a DB detector: unknown op 'x': onnxruntime runs it, on the CPU" in caplog.text


def unreadable(self: GraphDetector, nodes: object) -> None:
    raise ValueError("unknown op 'x'")
