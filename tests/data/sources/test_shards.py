"""A set in shards is the set that it was made of, from a folder and over a network, and says so where it is not."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ocr.audit.splits import read_splits
from ocr.data import datasets
from ocr.data.datasets import EvalSet
from ocr.data.formats.shards import LIST, ShardIndex, read_list
from ocr.data.index import cache
from ocr.data.index.report import Report
from ocr.data.sources.build import build_source, build_sources, resolve_sources
from ocr.data.sources.shards import ShardSource
from ocr.data.storage import remote
from ocr.data.storage.block_cache import BLOCK_BYTES, BlockCache
from ocr.data.storage.mirror import local_folder
from ocr.errors import UserError
from ocr.jobs.convert import ConvertSettings, convert
from ocr.jobs.make_data import write_icdar
from tests.data.test_dataset import make_data
from tests.file_server import FileServer

AUTO = {"format": "auto", "images": "auto", "annotations": "auto", "ids": "auto"}
SPLITS = {"train": [AUTO | {"split": "train", "hash_range": [0.0, 0.8]}],
          "val": [AUTO | {"split": "val", "hash_range": [0.8, 0.9]}]}  # fmt: skip


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 12 receipts with a training and a validation part."""
    folder = tmp_path_factory.mktemp("loose")
    for part, count, seed in (("train", 9, 1), ("val", 3, 2)):
        write_icdar(folder / part, count, seed, 0.5)
    return folder


@pytest.fixture(scope="module")
def shards(loose: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in shards of few receipts."""
    output = tmp_path_factory.mktemp("shards")
    written = convert(ConvertSettings({"root": str(loose), **SPLITS}, "shards", str(output), 0.1))
    assert written == {part: output / part / LIST for part in ("train", "val")}
    assert len(list((output / "train").glob("*.tar"))) >= 3
    return output


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_WAIT_SECONDS", 0.01)
    local_folder.cache_clear()


def source_of(root: Path | str, split: str = "train", cache_gb: float = 1.0):
    specs = resolve_sources(SPLITS[split], str(root), cache_gb=cache_gb)
    [source], _ = build_sources(specs, str(root), split, False, cache_gb)
    return source


def assert_equal(one, other) -> None:
    """Two sources have the same samples, in whatever order."""
    places = {Path(other.name(i)).name: i for i in range(len(other))}
    assert len(one) == len(other) == len(places) > 1
    for i in range(len(one)):
        k = places[Path(one.name(i)).name]
        (image, truth), (image_2, truth_2) = one.load(i), other.load(k)
        assert np.array_equal(image, image_2) and truth.texts == truth_2.texts and len(truth.texts) > 1
        assert all(np.array_equal(a, b) for a, b in zip(truth.polygons, truth_2.polygons, strict=True))
        assert truth.ignore.tolist() == truth_2.ignore.tolist()
        assert one.sizes()[i].tolist() == other.sizes()[k].tolist() == [*image.shape[1::-1]]
        assert np.array_equal(one.open(i).pixels(2), other.open(k).pixels(2))
    assert one.counts() == other.counts() and one.counts()["instances"] > 10
    assert sorted(one.identities()) == sorted(other.identities())


@pytest.mark.parametrize("split", ["train", "val"])
def test_shards_hold_the_set_that_they_were_made_of(loose: Path, shards: Path, split: str):
    source = source_of(shards, split)
    assert isinstance(source, ShardSource)
    assert_equal(source, source_of(loose, split))
    assert_equal(pickle.loads(pickle.dumps(source)), source)


def test_members_are_those_that_webdataset_looks_for(shards: Path):
    """Two files per sample one after the other, by a name without a dot; labels as JSON, images as they were."""
    keys = []
    for path in sorted((shards / "train").glob("*.tar")):
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            assert [m.name.partition(".")[2] for m in members] == ["json", "jpg"] * (len(members) // 2)
            for label, image in zip(members[::2], members[1::2], strict=True):
                assert label.name.partition(".")[0] == image.name.partition(".")[0]
                keys.append(label.name)
                plain = json.load(tar.extractfile(label))
                assert Image.open(io.BytesIO(tar.extractfile(image).read())).size == (plain["width"], plain["height"])
                assert len(plain["polygons"]) == len(plain["texts"]) == len(plain["ignore"]) > 1
    assert len(set(keys)) == len(keys) == 9


def test_shards_are_written_again_as_files(loose: Path, shards: Path, tmp_path: Path):
    data = {"root": str(shards), **SPLITS}
    convert(ConvertSettings(data, "icdar", str(tmp_path / "files"), 1))
    assert_equal(source_of(tmp_path / "files"), source_of(loose))


def test_a_set_without_parts_is_split_by_hashes_of_names(loose: Path, shards: Path):
    found = {}
    for root in (shards / "train", loose / "train"):
        for split, part in (("train", [0.0, 0.5]), ("val", [0.5, 0.6])):  # a small set: val reaches to the end
            specs = resolve_sources([AUTO | {"split": split, "hash_range": part}], str(root))
            [source], _ = build_sources(specs, str(root), split, False)
            found[root, split] = {Path(source.name(i)).name for i in range(len(source))}
    for split in ("train", "val"):
        assert found[shards / "train", split] == found[loose / "train", split] != set()
    assert len(found[loose / "train", "train"] | found[loose / "train", "val"]) == 9


@pytest.mark.parametrize(
    "cache_gb, words", [("abc", "must be a number, got 'abc'"), (-1, "at least 0"), (None, "None")]
)
def test_a_wrong_size_of_the_cache_is_one_line(shards: Path, cache_gb, words: str):
    with pytest.raises(UserError, match=f"data.cache_gb.*{words}"):
        read_splits({"root": str(shards), "cache_gb": cache_gb, **SPLITS})


def test_a_list_of_ids_is_refused_and_named_labels_are_not_passed_over(loose: Path, shards: Path, tmp_path: Path):
    """Both would be dropped without a word where the folder has shards, too."""
    shutil.copytree(loose / "train", tmp_path / "set")
    shutil.copytree(shards / "train", tmp_path / "set", dirs_exist_ok=True)
    base = {**SPLITS["train"][0], "hash_range": [0.0, 1.0]}
    [listed] = resolve_sources([base | {"ids": "some.txt"}], str(tmp_path / "set"))
    with pytest.raises(UserError, match="unknown: ids"):
        build_source(listed, tmp_path / "set", Report())
    [named] = resolve_sources([base | {"annotations": "labels"}], str(tmp_path / "set"))
    assert named["format"] == "icdar" and named["annotations"] == "labels"


def test_parts_of_a_set_are_other_sets(shards: Path):
    train = source_of(shards)
    part = train.only(range(1, len(train)))
    assert len(part) == len(train) - 1 and part.name(0) == train.name(1)
    assert part.fingerprint() != train.fingerprint() == source_of(shards).fingerprint()
    assert sum(part.runs()) == len(part) and len(train.runs()) == len(train.shards)


def test_shards_over_http_are_those_on_disk(shards: Path, tmp_path: Path):
    server = FileServer(shards)
    with server.running() as url:
        source, local = source_of(url), source_of(shards)
        assert_equal(source, local)
        assert source.fingerprint() == local.fingerprint() and source.name(0).startswith(f"{url}/train/shard-0")
        tars = [request for request in server.requests if request[1].endswith(".tar")]
        assert tars and all(wanted for _, _, wanted in tars), "parts of tars alone"
        assert len(tars) == len(set(tars)), "each part once"
        server.requests.clear()
        local_folder.cache_clear()
        assert_equal(source_of(url), local)
        assert not [path for _, path, _ in server.requests if path.endswith((".tar", ".npz"))], "all of it is kept"


@pytest.mark.parametrize("cache_gb, workers", [(1.0, 2), (0.0, 0)])
def test_batches_from_http_are_those_from_disk(pipeline, shards: Path, cache_gb: float, workers: int):
    with FileServer(shards).running() as url:
        batches = []
        for root in (url, str(shards)):
            local_folder.cache_clear()
            splits = {"train": SPLITS["train"], "val": SPLITS["val"], "test": None}
            data = make_data(pipeline, root=root, cache_gb=cache_gb, num_workers=workers, **splits).load("train", "val")
            batches.append([*data.train_dataloader(), *data.val_dataloader()])
    assert len(batches[0]) == len(batches[1]) > 4
    for one, other in zip(*batches):
        if "targets" in one:
            assert torch.equal(one["image"], other["image"]) and torch.equal(one["targets"], other["targets"])
        else:
            assert all(torch.equal(a, b) for a, b in zip(one["images"], other["images"], strict=True))


def test_a_network_that_fails_now_and_then_is_asked_again(shards: Path):
    server = FileServer(shards)
    with server.running() as url:
        source = source_of(url)
        server.failures = 2
        assert source.load(0)[1].texts
        server.failures = 100
        other = next(i for i in range(len(source)) if source.name(i).split("/")[-2] != source.name(0).split("/")[-2])
        with pytest.raises(UserError, match=r"shard-00000\d.tar cannot be read: .*503"):
            source.load(other)


def test_a_store_that_lists_nothing_denies_what_is_not_there(shards: Path, tmp_path: Path):
    server = FileServer(shards)
    with server.running() as url:
        server.missing = 403
        assert len(source_of(url)) == 9
        server.folder = tmp_path
        local_folder.cache_clear()
        server.requests.clear()
        with pytest.raises(UserError, match="cannot be read: .*403"):
            source_of(url)
        assert len(server.requests) == 8, "asked once for each place"


def test_a_server_without_parts_of_files_is_named(shards: Path):
    server = FileServer(shards)
    with server.running() as url:
        server.gives_parts = False
        with pytest.raises(UserError, match="gives whole files"):
            source_of(url, cache_gb=0).load(0)


def test_old_blocks_make_room(tmp_path: Path):
    content = np.random.default_rng(0).bytes(5 * BLOCK_BYTES + 1000)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.tar").write_bytes(content)
    server, store = FileServer(tmp_path / "files"), BlockCache(tmp_path / "blocks", 3 * BLOCK_BYTES)
    with server.running() as url:

        def read(start: int, end: int) -> None:
            assert store.read(f"{url}/a.tar", "v1", len(content), start, end) == content[start:end]

        read(BLOCK_BYTES - 10, BLOCK_BYTES + 10)  # in two blocks
        read(len(content) - 5, len(content))
        for block in (2, 0, 3, 0, 4):
            read(block * BLOCK_BYTES, block * BLOCK_BYTES + 1)
            kept = [path for path in (tmp_path / "blocks").iterdir() if path.is_file()]
            assert sum(path.stat().st_size for path in kept) <= 3 * BLOCK_BYTES
        server.requests.clear()
        read(0, 10)
        assert not server.requests, "what is read often stays"
        read(2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 1)
        assert len(server.requests) == 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, caplog):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.tar").write_bytes(b"x" * 1000)
    (tmp_path / "blocks").write_text("a file where the folder should be")
    with FileServer(tmp_path / "files").running() as url:
        assert BlockCache(tmp_path / "blocks", 10**9).read(f"{url}/a.tar", "v1", 1000, 5, 9) == b"xxxx"
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize(
    "harm, words",
    [
        (lambda folder: (folder / "shard-000001.tar").unlink(), "shard-000001.tar: No such file"),
        (lambda folder: (folder / "shard-000001.npz").unlink(), "shard-000001.npz: No such file"),
        (lambda folder: (folder / "shard-000001.npz").write_bytes(b"other"), "not the index that shards.json names"),
        (lambda folder: (folder / "shard-000001.tar").write_bytes(b"short"), "has 5 bytes, and shards.json says"),
        (lambda folder: (folder / LIST).write_text("{"), "no list of shards"),
        (lambda folder: (folder / LIST).write_text('{"version": 2, "shards": []}'), "version 2, and 1 is read"),
        (lambda folder: (folder / LIST).write_text('{"version": 1, "samples": 1, "shards": []}'), "no list of shards"),
    ],
)  # fmt: skip
def test_a_damaged_set_is_refused_in_a_line(shards: Path, tmp_path: Path, harm, words: str):
    shutil.copytree(shards / "train", tmp_path / "set")
    harm(tmp_path / "set")
    with pytest.raises(UserError, match=words):
        build_source({"format": "shards", "images": "set"}, tmp_path, Report())


def test_a_tar_of_the_right_length_with_other_content_is_noticed(shards: Path, tmp_path: Path):
    shutil.copytree(shards / "train", tmp_path / "set")
    for path in (tmp_path / "set").glob("*.tar"):
        path.write_bytes(bytes(path.stat().st_size))
    source = build_source({"format": "shards", "images": "set"}, tmp_path, Report())
    with pytest.raises(UserError, match="not the one that its index describes"):
        source.load(0)


def test_a_sample_is_not_taken_for_another(shards: Path):
    index = source_of(shards).index
    tar = (shards / "train/shard-000000.tar").read_bytes()
    (start, end), (other, _) = index.span(0), index.span(1)
    assert index.split(0, tar[start:end])
    with pytest.raises(ValueError, match="a member of .* bytes where the index has"):
        index.split(0, tar[other : other + end - start])


def test_evaluation_sorts_shards_by_size_a_part_at_a_time(pipeline, shards: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datasets, "SORTED_SAMPLES", 4)
    order = EvalSet([source_of(shards)], pipeline).by_size()
    assert order != sorted(order) and [sorted(order[k : k + 4]) for k in (0, 4, 8)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


@pytest.mark.parametrize(
    "spec, words",
    [({"ids": "x.txt"}, "unknown: ids"), ({"colour": 1}, "unknown: colour"), ({"images": None}, "images is missing")],
)  # fmt: skip
def test_settings_that_shards_do_not_have(shards: Path, spec: dict, words: str):
    with pytest.raises(UserError, match=words):
        build_source({"format": "shards", "images": "train", **spec}, shards, Report())


def test_a_large_index_is_mapped(shards: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "MIN_SAMPLES", 1)
    for _ in range(2):
        index = source_of(shards).index
        assert index.folder and np.array_equal(index.records, ShardIndex.read(
            shards / "train", read_list((shards / "train" / LIST).read_bytes(), LIST)).records)  # fmt: skip
        assert not index.records.flags.writeable
        assert pickle.loads(pickle.dumps(index)).folder == index.folder
