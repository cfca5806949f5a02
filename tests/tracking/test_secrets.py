"""Planted secrets are found nowhere: not on disk, not in what the server received."""

from __future__ import annotations

import gzip
import logging
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ocr.tracking.secrets import HIDDEN, Redactor, is_secret_name
from tests.standin import KEY, StandIn
from tests.tiny import TINY, run

ENVIRONMENT = {
    "SERVICE_TOKEN": "tok-3f9a1c77e0",
    "DB_PASSWORD": "pa55 w0rd/ä",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
}
DOT_ENV = {"HF_TOKEN": "hf_planted_in_dot_env"}
OVERRIDES = {
    "+storage.secret_key": "planted-in-override-1",
    "+storage.url": "https://ann:planted-in-url@store/bucket",
    "+storage.note": "api_key: planted-in-note",
    "+storage.copy": "${oc.env:SERVICE_TOKEN}",
    "logger.notes": "password=planted-in-notes-2",
    "logger.tags": "[baseline,tok-3f9a1c77e0]",
}
PLANTED = [*ENVIRONMENT.values(), *DOT_ENV.values(), KEY, "planted-in-override-1", "planted-in-url", "planted-in-note",
           "planted-in-notes-2"]  # fmt: skip


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder with its name, and what compressed ones hold."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        yield str(path), path.name.encode() + b"\n" + path.read_bytes()
        if path.suffix == ".gz":
            yield str(path), gzip.decompress(path.read_bytes())
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path}:{name}", name.encode() + b"\n" + archive.read(name)


def finds(words: list[str], pieces: Iterator[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """Which words stand in which pieces, plain, escaped or as UTF-16."""
    found = []
    for name, content in pieces:
        for word in words:
            shapes = [word.encode(), word.encode("unicode_escape"), word.encode("utf-16-le")]
            if any(shape in content for shape in shapes):
                found.append((word, name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("online", [False, True])
def test_planted_secrets_are_nowhere(online: bool, tmp_path: Path):
    home = tmp_path / "home-of-zelda"
    work = home / "project"
    work.mkdir(parents=True)
    (work / ".env").write_text("".join(f"{k}='{v}'\n" for k, v in DOT_ENV.items()) + f"WANDB_API_KEY = '{KEY}'\n")
    planted = [f"{key}={value}" if value.startswith("[") else f"{key}='{value}'" for key, value in OVERRIDES.items()]
    arguments = [*TINY, *planted, "logger.private=true", "trainer.max_epochs=1", "logger.transmit_interval=1"]
    data = ["data.test=[{format:synthetic,count:2,seed:3}]", "data.num_workers=0", "trainer=cpu"]
    with StandIn() as server:
        there = {k: v for k, v in server.env().items() if k != "WANDB_API_KEY"}
        env = {**ENVIRONMENT, **there, "HOME": str(home), "USER": "zelda", "LOGNAME": "zelda",
               "XDG_CACHE_HOME": str(tmp_path / "cache"), "WANDB_DATA_DIR": str(tmp_path / "data"),
               "MPLCONFIGDIR": str(tmp_path / "mpl"), "WANDB_MODE": "online" if online else "offline"}  # fmt: skip
        done = run("train", *arguments, cwd=work, **env)
        assert done.returncode == 0, done.stderr
        [folder] = (work / "runs/synthetic").iterdir()
        tested = run("test", f"ckpt_path={folder}", *data, "logger.private=true", "+db.password=planted-in-override-1",
                     cwd=work, **env)  # fmt: skip
        assert tested.returncode == 0, tested.stderr
        sent = list(server.bodies)
    assert bool(sent) == online
    pieces = lambda: [*contents(work / "runs"), *((str(n), body) for n, body in enumerate(sent))]  # noqa: E731
    assert len(list(pieces())) > 40
    assert finds(["mobilenetv3_small_050"], pieces()), "the search itself works"
    assert not finds(PLANTED, pieces())
    recorded = [p for p in pieces() if not p[0].endswith("predictions.jsonl")]
    assert not finds(["zelda"], recorded), "home paths and login, on request"
    printed = [("printed", (d.stdout + d.stderr).encode()) for d in (done, tested)]
    assert not finds(PLANTED, iter(printed))
    overrides = (folder / ".hydra/overrides.yaml").read_text()
    assert f"+storage.secret_key={HIDDEN}" in overrides and "trainer.max_epochs=1" in overrides


def test_values_are_known_by_their_names():
    redactor = Redactor({"MY_API_KEY": "abcdef123", "PWD": "/here/it/is", "PIN_TOKEN": "xyz"})
    assert redactor.text("is abcdef123 at /here/it/is, xyz and xyzzy") == "is *** at /here/it/is, xyz and xyzzy"
    assert redactor.text("xyz") == HIDDEN
    redactor.learn({"a": [{"password": "s3cr3t-value"}], "max_tokens": 5})
    assert redactor.plain({"n": "the s3cr3t-value", "token": "any", "max_tokens": 5, "m": None}) == {
        "n": "the ***", "token": HIDDEN, "max_tokens": 5, "m": None,
    }  # fmt: skip
    assert redactor.text("data.key=1 --token abc monitor=val/hmean") == "data.key=1 --token abc monitor=val/hmean"
    assert not is_secret_name("keypoints") and not is_secret_name("tokenizer") and is_secret_name("wandb.api_key")


def test_the_log_holds_no_secret_not_even_in_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    handler = logging.FileHandler(tmp_path / "run.log")
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [handler])
    redactor = Redactor({"X_TOKEN": "very-secret"})
    redactor.guard_logging()
    redactor.guard_logging()
    try:
        raise ValueError("with very-secret inside")
    except ValueError:
        logging.getLogger("x").exception("found %s", "very-secret")
    handler.close()
    text = (tmp_path / "run.log").read_text()
    assert "very-secret" not in text and text.startswith("ERROR found ***") and "Traceback" in text


def test_settings_on_disk_are_cleaned_in_place(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("a: ${b}\nb: 'it''s: a #secret'\npassword: 'x y'\nlist:\n- +k.token=abc\n")
    redactor = Redactor({"K_TOKEN": "it's: a #secret"})
    redactor.clean_yaml(path)
    assert OmegaConf.to_container(OmegaConf.load(path)) == {
        "a": "${b}", "b": HIDDEN, "password": HIDDEN, "list": [f"+k.token={HIDDEN}"],
    }  # fmt: skip


def test_home_and_login_are_hidden_on_request():
    environment = {"HOME": "/users/zelda", "USER": "zelda"}
    text = "/users/zelda/data and /users/zeldas, by zelda_sroie"
    assert Redactor(environment).text(text) == text
    assert Redactor(environment, private=True).text(text) == "~/data and /users/zeldas, by user_sroie"
    assert os.environ.get("HOME") != "/users/zelda"
