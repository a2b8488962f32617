"""Replays a year of a shop in minutes, with planted changes, and says whether each was found, what
fired, and whether predictions were better afterwards."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from featurekit.core.screen import Screen
from tests.simulation.clock import NoCompiler, clock_of_environment, make_clock
from tests.simulation.plan import PLANS

_DATA = Path(__file__).parents[2]
_FOUND = [one / "shared" / "data" / "online_retail.parquet" for one in (_DATA.parent, _DATA.parents[1])]


def main() -> int:
    """The exit code: 1 where a part of the result is not as it must be."""
    arguments = _arguments()
    clock = clock_of_environment()
    if clock is None:
        return _with_clock()
    from tests.simulation.run import Replay
    from tests.simulation.world import World

    screen, begun = Screen(as_json=arguments.json), time.monotonic()
    plan = PLANS[arguments.plan]
    world = World(arguments.data, plan, arguments.seed)
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder, screen.progress() as move:
        place = arguments.folder or Path(folder) / "shop"
        replay = Replay(world, clock, place, lambda day: move("days", day, plan.days))
        seen = replay.run(model=not arguments.no_model, watch=not arguments.no_watch)
    print(seen, time.monotonic() - begun)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    found = next((path for path in _FOUND if path.exists()), None)
    parser.add_argument("--plan", choices=PLANS, default="year", help="(default: year)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="(default: 1)")
    parser.add_argument(
        "--data", type=Path, default=found, metavar="FILE", required=found is None,
        help='the lines of "Online Retail", Parquet (default: shared/data beside the project)',
    )  # fmt: skip
    parser.add_argument(
        "--folder", type=Path, metavar="FOLDER", help="a new folder, which stays (default: none)"
    )
    parser.add_argument("--no-model", action="store_true", help="serve features alone")
    parser.add_argument("--no-watch", action="store_true", help="look at drift alone")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser.parse_args()


def _with_clock() -> int:
    """Run this command again in a process with a clock that can be moved."""
    import subprocess

    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        try:
            clock = make_clock(Path(folder))
        except NoCompiler as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        words = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        return subprocess.run(words, env={**os.environ, **clock.variables}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
