"""Names of earlier releases and what replaced them. Old files load; old settings work for a release, with a warning."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ocr.errors import UserError

# classes that a checkpoint's description of its network, a run's settings or an exported file may name
CLASSES = {
    "ocr.models.backbone.TimmBackbone": "ocr.models.backbones.timm.TimmBackbone",
    "ocr.models.neck.FPN": "ocr.models.necks.fpn.FPN",
    "ocr.models.detector.DBHead": "ocr.models.heads.db.DBHead",
    "ocr.models.graph.GraphDetector": "ocr.models.onnx.graph.GraphDetector",
    "ocr.models.ppocr.pretrained_detector": "ocr.models.pretrained.ppocr.pretrained_detector",
    "ocr.models.loss.DBLoss": "ocr.models.losses.db.DBLoss",
    "ocr.training.ema.warmed_up_ema": "ocr.training.callbacks.ema.warmed_up_ema",
    "ocr.training.callbacks.BestScores": "ocr.training.callbacks.best_scores.BestScores",
    "ocr.training.callbacks.FiniteWeights": "ocr.training.callbacks.finite_weights.FiniteWeights",
    "ocr.training.progress.Progress": "ocr.training.callbacks.progress.Progress",
    "ocr.training.tuning.Grid": "ocr.tuning.grid.Grid",
    "ocr.tuning.search.Grid": "ocr.tuning.grid.Grid",
    "ocr.data.transforms.RandomGeometry": "ocr.data.transforms.random.RandomGeometry",
    "ocr.data.transforms.RandomLight": "ocr.data.transforms.random.RandomLight",
    "ocr.data.targets.TargetMaker": "ocr.data.targets.maps.TargetMaker",
}
_FPN, _HEAD = CLASSES["ocr.models.neck.FPN"], CLASSES["ocr.models.detector.DBHead"]

# settings and groups of the command line, the longest match counts
KEYS = {
    "views": "tta",
    "views.turns": "tta.rotations",
    "pipeline": "model/pipeline@fallback_pipeline",
    "pipeline.": "fallback_pipeline.",
    "pipeline@model.pipeline": "model/pipeline",
    "loss@model.loss": "model/loss",
    "optimizer.schedule": "schedule",
    "optimizer.warmup_share": "schedule.warmup_fraction",
    "optimizer.power": "schedule.power",
    "optimizer.final_share": "schedule.final_fraction",
    "optimizer.resume_schedule": "schedule.on_resume",
    "optimizer.lr_shares": "lr_multipliers",
    "optimizer.kind": "optimizer",
    "data.mix_share": "data.mix_ratio",
    "callbacks.ema.avg_fn": "callbacks.ema.multi_avg_fn",
}
STORED_KEYS = ("data.mix_share", "callbacks.ema.avg_fn")  # those of KEYS whose group has stayed
SOURCE_KEYS = {"share": "hash_range"}  # of a source in a data config
CHOICES = {("data", "photographed"): "camera"}
REMOVED = {
    "views.scales": "passes at other scales gained nothing: raise resize.long_side",
    "views.flips": "flipped passes gained nothing: upright=true is for pages that lie on their side",
    "callbacks.hard_examples": "drawing hard images more often gained nothing",
    "data.targets.shrink": "only the published offset (area) is left",
    "model.batch_norms": "optimizer=lamb trains such networks without them",
    "changes": "resize.* and postprocess.* override the stored pipeline without it",
}
HARMLESS_VALUES = (None, False, "null", "false", "none", "area", "")  # of removed settings: what is done without them


def migrate_network(node: Any) -> Any:
    """A stored description of a network, with today's classes and arguments."""
    if isinstance(node, (list, tuple)):
        return [migrate_network(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    node = {key: migrate_network(value) for key, value in node.items()}
    target = node.get("_target_")
    if isinstance(target, str):
        node["_target_"] = target = CLASSES.get(target, target)
    if target == "ocr.models.detector.DBDetector" and "neck_channels" in node:
        neck = {"_target_": _FPN, "_partial_": True, "channels": node.pop("neck_channels"),
                "adaptive_scale_fusion": node.pop("adaptive_scale_fusion")}  # fmt: skip
        head = {"_target_": _HEAD, "_partial_": True, "channels": node.pop("head_channels"), "prior": node.pop("prior")}
        node |= {"neck": neck, "head": head}
    return node


def migrate_config(node: Any, path: str = "") -> Any:
    """A stopped run's composed config with today's classes, without settings that were removed.

    Raises:
        UserError: a setting that was removed has another value than what is left.
    """
    if isinstance(node, list):
        return [migrate_config(value, path) for value in node]
    if not isinstance(node, Mapping):
        return CLASSES.get(node, node) if isinstance(node, str) else node
    migrated = {}
    for key, value in node.items():
        full_key = f"{path}.{key}" if path else str(key)
        if full_key in REMOVED:
            if value not in HARMLESS_VALUES:
                raise UserError(f"{full_key}={value} was removed: {REMOVED[full_key]}")
            continue
        new = KEYS[full_key].rpartition(".")[2] if full_key in STORED_KEYS else key
        migrated[new] = (
            migrate_sources(migrate_config(value, full_key)) if path == "data" else migrate_config(value, full_key)
        )
    return migrated


def migrate_sources(node: Any) -> Any:
    """Sources of a data config, and those within them, with today's settings."""
    if isinstance(node, (list, tuple)):
        return [migrate_sources(source) for source in node]
    if not isinstance(node, Mapping):
        return node
    return {SOURCE_KEYS.get(key, key): migrate_sources(value) if key == "of" else value for key, value in node.items()}


def stored_tta(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of test-time augmentation that a checkpoint was tuned for.

    Raises:
        UserError: they name something that was removed.
    """
    settings = dict(checkpoint.get("tta") or {})
    for key, value in (checkpoint.get("views") or {}).items():
        if f"views.{key}" in REMOVED:
            raise UserError(f"it was tuned with views.{key}={value}, which was removed: tune it again")
        settings["rotations" if key == "turns" else key] = value
    return settings


def migrate_overrides(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Overrides of the command line with today's names; and a line for each that was old."""
    migrated, notes = [], []
    for override in overrides:
        new, note = _migrate(override)
        migrated += new
        notes += note
    return migrated, notes


def _migrate(override: str) -> tuple[list[str], list[str]]:
    prefix = override[: len(override) - len(override.lstrip("+~"))]
    key, equals, value = override[len(prefix) :].partition("=")
    for old, reason in REMOVED.items():
        if key == old or key.startswith(f"{old}."):
            if value not in HARMLESS_VALUES:
                raise UserError(f"{key}={value}: {key} was removed: {reason}")
            return [], [f"{key} is ignored: {reason}"]
    if (key, value) in CHOICES:
        new = f"{key}={CHOICES[key, value]}"
        return [prefix + new], [f"{key}={value} is called {new} now; the old name works for this release"]
    if key.startswith("data.") and (renamed := _with_new_source_keys(override)) != override:
        return [renamed], ["share of a source is called hash_range now; the old name works for this release"]
    best = max((old for old in KEYS if _matches(key, old)), key=len, default=None)
    if best is None:
        return [_with_new_classes(override)], []
    new = KEYS[best] + key[len(best) :]
    if prefix == "+" and new != "lr_multipliers" and not new.startswith("lr_multipliers."):
        prefix = ""  # the key is there now
    return [f"{prefix}{new}{equals}{value}"], [f"{key} is called {new} now; the old name works for this release"]


def _matches(key: str, old: str) -> bool:
    return key.startswith(old) if old.endswith(".") else key == old or key.startswith(f"{old}.")


def _with_new_source_keys(override: str) -> str:
    """``data.train.0.share=...`` and ``data.train=[{share: ...}]`` with today's settings."""
    for old, new in SOURCE_KEYS.items():
        override = re.sub(rf"(?<=\.){old}(?==)|(?<=[{{,\s]){old}(?=\s*:)", new, override)
    return override


def _with_new_classes(override: str) -> str:
    for old, new in CLASSES.items():
        if f"{old}" in override and new not in override:
            override = override.replace(old, new)
    return override


def migrate_optimizer_state(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A ``load_state_dict_pre_hook`` of optimizers: moments of the former LAMB under timm's names.

    Returns:
        The state; settings that its groups lack are those of the optimizer.
    """
    names = {"mean": "exp_avg", "square": "exp_avg_sq"}
    moments = {key: {names.get(k, k): v for k, v in values.items()} for key, values in state["state"].items()}
    groups = []
    for group in state["param_groups"]:
        group = optimizer.defaults | group
        former = [state["state"][p] for p in group["params"] if "square" in state["state"].get(p, {})]
        if former:
            group["step"] = max(int(values["step"]) for values in former)
        groups.append(group)
    return {**state, "state": moments, "param_groups": groups}
