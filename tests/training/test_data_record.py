"""What a checkpoint knows of its data, and what a figure may be called."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ocr.data.index.identity import file_hashes
from ocr.data.index.report import Report
from ocr.data.index.sample_index import SampleIndex
from ocr.data.sources.files import FileSource
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.errors import UserError
from ocr.training.data_record import DataRecord, TrainingOverlap, read_record
from ocr.types import Instance, Sample
from tests.conftest import quad, write_image

SOURCE = {"format": "icdar", "images": "img", "annotations": "gt", "ids": None, "hash_range": [0.0, 0.8], "weight": 1.0}
CONFIG = {"name": "mine", "root": "/data/receipts", "train": [SOURCE], "val": [{**SOURCE, "hash_range": [0.8, 1]}],
          "test": []}  # fmt: skip
SEEN = {"train": np.arange(10), "val": np.arange(10, 14)}


def record(**changes: Any) -> DataRecord:
    return DataRecord(CONFIG | changes, {"train": "ab", "val": "cd"}, SEEN)


def saved(content: dict[str, Any], folder: Path) -> Path:
    torch.save(content, folder / "a.ckpt")
    return folder / "a.ckpt"


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path):
    mixed = [{"format": "camera", "of": [SOURCE], "seed": 1, "difficulty": 0.5}]
    for changes in ({}, {"test": mixed}, {"root": None, "val": [{"format": "synthetic", "count": 3, "seed": 1}]}):
        found = read_record(saved({"data": record(**changes).to_checkpoint()}, tmp_path))
        assert found.config == CONFIG | changes and found.fingerprint == {"train": "ab", "val": "cd"}
        assert all(np.array_equal(found.seen[split], SEEN[split]) for split in SEEN)
    assert read_record(saved({"state_dict": {}}, tmp_path)) is None


@pytest.mark.parametrize(
    "path, value",
    [
        (("config", "_target_"), "os.system"),
        (("config", "train", 0, "_target_"), "os.system"),
        (("config", "train", 0, "command"), "true"),
        (("config", "train", 0, "images"), "${oc.env:HOME}"),
        (("config", "train", 0, "images"), {"_target_": "os.system"}),
        (("config", "train", 0, "of"), [{"_target_": "os.system"}]),
        (("config", "root"), ["/data"]),
        (("config", "root"), "${oc.env:HOME}"),
        (("config", "name"), None),
        (("config", "test"), None),
        (("config",), "none"),
        (("seen",), {}),
        (("seen", "train"), torch.zeros(3)),
        (("fingerprint",), []),
    ],
)
def test_a_record_of_other_keys_or_values_is_refused(path: tuple, value: Any, tmp_path: Path):
    plain = copy.deepcopy(record().to_checkpoint())
    node = plain
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    with pytest.raises(UserError, match=r"a\.ckpt: what it says of its data"):
        read_record(saved({"data": plain}, tmp_path))


@pytest.mark.parametrize(
    "split, images, prefix, selected_on, words",
    [
        ("test", [20, 21], "test", None, None),
        ("test", [20, 3], "seen", "train", "1 of 2 image(s) were trained on"),
        ("test", [20, 12], "val", "val", "chosen on 1 of 2 image(s)"),
        ("val", [20], "val", None, None),
        ("val", [10, 11], "val", "val", "chosen on 2 of 2"),
        ("train", [1], "seen", "train", "1 of 1"),
    ],
)
def test_a_figure_is_called_a_test_only_on_images_that_nothing_was_learned_from(
    split: str, images: list[int], prefix: str, selected_on: str | None, words: str | None
):
    overlap = TrainingOverlap.of(split, np.array(images), record())
    assert (overlap.prefix, overlap.selected_on) == (prefix, selected_on)
    assert overlap.note is None if words is None else words in overlap.note


def test_an_image_is_known_again_where_it_lies_elsewhere(tmp_path: Path):
    paths = [write_image(tmp_path / folder / name) for folder, name in (("a", "1.png"), ("b", "1.png"), ("a", "2.png"))]
    first, copied, other = file_hashes(paths, [(200, 100)] * 3).tolist()
    assert first == copied != other
    write_image(paths[1], width=300)
    assert file_hashes(paths[1:2], [(300, 100)]).tolist() != [first], "the same name, another picture"


def test_drawn_receipts_of_another_seed_or_difficulty_are_others():
    known = SyntheticReceipts(3, seed=1).identities()
    assert not np.isin(SyntheticReceipts(3, seed=2).identities(), known).any()
    assert not np.isin(SyntheticReceipts(3, seed=1, difficulty=0.1).identities(), known).any()
    assert np.isin(SyntheticReceipts(5, seed=1).identities(), known).tolist() == [True] * 3 + [False] * 2


def test_some_samples_of_a_source_are_the_same_samples(tmp_path: Path):
    quads = [np.array(quad(5, 5 + 9 * j), np.float32) for j in range(3)]
    samples = [
        Sample(write_image(tmp_path / f"{k}.png"), [Instance(quads[j], f"{k}{j}") for j in range(k)]) for k in range(4)
    ]
    source = FileSource(SampleIndex.build(samples, Report()))
    some = source.only([3, 0, 2])
    assert [Path(some.name(k)).stem for k in range(3)] == ["3", "0", "2"]
    for k, i in enumerate((3, 0, 2)):
        a, b = some.index.truth(k), source.index.truth(i)
        assert a.texts == b.texts and np.array_equal(a.ignore, b.ignore) and len(a.polygons) == i
        assert all(np.array_equal(p, q) for p, q in zip(a.polygons, b.polygons))
    assert some.counts() == {"images": 3, "instances": 5, "ignored": 0}
    assert some.identities().tolist() == source.identities()[[3, 0, 2]].tolist()


def test_an_address_is_kept_as_it_is_and_left_out_of_private_checkpoints():
    splits = {split: [{"format": "shards", "images": "."}] for split in ("train", "val")}
    own = {"train": [{"format": "shards", "images": ".", "root": "gs://other/set"}], "val": splits["val"]}
    for data, private, root, trained in (
        (splits, False, "s3://bucket/set", splits["train"]), (splits, True, None, splits["train"]),
        (own, False, "s3://bucket/set", own["train"]), (own, True, None, []),
    ):  # fmt: skip
        record = DataRecord.of(Described("s3://bucket/set", data), "set", private)
        assert record.config["root"] == root and record.config["train"] == trained


class Described:
    """What a record asks of data, none of which was read."""

    def __init__(self, root, splits):
        self.root, self.splits, self.sources = root, splits, {}

    def resolved(self, split):
        return self.splits.get(split, [])

    def fingerprint(self):
        return {}


def test_a_record_for_strangers_names_no_folder_of_this_machine(tmp_path: Path):
    plain = {"format": "synthetic", "count": 2, "seed": 1}
    fonts = plain | {"style": "shop", "fonts": str(tmp_path)}
    config = {
        "name": "x",
        "root": str(tmp_path),
        "train": [fonts],
        "val": [plain],
        "test": [{"format": "camera", "of": [fonts]}],
    }
    seen = np.array([1, 2])
    record = DataRecord(config, {"train": "a"}, {"train": seen, "val": seen})
    assert str(tmp_path) in record.to_json()
    stripped = record.without_paths()
    assert str(tmp_path) not in stripped.to_json()
    assert stripped.config["val"] == [plain] and stripped.seen["train"].tolist() == [1, 2]
