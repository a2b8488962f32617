"""Every benchmark, side by side with its peers, in one run: `python -m benchmarks`.

Each module below measures one area and has `results(size, runs)`, which yields what
`benchmarks.measure` calls Result and Curve. The modules that are not listed are studies of one
question, run alone: `python -m benchmarks.NAME --help`.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.measure import SIZES, Curve, Result

AREAS = {
    "offline_joins": "training sets: the latest row before each label",
    "windows": "training sets: exact aggregates over windows",
    "online_lookups": "answers from Redis: latency, throughput, memory",
    "online_writes": "materialise and push",
    "many_views": "batches over views of several kinds; plan and apply of many views",
    "feeds": "increments, pushes to many views, a stream's consumer",
    "push_log": "the log of pushes beside SQLite in its place",
    "start_up": "import, --help, a fresh process to its first answer",
    "transforms": "functions: as SQL over a table, called online, compiled",
    "aggregates": "each aggregate over windows, beside DuckDB's inexact sum",
    "hot_pushes": "pushes to an entity of many events, and lookups, with and without ids",
    "joined_pushes": "pushes of rows that take features of another view, beside plain ones",
    "state_size": "lookups and pushes by events per window",
    "hot_entities": "CPU of a lookup of one busy entity, by aggregate",
    "serving_log": "what the serving log costs lookups",
    "serving": "answers over HTTP, beside Feast's server",
    "feast_stores": "our stores for a Feast repo beside Feast's own",
    "http_pushes": "pushes over HTTP, beside the same in process",
    "origins": "files, lakes, objects of S3 and databases as sources",
    "contracts": "a contract of ten rules, beside DuckDB that counts by hand",
    "parity_speed": "values that parity fuzz compares a second",
    "live_parity": "values that parity sample compares a second",
}
HEADLINES = ("offline_joins", "windows", "online_lookups", "online_writes", "start_up",
             "serving_log", "parity_speed", "live_parity")  # fmt: skip
"""The areas of the README's table."""
ROOT = Path(__file__).parent.parent


def main() -> int:
    """Run, show, write; 1 where a goal was missed and --strict asks for that."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Every benchmark beside its peers; ratios within one run are what counts.",
        epilog="areas: " + "; ".join(f"{name} ({what})" for name, what in AREAS.items()),
    )
    parser.add_argument(
        "--size", choices=SIZES, default="smoke", help="smoke takes a minute (default), full hours"
    )
    parser.add_argument(
        "--only", nargs="+", choices=[*AREAS, "headlines"], metavar="AREA",
        help="these areas; headlines: those of the README's table",
    )  # fmt: skip
    parser.add_argument("--runs", type=int, default=5, help="runs of each, by turns (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write JSON, - for stdout")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with charts")
    parser.add_argument(
        "--readme", action="store_true", help="put table and picture into README.md and docs/"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a goal is missed")
    given = parser.parse_args()
    if given.runs < 1:
        parser.error(f"--runs is {given.runs}: give 1 or more")
    chosen = given.only or AREAS
    if "headlines" in chosen:
        chosen = dict.fromkeys([*HEADLINES, *(name for name in chosen if name in AREAS)])
    if given.readme and not {*HEADLINES} <= {*chosen}:
        parser.error("--readme takes a run of every headline: --only headlines")
    found: dict[str, list[Result | Curve]] = {}
    failed: dict[str, str] = {}
    for name in chosen:
        began = time.monotonic()
        report.progress(f"{name}: {AREAS[name]} …")
        found[name] = []
        try:
            for one in importlib.import_module(f"benchmarks.{name}").results(
                given.size, given.runs
            ):
                found[name].append(one)
                report.progress(f"  {one.work}")
        except Exception as error:  # the other areas' hours are not lost
            failed[name] = f"{type(error).__name__}: {error}"
            report.progress(f"  FAILED: {failed[name]}")
        report.progress(f"{name}: {time.monotonic() - began:.0f} s")
    options = [given.size, *(["--only", *given.only] if given.only else [])]
    options += ["--runs", str(given.runs)] if given.runs != parser.get_default("runs") else []
    command = shlex.join(["python", "-m", "benchmarks", "--size", *options])
    results = [one for ones in found.values() for one in ones if isinstance(one, Result)]
    if given.json is not None:
        text = report.as_json(found, command=command, runs=given.runs, failed=failed)
        if str(given.json) == "-":
            sys.stdout.write(text)
        else:
            given.json.write_text(text, encoding="utf-8")
    if given.html is not None:
        given.html.write_text(report.page(found, command), encoding="utf-8")
    if str(given.json) != "-":
        from rich.console import Console

        console = Console(width=None if sys.stdout.isatty() else 200)
        console.print(report.table(results))
        for ones in found.values():
            for curve in report.curves([one for one in ones if isinstance(one, Curve)]):
                console.print(curve)
        for note in dict.fromkeys(f"{r.work}: {r.note}" for r in results if r.note):
            console.print(f"· {note}", highlight=False)
    if given.readme and not failed:
        shown = [one for name in HEADLINES for one in found.get(name, [])]
        rows = [one for one in shown if isinstance(one, Result) and one.goal is not None]
        report.into_readme(ROOT / "README.md", ROOT / "docs/benchmarks.svg", rows, command)
    missed = [r for r in results if r.met is False]
    return 2 if failed else 1 if given.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
