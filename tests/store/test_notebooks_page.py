"""Every block of docs/notebooks.md runs, one after the other."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "notebooks.md"


def test_the_blocks_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    space: dict[str, object] = {"__name__": "cells"}
    for number, block in enumerate(blocks):
        name = f"<cell {number}>"  # a notebook keeps the text of a cell so
        linecache.cache[name] = (len(block), None, block.splitlines(keepends=True), name)
        exec(compile(block, name, "exec"), space)
    assert len(blocks) == 4
