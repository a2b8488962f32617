"""Plants every skew in turn, and prints what found it as a table for docs/parity.md.

python -m tests.planted [--only TEXT] [--seed N] [--write docs/parity.md]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.planted.catch import Caught, catch
from tests.planted.skews import SKEWS

BEGIN, END = "<!-- planted: begin -->", "<!-- planted: end -->"


def main() -> int:
    """1 where a skew was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--only", default="", help="skews whose name contains this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help="a page with the marks of the table")
    chosen = parser.parse_args()
    began, found = time.monotonic(), []
    for skew in SKEWS.values():
        if chosen.only in skew.name:
            found.append(catch(skew, seed=chosen.seed, named=True))
            print(line(found[-1]), flush=True)
    missed = [c.skew.name for c in found if not c.values]
    right = sum(c.named == c.skew.cause for c in found)
    print(
        f"{len(found)} planted, {len(missed)} missed, the cause of {right} told right, "
        f"{time.monotonic() - began:.0f} s",
        *missed,
    )
    if chosen.write is not None:
        before, _, rest = chosen.write.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        table = "\n".join([
            "| skew | path | found by | values until then | first seen in | cause | told as |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *map(line, found),
        ])  # fmt: skip
        chosen.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return bool(missed)


def line(caught: Caught) -> str:
    """A row of the table."""
    skew = caught.skew
    values = f"{caught.values:,}" if caught.values else "**missed**"
    cells = [skew.about, skew.path, skew.mode, values, f"`{caught.feature}`", skew.cause]
    return f"| {' | '.join([*cells, caught.named])} |"


if __name__ == "__main__":
    sys.exit(main())
