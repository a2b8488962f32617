"""The command line: every verb is documented, right input works, wrong input is explained."""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import json
import os
import re
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from featurekit.cli import main
from featurekit.cli.arguments import Parser, load
from featurekit.cli.parser import parser
from featurekit.cli.verbs import VERBS as SUMMARIES
from featurekit.cli.verbs import parity, plan
from featurekit.cli.verbs.parity.checking import budget_of_each
from featurekit.core.screen import Screen, plain
from featurekit.core.texts import of_json, of_text
from featurekit.core.types import from_hint
from featurekit.errors import FeaturekitError
from featurekit.online.store.server import release, scratch_redis
from featurekit.parity.budget import Budget
from tests import forks

ROOT = Path(__file__).parents[2]
VERBS = tuple(SUMMARIES)


@dataclass
class Done:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document without NaN or infinities."""

        def refuse(text: str) -> None:
            raise AssertionError(f"{text} is not JSON")

        return json.loads(self.out, parse_constant=refuse)


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process."""
    monkeypatch.delenv("FEATUREKIT_REDIS_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*argv: object) -> Done:
        capsys.readouterr()
        code = main([str(a) for a in argv])
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

    return run


@pytest.fixture
def repo(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A starter repo in the current folder, so that no command names it; its server ends here."""
    monkeypatch.chdir(tmp_path)
    assert run("init").code == 0
    yield tmp_path / "feature_repo"
    release(tmp_path / "feature_repo" / ".featurekit" / "redis")


@pytest.fixture
def served(repo: Path, run: Run) -> Path:
    """A starter repo that is applied and materialised."""
    assert run("apply").code == 0
    assert run("materialize").code == 0
    return repo


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that stands in a file once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def assert_explained(done: Done, *parts: str, code: int = 2) -> None:
    """The command failed with a message that holds all of `parts`, and without a traceback."""
    assert done.code == code, done
    assert "featurekit: error: " in done.err
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.err


# --- help and documentation -----------------------------------------------------------------------


def verbs_of(top: Parser) -> dict[str, Parser]:
    """The parser of each verb, with its options."""
    (found,) = (a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    for made in found.choices.values():
        made.fill()
    return dict(found.choices)


def modules_of(package: Path) -> set[str]:
    """The names that the modules of a package would have on the command line."""
    found = {p.stem for p in package.glob("*.py")} | {p.parent.name for p in package.glob("*/*.py")}
    return {name.replace("_", "-") for name in found - {"__init__"}}


def test_the_parser_has_exactly_the_verbs_of_the_design() -> None:
    assert tuple(verbs_of(parser())) == VERBS


def test_every_module_of_a_verb_is_in_the_table() -> None:
    folder = ROOT / "featurekit" / "cli" / "verbs"
    assert modules_of(folder) == {*VERBS}
    assert modules_of(folder / "parity") == {*parity.MODES, "checking"}


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_is_a_documented_function(name: str) -> None:
    assert load("featurekit.cli.verbs", name).run.__doc__


@pytest.mark.parametrize("name", parity.MODES)
def test_every_mode_is_a_documented_function(name: str) -> None:
    assert load("featurekit.cli.verbs.parity", name).run.__doc__


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_and_every_option_says_what_it_does(name: str) -> None:
    made = verbs_of(parser())[name]
    modes = verbs_of(made).values() if name == "parity" else ()
    for of_verb in (made, *modes):
        assert of_verb.description
        assert len(of_verb._actions) > 1, "the options of the verb are there"
        assert all(action.help for action in of_verb._actions)


def test_readme_lists_every_verb_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^\| `featurekit ([a-z-]+)` \|", readme, re.M)) == VERBS


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([v, "--help"] for v in VERBS)])
def test_help_loads_nothing_heavy(argv: list[str]) -> None:
    heavy = ["duckdb", "pyarrow", "pandas", "polars", "numpy", "redis", "rich", "pydantic", "yaml"]
    code = (
        "import sys\nfrom featurekit.cli import main\n"
        f"code = main({argv!r})\n"
        f"print(*[m for m in {heavy!r} if m in sys.modules], file=sys.stderr)\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "featurekit" in done.stdout


# --- right input ----------------------------------------------------------------------------------


def test_init_writes_a_repo_whose_next_commands_work(repo: Path, run: Run) -> None:
    for command in (
        ["plan"],
        ["apply"],
        ["materialize"],
        ["get-online", "checkout", "customer_id=1", "basket_value=25"],
        ["get-historical", "checkout", repo / "labels.csv"],
        ["parity", "--values", "200"],
    ):
        done = run(*command)
        assert (done.code, done.err) == (0, "")


def test_init_finds_orders_in_its_windows(served: Path, run: Run) -> None:
    done = run("get-online", "checkout", "customer_id=1", "basket_value=25", "--json")
    assert done.json["rows"][0]["features"]["spend_7d"] == 39.95 + 15.0


def test_init_overwrites_nothing(repo: Path, run: Run) -> None:
    before = (repo / "features.py").read_bytes()
    assert_explained(run("init"), "feature_repo is there already and not empty")
    assert (repo / "features.py").read_bytes() == before


def test_global_options_stand_before_the_verb_or_after_it(repo: Path, run: Run) -> None:
    before, after = run("--json", "--repo", repo, "plan"), run("plan", "--repo", repo, "--json")
    assert before.json == after.json


def test_plan_writes_nothing_and_tells_what_apply_does(repo: Path, run: Run) -> None:
    planned = run("plan", "--json").json
    assert not (repo / ".featurekit").exists()
    assert planned["changes"] == run("apply", "--json").json["changes"]
    assert run("plan", "--json").json["changes"] == []


def test_plan_names_the_features_that_differ(served: Path, run: Run) -> None:
    edit(served / "features.py", 'Sum(amount, window="7d"', 'Sum(amount, window="8d"')
    view, service = run("plan", "--json").json["changes"]
    assert (view["action"], view["features"]) == ("change", ["~ spend_7d"])
    assert service["features"] == ["~ customer_orders__spend_7d"]
    shown = run("plan").out
    assert f"{view['old'][:12]} → {view['new'][:12]}" in " ".join(shown.split())


def test_versions_and_rollback_say_what_serves(served: Path, run: Run) -> None:
    (first,) = run("versions", "checkout", "--json").json["versions"]
    assert (first["state"], first["materialized_until"] is None) == ("live", False)
    edit(served / "features.py", 'Sum(amount, window="7d"', 'Sum(amount, window="8d"')
    run("apply")
    run("materialize")
    shown = run("versions", "checkout").out
    assert [line.split()[4] for line in shown.splitlines()[1:]] == ["retained", "live"]
    done = run("rollback", "checkout")
    assert f"checkout: {first['fingerprint'][:12]} is live at once; it was " in done.out
    assert "The repo still defines" in done.out
    third = edit_and_deploy(served, run, "8d", "9d")
    back = run("rollback", "checkout", "--to", first["fingerprint"][:6], "--json").json
    assert (back["live"], back["before"]) == (True, third)


def edit_and_deploy(repo: Path, run: Run, old: str, new: str) -> str:
    """Change the window of spend, apply and materialise; the fingerprint that is live then."""
    edit(repo / "features.py", f'Sum(amount, window="{old}"', f'Sum(amount, window="{new}"')
    assert run("apply").code == run("materialize").code == 0
    found = run("versions", "checkout", "--json").json["versions"]
    return next(str(v["fingerprint"]) for v in found if v["state"] == "live")


def test_rollback_to_a_version_that_is_not_fed_waits_for_materialize(
    served: Path, run: Run
) -> None:
    first = run("versions", "checkout", "--json").json["versions"][0]["fingerprint"]
    for old, new in (("7d", "8d"), ("8d", "9d")):
        live = edit_and_deploy(served, run, old, new)
    said = run("rollback", "checkout", "--to", first).out
    assert (
        f"checkout: {first[:12]} is next, and live once `featurekit materialize` has filled "
        f"customer_orders; until then {live[:12]} answers." in said
    )
    assert "Live now: checkout." in run("materialize").out


def test_rollback_explains_what_it_cannot_do(served: Path, run: Run) -> None:
    assert_explained(run("rollback", "nope"), "knows no service 'nope'; it knows: checkout")
    assert_explained(run("versions", "nope"), "knows no service 'nope'; it knows: checkout")
    assert_explained(run("rollback", "checkout"), "has one version alone, ")


def test_gc_shows_what_goes_and_what_stays(served: Path, run: Run) -> None:
    for old, new in (("7d", "8d"), ("8d", "9d")):
        edit_and_deploy(served, run, old, new)
    shown = run("gc", "--dry-run")
    assert "would go" in shown.out
    assert "kept for retained checkout" in shown.out
    planned, done = run("gc", "--dry-run", "--json").json, run("gc", "--json").json
    assert (planned["keys"], planned["bytes"]) == (done["keys"], done["bytes"])
    assert done["keys"] > 1
    assert done["bytes"] > 100
    assert run("gc").out.endswith("\n0 keys of 0 bytes were removed.\n")
    left = served / ".featurekit" / "verdicts" / "source.gone.json"
    left.write_text("{}")
    shown = run("gc")
    assert shown.out.splitlines()[-1] == (
        f"1 files of 2 bytes in {left.parent} were removed: no source reads the contents any more "
        "that they were kept for."
    )
    used = next(v for v in done["versions"] if v["used_by"] == ["live checkout"])
    assert_explained(run("gc", used["name"]), f"{used['name']}:", "is used by")
    assert_explained(run("gc", "nope:12"), "holds no unused version 'nope:12'")


def test_forget_removes_an_entity_and_says_what_is_left(served: Path, run: Run) -> None:
    shown = run("forget", "customer", "--key", "customer_id=1")
    assert shown.code == 0
    words = " ".join(shown.out.split())
    assert "1 removed" in words
    assert "still there" in words
    online = run("get-online", "checkout", "customer_id=1", "basket_value=25", "--json").json
    assert online["rows"][0]["statuses"]["spend_7d"] == "NOT_FOUND"
    done = run("forget", "customer", "--key", "customer_id=1", "--rewrite-files", "--json").json
    assert done["states_removed"] == {}
    (file,) = done["files"]
    assert (Path(file["path"]).name, file["rewritten"]) == ("orders.csv", True)
    assert run("forget", "customer", "--key", "customer_id=1", "--json").json["files"] == []
    assert run("parity", "--values", "300").code == 0


def test_forget_explains_what_it_cannot_do(served: Path, run: Run) -> None:
    assert_explained(run("forget", "cat", "--key", "id=1"), "no view is of an entity 'cat'")
    assert_explained(run("forget", "customer", "--key", "id=1"), "is named by customer_id, found")
    assert_explained(run("forget", "customer", "--key", "customer_id=x"), "'x' is no int")
    assert_explained(run("forget", "customer"), "--key", code=64)


def test_get_historical_without_a_frame_asks_for_all_that_is_known(repo: Path, run: Run) -> None:
    path = repo / "features.py"
    text = path.read_text().replace(
        'features=[customer_orders, basket_vs_habit], request={"basket_value": float}',
        "features=[customer_orders]",
    )
    path.write_text(text)
    at = dt.datetime.now(dt.UTC).isoformat()
    done = run("get-historical", "checkout", "--at", at, "--json")
    assert done.json["manifest"]["rows"] == len(done.json["first_rows"]) > 1
    days = ("--start", "2020-01-01", "--end", at, "--every", "365d")
    assert run("get-historical", "checkout", *days).code == 0
    assert_explained(run("get-historical", "checkout"), "write a FRAME, a .csv or .p", code=64)
    both = run("get-historical", "checkout", repo / "labels.csv", "--at", at)
    assert_explained(both, "found both the FRAME '", "' and --at, which", code=64)


def test_get_historical_without_a_frame_has_no_request_fields(repo: Path, run: Run) -> None:
    done = run("get-historical", "checkout", "--at", "2024-01-01")
    assert_explained(done, "takes request fields (basket_value)")


def test_materialize_takes_views_and_entities(served: Path, run: Run) -> None:
    done = run("materialize", "--view", "customer_orders", "--json").json
    assert [v["view"] for v in done["views"]] == ["customer_orders"]
    one = ("--entity", "customer_id=1", "--entity", "customer_id=2")
    assert [v["entities"] for v in run("materialize", *one, "--json").json["views"]] == [2]
    assert "Put right what 2 named entities have up to " in run("materialize", *one).out
    assert_explained(run("materialize", "--view", "x"), "there are customer_orders")
    assert_explained(run("materialize", "--entity", "id=1"), "customer_orders by customer_id")
    assert_explained(run("materialize", "--incremental", *one), "leave out --incremental", code=64)


def test_plan_names_sources_that_do_not_say_when_rows_arrived(repo: Path, run: Run) -> None:
    assert run("plan", "--json").json["notes"]["arrival_unknown"] == ["orders"]
    assert "arrival unknown: orders" in run("plan").out


def test_plan_says_where_ids_are_to_be_remembered_and_none_is_named(repo: Path, run: Run) -> None:
    assert run("plan", "--json").json["notes"]["ids_unknown"] == []
    edit(repo / "features.py", 'timestamp_field="', 'dedupe_within="2d", timestamp_field="')
    assert run("plan", "--json").json["notes"]["ids_unknown"] == ["orders"]
    assert "ids unknown: orders – dedupe_within says how long keys of pushes" in run("plan").out


def test_plan_names_features_that_duckdb_computes_by_calling_python(repo: Path, run: Run) -> None:
    assert run("plan", "--json").json["notes"]["python_in_duckdb"] == {}
    edit(repo / "features.py", "return quantity * unit_price", "return quantity ** 2 * unit_price")
    edit(repo / "features.py", "quantity ** 2", "float(quantity) ** 2.5")
    found = run("plan", "--json").json["notes"]["python_in_duckdb"]
    assert list(found) == ["customer_orders.spend_7d", "customer_orders.mean_order_30d"]
    shown = run("plan").out
    assert "runs as Python inside DuckDB" in shown
    assert "never different" not in shown


LABELS = """
from featurekit import FeatureView, feature
from featurekit.aggregates import Count

from features import customer, orders


@feature
def lift(orders_next_3d: int) -> float:
    return float(orders_next_3d) ** 2.5


customer_future = FeatureView(
    "customer_future",
    entities=[customer],
    source=orders,
    features={"orders_next_3d": Count(window="3d", ahead=True), "lift": lift},
)
"""


def test_plan_names_aggregates_that_python_computes_over_lists(repo: Path, run: Run) -> None:
    edit(repo / "features.py", "Mean(amount", "Skew(amount")
    edit(repo / "features.py", "Mean", "Skew")
    found = run("plan", "--json").json["notes"]["python_in_duckdb"]
    assert found == {"customer_orders.mean_order_30d": ["Skew over lists of inputs"]}
    assert "Skew over lists of inputs" in run("plan").out
    assert "Skew over lists of inputs" in run("apply").out


def test_plan_names_transforms_of_labels_that_duckdb_computes_by_calling_python(
    repo: Path, run: Run
) -> None:
    (repo / "future.py").write_text(LABELS, encoding="utf-8")
    found = run("plan", "--json").json["notes"]["python_in_duckdb"]
    assert list(found) == ["customer_future.lift"]


def test_apply_says_which_services_wait_for_a_backfill(repo: Path, run: Run) -> None:
    assert run("apply", "--json").json["waiting"] == ["checkout"]
    assert run("materialize", "--json").json["went_live"] == ["checkout"]
    again = run("apply", "--json").json
    assert (again["live"], again["waiting"]) == (["checkout"], [])


def test_materialize_takes_an_end_and_increments(repo: Path, run: Run) -> None:
    run("apply")
    done = run("materialize", "--end", "2001-01-01T00:00:00+01:00", "--json").json
    assert (done["until"], done["views"][0]["events"]) == ("2000-12-31T23:00:00+00:00", 0)
    done = run("materialize", "--incremental", "--json").json
    assert done["views"][0]["events"] == 10


EVENT = {
    "customer_id": 9,
    "quantity": 2,
    "unit_price": 4.5,
    "country": "Spain",
    "ordered_at": "2011-01-01T00:00:00Z",
}


def write_events(path: Path) -> Path:
    """One event in the format that the path's suffix names."""
    now = dt.datetime.now(dt.UTC)
    if path.suffix == ".jsonl":
        text = json.dumps({**EVENT, "ordered_at": now.isoformat()}) + "\n\n"
        path.write_text(text, encoding="utf-8")
    elif path.suffix == ".csv":
        values = [*list(EVENT.values())[:-1], now.isoformat()]
        path.write_text(f"{','.join(EVENT)}\n{','.join(map(str, values))}\n", encoding="utf-8")
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([{**EVENT, "ordered_at": now}]), path)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_push_takes_every_format_and_lookups_see_it(
    served: Path, run: Run, tmp_path: Path, suffix: str
) -> None:
    file = write_events(tmp_path / f"events.{suffix}")
    assert run("push", "orders", file, "--json").json["rows"] == 1
    found = run("get-online", "checkout", "customer_id=9", "basket_value=1", "--json").json
    assert found["rows"][0]["features"]["spend_7d"] == 9.0
    assert found["rows"][0]["statuses"]["country"] == "PRESENT"


def test_push_refuses_a_header_with_a_name_twice(served: Path, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    names = ",".join(EVENT)
    file.write_text(f"{names},quantity\n{','.join(map(str, EVENT.values()))},7\n")
    done = run("push", "orders", file)
    assert done.code == 2
    assert "its first line names 'quantity' twice" in done.err


def test_push_refuses_json_that_is_nested_too_deeply(
    served: Path, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("[" * 100_000)
    gc.collect()
    gc.disable()  # where the stack ends, what earlier tests left could not be finalised
    try:
        done = run("push", "orders", file)
    finally:
        gc.enable()
    assert done.code == 2
    assert "nested too deeply" in done.err


def test_push_reads_json_lines_from_standard_input(served: Path, run: Run) -> None:
    done = shell("push", "orders", "--json", cwd=served, text=json.dumps(EVENT))
    assert done.json["rows"] == 1


def test_json_says_nan_and_infinity_as_strings_both_ways(served: Path, run: Run) -> None:
    now = dt.datetime.now(dt.UTC).isoformat()
    row = {**EVENT, "unit_price": "-Infinity", "ordered_at": now}
    shell("push", "orders", cwd=served, text=json.dumps(row))
    found = run("get-online", "checkout", "customer_id=9", "basket_value=nan", "--json").json
    features = found["rows"][0]["features"]
    assert (features["spend_7d"], features["basket_vs_habit"]) == ("-Infinity", "NaN")


def test_get_online_takes_many_rows(served: Path, run: Run, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"customer_id": 1, "basket_value": 25}\n{"customer_id": null, "basket_value": "NaN"}\n',
        encoding="utf-8",
    )
    found = run("get-online", "checkout", "--rows", rows, "--json").json["rows"]
    assert [r["entity"]["customer_id"] for r in found] == [1, None]
    assert [r["statuses"]["orders_30d"] for r in found] == ["PRESENT", "NOT_FOUND"]


def test_get_online_answers_as_of_an_instant(served: Path, run: Run) -> None:
    row = ("get-online", "checkout", "customer_id=1", "basket_value=1", "--json")
    now = run(*row).json
    asked = run(*row, "--as-of", now["as_of"]).json
    assert asked["as_of"] == now["as_of"]
    assert asked["rows"] == now["rows"]
    assert_explained(run(*row, "--as-of", "2100-01-01"), "2100-01-01", "clock")
    assert_explained(run(*row, "--as-of", "2001-01-01"))


def test_get_historical_writes_the_rows_that_it_shows(served: Path, run: Run) -> None:
    import pyarrow.parquet as pq

    frame, target = served / "labels.csv", served / "train.parquet"
    shown = run("get-historical", "checkout", frame, "--json").json
    written = run("get-historical", "checkout", frame, "-o", target, "--json").json
    kept = json.loads((served / "train.parquet.manifest.json").read_text())
    assert kept == written["manifest"]
    assert kept["known_at"] > shown["manifest"]["known_at"]  # of each the clock
    assert kept | {"known_at": None} == shown["manifest"] | {"known_at": None}
    assert plain(pq.read_table(target).to_pylist()) == shown["first_rows"]
    assert [row["bought"] for row in shown["first_rows"]] == ["1", "0", "1"]


def test_get_historical_shows_people_the_values_of_the_first_rows(served: Path, run: Run) -> None:
    frame = served / "labels.csv"
    rows = run("get-historical", "checkout", frame, "--json").json["first_rows"]
    lines = run("get-historical", "checkout", frame).out.splitlines()
    cells = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    for name in ("bought", "basket_value", "orders_30d"):
        assert cells[name] == [str(row[name]) for row in rows[:3]], lines


def test_a_csv_frame_is_the_same_as_a_parquet_frame(served: Path, run: Run) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    at = dt.datetime(2026, 3, 29, 0, 30, tzinfo=dt.UTC)
    table = pa.Table.from_pylist([{"customer_id": 1, "basket_value": 0.1, "event_timestamp": at}])
    pq.write_table(table, served / "frame.parquet")
    text = "customer_id,basket_value,event_timestamp\n1,0.1,2026-03-29T02:30:00+02:00\n"
    (served / "frame.csv").write_text(text, encoding="utf-8")
    hashes = [
        run("get-historical", "checkout", served / f"frame.{s}", "--json").json["manifest"][
            "content_hash"
        ]
        for s in ("csv", "parquet")
    ]
    assert hashes[0] == hashes[1]


def test_parity_exits_with_0_and_counts(served: Path, run: Run) -> None:
    done = run("parity", "checkout", "--values", "300", "--seed", "5", "--json")
    (report,) = done.json["services"]
    assert (done.code, report["differing"], report["seed"]) == (0, 0, 5)
    assert report["compared"] >= 300


@pytest.mark.parametrize(
    ("mode", "options", "suite"),
    [
        ("history", ["--values", "300"], "parity.checkout"),
        ("fuzz", ["--values", "300"], "parity.checkout"),
        ("operators", ["--inputs", "3", "--only", "len("], "parity.operators"),
    ],
)
def test_parity_writes_a_junit_report(
    served: Path, run: Run, tmp_path: Path, mode: str, options: list[str], suite: str
) -> None:
    report = tmp_path / "report.xml"
    done = run("parity", mode, *options, "--junit", str(report))
    assert done.code == 0
    (found,) = ElementTree.parse(report).getroot()
    cases = found.findall("testcase")
    assert (found.get("name"), found.get("failures")) == (suite, "0")
    assert found.get("tests") == str(len(cases)) != "0"


@pytest.mark.parametrize(
    ("given", "of_each"),
    [(Budget(seconds=6.0), Budget(seconds=2.0)), (Budget(values=9), Budget(values=9))],
)
def test_services_share_a_time_and_each_has_all_the_values(given: Budget, of_each: Budget) -> None:
    assert budget_of_each(Namespace(budget=given), ["a", "b", "c"]) == of_each


def test_a_mistyped_mode_of_parity_is_told_with_the_modes(served: Path, run: Run) -> None:
    modes = ", ".join(sorted(parity.MODES))
    assert_explained(run("parity", "sampel"), "'sampel'", f"neither a mode ({modes})", "checkout")


def test_a_service_that_cannot_be_sampled_does_not_lose_the_others(
    served: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from featurekit.parity.modes.sample import LiveCheck

    around, calls = LiveCheck.run, iter((True, False))

    def run_once(check: LiveCheck, *args: Any, **options: Any) -> Any:
        if next(calls):
            return around(check, *args, **options)
        raise FeaturekitError("the second cannot be read")

    monkeypatch.setattr(LiveCheck, "run", run_once)
    page = tmp_path / "report.html"
    done = run("parity", "sample", "checkout", "checkout", "--values", "50", "--html", str(page))
    assert_explained(done, "the second cannot be read")
    assert "every bit agrees" in page.read_text()


@pytest.mark.parametrize("option", ["--html", "--junit"])
def test_a_report_that_has_no_folder_is_told_before_the_check(
    served: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr("featurekit.store.FeatureStore.check_parity", None)
    assert_explained(run("parity", option, str(tmp_path / "no" / "x")), option, "no folder")
    assert_explained(run("parity", option, str(tmp_path)), option, "is a folder")


@pytest.mark.parametrize("differs", [False, True])
def test_a_report_that_cannot_be_written_hides_nothing(
    served: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differs: bool
) -> None:
    from featurekit.parity.report import Report

    page = tmp_path / "report.html"
    page.write_text("older")
    found = Report("checkout", 0)
    found.take(
        "x", (1.0, "PRESENT"), (2.0 if differs else 1.0, "PRESENT"), row={}, as_of="2024-01-01"
    )
    monkeypatch.setattr("featurekit.store.FeatureStore.check_parity", lambda *_, **__: found)

    def full(hidden: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    done = run("parity", "--html", str(page))
    assert done.code == (1 if differs else 2)
    assert "1 values over 0 rows" in done.out
    assert f"--html {page} cannot be written: No space left on device" in done.err
    assert [p.name for p in tmp_path.glob("*report*")] == ["report.html"]
    assert page.read_text() == "older"


def test_parity_exits_with_1_and_shows_the_first_difference_in_hex(
    served: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurekit.parity.report import Report

    honest = Report.take

    def skewed(self: Report, feature: str, offline: Any, online: Any, **where: Any) -> None:
        value, status = online
        online = (value + 2**-40 if isinstance(value, float) else value, status)
        honest(self, feature, offline, online, **where)

    monkeypatch.setattr(Report, "take", skewed)
    done = run("parity", "--values", "200")
    assert done.code == 1
    assert re.search(r"customer_orders__spend_7d differs as of \d\S+ for customer_id=", done.out)
    assert re.search(r"offline +\S+ \(-?0x[0-9a-f.]+p[+-]\d+\)  [A-Z_]+", done.out)
    assert re.search(r"online +\S+ \(-?0x[0-9a-f.]+p[+-]\d+\)  [A-Z_]+", done.out)
    assert "cause    " in done.out
    assert "a test that reproduces it:" not in done.out, "the events alone make no difference"


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["frobnicate"],
        ["plan", "--frobnicate"],
        ["materialize", "--end", "yesterday"],
        ["get-online"],
        ["get-online", "checkout", "customer_id"],
        ["get-online", "checkout", "customer_id=1", "--rows", "x.jsonl"],
        ["get-historical", "checkout"],
        ["parity", "--values", "0"],
        ["parity", "--seed", "x"],
    ],
)
def test_a_command_line_that_is_not_understood_exits_with_64(argv: list[str], run: Run) -> None:
    assert_explained(run(*argv), code=64)


def test_a_lookup_without_a_row_exits_with_64(served: Path, run: Run) -> None:
    done = run("get-online", "checkout")
    assert_explained(done, "write key=value", "customer_id, basket_value", code=64)


def test_no_repo(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_explained(run("plan"), "no feature_store.yaml in this folder", "featurekit init")
    assert_explained(run("plan", "--repo", "absent"), "--repo: there is no folder 'absent'")


def test_a_redis_that_is_not_there(repo: Path, run: Run) -> None:
    for url in ("redis://127.0.0.1:1", "unix:///no/such.sock"):
        assert_explained(run("apply", "--redis-url", url), url, "cannot be reached")


def test_a_redis_url_that_is_none(repo: Path, run: Run) -> None:
    for url in ("localhost:6379", "http://x"):
        assert_explained(
            run("apply", "--redis-url", url), "is no URL of an online store", "redis://"
        )


def test_a_redis_that_was_killed(repo: Path, run: Run) -> None:
    row = ("customer_id=1", "basket_value=1")
    with scratch_redis() as url:
        assert run("apply", "--redis-url", url).code == 0
        assert run("materialize", "--redis-url", url).code == 0
        assert run("get-online", "checkout", *row, "--redis-url", url).code == 0
    assert_explained(run("get-online", "checkout", *row, "--redis-url", url), "cannot be reached")
    assert_explained(run("materialize", "--redis-url", url), "cannot be reached")


def test_a_malformed_yaml(repo: Path, run: Run) -> None:
    (repo / "feature_store.yaml").write_text("project: [\n", encoding="utf-8")
    assert_explained(run("plan"), "feature_store.yaml:2:1: this is not YAML")


def test_a_setting_that_does_not_exist(repo: Path, run: Run) -> None:
    edit(repo / "feature_store.yaml", "  registry: .featurekit/registry.db", "  registri: x")
    assert_explained(
        run("plan"), "featurekit.registri: no such setting; did you mean 'registry'? There are"
    )


def test_a_registry_that_is_no_file(repo: Path, run: Run) -> None:
    edit(repo / "feature_store.yaml", "  registry: .featurekit/registry.db", "  registry: sql://x")
    assert_explained(
        run("plan"),
        "featurekit.registry: is the path of a SQLite file or the URL of a PostgreSQL server",
    )


def test_a_module_with_a_syntax_error(repo: Path, run: Run) -> None:
    (repo / "features.py").write_text("customer = (\n", encoding="utf-8")
    assert_explained(run("plan"), "features.py:1", "SyntaxError")


def test_a_module_that_raises(repo: Path, run: Run) -> None:
    (repo / "features.py").write_text("x = 1\ny = x / 0\n", encoding="utf-8")
    assert_explained(run("plan"), "features.py:2", "ZeroDivisionError")


def test_a_module_that_exits(repo: Path, run: Run) -> None:
    (repo / "features.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    assert_explained(run("plan"), "features.py:1", "SystemExit")


def test_a_file_where_the_state_should_be(repo: Path, run: Run) -> None:
    (repo / ".featurekit").write_text("", encoding="utf-8")
    assert_explained(run("apply"), ".featurekit")


def test_a_transform_that_cannot_be_compiled(repo: Path, run: Run) -> None:
    edit(repo / "features.py", "return quantity * unit_price", "return open(quantity)")
    assert_explained(run("plan"), "features.py:", "^", "hint:")


def test_a_file_whose_schema_differs(repo: Path, run: Run) -> None:
    edit(repo / "data" / "orders.csv", "quantity", "pieces")
    run("apply")
    for command in (["materialize"], ["parity"]):
        assert_explained(run(*command), "orders.csv", "'quantity'")


def test_a_file_whose_values_differ(repo: Path, run: Run) -> None:
    edit(repo / "data" / "orders.csv", "0.85", "cheap")
    run("apply")
    assert_explained(run("materialize"), "orders.csv", "unit_price", "cheap")


def test_an_empty_file(repo: Path, run: Run) -> None:
    (repo / "data" / "orders.csv").write_text("", encoding="utf-8")
    run("apply")
    assert_explained(run("materialize"), "orders.csv", "is empty")


def test_a_file_without_rows_leaves_parity_nothing_to_check(repo: Path, run: Run) -> None:
    header = (repo / "data" / "orders.csv").read_text(encoding="utf-8").splitlines()[0]
    (repo / "data" / "orders.csv").write_text(header + "\n", encoding="utf-8")
    assert_explained(run("parity"), "nothing could be compared for checkout")


def test_an_absent_file(repo: Path, run: Run) -> None:
    (repo / "data" / "orders.csv").unlink()
    run("apply")
    assert_explained(run("materialize"), "orders.csv")


def test_unknown_services(served: Path, run: Run) -> None:
    assert_explained(run("get-online", "chekout", "customer_id=1"), "'chekout'", "checkout")
    assert_explained(
        run("get-historical", "chekout", served / "labels.csv"), "'chekout'", "checkout"
    )
    assert_explained(run("parity", "chekout"), "'chekout'", "checkout")


def test_an_unapplied_repo(repo: Path, run: Run) -> None:
    assert_explained(run("materialize"), "featurekit apply")
    assert_explained(run("get-online", "checkout", "customer_id=1"), "featurekit apply")
    file = write_events(repo / "events.jsonl")
    assert_explained(run("push", "orders", file), "featurekit apply")


@pytest.mark.parametrize(
    ("pairs", "parts"),
    [
        (["customer_id=one", "basket_value=1"], ["customer_id: 'one' is no int"]),
        (["customer_id=1.5", "basket_value=1"], ["customer_id: '1.5' is no int"]),
        (["customer_id=1e0", "basket_value=1"], ["customer_id: '1e0' is no int"]),
        (["customer_id=1", "basket_value=1_0"], ["basket_value: '1_0' is no float"]),
        (["customer_id=1"], ["lacks basket_value"]),
        (["customer_id=1", "basket_value=1", "x=2"], ["has x"]),
        (["customer_id=1", "customer_id=2", "basket_value=1"], ["customer_id is given twice"]),
        (
            ["customer_id=9223372036854775808", "basket_value=1"],
            ["is outside of int64, from -2**63"],
        ),
        (["customer_id=1", "basket_value="], ["basket_value"]),
    ],
)
def test_a_bad_key_value(served: Path, run: Run, pairs: list[str], parts: list[str]) -> None:
    assert_explained(run("get-online", "checkout", *pairs), *parts)


def test_an_unknown_source(served: Path, run: Run) -> None:
    file = write_events(served / "events.jsonl")
    assert_explained(run("push", "order", file), "'order'", "orders")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("{", ["line 2: not JSON"]),
        ("[1]", ["line 2: found '[1]'", "write an object"]),
        ('{"customer_id": 1, "customer_id": 2}', ["line 2", "a name stands twice"]),
        ('{"quantity": 1e999}', ["line 2", "1e999 is beyond the doubles"]),
        ('{"customer_id": 1}', ["'quantity'"]),
        (json.dumps({**EVENT, "quantity": "two"}), ["quantity", "'two'"]),
        (json.dumps({**EVENT, "ordered_at": "noon"}), ["ordered_at", "'noon'"]),
        (json.dumps({**EVENT, "colour": "red"}), ["'colour'"]),
    ],
)
def test_a_bad_json_line_pushes_nothing(
    served: Path, run: Run, line: str, parts: list[str]
) -> None:
    file = served / "events.jsonl"
    file.write_text(f"{json.dumps(EVENT)}\n{line}\n", encoding="utf-8")
    assert_explained(run("push", "orders", file), *parts)
    assert not (served / ".featurekit" / "log").exists()


def test_push_files_that_cannot_be_read(served: Path, run: Run) -> None:
    for name in ("absent.jsonl", "absent.csv", "absent.parquet"):
        assert_explained(run("push", "orders", served / name), name, "there is no file")
    (served / "bad.parquet").write_bytes(b"no")
    assert_explained(run("push", "orders", served / "bad.parquet"), "is no Parquet file")
    (served / "bad.jsonl").write_bytes(b'{"country": "\xff"}')
    assert_explained(run("push", "orders", served / "bad.jsonl"), "is not UTF-8")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("customer_id,basket_value\n1,2\n", ["event_timestamp"]),
        ("customer_id,basket_value,event_timestamp\nx,2,2026-01-01\n", ["row 0", "'x' is no int"]),
        ("customer_id,basket_value,event_timestamp\n1,2,\n", ["event_timestamp"]),
        ("customer_id,basket_value,event_timestamp\n1,,2026-01-01\n", ["basket_value"]),
        ("customer_id,basket_value,event_timestamp\n1,2,2026-01-01\n1,2\n", ["frame.csv"]),
        (
            "customer_id,basket_value,event_timestamp\n1,2,2026-01-01\n1,2,2026-01-01T00:00:00Z\n",
            ["the instant of row 1 has an offset from UTC", "--timezone Europe/London"],
        ),
        ("", ["frame.csv"]),
    ],
)
def test_a_bad_entity_frame(served: Path, run: Run, text: str, parts: list[str]) -> None:
    (served / "frame.csv").write_text(text, encoding="utf-8")
    assert_explained(run("get-historical", "checkout", served / "frame.csv"), *parts)


def test_entity_frames_and_outputs_that_are_not_there(served: Path, run: Run) -> None:
    for name in ("absent.csv", "absent.parquet"):
        assert_explained(run("get-historical", "checkout", served / name), name)
    target = served / "no" / "folder.parquet"
    done = run("get-historical", "checkout", served / "labels.csv", "-o", target)
    assert_explained(done, "folder.parquet: the folder", "does not exist; make it")
    done = run("get-historical", "checkout", served / "labels.csv", "-o", served)
    assert_explained(done, "is a folder")


@pytest.mark.parametrize("every", [True, False])
def test_rows_set_aside_are_told_wherever_they_are_missed(
    repo: Path, run: Run, every: bool
) -> None:
    """A header that ends in a comma, unlike the rows; or one row that is bad."""
    edit(repo / "features.py", 'timezone="UTC",', 'timezone="UTC", on_bad_row="quarantine",')
    orders = repo / "data" / "orders.csv"
    header, *rows = orders.read_text(encoding="utf-8").splitlines()
    lines = [f"{header},", *rows] if every else [header, *rows, "broken"]
    orders.write_text("\n".join(lines) + "\n", encoding="utf-8")
    bad = len(rows) if every else 1

    plan = run("plan")
    assert plan.code == (2 if every else 0)
    assert f"set aside: {bad} of the first rows of orders's files" in plan.out
    assert (
        f"all of the first {bad} rows are to be set aside" in " ".join(plan.out.split())
    ) == every
    assert run("plan", "--json").json["sources"][0]["set_aside"] == bad

    assert run("apply").code == 0
    for _ in range(2):  # a verdict that was kept counts as one that is made
        done = run("materialize")
        assert f"{bad} bad rows of orders's files are set aside" in " ".join(done.out.split())
    assert run("materialize", "--json").json["bad_rows"] == {"orders": bad}
    made = run("get-historical", "checkout", repo / "labels.csv")
    assert f"{bad} bad rows of orders's files are set aside" in " ".join(made.out.split())
    assert run("describe", "orders", "--json").json["found"][0]["rows_set_aside"] == bad


def test_the_ending_says_what_is_written(served: Path, run: Run) -> None:
    labels = served / "labels.csv"
    import pyarrow.parquet as pq

    for name in ("train.csv", "train.parquet", "train.pq"):
        assert run("get-historical", "checkout", labels, "-o", served / name).code == 0
    assert (served / "train.csv").read_bytes().startswith(b"customer_id,")
    assert pq.read_table(served / "train.pq").equals(pq.read_table(served / "train.parquet"))
    for name in ("train.txt", "train", "train.csv.gz"):
        done = run("get-historical", "checkout", labels, "-o", served / name)
        assert_explained(done, "-o: the name of ", "ends in none of .csv, .parquet, .pq")
        assert not (served / name).exists()


def test_a_time_zone_that_does_not_exist(served: Path, run: Run) -> None:
    argv = ("get-historical", "checkout", served / "labels.csv", "--timezone", "Mars/Olympus")
    assert_explained(run(*argv), "Mars/Olympus")


# --- the process ----------------------------------------------------------------------------------


def shell(*argv: object, cwd: Path, text: str = "", env: dict[str, str] | None = None) -> Done:
    """Run a command in a process of its own."""
    done = forks.run(
        [sys.executable, "-m", "featurekit.cli", *map(str, argv)],
        input=text,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_shell_gets_the_exit_code_and_the_message(tmp_path: Path) -> None:
    assert_explained(shell("plan", cwd=tmp_path), "no feature_store.yaml")
    assert_explained(shell("plan", "--x", cwd=tmp_path), "--x", code=64)


def test_an_unexpected_exception_is_told_apart_from_a_parity_that_differs(
    repo: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "plan", replace(plan.plan, run=lambda *_: 1 // 0))
    done = run("plan")
    assert (done.code, "this is a bug in featurekit" in done.err) == (70, True)


def test_a_reader_that_goes_away_is_no_error(repo: Path) -> None:
    command = f"{sys.executable} -m featurekit.cli plan --json | true; echo ${{PIPESTATUS[0]}}"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", f"sleep 0 | {command}".replace("PIPESTATUS[0]", "PIPESTATUS[1]")],
        capture_output=True,
        text=True,
        cwd=repo,
        env=env,
    )
    assert (done.stdout.strip(), done.stderr) == ("141", "")


def test_ctrl_c_exits_with_130(repo: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "featurekit.cli", "push", "orders"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=repo,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdin is not None
    # A line longer than the pipe's buffer: writing it ends once the command is reading.
    process.stdin.write("\n" * 300_000)
    process.stdin.flush()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "featurekit: interrupted\n")


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hint", "expected"),
    [
        ("true", bool, True),
        ("-7", int, -7),
        ("1e3", float, 1000.0),
        ("", str, ""),
        ("", int, None),
        ("00ff", bytes, b"\x00\xff"),
        ("2011-03-27", dt.date, dt.date(2011, 3, 27)),
        ("2011-03-27T01:30", dt.datetime, dt.datetime(2011, 3, 27, 1, 30)),
        ("7d", dt.timedelta, dt.timedelta(days=7)),
        ("[1, 2]", list[int], [1, 2]),
        ('["NaN"]', list[str], ["NaN"]),
    ],
)
def test_text_is_read_by_its_declared_type(text: str, hint: Any, expected: Any) -> None:
    found = of_text(text, from_hint(hint))
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (float("inf"), float),
        (b"\x00\xff", bytes),
        (dt.datetime(2011, 1, 1, tzinfo=dt.UTC), dt.datetime),
        (dt.date(2011, 1, 1), dt.date),
        (dt.timedelta(microseconds=1), dt.timedelta),
        ([1.5, float("-inf")], list[float]),
        (2**63 - 1, int),
    ],
)
def test_what_json_says_is_read_back_as_it_was(value: Any, hint: Any) -> None:
    written = json.loads(json.dumps(plain(value), allow_nan=False))
    assert of_json(written, from_hint(hint)) == value


def test_a_screen_for_programs_prints_the_document_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    screen = Screen(as_json=True)
    screen.heading("a", "b")
    screen.table(("a",), [(1,)])
    screen.line("c")
    screen.document({"x": float("nan")})
    assert json.loads(capsys.readouterr().out) == {"x": "NaN"}


def test_a_table_shows_markup_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().table(("[bold]a",), [("[red]x[/red]",), (":smile:",)])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[bold]a", "[red]x[/red]", ":smile:"))
