"""Wrong settings are one line that names them, before anything is read or trained."""

from __future__ import annotations

import pytest

from ocr.errors import UserError, user_error
from ocr.jobs.build import build_callbacks, build_data, build_module
from tests.composing import settings


@pytest.mark.parametrize(
    "override, words",
    [
        ("data.geometry=null", "data.geometry must be a group of settings with a _target_, got None"),
        ("data.light=5", "data.light must be a group of settings with a _target_"),
        ("model.backbone=3", "model.backbone must be a group of settings with a _target_"),
        ("model.neck=null", "model.neck must be a group of settings with a _target_"),
        ("++model.pipeline=3", "model.pipeline must be a group of settings, got 3"),
        ("~model.pipeline.mean", "Pipeline needs the setting mean"),
        ("metrics.hmean=3", "metrics.hmean is no metric, got 3"),
        ("~trainer.accelerator", "trainer.accelerator is missing"),
        ("~trainer.precision", "trainer.precision is missing"),
        ("optimizer.betas=[0.9]", "optimizer: "),
        ("trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch must be at least 1"),
        ("trainer.gradient_clip_val=-1", "trainer.gradient_clip_val must be at least 0"),
        ("model.neck.channels=0", "model.neck.channels must be at least 1"),
        ("model.head.prior=2", "model.head.prior must be less than 1"),
        ("tuning.thresh=[2]", "tuning.thresh[0] must be at most 1"),
        ("callbacks.checkpoint.mode=biggest", "callbacks.checkpoint: "),
        ("data.train=[{format:synthetic,count:8,seed:-1}]", "data.train[0].seed must be at least 0"),
        ("data.train=[{format:synthetic,count:2.5,seed:1}]", "data.train[0].count must be a whole number"),
        ("data.train=[{format:synthetic,count:8,weight:abc}]", "data.train[0].weight must be a number"),
        ("data.train=[{format:camera,of:abc}]", "data.train[0].of must be a list"),
        ("data.val=[{format:camera,of:[{format:synthetic,count:abc}]}]", "data.val[0].of[0].count must be"),
        ("data.val=[{format:icdar,images:5,annotations:gt}]", "data.val[0].images must be text"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(override: str, words: str):
    with pytest.raises(UserError) as error:
        given = settings(override)
        module = build_module(given)
        build_data(given.data, module.pipeline, given.seed)
        build_callbacks(given.callbacks)
    assert str(error.value).count(words) == 1
    assert "\n" not in str(error.value)


def test_a_user_error_of_a_loader_worker_is_its_last_line():
    told = 'Caught UserError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File "x"\n'
    error = user_error(UserError(f"{told}ocr.errors.UserError: thresh must lie in 0..1: got 2\n"))
    assert str(error) == "thresh must lie in 0..1: got 2"
