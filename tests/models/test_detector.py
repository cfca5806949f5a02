from __future__ import annotations

import logging
from functools import partial

import pytest
import torch

from ocr.errors import UserError
from ocr.models.backbones.timm import TimmBackbone
from ocr.models.detector import DBDetector
from ocr.models.heads.db import DBHead
from ocr.models.necks.fpn import FPN


def detector(fusion: bool = False, name: str = "mobilenetv3_small_050") -> DBDetector:
    torch.manual_seed(0)
    neck = partial(FPN, channels=32, adaptive_scale_fusion=fusion)
    return DBDetector(TimmBackbone(name, False), neck, partial(DBHead, channels=8, prior=0.1)).to(
        memory_format=torch.channels_last
    )


@pytest.mark.parametrize("fusion", [False, True])
def test_maps_have_the_input_size_and_threshold_only_in_training(fusion: bool):
    model = detector(fusion)
    x = torch.randn(2, 3, 64, 96).to(memory_format=torch.channels_last)
    maps = model.train()(x)
    assert maps.probability.shape == maps.threshold.shape == (2, 1, 64, 96)
    assert model.eval()(x).threshold is None


def test_the_threshold_branch_does_no_work_outside_training():
    model = detector().eval()
    calls = []
    model.head.threshold.register_forward_hook(lambda *_: calls.append(1))
    model(torch.randn(1, 3, 64, 64))
    assert not calls


def test_an_untrained_network_gives_the_prior():
    probability = detector().eval()(torch.zeros(1, 3, 64, 64)).probability.sigmoid()
    assert probability.mean().item() == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv4_conv_small", "convnext_atto"])
def test_backbones_of_different_kinds(name: str):
    backbone = TimmBackbone(name, False)
    features = backbone(torch.randn(1, 3, 64, 64))
    assert [f.shape[1] for f in features] == backbone.channels
    assert [64 // f.shape[2] for f in features] == backbone.strides == [4, 8, 16, 32]


def test_bf16_autocast():
    model = detector()
    with torch.autocast("cpu", torch.bfloat16):
        maps = model(torch.randn(2, 3, 64, 64))
    assert torch.isfinite(maps.probability).all()


@pytest.mark.slow
def test_compiled_network_gives_the_same_maps():
    model = detector().eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        plain = model(x).probability
        model.compile(backend="aot_eager")  # traces whole, without needing a C++ compiler
        torch.testing.assert_close(model(x).probability, plain, atol=1e-4, rtol=1e-4)


def test_unknown_or_unfit_backbones_say_so():
    with pytest.raises(UserError, match="no model 'resnet_18'"):
        TimmBackbone("resnet_18", False)
    with pytest.raises(UserError, match="cannot be a backbone"):
        TimmBackbone("resnet18", False, {"no_such_argument": 1})
    with pytest.raises(UserError, match="strides"):
        TimmBackbone("vit_tiny_patch16_224", False)


def test_a_hub_that_cannot_be_reached_is_not_asked(monkeypatch, caplog, tmp_path):
    """Its client would try again for a minute."""
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert not TimmBackbone("resnet18", True).pretrained
    assert "no pretrained weights" in caplog.text
    assert [record.name for record in caplog.records] == ["ocr.models.backbones.timm"], "not one attempt of the client"
    assert constants.HF_HUB_OFFLINE is False


def test_missing_pretrained_weights_are_a_warning(caplog):
    """Training goes on from random weights and says so."""
    with caplog.at_level(logging.WARNING):
        backbone = TimmBackbone("mnasnet_050", True)  # nobody has published weights for it
    assert not backbone.pretrained
    assert "no pretrained weights for mnasnet_050 (No pretrained weights exist" in caplog.text
