from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ocr.data.datamodule import DetectionData
from ocr.data.datasets import TrainSet
from ocr.data.index.report import Report
from ocr.data.index.sample_index import SampleIndex, StringTable
from ocr.data.samplers import PADDING_INDEX, EpochSampler, ShardSampler, draws_per_epoch
from ocr.data.sources.files import FileSource
from ocr.data.sources.synthetic import SyntheticReceipts
from ocr.data.targets.maps import TargetMaker
from ocr.data.transforms.random import RandomGeometry, RandomLight
from ocr.errors import UserError
from ocr.jobs.make_data import write_icdar
from ocr.types import Instance, LazySample, Sample, Truth
from tests.conftest import quad, write_image


def make_data(pipeline, **changes) -> DetectionData:
    settings = dict(
        train=[{"format": "synthetic", "count": 6, "seed": 1}],
        val=[{"format": "synthetic", "count": 3, "seed": 2}],
        test=[{"format": "synthetic", "count": 3, "seed": 2}],
        root=None, batch_size=2, eval_batch_size=2, num_workers=0, strict=False, train_fraction=1.0, train_draw=0,
        cache_gb=1, shuffle_window=8,
        geometry=RandomGeometry((64, 96), (0.5, 1), (1, 1), 5, 1.0),
        light=RandomLight(0.1, 0.1, 0.1, 0.1, 0.1, 3), targets=TargetMaker(0.4, 3), seed=3,
    )  # fmt: skip
    return DetectionData(pipeline=pipeline, **(settings | changes))


def test_batches_have_the_documented_shapes(pipeline):
    data = make_data(pipeline).load("train", "val")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 96, 64, 3) and batch["image"].dtype == torch.uint8
    assert batch["targets"].shape == (2, 4, 96, 64) and batch["targets"].dtype == torch.uint8
    batches = list(data.val_dataloader())
    assert [len(b["images"]) for b in batches] == [2, 1]
    image, (width, height) = batches[0]["images"][0], batches[0]["sizes"][0]
    assert tuple(image.shape[1::-1]) == pipeline.resize.padded_size(width, height)


def test_number_of_workers_changes_nothing(pipeline):
    batches = []
    for workers in (0, 2):
        data = make_data(pipeline, num_workers=workers).load("train")
        loader = data.train_dataloader()
        loader.batch_sampler.sampler.set_epoch(1)
        batches.append(list(loader))
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["targets"], b["targets"])


class Blocks:
    """One image, black where its texts are; a source."""

    weight = 1.0

    def __init__(self) -> None:
        corners = [(x, y) for y in range(20, 380, 48) for x in range(20, 280, 90)]
        self.polygons = [np.array([[x, y], [x + 60, y], [x + 60, y + 24], [x, y + 24]], np.float32) for x, y in corners]

    def __len__(self) -> int:
        return 1

    def open(self, i: int) -> LazySample:
        image = np.full((400, 300, 3), 255, np.uint8)
        for (x0, y0), _, (x1, y1), _ in (p.astype(int) for p in self.polygons):
            image[y0:y1, x0:x1] = 0
        truth = Truth(self.polygons, np.zeros(len(self.polygons), bool), ["A"] * len(self.polygons))
        return LazySample(300, 400, truth, lambda shrink: image)


def test_targets_lie_where_the_crop_shows_text(pipeline):
    """All texts of the crop have their kernels, those cut by its edge as well, and nothing else has."""
    light, geometry = RandomLight(0, 0, 0, 0, 0, 0), RandomGeometry((192, 192), (1.5, 2.5), (0.9, 1.1), 10, 1.0)
    crops = TrainSet([Blocks()], pipeline, geometry, light, TargetMaker(0.4, 3))
    for seed in range(8):
        crop = crops[(0, seed)]
        dark = crop["image"].numpy().max(axis=2) < 128
        kernels = crop["targets"][0].numpy().astype(bool)
        assert (dark & kernels).sum() >= 0.98 * kernels.sum() > 0
        count, areas = cv2.connectedComponents(dark.astype(np.uint8))
        large = [k for k in range(1, count) if (areas == k).sum() > 0.6 * np.bincount(areas.ravel())[1:].max()]
        assert all(kernels[areas == k].any() for k in large)


def test_mix_is_seen_in_training_only(pipeline):
    mix = [{"format": "synthetic", "count": 30, "seed": 9}]
    data = make_data(pipeline, mix=mix, mix_ratio=0.5, epoch_samples=20).load("train", "val")
    assert data.counts()["mix"]["images"] == 30 and "mix" in data.fingerprint()
    drawn = [i for i, _ in data.train_dataloader().batch_sampler.sampler]
    own = len(data.sources["train"][0])
    assert sum(i >= own for i in drawn) == sum(i < own for i in drawn) == 10
    with pytest.raises(UserError, match="mix_ratio"):
        make_data(pipeline, mix_ratio=0.1)
    assert "mix" not in make_data(pipeline, mix=mix).load("train").sources


def test_equal_splits_are_read_once(pipeline):
    data = make_data(pipeline).load("val", "test")
    assert data.sources["val"] is data.sources["test"]
    assert data.fingerprint()["val"] == data.fingerprint()["test"]


def test_epochs_draw_by_weight_without_repeats_and_ranks_share_out():
    sources = [SyntheticReceipts(10, 1), SyntheticReceipts(8, 2, weight=0.5), SyntheticReceipts(4, 3, weight=2.0)]
    draws = {}
    for epoch in range(2):
        ranks = []
        for rank in range(2):
            sampler = EpochSampler([10, 8, 4], draws_per_epoch(sources), 5, rank, 2)
            sampler.set_epoch(epoch)
            ranks.append(list(sampler))
        assert len(ranks[0]) == len(ranks[1]) == 11
        indices = [i for rank in ranks for i, _ in rank]
        assert sorted(i for i in indices if i < 10) == list(range(10))
        assert len({i for i in indices if 10 <= i < 18}) == 4
        assert sorted(i for i in indices if i >= 18) == sorted([18, 19, 20, 21] * 2)
        assert len({seed for rank in ranks for _, seed in rank}) == 22
        draws[epoch] = indices
    assert draws[0] != draws[1]


def test_an_epoch_reads_few_places_of_shards_at_a_time_and_ranks_read_others():
    shards, window = [500] * 128, 6400
    sampler = EpochSampler([shards], [64_000], seed=1, window=window)
    order = np.array([index for index, _ in sampler])
    assert sorted(order) == list(range(64_000))
    blocks = order // 50  # as many samples as one request brings
    spans = [np.ptp(np.flatnonzero(blocks == block)) for block in range(0, 1280, 7)]
    assert max(spans) <= 64 * 50 + 2 * window, "a block is read within a window and never again"
    assert len(set(order[20_000:20_032] // 500)) > 24, "a batch has samples of many shards"
    assert [*(order[:64] // 500)] != sorted(order[:64] // 500), "in another order than they have"
    for world_size in (2, 8, 64):
        ranks = [[i for i, _ in EpochSampler([shards], [64_000], 1, rank, world_size, window=window)]
                 for rank in range(world_size)]  # fmt: skip
        assert [i for turn in zip(*ranks) for i in turn] == order.tolist(), "ranks take turns along one order"
        assert all(len({i // 500 for i in rank}) == 128 // world_size for rank in ranks)
    sampler.set_epoch(1)
    assert [i for i, _ in sampler] != order.tolist()


@pytest.mark.parametrize("shards", [[3], [50] * 20, [7, 1, 200, 64]])
def test_sources_in_shards_and_others_share_an_epoch(shards: list[int]):
    total = sum(shards)
    order = [index for index, _ in EpochSampler([shards, 100], [2 * total, 100], seed=1, window=4096)]
    assert sorted(order) == sorted([*range(total)] * 2 + [*range(total, total + 100)])
    assert sorted(i for i in order if i < total)[::2] == list(range(total))
    places = np.flatnonzero(np.array(order) >= total)
    assert np.ptp(places) > len(order) / 2, "the other source is spread over the epoch"


@pytest.mark.parametrize("total, expected", [(None, [10, 4, 6]), (200, [100, 40, 60]), (10, [5, 2, 3])])
def test_mixed_sources_give_their_share_of_an_epoch_of_any_size(total, expected):
    own = [SyntheticReceipts(10, 1), SyntheticReceipts(8, 2, weight=0.5)]
    assert draws_per_epoch(own, [SyntheticReceipts(500, 3)], 0.3, total) == expected


def test_sources_of_a_mix_share_it_by_weight_whatever_their_size():
    own = [SyntheticReceipts(10, 1), SyntheticReceipts(8, 2, weight=0.5)]
    mix = [SyntheticReceipts(500, 3), SyntheticReceipts(7, 4, weight=2)]
    assert draws_per_epoch(own, mix, 0.3, 200) == [100, 40, 20, 40]


def test_a_source_may_lie_in_a_folder_of_its_own(pipeline, tmp_path: Path):
    write_icdar(tmp_path / "street", 4, 0, 0.3)
    mix = [{"root": str(tmp_path / "street"), "format": "auto", "images": "auto", "annotations": "auto", "ids": "auto"}]
    data = make_data(pipeline, mix=mix, mix_ratio=0.5).load("train", "val")
    assert data.counts()["mix"]["images"] == 4
    assert data.paths() == {f"street/{name}": tmp_path / "street" / name for name in ("images", "labels")}
    with pytest.raises(UserError, match="nowhere"):
        make_data(pipeline, mix=[{**mix[0], "root": str(tmp_path / "nowhere")}], mix_ratio=0.5).load("train")


@pytest.mark.parametrize("length, world", [(7, 2), (8, 4), (1, 3)])
def test_evaluation_shards_cover_all_once_in_equal_steps(length: int, world: int):
    shards = [list(ShardSampler(length, rank, world)) for rank in range(world)]
    assert len({len(s) for s in shards}) == 1
    assert sorted(i for s in shards for i in s if i != PADDING_INDEX) == list(range(length))


def test_index_keeps_labels_and_names(tmp_path: Path):
    samples = []
    for name, count in (("a", 2), ("ünï 한글", 0), ("c", 3)):
        image = write_image(tmp_path / f"{name}.png")
        instances = [Instance(np.float32(quad(5, 5 + 20 * k)), f"téxt {k}", k == 1) for k in range(count)]
        samples.append(Sample(image, instances, entries=count))
    index = SampleIndex.build(samples, Report())
    assert [index.path(i) for i in range(3)] == [s.image for s in samples]
    for i, sample in enumerate(samples):
        truth = index.truth(i)
        assert truth.texts == [x.text for x in sample.instances]
        assert truth.ignore.tolist() == [x.ignore for x in sample.instances]
        for a, b in zip(truth.polygons, sample.instances, strict=True):
            np.testing.assert_array_equal(a, b.polygon)


def test_an_index_of_100_000_samples_is_flat_arrays():
    """Nothing per sample is a Python object, so that no worker ever copies it, and it stays small."""
    count = 100_000
    index = SampleIndex(
        StringTable.build([f"/data/receipts/{i:06d}.jpg" for i in range(count)]),
        np.full((count, 2), 1000, np.int32),
        np.arange(count + 1, dtype=np.int64) * 10,
        np.zeros((count * 40, 2), np.float32),
        np.arange(count * 10 + 1, dtype=np.int64) * 4,
        np.zeros(count * 10, bool),
        StringTable.build(["text"] * (count * 10)),
    )
    arrays = [index.sizes, index.instance_offsets, index.points, index.point_offsets, index.ignore]
    arrays += [index.paths.data, index.paths.offsets, index.texts.data, index.texts.offsets]
    assert all(isinstance(a, np.ndarray) and a.dtype != object for a in arrays)
    assert sum(a.nbytes for a in arrays) < 100e6
    assert len(index.truth(77_777).polygons) == 10


def test_wrong_data_settings(pipeline):
    with pytest.raises(UserError, match="batch_size"):
        make_data(pipeline, batch_size=0)
    with pytest.raises(UserError, match="no setting colour_depth"):
        make_data(pipeline, colour_depth="x")
    with pytest.raises(UserError, match="no train split"):
        make_data(pipeline, train=[]).load("train")


class Noted:
    """A source that notes the size of the pixels it was asked for; with ``whole`` it gives all that there are."""

    def __init__(self, source: FileSource, whole: bool) -> None:
        self.source, self.whole, self.decoded = source, whole, []

    def __len__(self) -> int:
        return len(self.source)

    def open(self, i: int) -> LazySample:
        picture = self.source.open(i)

        def pixels(shrink: int) -> np.ndarray:
            image = picture.pixels(1 if self.whole else shrink)
            self.decoded.append(image.shape[:2])
            return image

        return replace(picture, pixels=pixels)


def test_a_large_photograph_is_decoded_as_fine_as_its_crop_needs(pipeline, tmp_path: Path):
    """Turned by EXIF, too: the crop shows the same, its targets are the same, and few pixels are decoded."""
    from PIL import Image

    image, truth = SyntheticReceipts(1, 1, difficulty=0.2).load(0)
    stored = Image.fromarray(image).resize((1500, 2400)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    (tmp_path / "img").mkdir()
    (tmp_path / "gt").mkdir()
    stored.save(tmp_path / "img" / "a.jpg", exif=exif, quality=95)
    scale = np.array([1500 / image.shape[1], 2400 / image.shape[0]])
    rows = [",".join(str(int(v)) for v in np.rint(p * scale).reshape(-1)) + ",text" for p in truth.polygons]
    (tmp_path / "gt" / "gt_a.txt").write_text("\n".join(rows))
    source = [{"format": "icdar", "images": "img", "annotations": "gt"}]
    plain = {"geometry": RandomGeometry((96, 96), (0.9, 1), (1, 1), 5, 1.0), "light": RandomLight(0, 0, 0, 0, 0, 0)}
    data = make_data(pipeline, root=str(tmp_path), train=source, val=source, **plain).load("train")
    [files] = data.sources["train"]
    samples, decoded = [], []
    for whole in (True, False):
        noted = Noted(files, whole)
        data.sources["train"] = [noted]
        samples.append(data.train_set()[0, 5])
        decoded += noted.decoded
    assert decoded[0] == (2400, 1500) and decoded[1][0] < 700, "the pipeline reads it at about 160"
    assert torch.equal(samples[0]["targets"], samples[1]["targets"])
    patches = [torch.nn.functional.avg_pool2d(s["image"].permute(2, 0, 1).float(), 6) for s in samples]
    assert patches[0].std() > 10 and (patches[0] - patches[1]).abs().mean() < 4, "the same place, light alike"
