"""The walk through the W&B reference names code and tests that exist."""

from __future__ import annotations

import re

from tests.conftest import ROOT

TEXT = (ROOT / "docs/wandb_reference.md").read_text()


def test_the_walk_names_tests_that_exist():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| **", "| section"))]
    assert len(rows) >= 45
    for row in rows:
        shown = row.split("|")[3]
        named, file = 0, ""
        for given, test in re.findall(r"`(?:([\w/]*test_\w+\.py))?(?:::(test_\w+)…?)?`", shown):
            file = given or file
            path = ROOT / "tests" / file if "/" in file else ROOT / "tests/tracking" / file
            assert path.is_file(), row
            assert f"def {test}" in path.read_text(), (test, row)
            named += 1
        assert named or "composed" in shown or "the same" in shown, row


def test_the_walk_names_code_that_exists():
    for file, name in re.findall(r"`(\w+\.py)::(\w+)`", TEXT):
        if file.startswith("test_"):
            continue
        source = next(path for part in ("tracking", "utils") for path in (ROOT / "ocr" / part).rglob(file)).read_text()
        assert re.search(rf"^(?:def |class )?{name}\b", source, re.MULTILINE), (file, name)
