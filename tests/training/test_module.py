from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from ocr.data.synthetic import SyntheticReceipts
from ocr.errors import UserError
from ocr.models.views import Views
from ocr.tracking.start import JobFacts
from ocr.training import build
from ocr.training.build import load_module
from ocr.training.module import DetectionModule
from ocr.training.tune_job import write_tuned
from ocr.training.tuning import choose


@pytest.fixture
def module(pipeline) -> DetectionModule:
    torch.manual_seed(0)
    backbone = {
        "_target_": "ocr.models.backbone.TimmBackbone", "name": "mobilenetv3_small_050", "pretrained": False,
        "kwargs": {},
    }  # fmt: skip
    network = {
        "_target_": "ocr.models.detector.DBDetector", "backbone": backbone, "neck_channels": 16,
        "adaptive_scale_fusion": False, "head_channels": 4, "prior": 0.1,
    }  # fmt: skip
    return DetectionModule(network, pipeline.to_dict()).eval()


def test_normalised_images_are_channels_last_and_centred(module: DetectionModule):
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    x = module.normalise(images)
    assert x.shape == (2, 3, 64, 96) and x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x[1, 2], (images[1, :, :, 2].float() / 255 - 0.5) / 0.25)


def test_a_result_does_not_depend_on_the_batch(module: DetectionModule):
    """Images of several sizes in one batch give the maps, and so the polygons, that each gives alone."""
    from ocr.data.dataset import EvalSet, collate_eval

    dataset = EvalSet([SyntheticReceipts(3, 0)], module.pipeline)
    items = [dataset[i] for i in (0, 1, 2, 1)]
    batch = collate_eval(items)
    together = module.detect(batch["images"], batch["sizes"])
    for item, found in zip(items, together, strict=True):
        [alone] = module.detect([item["image"]], [item["size"]])
        assert len(alone) == len(found)
        for a, b in zip(alone.polygons, found.polygons, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-3)


def test_maps_are_float32_and_uncompiled_outside_training_whatever_training_uses(module: DetectionModule):
    """A test under bf16 finds what a prediction and an exported file find."""
    images = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    plain = module.probability_maps(images)
    compiled = []
    module.network.compile(backend=lambda graph, inputs: compiled.append(graph) or graph.forward)
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(module.probability_maps(images), plain)
        assert not compiled
        module.network(module.normalise(images))
    assert compiled


@pytest.mark.parametrize(("wanted", "works", "compiles"), [(True, False, True), (False, True, False),
                                                          ("auto", True, True), ("auto", False, False)])  # fmt: skip
def test_training_is_compiled_as_asked_or_where_it_can_be(wanted, works, compiles, monkeypatch, caplog):
    def no_compiler(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no C++ compiler\nand more")

    monkeypatch.setattr(torch, "compile", lambda function: function if works else no_compiler)
    with caplog.at_level("INFO"):
        assert build.compiles(wanted, "cpu") is compiles
    assert ("no C++ compiler" in caplog.text) is (wanted == "auto" and not works)


def test_compile_is_true_false_or_auto():
    with pytest.raises(UserError, match="model.compile must be true, false or auto"):
        build.compiles("maybe", "cpu")


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_processor_with_bf16_trains_in_it(has: bool, precision: str, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(build, "cpu_has_bf16", lambda: has)
    assert build.precision("auto", "cpu") == precision
    assert build.precision("16-true", "cpu") == "16-true"


def test_only_plain_weights_are_saved(module: DetectionModule):
    assert not [k for k in module.state_dict() if not k.startswith("network.")]


def test_a_checkpoint_is_read_with_the_views_that_it_was_tuned_for(module: DetectionModule, tmp_path: Path):
    plain, tuned = tmp_path / "plain.ckpt", tmp_path / "tuned.ckpt"
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, plain)
    now = asdict(module.pipeline.postprocess) | {"long_side": module.pipeline.resize.long_side}
    module.views = Views(scales=(1.0, 0.5))
    write_tuned(plain, module, choose(np.ones((1, 1, 7)), [now], now, 2, 0.0, 1), tuned)
    assert load_module(plain).views == load_module(tuned, {"views": {"scales": [1.0]}}).views == Views()
    assert load_module(tuned).views == load_module(tuned, {"views": {"scales": None}}).views == module.views


def test_a_pipeline_that_a_checkpoint_does_not_need_is_said_to_change_nothing(
    module: DetectionModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path, foreign = tmp_path / "a.ckpt", module.pipeline.to_dict()
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    for changes, told in ((["seed=1"], 0), (["seed=1", "pipeline.postprocess.thresh=0.2"], 1)):
        monkeypatch.setattr(build, "job_facts", lambda changes=changes: JobFacts(changes))
        load_module(path, {"postprocess": {"thresh": 0.1}}, foreign)
        assert len(caplog.records) == told
    assert "pipeline.postprocess.thresh=0.2 changes nothing, resize.* and postprocess.* would" in caplog.text
    load_module(path)
    assert len(caplog.records) == 1, "nobody offered one"
