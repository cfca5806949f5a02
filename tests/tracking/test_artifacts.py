"""Artifacts as they lie in a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import wandb

from ocr.errors import UserError
from ocr.tracking.artifacts import Artifacts, read_staged
from ocr.tracking.secrets import Redactor
from ocr.tracking.tools.download import local_checkpoint
from tests.conftest import write_image


def data_set(folder: Path) -> dict[str, Path]:
    for name in ("a", "b"):
        write_image(folder / f"images/{name}.jpg")
    (folder / "labels.txt").write_text("x")
    return {"images": folder / "images", "labels.txt": folder / "labels.txt"}


def test_a_data_set_is_referenced_not_copied(offline_run: wandb.Run, tmp_path: Path):
    artifacts = Artifacts(offline_run, Path(offline_run.dir).parent, Redactor({}))
    artifacts.dataset("my set", {"fingerprint": {"train": "f"}}, data_set(tmp_path / "set"))
    assert artifacts.close(1) == []
    [entry] = read_staged(Path(offline_run.dir).parent)
    assert entry.collection == "data-my-set" and entry.type == "dataset" and entry.used
    assert set(entry.references) == {"images/a.jpg", "images/b.jpg", "labels.txt"}
    assert entry.references["labels.txt"]["ref"] == (tmp_path / "set/labels.txt").as_uri()
    assert list(entry.files) == ["dataset.json"]
    for path in (tmp_path / "set").rglob("*.*"):
        path.unlink()
    digest = entry.digest
    entry.build(Path(offline_run.dir).parent / "staged")
    assert entry.digest == digest, "the same artifact where the data are not"


@pytest.mark.parametrize("label", ["/abs/olute", "../beside", "C:\\receipts", "./here", "."])
def test_data_that_lie_elsewhere_are_referenced_too(label: str, offline_run: wandb.Run, tmp_path: Path):
    data_set(tmp_path / "set")
    artifacts = Artifacts(offline_run, Path(offline_run.dir).parent, Redactor({}))
    artifacts.dataset("x", {"fingerprint": "f"}, {label: tmp_path / "set"})
    assert artifacts.close(1) == []
    [entry] = read_staged(Path(offline_run.dir).parent)
    assert sorted(name.rpartition("/")[2] for name in entry.references) == ["a.jpg", "b.jpg", "labels.txt"]
    entry.build(Path(offline_run.dir).parent / "staged")


def test_other_data_in_the_same_place_are_another_version(offline_run: wandb.Run, tmp_path: Path):
    paths = data_set(tmp_path / "set")
    digests = []
    for fingerprint in ("one", "two", "one"):
        artifacts = Artifacts(offline_run, Path(offline_run.dir).parent, Redactor({}))
        artifacts.dataset("x", {"fingerprint": fingerprint}, paths)
        digests.append(artifacts.staged[0].digest)
    assert digests[0] == digests[2] != digests[1]


def test_private_references_name_no_folder(offline_run: wandb.Run, tmp_path: Path):
    redactor = Redactor({"HOME": str(tmp_path)}, private=True)
    artifacts = Artifacts(offline_run, Path(offline_run.dir).parent, redactor)
    artifacts.dataset("x", {"fingerprint": "f", "root": str(tmp_path / "set")}, data_set(tmp_path / "set"))
    [entry] = artifacts.staged
    assert not entry.references
    written = json.loads((Path(offline_run.dir).parent / "staged/dataset.json").read_text())
    assert written["not_listed"] == {"images": 2, "labels.txt": 1} and written["root"] == "~/set"


def test_a_checkpoint_is_linked_when_final_and_copied_before(offline_run: wandb.Run, tmp_path: Path):
    path = tmp_path / "checkpoints/best.ckpt"
    path.parent.mkdir()
    path.write_bytes(b"first")
    artifacts = Artifacts(offline_run, Path(offline_run.dir).parent, Redactor({}))
    artifacts.checkpoint(path, ["best"], {"score": 0.5}, final=False)
    path.write_bytes(b"second")
    artifacts.checkpoint(path, ["best"], {"score": 0.6}, final=True)
    before, after = read_staged(Path(offline_run.dir).parent)
    folder = Path(offline_run.dir).parent / "staged"
    assert (folder / before.files["best.ckpt"]).read_bytes() == b"first"
    assert (folder / after.files["best.ckpt"]).samefile(path)
    assert before.digest != after.digest and after.metadata == {"score": 0.6}


@pytest.mark.parametrize("path", ["wandb:", "wandb:a/b/c/d", "wandb:a:b:c", "wandb:model-x"])
def test_a_model_that_cannot_be_had_is_a_user_error(path: str, tmp_path: Path):
    with pytest.raises(UserError, match=path):
        local_checkpoint(path, tmp_path, "project", None)
    assert local_checkpoint("a/b.ckpt", tmp_path, "project", None) == Path("a/b.ckpt")
