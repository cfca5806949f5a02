"""The pages hold what they say: links, generated parts, and a row per user error."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from tests.composing import composed
from tests.conftest import ROOT
from tests.warm import run_warm

sys.path.insert(0, str(ROOT / "docs"))
import generate

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FILES = generate.files_of()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_reliability_names_tests_that_exist():
    for named in re.findall(r"`([a-z_/]*test_\w+\.py(?:::\w+)?)`", (ROOT / "docs/reliability.md").read_text()):
        file, _, test = named.partition("::")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in text, named


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(map(len, lines)) <= 130


def test_the_way_from_python_finds_what_predict_finds(tmp_path: Path):
    [code] = re.findall(r"```python\n# detect.py\n(.*?)```", (ROOT / "docs/prediction.md").read_text(), re.DOTALL)
    (tmp_path / "detect.py").write_text(code)
    photo = ROOT / "tests/fixtures/sroie/img/284.jpg"
    command = [sys.executable, "detect.py", str(photo)]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    run_warm(
        [sys.executable, "runners/predict.py", f"source={photo}", f"output={tmp_path}/out", "accelerator=cpu"],
        ROOT, dict(os.environ), timeout=200,
    )  # fmt: skip
    [line] = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    polygons = [json.loads(row[row.index("[") :]) for row in printed]
    assert len(polygons) > 20
    np.testing.assert_allclose(polygons, json.loads(line)["polygons"], atol=0.1)


def test_the_reference_of_keys_is_that_of_configs():
    assert generate.PAGE.read_text(encoding="utf-8") == generate.page(), "run: python docs/generate.py"
    assert generate.FORMATS_PAGE.read_text(encoding="utf-8") == generate.formats_page(), "run: python docs/generate.py"


def test_every_key_is_explained_where_it_is_defined():
    said = generate.comments()
    unexplained = [
        f"{file.name}: {key.path}"
        for file in FILES
        for key in generate.keys_of(file)
        if key.value and not key.comment and generate.package_of(file) + key.path not in said
    ]
    assert not unexplained


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(generate.CONFIGS).as_posix())
def test_the_schema_of_a_config_file_accepts_it(file: Path):
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    jsonschema.validate(content, generate.schema_of(file))


@pytest.mark.parametrize(
    "name, change",
    [
        ("optimizer/adamw.yaml", {"learning_rate": 1}),
        ("optimizer/lamb.yaml", {"lr": "fast"}),
        ("trainer/cpu.yaml", {"max_epoch": 3}),
        ("logger/wandb.yaml", {"project": "x"}),
        ("logger/wandb.yaml", {"per_batch_image_logging": {"recall_threshold": 80}}),
        ("callbacks/finite_weights.yaml", {"finite_weights": {"_target_": "x", "evry": 1}}),
        ("data/folder.yaml", {"batch_size": "many"}),
    ],
)
def test_a_schema_refuses_what_the_signature_does_not_take(name: str, change: dict):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(change, generate.schema_of(generate.CONFIGS / name))


def test_editors_find_a_schema_for_every_config_file():
    settings = json.loads((ROOT / ".vscode/settings.json").read_text())
    named = {Path(schema).with_suffix(".yaml").as_posix().removeprefix(".schemas/"): path
             for schema, path in settings["yaml.schemas"].items()}  # fmt: skip
    assert named == {(f := file.relative_to(generate.CONFIGS).as_posix()): f"configs/{f}" for file in FILES}


def test_the_sweep_for_the_w_and_b_server_varies_settings_that_there_are():
    sweep = yaml.safe_load((ROOT / "docs/wandb_sweep.yaml").read_text())
    assert (ROOT / sweep["program"]).is_file() and sweep["metric"]["name"] == "val/hmean"
    assert sweep["command"] == ["${env}", "python", "${program}", "${args_no_hyphens}"]
    for key, values in sweep["parameters"].items():
        composed(f"{key}={values.get('min', values.get('values', [None])[0])}")


def _text(node: ast.expr) -> str:
    """A message with an ellipsis for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"


def test_troubleshooting_has_a_row_for_every_user_error():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    rows = [row.split("` |")[0].removeprefix("| `") for row in page.splitlines() if row.startswith("| `")]
    parts = [row.replace("....", ".…").replace("...", "…").split("…") for row in rows]
    patterns = [re.compile(".*".join(map(re.escape, part))) for part in parts]
    unexplained = []
    for file in [*(ROOT / "ocr").rglob("*.py"), *(ROOT / "runners").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("UserError", "DiskFull") and node.args:
                message = _text(node.args[0])
                if message.strip("…: ") and not any(pattern.match(message) for pattern in patterns):
                    unexplained.append(f"{file.name}: {message}")
    assert not unexplained
