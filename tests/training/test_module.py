from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging

from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.errors import UserError
from ocr.jobs.build import build_data, build_module
from ocr.jobs.tune import write_with_pipeline
from ocr.models.tta import TestTimeAugmentation
from ocr.training import trainer
from ocr.training.callbacks.ema import warmed_up_ema
from ocr.training.loading import DetectorOverrides, load_module
from ocr.training.module import DetectionModule
from ocr.tuning.choice import choose
from ocr.types import Detections, Truth
from ocr.utils.config import instantiate
from tests.composing import settings
from tests.conftest import ROOT
from tests.tiny import TINY, network_config


@pytest.fixture
def module(pipeline) -> DetectionModule:
    torch.manual_seed(0)
    network = network_config()
    return DetectionModule(network, pipeline.to_dict()).eval()


def test_normalised_images_are_channels_last_and_centred(module: DetectionModule):
    images = torch.randint(0, 256, (2, 64, 96, 3), dtype=torch.uint8)
    x = module.normalise(images)
    assert x.shape == (2, 3, 64, 96) and x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x[1, 2], (images[1, :, :, 2].float() / 255 - 0.5) / 0.25)


def test_a_result_does_not_depend_on_the_batch(module: DetectionModule):
    """Images of several sizes in one batch give the maps, and so the polygons, that each gives alone."""
    from ocr.data.datasets import EvalSet, collate_eval

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


def test_training_is_compiled_as_asked_or_where_it_can_be(caplog: pytest.LogCaptureFixture):
    try:
        torch.compile(lambda x: x - 1)(torch.ones(8))
        works = True
    except Exception:  # as many kinds as there are reasons
        works = False
    with caplog.at_level("INFO"):
        assert [trainer.compiles(wanted, "cpu") for wanted in (True, False, "auto")] == [True, False, works]
    assert ("torch.compile does not work here" in caplog.text) is not works


def test_without_a_compiler_training_goes_on_uncompiled(tmp_path: Path):
    code = """
import logging
from ocr.training import trainer
logging.basicConfig(level=logging.INFO)
print([trainer.compiles(wanted, "cpu") for wanted in (True, False, "auto")])
"""
    # an empty cache: what another process compiled needs no compiler
    changes = {"CXX": "/no/such/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | changes, capture_output=True, text=True)
    assert done.stdout == "[True, False, False]\n", done.stderr
    assert "torch.compile does not work here" in done.stderr and "training goes on without it" in done.stderr


def test_compile_is_true_false_or_auto():
    with pytest.raises(UserError, match="model.compile must be true or false or auto, got 'maybe'"):
        settings("model.compile=maybe")


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="the system does not list what its processor has")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="before 2.10 torch could not say")
def test_a_processor_with_bf16_trains_in_it():
    multiplies = {"avx512_bf16", "amx_bf16"} & set(Path("/proc/cpuinfo").read_text().split())
    assert trainer.precision("auto", "cpu") == ("bf16-mixed" if multiplies else "32-true")
    assert trainer.precision("16-true", "cpu") == "16-true"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_processor_says_nothing_of_another_device():
    assert trainer.precision("auto", "gpu") == trainer.precision("auto", "mps") == "32-true"


def test_only_plain_weights_are_saved(module: DetectionModule):
    assert not [k for k in module.state_dict() if not k.startswith("network.")]


def test_a_checkpoint_is_read_with_the_augmentation_that_it_was_tuned_for(module: DetectionModule, tmp_path: Path):
    plain, tuned = tmp_path / "plain.ckpt", tmp_path / "tuned.ckpt"
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, plain)
    now = asdict(module.pipeline.postprocess) | {"long_side": module.pipeline.resize.long_side}
    module.tta = TestTimeAugmentation(tile=320)
    chosen = choose(np.ones((1, 1, 7)), [now], now, 2, 0.0, 1)
    write_with_pipeline(plain, module, chosen.pipeline(module.pipeline), chosen.to_dict(), tuned)
    assert load_module(plain).tta == TestTimeAugmentation()
    assert load_module(tuned).tta == load_module(tuned, DetectorOverrides(tta={"tile": None})).tta == module.tta
    assert load_module(tuned, DetectorOverrides(tta={"tile": 640})).tta.tile == 640


class Modes(L.Callback):
    """Notes after each step which modules of the network train."""

    def __init__(self) -> None:
        self.training: list[dict[str, bool]] = []

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: object) -> None:
        self.training.append({name: layer.training for name, layer in pl_module.network.named_modules()})


def fitted(overrides: list[str], network: dict | None = None) -> tuple[DetectionModule, dict, Modes]:
    """A module after two epochs, each with a validation; its state before; and the modes of its layers."""
    given = settings(*TINY, *overrides)
    L.seed_everything(0, verbose=False)
    module = build_module(given)
    if network:
        module.set_network(instantiate(network))
    with torch.no_grad():
        for parameter in module.parameters():  # no round numbers, which an average keeps by luck
            parameter.add_(0.01 * torch.rand_like(parameter))
        for buffer in module.network.buffers():
            buffer.copy_(torch.full_like(buffer, 7) if buffer.ndim == 0 else 1 + 0.1 * torch.rand_like(buffer))
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    modes = Modes()
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[WeightAveraging(multi_avg_fn=warmed_up_ema(0.99)), modes],
    )  # fmt: skip
    trainer.fit(module, datamodule=build_data(given.data, module.pipeline, given.seed))
    assert trainer.global_step == 4 and len(modes.training) == 4
    return module, before, modes


def changed(module: DetectionModule, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in module.network.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_backbone_is_unchanged_to_the_bit():
    """Weights, batch-norm statistics and counters; its stochastic depth is off too."""
    frozen = ["+lr_multipliers.backbone=0", "model.backbone.pretrained=false",
              "+model.backbone.kwargs.drop_path_rate=0.5"]  # fmt: skip
    module, before, modes = fitted(frozen)
    state = set(before)
    backbone = {name for name in state if name.startswith("backbone.")}
    assert any(name.endswith("running_var") for name in backbone)
    assert any(name.endswith("num_batches_tracked") for name in backbone)
    assert not changed(module, before) & backbone
    assert {name for name in state - backbone if "running_mean" in name} < changed(module, before)
    for training in modes.training:
        assert training[""] and training["head"] and training["neck"]
        assert not any(value for name, value in training.items() if name.startswith("backbone"))
    module.train()
    images = torch.randn(2, 3, 64, 64)
    for a, b in zip(module.network.backbone(images), module.network.backbone(images)):
        assert torch.equal(a, b)
    assert module.network(images).threshold is not None


def test_synchronised_norms_compute_the_same(module: DetectionModule):
    """Also those of timm with an activation inside, which torch's own conversion drops."""
    images = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    before, names = module.probability_maps(images), set(module.state_dict())
    norms = [n for n, layer in module.network.named_modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    sync = trainer.SyncNorms()
    assert sync.revert(sync.apply(module)) is module and set(module.state_dict()) == names
    assert all(isinstance(module.network.get_submodule(name), torch.nn.SyncBatchNorm) for name in norms) and norms
    np.testing.assert_array_equal(module.probability_maps(images), before)


def test_without_a_share_of_zero_the_whole_network_trains():
    module, before, modes = fitted(["model.backbone.pretrained=false"])
    assert changed(module, before) == set(before)
    assert all(all(training.values()) for training in modes.training)


def test_a_frozen_head_still_gives_the_threshold_map():
    """The head as a whole stays in training mode: in evaluation mode it would leave out what the loss needs."""
    frozen = ["+lr_multipliers={head:0,threshold:0}", "model.backbone.pretrained=false"]
    module, before, modes = fitted(frozen)
    assert not {name for name in changed(module, before) if name.startswith("head.")}
    assert {name for name in before if name.startswith(("backbone.", "neck."))} == changed(module, before)
    assert all(t["head"] and not t["head.probability"] and not t["head.threshold.1"] for t in modes.training)


def test_a_frozen_stem_of_a_graph_is_unchanged_to_the_bit():
    """A network read from ONNX has no modules for its parts: its layers are frozen one by one."""
    widths = {"stem": (3, 8), "body": (8, 8)}
    nodes, last = [], "image"
    for part, (inside, outside) in widths.items():
        nodes += [
            {"op": "conv", "name": part, "inputs": [last], "in_channels": inside, "out_channels": outside,
             "kernel_size": 3, "padding": 1, "stride": 2 if part == "stem" else 1},
            {"op": "batch_norm", "name": f"{part}_norm", "inputs": [part], "num_features": outside},
        ]  # fmt: skip
        last = f"{part}_norm"
    nodes += [
        {"op": "conv", "name": "down", "inputs": [last], "in_channels": 8, "out_channels": 8, "kernel_size": 2,
         "stride": 2},
        {"op": "add", "name": "neck", "inputs": ["down", "down"]},
        {"op": "conv", "name": "mix", "inputs": ["neck"], "in_channels": 8, "out_channels": 8, "kernel_size": 1},
        {"op": "batch_norm", "name": "mix_norm", "inputs": ["mix"], "num_features": 8},
        {"op": "deconv", "name": "out", "inputs": ["mix_norm"], "in_channels": 8, "out_channels": 1, "kernel_size": 4,
         "stride": 4},
    ]  # fmt: skip
    network = {"_target_": "ocr.models.onnx.graph.GraphDetector", "nodes": nodes}
    module, before, modes = fitted(["+lr_multipliers.stem=0", "model.backbone.pretrained=false"], network)
    stem = {name for name in before if name.startswith(("layers.stem", "layers.body"))}
    assert {part: len(p) for part, p in module.network.parts().items()}["stem"] == 8
    assert {name for name in stem if "num_batches_tracked" in name}
    assert changed(module, before) == set(before) - stem
    assert all(t[""] and not t["layers.stem_norm"] and t["layers.mix_norm"] for t in modes.training)


def test_metrics_stay_on_the_cpu_when_the_module_goes_to_a_device_without_float64(module: DetectionModule):
    """Apple's GPUs have no float64, in which the metrics count."""
    square = np.array([[0, 0], [40, 0], [40, 40], [0, 40]], np.float32)

    def move(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor.to("meta")

    module._apply(move)  # what module.to("mps") does to every parameter, buffer and state below a module
    truths = [Truth([square, square + 50], np.zeros(2, bool))]
    module.metrics.update([Detections([square], np.ones(1))], truths)
    values, _ = module.metrics.compute()
    assert next(module.parameters()).is_meta and module.metrics.totals["hmean"].dtype == np.float64
    assert values["recall"] == 0.5 and all(value.device.type == "cpu" for value in values.values())
