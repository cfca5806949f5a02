"""The largest batch that fits, and what is said where one does not."""

from __future__ import annotations

import pytest
import torch

from ocr.errors import UserError
from ocr.jobs.build import build_data, build_module
from ocr.training.memory import explain_out_of_memory, largest_batch
from ocr.training.trainer import build_trainer
from tests.composing import settings
from tests.tiny import OFF, TINY, run


@pytest.mark.parametrize("room", [1, 2, 3, 7, 8, 100, 1000])
def test_the_search_ends_within_an_eighth_of_what_fits_and_never_above_it(room: int):
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= room

    for limit in (5, 64, 5000):
        expected = min(room, limit)
        assert expected - max(1, expected // 8) < largest_batch(fits, limit) <= expected
    assert max(tried) <= 5000 and len(tried) < 40
    assert largest_batch(lambda size: False, 8) == 0


@pytest.mark.parametrize(
    "step, error, words",
    [
        ("training_step", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nMore"),
         "data.batch_size=4 crops of 96x96: lower data.batch_size (trainer.accumulate_grad_batches makes up for it)"),
        ("validation_step", RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 GiB"),
         "data.eval_batch_size=1 whole images: lower it, or the resize policy's size"),
    ],
)  # fmt: skip
def test_what_needed_the_memory_and_what_to_lower_is_said(
    step: str, error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
):
    given = settings(*TINY, "model.compile=false")
    module = build_module(given)
    data = build_data(given.data, module.pipeline, given.seed).load("train", "val")

    def full(*_: object) -> None:
        raise error

    full.__code__ = full.__code__.replace(co_name=step)
    monkeypatch.setattr(module, step, full)
    trainer = build_trainer(given.trainer, [])
    with pytest.raises(UserError) as caught, explain_out_of_memory(trainer, data):
        trainer.fit(module, datamodule=data)
    said = str(caught.value)
    assert said.startswith("out of memory on cpu with ") and words in said and "9 GiB" in said and "\n" not in said


@pytest.mark.slow
@pytest.mark.parametrize("size, words", [("auto", "data.batch_size=auto needs a GPU"), ("some", "data.batch_size")])
def test_a_size_that_cannot_be_found_is_one_line(size: str, words: str, tmp_path):
    done = run("train", *TINY, OFF, f"data.batch_size={size}", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
