"""Replays a year of a shop in minutes, with planted changes, and says whether each was found, what
fired, and whether predictions were better afterwards."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.core.screen import Screen
from tests.simulation.clock import NoCompiler, clock_of_environment, make_clock
from tests.simulation.plan import PLANS, QUIET_DAYS

if TYPE_CHECKING:
    from tests.simulation.report import Report

_ROOT = Path(__file__).parents[2]
_FOUND = [f / "shared" / "data" / "online_retail.parquet" for f in (_ROOT.parent, _ROOT.parents[1])]


def main() -> int:
    """The exit code: 1 where a part of the result is not as it must be."""
    arguments = _arguments()
    clock = clock_of_environment()
    if clock is None:
        return _with_clock()
    from tests.simulation.report import judged
    from tests.simulation.run import Replay
    from tests.simulation.world import World

    screen, begun = Screen(as_json=arguments.json), time.monotonic()
    plan = PLANS[arguments.plan]
    world = World(arguments.data, plan, arguments.seed)
    with tempfile.TemporaryDirectory(prefix="simulation-") as folder, screen.progress() as move:
        place = arguments.folder or Path(folder) / "shop"
        replay = Replay(world, clock, place, lambda day: move("days", day, plan.days))
        watch = not arguments.no_watch
        seen = replay.run(model=not arguments.no_model, watch=watch)
    report = judged(plan, seen)
    seconds = round(time.monotonic() - begun)
    screen.document({**report.to_dict(), "seed": arguments.seed, "seconds": seconds})
    _show(screen, report, seconds)
    return 0 if report.ok else 1


def _show(screen: Screen, report: Report, seconds: int) -> None:
    seen = report.seen
    screen.line(
        f"{report.plan.days} days in {seconds} s: {seen.lines:,} order lines were pushed, and "
        f"{seen.asked:,} predictions asked for.\n"
    )
    screen.table(
        ("planted", "on day", "trigger", "fired on day", "window", "action"),
        [
            (
                one.change.about,
                one.change.first,
                one.change.trigger,
                ", ".join(str(f.day) for f in one.firings) or "–",
                "–" if one.windows is None else f"{one.windows:.2f}",
                ", ".join(f.ended for f in one.firings) or "–",
            )
            for one in report.lines
        ],
    )
    screen.line("")
    screen.table(
        ("service", f"most false alarms in {QUIET_DAYS} quiet days"),
        list(report.false_alarms.items()),
    )
    both = seen.compared
    if both is not None:
        screen.line(f"\nAfter the promotion, on the same {both.rows:,} rows:\n")
        screen.table(
            ("measure", "old model", "new model"),
            [(name, _told(both.old[name]), _told(both.new[name])) for name in both.new],
        )
    for one in report.wrong:
        screen.line(one, style="bold red")
    if report.ok:
        screen.line("\nAll is as it must be.", style="bold green")


def _told(score: tuple[float, float, float]) -> str:
    value, low, high = score
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


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
    parser.add_argument("--no-watch", action="store_true", help="run no triggers")
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
        # What a trigger runs is this Python, too, and finds this package from the shop's folder.
        first = {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": str(_ROOT)}
        found = {n: os.pathsep.join(filter(None, (p, os.environ.get(n)))) for n, p in first.items()}
        env = {**os.environ, **found, **clock.variables}
        return subprocess.run(words, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
