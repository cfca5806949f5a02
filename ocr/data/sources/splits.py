"""The splits of a data config: what of them lies in the folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ocr.data.formats.detect import fill_in
from ocr.data.sources.build import source_root


def resolve_sources(
    specs: Sequence[Mapping[str, Any]], root: str | None, whole: bool = False, cache_gb: float = 0
) -> list[dict[str, Any]]:
    """Replace ``auto`` in sources by what the folders have; leave out sources whose part does not exist.

    Args:
        specs: sources of a split, see :func:`ocr.data.sources.build.build_source`.
        root: that of the data.
        whole: take all of a folder without parts, whatever the split.
        cache_gb: see :func:`ocr.data.sources.build.build_source`.

    Raises:
        UserError: nothing is found, or several things are.
    """
    resolved = []
    for spec in specs:
        if not spec.get("of"):
            part = fill_in(spec, source_root(spec, root, cache_gb), whole)
        else:
            inner = resolve_sources(spec["of"], root, whole, cache_gb)
            part = {**spec, "of": inner} if inner else None
        if part is not None:
            resolved.append(part)
    return resolved
