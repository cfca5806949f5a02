"""What earlier releases wrote and what their users typed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from ocr.errors import UserError
from ocr.migrations import migrate_config, migrate_network, migrate_overrides, stored_tta
from ocr.pipeline import Pipeline
from tests.tiny import OFF, network_config, run

OLD_NETWORK = {
    "_target_": "ocr.models.detector.DBDetector",
    "backbone": {"_target_": "ocr.models.backbone.TimmBackbone", "name": "mobilenetv3_small_050", "pretrained": False,
                 "kwargs": {}},
    "neck_channels": 16, "adaptive_scale_fusion": False, "head_channels": 4, "prior": 0.1,
}  # fmt: skip


def test_a_network_description_gets_todays_names():
    assert migrate_network(OLD_NETWORK) == network_config()
    assert migrate_network(network_config()) == network_config()


@pytest.mark.parametrize(
    "old, new",
    [
        ("views.turns=[90]", "tta.rotations=[90]"),
        ("views.tile=1280", "tta.tile=1280"),
        ("+optimizer.lr_shares.stem=0", "+lr_multipliers.stem=0"),
        ("optimizer.lr_shares={threshold: 3}", "lr_multipliers={threshold: 3}"),
        ("optimizer.schedule=poly", "schedule=poly"),
        ("optimizer.warmup_share=0.1", "schedule.warmup_fraction=0.1"),
        ("optimizer.kind=lamb", "optimizer=lamb"),
        ("pipeline=ppocr", "model/pipeline@fallback_pipeline=ppocr"),
        ("pipeline.postprocess.thresh=0.3", "fallback_pipeline.postprocess.thresh=0.3"),
        ("loss@model.loss=db", "model/loss=db"),
        ("data=photographed", "data=camera"),
        ("data.mix_share=0.2", "data.mix_ratio=0.2"),
        ("callbacks.ema.avg_fn.decay=0.9", "callbacks.ema.multi_avg_fn.decay=0.9"),
        ("data.train.0.share=[0,1]", "data.train.0.hash_range=[0,1]"),
        ("data.val=[{format: icdar, share: [0.8,1]}]", "data.val=[{format: icdar, hash_range: [0.8,1]}]"),
    ],
)
def test_an_old_setting_works_and_a_line_names_the_new_one(old: str, new: str):
    migrated, [note] = migrate_overrides([old])
    assert migrated == [new] and ("hash_range" in note or new.lstrip("+").partition("=")[0] in note)


def test_todays_settings_stay_as_they_are():
    today = ["model.pipeline.resize.long_side=640", "optimizer.lr=1e-3", "name=views", "model.neck.channels=8",
             "data.root=pipeline", "+metrics.x._target_=ocr.metrics.hmean.Hmean"]  # fmt: skip
    assert migrate_overrides(today) == (today, [])


def test_what_was_removed_is_refused_by_name():
    for override in ("views.scales=[1.0,0.5]", "callbacks.hard_examples={share: 0.3}", "data.targets.shrink=height",
                     "model.batch_norms=true"):  # fmt: skip
        with pytest.raises(UserError, match=override.partition("=")[0]):
            migrate_overrides([override])
    assert migrate_overrides(["changes=none"])[0] == []
    with pytest.raises(UserError, match="views.scales"):
        stored_tta({"views": {"scales": [1.0, 0.5]}})
    assert stored_tta({"views": {"turns": [90], "tile": 640}}) == {"rotations": [90], "tile": 640}


def test_a_stopped_runs_config_gets_todays_names():
    old = {"data": {"targets": {"_target_": "ocr.data.targets.TargetMaker", "shrink": "area", "shrink_ratio": 0.5}}}
    new = {"data": {"targets": {"_target_": "ocr.data.targets.maps.TargetMaker", "shrink_ratio": 0.5}}}
    assert migrate_config(old) == new
    scan = {"format": "icdar", "share": [0.0, 0.8]}
    mixed = {"data": {"train": [scan, {"format": "camera", "of": [scan]}], "mix_share": 0.1}}
    scan_now = {"format": "icdar", "hash_range": [0.0, 0.8]}
    assert migrate_config(mixed) == {
        "data": {"train": [scan_now, {"format": "camera", "of": [scan_now]}], "mix_ratio": 0.1}
    }
    old["data"]["targets"]["shrink"] = "height"
    with pytest.raises(UserError, match="data.targets.shrink=height"):
        migrate_config(old)


def test_a_pipeline_of_the_first_format_is_read_with_a_warning(pipeline: Pipeline, caplog: pytest.LogCaptureFixture):
    plain = pipeline.to_dict() | {"format_version": 1}
    del plain["postprocess"]["unclip"]
    with caplog.at_level(logging.WARNING):
        migrated = Pipeline.from_dict(plain)
    assert migrated.postprocess.unclip == "ratio" and migrated.resize == pipeline.resize
    assert "runners/tune.py" in caplog.text
    with pytest.raises(UserError, match="newer"):
        Pipeline.from_dict(pipeline.to_dict() | {"format_version": 99})


@pytest.mark.slow
def test_a_checkpoint_of_before_gives_the_same_predictions(learned: Path, tmp_path: Path):
    content = torch.load(learned / "checkpoints/best.ckpt", weights_only=True)
    network = content["hyper_parameters"]["network"]
    content["hyper_parameters"]["network"] = OLD_NETWORK | {
        "neck_channels": network["neck"]["channels"], "head_channels": network["head"]["channels"],
    }  # fmt: skip
    content["views"] = {"tile": 4096}
    torch.save(content, tmp_path / "old.ckpt")
    done = run("test", f"ckpt_path={tmp_path / 'old.ckpt'}", "trainer=cpu", "data.num_workers=0", OFF, "name=old",
               "views.merge=mean", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "views.merge is called tta.merge now" in done.stderr
    [predictions] = tmp_path.glob("runs/old/*/predictions.jsonl")
    assert predictions.read_text() == (learned / "predictions.jsonl").read_text()
