"""Plants every skew in turn, and prints what found it as a table for docs/parity.md.

python -m tests.planted [--only TEXT] [--seed N] [--write docs/parity.md]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the oracle, where pytest finds it by itself

from tests.planted.catch import SKEWS, Caught, catch

BEGIN, END = "<!-- planted: begin -->", "<!-- planted: end -->"


def main() -> int:
    """1 where a skew was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument(
        "--only", default="", help="skews whose name contains this, or of this service"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--diagnose", action="store_true", help="and have the cause told")
    parser.add_argument("--write", type=Path, help="a page with the marks of the table")
    chosen = parser.parse_args()
    began, found = time.monotonic(), []
    for skew in SKEWS.values():
        if chosen.only in skew.name or chosen.only == skew.service:
            found.append(catch(skew, seed=chosen.seed, named=chosen.diagnose))
            print(line(found[-1]), flush=True)
    missed = [c.skew.name for c in found if not c.values]
    told = f"the cause of {sum(c.named == c.skew.cause for c in found)} told right, "
    print(
        f"{len(found)} planted, {len(missed)} missed, {told if chosen.diagnose else ''}"
        f"{time.monotonic() - began:.0f} s",
        *missed,
    )
    if chosen.write is not None:
        before, _, rest = chosen.write.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        names = ["skew", "path", "found by", "values until then", "first seen in", "cause"]
        names += ["told as"] * chosen.diagnose
        head = [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names))]
        table = "\n".join([*head, *map(line, found)])
        chosen.write.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return bool(missed)


def line(caught: Caught) -> str:
    """A row of the table."""
    skew = caught.skew
    values = f"{caught.values:,}" if caught.values else "**missed**"
    cells = [skew.about, skew.path, skew.mode, values, f"`{caught.feature}`", skew.cause]
    cells += [caught.named] if caught.named else []
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
