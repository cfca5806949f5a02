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

from ocr.jobs.command_line.hydra_log import clean_settings
from ocr.tracking.secrets import HIDDEN, Redactor, is_secret_name
from ocr.utils.config import plain_config
from tests.conftest import ROOT
from tests.standin import KEY, StandIn
from tests.tiny import OFF, SMALL, TINY, run, run_folder

ENVIRONMENT = {
    "SERVICE_TOKEN": "tok-3f9a1c77e0",
    "DB_PASSWORD": "pa55 w0rd/ä",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI",
}
DOT_ENV = {"HF_TOKEN": "hf_planted_in_dot_env"}
OVERRIDES = {
    "+my.auth_token": "[planted-in-list,planted_in_list_too]",
    "+my.passwords": "{db: planted-in-dictionary}",
    "+my.pin_secret": "83746152",
    "+my.pw": "planted-under-pw",
    "+my.signed": "https://store/x?sig=planted-signature&seed=1",
    "+my.folded": "https:/bob:planted-in-folded-url@store",
    "+my.header": "Authorization: Bearer planted.in.header",
    "logger.run_name": "of_planted_in_a_name",
    "+my.name_token": "planted_in_a_name",
    "logger.group": "planted_in_a_name",
    "+storage.secret_key": "planted-in-override-1",
    "+storage.url": "https://ann:planted-in-url@store/bucket",
    "+storage.note": "api_key: planted-in-note",
    "+storage.copy": "${oc.env:SERVICE_TOKEN}",
    "logger.notes": "password=planted-in-notes-2",
    "logger.tags": "[baseline,tok-3f9a1c77e0]",
}
PLANTED = [*ENVIRONMENT.values(), *DOT_ENV.values(), KEY, "planted-in-override-1", "planted-in-url", "planted-in-note",
           "planted-in-notes-2", "planted-in-list", "planted_in_list_too", "planted-in-dictionary", "83746152",
           "planted-under-pw", "planted-signature", "planted-in-folded-url", "planted.in.header", "planted_in_a_name",
           "planted-in-a-name"]  # fmt: skip


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
    planted = [f"{k}={v}" if v[0] in "[{" or v.isdigit() else f"{k}='{v}'" for k, v in OVERRIDES.items()]
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
    assert "Authorization: Bearer ***" in overrides and "https://store/x?sig=***&seed=1" in overrides


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


@pytest.mark.parametrize(
    "text, shown",
    [
        ("at https:/bob:PW@host/x", "at https:/***@host/x"),  # as pathlib folds it
        ("https://bob:p@ss@host, s3://key:se/cret@bucket", "https://***@host, s3://***@bucket"),
        ("clone https://ghp_abc@github.com/x", "clone https://***@github.com/x"),
        ("curl -H 'Authorization: Bearer abc.def-1' x", "curl -H 'Authorization: Bearer ***' x"),
        ("authorization: Basic Zm9vOmJhcg==", "authorization: Basic ***"),
        ('{"password": "x y", "b": 1}', '{"password": ***, "b": 1}'),
        ("see https://h/p?X-Amz-Signature=ff&sig=a%2F&b=1", "see https://h/p?X-Amz-Signature=***&sig=***&b=1"),
        ("+my.auth_token=[x,y]", "+my.auth_token=***"),
        ("seed=1,+my.auth_token=[x,y],b=2", "seed=1,+my.auth_token=***,b=2"),
        ("+my.token=a,b", "+my.token=***"),  # values of a sweep
        ("+my.token='hunter2", "+my.token=***"),  # a syntax error
        ("of smtp_pass=x authToken=y AWSAccessKeyId=z", "of smtp_pass=*** authToken=*** AWSAccessKeyId=***"),
    ],
)
def test_secrets_are_known_by_the_text_around_them(text: str, shown: str):
    assert Redactor({}).text(text) == Redactor({}).text(Redactor({}).text(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "monitor=val/hmean keys=3 author=ann pin_memory=true signal=9 design=x tokenizer=bpe passes=2 pwm=1",
        "runs/${now:%Y-%m-%d}_${token:} max_tokens=5 save_token=true",
        "+db.password=${oc.env:DB_PASSWORD}",
        "http://host:8080/a@v1 and ssh://git@github.com/x",
        "size mismatch for body.conv_pw.weight: copying a parameter; x.conv_pw: 3",
    ],
)
def test_what_only_looks_like_a_secret_stays(text: str):
    assert Redactor({}).text(text) == text


def test_none_of_the_projects_own_settings_counts_as_a_secret():
    from hydra import compose, initialize_config_dir

    OmegaConf.register_new_resolver("token", lambda: "abc", replace=True)
    for name in ("train", "test", "tune", "predict", "export", "make_data", "benchmark"):
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            config = plain_config(compose(name))
        assert Redactor({}).plain(config) == config


def test_lists_numbers_and_dictionaries_under_a_secret_name_are_hidden():
    redactor = Redactor({})
    data = {"auth_token": ["aa", 17], "passwords": {"db": "bb", "port": 5432.5, "on": True}, "pin_secret": 83746152}
    assert redactor.plain(data) == {
        "auth_token": [HIDDEN, HIDDEN], "passwords": {"db": HIDDEN, "port": HIDDEN, "on": True}, "pin_secret": HIDDEN,
    }  # fmt: skip
    redactor.learn(data)
    assert redactor.text("the pin is 83746152") == "the pin is ***"


def test_a_secret_is_hidden_in_the_shapes_that_it_takes():
    redactor = Redactor({"X_TOKEN": "a_b/c d'e", "PROXY": "https://bob:planted-pw@proxy"})
    for shape in ("a_b/c d'e", "a-b-c-d-e", "a_b%2Fc%20d%27e", "a-b/c d'e", "a_b/c d'\"'\"'e", "a_b/c d\\'e"):
        assert redactor.text(f"run {shape}.") == "run ***."
    assert redactor.text("x_planted-pw") == redactor.text("x_planted_pw") == "x_***"


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
    clean_settings(path, redactor)
    assert OmegaConf.to_container(OmegaConf.load(path)) == {
        "a": "${b}", "b": HIDDEN, "password": HIDDEN, "list": [f"+k.token={HIDDEN}"],
    }  # fmt: skip


def test_home_and_login_are_hidden_on_request():
    environment = {"HOME": "/users/zelda", "USER": "zelda"}
    text = "/users/zelda/data and /users/zeldas, by zelda_sroie"
    assert Redactor(environment).text(text) == text
    assert Redactor(environment, private=True).text(text) == "~/data and /users/zeldas, by user_sroie"
    assert os.environ.get("HOME") != "/users/zelda"


def test_settings_of_a_private_run_can_still_be_executed(tmp_path: Path):
    path = tmp_path / "overrides.yaml"
    items = ["data.root=/users/sroie/x", "name='/users/sroie/y'", "+head._target_=ocr.models.head.Head", "data=sroie",
             "logger.notes=by zelda"]  # fmt: skip
    OmegaConf.save(OmegaConf.create(items), path)
    environment = {"HOME": "/users/sroie", "USER": "sroie", "LOGNAME": "ocr", "USERNAME": "zelda"}
    clean_settings(path, Redactor(environment, private=True))
    assert OmegaConf.to_container(OmegaConf.load(path)) == [
        "data.root=${oc.env:HOME}/x", "name='${oc.env:HOME}/y'", *items[2:4], "logger.notes=by ***",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_a_checkpoint_executes_is_never_rewritten(tmp_path: Path):
    words = {"USER": "ocr", "LOGNAME": "ocr", "APP_TOKEN": "DBDetector", "DB_PASSWORD": "ocr.models"}
    own = {"HOME": str(tmp_path / "home-of-zelda"), **words}
    work = Path(own["HOME"], "work")
    work.mkdir(parents=True)
    short = ["data.epoch_samples=8", "trainer.max_epochs=1", "test=false"]
    done = run("train", *SMALL, OFF, "logger.private=true", *short, cwd=work, **own)
    assert done.returncode == 0, done.stderr
    folder = run_folder(work)
    tested = run("test", OFF, f"ckpt_path={folder}", *SMALL[4:7], "data.num_workers=0", "trainer=cpu", cwd=work, **own)
    assert tested.returncode == 0, tested.stderr
    checkpoints = [p for p in contents(folder) if ".ckpt" in p[0]]
    assert finds(["ocr.models.detector.DBDetector"], checkpoints), "the network as it was configured"
    assert not finds(["home-of-zelda"], checkpoints)
    resumed = run("train", f"resume={folder}", "trainer.max_epochs=2", cwd=work, **own)
    assert resumed.returncode == 0, resumed.stderr


@pytest.mark.parametrize(
    "value, private", [("https://bob:hunter2@host/x", False), ("https:/bob:hunter2@host/x", False), ("~/x", True)]
)
def test_a_network_that_would_carry_a_password_into_checkpoints_is_refused(value: str, private: bool, tmp_path: Path):
    value = os.path.expanduser(value)
    weights = f"+model.backbone.kwargs.pretrained_cfg_overlay={{url: '{value}'}}"
    arguments = [*TINY, OFF, f"logger.private={private}", weights]
    done = run("train", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert "model.network.backbone.kwargs.pretrained_cfg_overlay.url" in done.stderr
