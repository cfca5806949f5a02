"""Requests that are not the user's own, and overrides that do more than a browser may."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocr.console.limits import refusals
from tests.conftest import ROOT
from tests.console.serving import Served, served


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("guard")) as console:
        yield console


@pytest.mark.parametrize("path", ["/", "/runs", "/doctor", "/static/console.js", "/static/", "/nothing", "//x"])
def test_nothing_is_answered_without_the_token(console: Served, path: str):
    for headers in ({"Cookie": ""}, {"Cookie": "console_1=x"}, {"Cookie": console.cookie["Cookie"][:-1]}):
        status, text = console.ask(path, **headers)
        assert status == 401 and "<" not in text
    assert console.ask(f"{path}?token=wrong", Cookie="")[0] == 401
    assert console.ask(path, {"x": "y"}, Cookie="")[0] == 401


def test_the_printed_address_leads_to_a_page_and_a_cookie(console: Served):
    connection = http.client.HTTPConnection(console.base.removeprefix("http://"))
    connection.request("GET", console.address.removeprefix(console.base))
    answer = connection.getresponse()
    assert answer.status == 303 and answer.headers["Location"] == "/"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie
    assert console.ask("/", Cookie=cookie.partition(";")[0])[0] == 200
    assert console.ask(f"//evil.example/?token={console.address.partition('token=')[2]}", Cookie="")[0] in (303, 404)


def test_cookies_of_other_programs_do_not_lock_the_user_out(console: Served):
    for other in ('other={"a":1}', "a[b]=1", "=", "x"):
        assert console.ask("/runs", Cookie=f"{other}; {console.cookie['Cookie']}")[0] == 200


def test_a_foreign_host_or_origin_is_refused_also_with_the_token(console: Served):
    port = console.base.rpartition(":")[2]
    assert console.ask("/", Host=f"localhost:{port}")[0] == 200
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert 400 <= console.ask("/", Host=host or "x")[0] < 500, host
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"http://127.0.0.1:{port}.evil.example"):
        assert console.ask("/", Origin=origin)[0] == 403
        assert console.ask("/compose", {"set:seed": "1"}, Origin=origin)[0] == 403
    assert console.ask("/compose/check", {"set:seed": "1"}, Origin=console.base)[0] == 200
    assert console.ask("/compose", {"set:seed": "1"}, Sec_Fetch_Site="cross-site")[0] == 403


def test_a_socket_is_refused(console: Served):
    with socket.create_connection(("127.0.0.1", int(console.base.rpartition(":")[2]))) as connection:
        host = console.base.removeprefix("http://")
        connection.sendall(
            f"GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert connection.recv(100).split()[1].startswith(b"4")


def test_a_large_body_is_refused(console: Served):
    host = console.base.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("POST", "/compose/check", headers={"Content-Length": "100000000", **console.cookie})
    assert connection.getresponse().status == 413, "before any of it is read"
    connection = http.client.HTTPConnection(host, timeout=30)
    chunks = (b"more=" + b"x" * 100_000 for _ in range(1000))  # 100 MB whose length is not stated
    form = {"Content-Type": "application/x-www-form-urlencoded", **console.cookie}
    with contextlib.suppress(ConnectionError, http.client.HTTPException):  # ended before it was read
        connection.request("POST", "/compose/check", chunks, form, encode_chunked=True)
        assert connection.getresponse().status == 413
    assert console.ask("/runs")[0] == 200


def test_no_page_leaves_its_folder_and_none_has_a_script_of_its_own(console: Served, tmp_path: Path):
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/runs/..%2f..%2fetc%2fpasswd",
                 "/runs/%2e%2e"):  # fmt: skip
        status, text = console.ask(path)
        assert status in (307, 404) and "import" not in text and "root:" not in text
    connection = http.client.HTTPConnection(console.base.removeprefix("http://"))
    for path in ("/", "/runs", "/doctor", "/nothing"):
        connection.request("GET", path, headers=console.cookie)
        answer = connection.getresponse()
        text = answer.read().decode()
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy and "http" not in policy
        assert "style=" not in text and " on" + "click" not in text and text.count("<script") == 1
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "override, reason",
    [
        ("callbacks.ema._target_=os.system", "class"),
        ("+callbacks.x={_target_: os.system, command: ls}", "class"),
        ("data.train=[{format: synthetic, _target_: x}]", "class"),
        ("hydra.run.dir=/tmp/x", "Hydra"),
        ("hydra/job_logging=none", "Hydra"),
        ("paths.output=/tmp", "terminal"),
        ("trusted_targets=[os.system]", "terminal"),
        ("logger.notes=${oc.env:WANDB_API_KEY}", "environment"),
        ("logger.notes='${oc.env:WANDB_API_KEY}'", "environment"),
        ("+x=1", "added"),
        ("++seed=1", "no name"),
        ("~callbacks.ema", "removed"),
        ("data=../../etc/x", "there is no data="),
        ("callbacks=[default,nothing]", "there is no callbacks=nothing"),
        ("data.root=/etc", "none of the folders"),
        ("data.root=.", "none of the folders"),
        ("data.root=data/../../..", "none of the folders"),
        ("data.root='${name}/..'", "environment"),
        ("resume=/etc/passwd", "none of the folders"),
        ("data.root=s3://bucket/x", "none of the folders"),
        ("name=../x", "none of the folders"),
        ("logger.save_dir=/tmp", "terminal"),
        ("data.train=[{format: icdar, images: /etc, annotations: x}]", "none of the folders"),
        ("hydra/launcher=../../../../../tmp/x", "Hydra"),
        ("+hydra/launcher@hydra.sweeper=basic", "no name"),
        ("+optimizer@hydra.job.env_set=adamw", "no name"),
        ('logger.notes="${oc.${logger.project_name}:WANDB_API_KEY}"', "environment"),
        ("callbacks.checkpoint.dirpath=x", "terminal"),
        ("callbacks.checkpoint.filename=x", "terminal"),
        ("sweep.space=['paths.output=a,b']", "terminal"),
        ("sweep.storage=x.log", "terminal"),
        ("data.train=[{format: coco, images: x, annotations: y}]", "none of the folders"),
        ("data.train=[{format: coco, root: ., images: x, annotations: y}]", "none of the folders"),
        ("model.backbone.name=local-dir:/etc", "none of the folders"),
        ("model.backbone.name=hf-hub:a/b", "none of the folders"),
        ("name=.console/x", "begin with a dot"),
        ("data.root='~nosuchuser/x'", "none of the folders"),
        ("x=" + "[" * 5000, "characters that mean"),
        ("a" * 30_000 + "=1", "longer"),
        ("seed", "key=value"),
        ("seed=1,2", "sweep"),
    ],
)
def test_an_override_that_may_do_more_than_a_browser_is_refused(tmp_path: Path, override: str, reason: str):
    [(_, said)] = refusals([override], [tmp_path / "runs", tmp_path / "data"])
    assert reason in said


def test_what_a_user_types_is_taken(tmp_path: Path):
    data = tmp_path / "data"
    overrides = [
        "model=dbnet_resnet18", "callbacks=[default,early_stopping]", "optimizer.lr=1e-3", f"data.root={data}/sroie",
        "data.images=img", "data.train=[{format:synthetic,count:8,seed:1}]", "name=first/try", "callbacks.ema=null",
        "trainer.max_time='00:01:00:00'", "resume=true", "data.root=null", "logger.tags=[a,b]", "experiment=null",
    ]  # fmt: skip
    assert refusals(overrides, [tmp_path / "runs", data]) == []
    for several in ("data.root=/etc,data", "data.root='/etc','/x'", "data.root=choice(/etc,/usr)", "data.root=glob(*)",
                    "data.train=[{images: /etc}],[{images: /usr}]", "hydra/launcher=joblib,../x"):  # fmt: skip
        assert refusals([several], [data], True), several
    both = f"data.root={data}/a,{data}/b"
    assert refusals([both, "logger.notes='see https://x.y/z'", "seed=range(1,4)"], [data], True) == []
    assert refusals(["+sweep=grid", "optimizer.lr=1e-3,2e-3", "hydra/launcher=joblib"], [data], True) == []


def test_the_server_imports_no_torch_and_starts_at_once():
    code = (
        "import sys, time; began = time.perf_counter(); from ocr.console.app import create_app;"
        "from ocr.console.settings import read_settings; create_app(read_settings([]), 'x', 1);"
        "print(time.perf_counter() - began, [m for m in ('torch', 'lightning', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, _, heavy = done.stdout.strip().partition(" ")
    assert float(seconds) < 3 and heavy == "[]"


def test_wrong_settings_end_in_a_line(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for argument, said in ((f"port={port}", "give another port"), ("port=x", "port"), ("prot=1", "'port'"),
                               ("data_folders=[nowhere]", "there is no folder")):  # fmt: skip
            command = [sys.executable, str(ROOT / "runners/console.py"), argument]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
            assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_secret_of_the_environment_is_on_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    secret = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    with served(tmp_path) as console:
        answer = json.loads(console.ask("/compose/check", {"more": f"logger.notes={secret}"})[1])
        assert "logger.notes=" in answer["command"] and secret not in str(answer)
        pages = [console.ask(path)[1] for path in ("/", "/runs", "/doctor/lines")]
    assert all(secret not in page for page in pages)
