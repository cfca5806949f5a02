"""What a user sees who types something wrong, and how quickly the help comes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from ocr.errors import UserError
from ocr.jobs.command_line.arguments import check_command_line
from tests.conftest import ROOT, quad, write_image
from tests.tiny import OFF, TINY, run


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["trainer.max_epoch=3"], ["no setting 'trainer.max_epoch'", "did you mean 'trainer.max_epochs'"]),
        (["optimiser.lr=1"], ["no setting 'optimiser.lr'", "did you mean 'optimizer.lr'"]),
        (["data=sroi"], ["sroie", "data/sroi"]),
        (["data=sroie"], ["data.root is not set", "data.root=<value>"]),
        (["data=sroie", "data.root=nowhere"], ["image folder not found: nowhere/img"]),
        (["trainer.max_epochs"], ["trainer.max_epochs"]),
        (["model.backbone.name=resnet_19"], ["no model 'resnet_19'"]),
        (["model.pipeline.postprocess.thresh=3"], ["thresh must lie in 0..1"]),
        (["model.loss.bce=3", ], ["no setting 'model.loss.bce'", "model.loss.bce_weight"]),
        (["+model.loss.bce=3"], ["bce"]),
        (["model.loss={bce_weigth: 3}"], ["'model.loss.bce_weigth'", "did you mean 'model.loss.bce_weight'"]),
        (["lr_multipliers={neck: 0}"], ["no setting 'lr_multipliers.neck'", "+lr_multipliers=..."]),
        (["optimizer.lr=-1"], ["optimizer.lr must be at least 0"]),
        (["optimizer._target_=torch.optim.Nope"], ["optimizer._target_", "Nope"]),
        (["schedule.decay=steps"], ["schedule.decay must be cosine or poly"]),
        (["optimizer.lr=text"], ["optimizer.lr must be a number, got 'text'"]),
        (["trainer.devices=text"], ["trainer"]),
        (["data.batch_size=0"], ["data.batch_size"]),
        (["data.num_workers=many"], ["data.num_workers"]),
        (["seed=abc"], ["seed must be a whole number"]),
        (["seed=-1", "overlays=-2"], ["seed must be at least 0", "overlays must be true or false or at least 0"]),
        (["name=../elsewhere"], ["name must be"]),
        (["name=null"], ["name must be text, got None"]),
        (["trainer=null"], ["a config group", "takes the name of one of its files"]),
        (["+note=${nowhere}"], ["nowhere"]),
        (["resume=nowhere"], ["resume=nowhere"]),
        (["trainer=gpu"], ["trainer:"]),
        (["callbacks.ema.multi_avg_fn.decay=2"], ["decay"]),
    ],
)  # fmt: skip
def test_a_user_error_is_one_line_and_exit_code_2(arguments: list[str], words: list[str], tmp_path: Path):
    import torch

    if arguments == ["trainer=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = run("train", OFF, *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(message) == 1, done.stderr
    for word in words:
        assert word in message[0]


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, node


def test_text_in_place_of_any_number_is_a_user_error():
    from hydra import compose, initialize_config_dir

    from ocr.jobs.settings import TrainSettings, read
    from ocr.utils.config import plain_config

    OmegaConf.register_new_resolver("token", lambda: "abc", replace=True)
    taken = []
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", overrides=["data=camera", "data.root=x", "paths.run_dir=x", "tuning=default"])
        read(config, TrainSettings)
        for path, value in _leaves(plain_config(config)):
            numbers = [v for v in (value if isinstance(value, list) else [value]) if type(v) in (int, float)]
            if not numbers or path == "trainer.devices" or path.startswith("model.network."):  # text, too; references
                continue
            OmegaConf.update(config, path, ["text"] * len(value) if isinstance(value, list) else "text")
            try:
                read(config, TrainSettings)
                taken.append(path)
            except UserError as error:
                if "\n" in str(error):
                    taken.append(f"{path}: more than a line")
            OmegaConf.update(config, path, value)
    assert not taken


PATHS = [
    "영수증/",
    "a=b",
    "a[1]",
    "a#b",
    "it's",
    "~/x",
    "a,b",
    "{x}",
    "[1]",
    "a$(b)",
    "a(b)",
    "a&b",
    "2024_01",
    'a"b',
    "a\\",
]


@pytest.mark.parametrize("value", PATHS)
def test_a_path_that_must_be_quoted_is_shown_quoted_for_the_shell(value: str):
    with pytest.raises(UserError) as raised:
        check_command_line([f"data.root={value}" + ("'" if value.endswith("\\") else "")])
    value += "'" if value.endswith("\\") else ""
    assert "data.root" in str(raised.value) and "\n" not in str(raised.value)
    suggested = str(raised.value).partition("quote it: ")[2]
    echo = subprocess.run(["bash", "-c", f"printf %s {suggested}"], capture_output=True, text=True, check=True)
    check_command_line([echo.stdout])
    assert OverridesParser.create().parse_override(echo.stdout).value() == value


def test_a_suggested_command_finds_the_folder_when_pasted(tmp_path: Path):
    folder = tmp_path / "영수증 #1, it's [2024]"
    write_image(folder / "images/a.jpg")
    (folder / "labels").mkdir()
    (folder / "labels/gt_a.txt").write_text(",".join(str(v) for p in quad(5, 5) for v in p) + ",x\nbroken\n")
    own = [OFF, "data=folder", "data.val_from=1.0", "data.strict=true"]
    first = run("train", *own, f"data.root={folder}", cwd=tmp_path)
    assert first.returncode == 2 and "Traceback" not in first.stderr
    suggested = first.stderr.partition("quote it: ")[2].strip()
    command = f"{sys.executable} {ROOT / 'runners/train.py'} {' '.join(own)} {suggested}"
    pasted = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert pasted.returncode == 2 and "gt_a.txt:2" in pasted.stderr, "it has got as far as the labels"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--data.root=영수증"], "quote it: 'data.root=\"영수증\"'"),
        (["--foo"], "no option --foo"),
        (["data.root =x"], "write data.root=x"),
        (["data.root= x"], "write data.root=x"),
        (["data.root", "=", "x"], "write data.root=x"),
        (["data.root=my", "receipts"], "if it belongs to data.root, quote it: 'data.root=\"my receipts\"'"),
        (["data.train=[{format:icdar,images:영수증}]"], "'data.train=[{format:icdar,images:\"영수증\"}]'"),
        (["-m", "data.root=영,수"], '\'data.root="영","수"\''),
        (["optimizer.lr=1e-3,3e-3"], "a sweep (-m)"),
    ],
)
def test_a_misspelt_argument_is_shown_as_it_should_be(arguments: list[str], words: str):
    with pytest.raises(UserError) as raised:
        check_command_line(arguments)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "optimizer.lr=1e-3,3e-3", "--cfg", "job"], ["resume=true", "name=2024", "data.root=null", "~debug"],
        ["logger.tags=[a,b]", "+x={a: 1}", "data.root='a b'", "data.root=my receipts", "logger.notes=", "a.b=${c}"],
    ],
)  # fmt: skip
def test_sound_arguments_pass(arguments: list[str]):
    assert sorted(check_command_line(arguments)) == sorted(arguments)


def test_settings_with_hyphens_are_those_without():
    assert check_command_line(["--optimizer.lr=0.1", "seed=1", "--cfg=job", "-m"]) == [
        "optimizer.lr=0.1", "seed=1", "--cfg=job", "-m",
    ]  # fmt: skip


def test_options_may_stand_between_settings(tmp_path: Path):
    done = run("train", "seed=5", "--cfg", "job", "name=x", cwd=tmp_path)
    assert done.returncode == 0 and "seed: 5" in done.stdout and "name: x" in done.stdout


@pytest.mark.parametrize("choice", ["hydra/launcher=joblib", "hydra/sweeper=optuna"])
def test_a_plugin_that_is_not_installed_is_named_with_its_package(choice: str, tmp_path: Path):
    group, name = choice.split("=")
    done = run("train", OFF, choice, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert f"pip install hydra-{name}-{group.removeprefix('hydra/')}" in done.stderr


@pytest.mark.parametrize(
    "runner, arguments, code",
    [
        ("train", ["+my.token=planted["], 2),
        ("train", ["--my.token=planted"], 2),
        ("train", ["my.token=planted"], 2),
        ("train", ["+my.token=planted", "data=planted"], 2),
        ("train", ["-m", "+my.auth_token=planted,planted22", "optimizer.lr=-1"], 2),
        ("train", ["+my.auth_token=[planted]", "+callbacks.x={_target_: tests.tiny.Broken}", *TINY], 1),
        ("doctor", ["+my.token=planted[", "--timeout=1"], 1),
        ("doctor", ["--my.token=planted", "--timeout=1"], 1),
        ("doctor", ["+my.pw=planted", "logger.planted=1", "--timeout=1"], 1),
    ],
)
def test_the_screen_shows_no_secret_of_the_command_line(runner: str, arguments: list[str], code: int, tmp_path: Path):
    own = [] if runner == "doctor" else [OFF]
    done = run(runner, *own, *arguments, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == code, done.stderr
    assert "planted" not in done.stdout + done.stderr and "***" in done.stdout + done.stderr
    assert "Traceback" in done.stderr or code == 2 or runner == "doctor"
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"planted" in p.read_bytes()]


@pytest.mark.parametrize("content", [None, b"", b"not a checkpoint", b"PK\x03\x04 nor this"])
def test_a_wrong_checkpoint_is_a_user_error(content: bytes | None, tmp_path: Path):
    path = tmp_path / "a.ckpt"
    if content is not None:
        path.write_bytes(content)
    done = run("test", OFF, f"ckpt_path={path}", cwd=tmp_path)
    assert done.returncode == 2 and "a.ckpt" in done.stderr and "Traceback" not in done.stderr
    assert "weights_only" not in done.stderr, "torch's advice to load it all the same"


def test_strict_data_names_the_line(tmp_path: Path):
    write_image(tmp_path / "set/images/a.jpg")
    (tmp_path / "set/labels").mkdir()
    sound = ",".join(str(v) for p in quad(5, 5) for v in p)
    (tmp_path / "set/labels/gt_a.txt").write_text(f"{sound},x\nbroken\n")
    arguments = [OFF, "data=folder", f"data.root={tmp_path}/set", "data.val_from=1.0", "data.strict=true"]
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and "gt_a.txt:2" in done.stderr


def test_help_and_config_come_without_torch():
    for flag in ("--help", "--cfg=job"):
        code = (
            "import runpy, sys\n"
            f"sys.argv = ['runners/train.py', {flag!r}]\n"
            "sys.path.insert(0, 'runners')\n"
            "try: runpy.run_path('runners/train.py', run_name='__main__')\n"
            "except SystemExit: pass\n"
            "print('TORCH' if 'torch' in sys.modules else 'LIGHT')"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.rstrip().endswith("LIGHT"), done.stdout[-300:] + done.stderr[-300:]


@pytest.mark.slow
def test_a_sweep_gives_each_job_its_own_folder(tmp_path: Path):
    one = [*TINY, OFF, "test=false", "trainer.max_epochs=1", "name=2024", "optimized_metric=val/nothing"]
    done = run("train", "-m", *one, "optimizer.lr=1e-3,3e-3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("runs/2024/sweep_*/*/metrics.json"))) == 2
    assert "optimized_metric=val/nothing was not measured" in done.stdout + done.stderr


@pytest.mark.slow
def test_thirty_run_folders_do_not_collide(tmp_path: Path):
    import os

    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    seen = set()
    for _ in range(30):
        OmegaConf.register_new_resolver("token", lambda: os.urandom(3).hex(), use_cache=True, replace=True)
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = compose("train", return_hydra_config=True, overrides=["name=x"])
        seen.add(config.hydra.run.dir)
    assert len(seen) == 30


def test_make_data_writes_a_set_that_can_be_read_back(tmp_path: Path):
    from ocr.data.sources.build import build_sources

    done = run("make_data", "output=receipts", "count=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec = {"format": "icdar", "images": "images", "annotations": "labels"}
    [source], report = build_sources([spec], str(tmp_path / "receipts"), "train", strict=True)
    assert len(source) == 3 and not report.problems
    assert run("make_data", "output=receipts", "count=3", cwd=tmp_path).returncode == 2
