"""A rule of a row gives one verdict in a file and in a push, of every kind and severity (S5)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from contracts.ruled import RULES, rows, source_of, table_of, with_severity, write
from hypothesis import given, settings
from slow import slow_unless

from featurekit.define.contracts.compiled import contract_of
from featurekit.errors import ContractBroken
from featurekit.offline.contract import measure, outcomes
from featurekit.offline.session import prepare
from featurekit.sources import read_events, read_rows

SEVERITIES = ("fail", "quarantine", "warn")


@pytest.fixture(scope="module")
def con() -> Iterator[Any]:
    with duckdb.connect() as made:
        prepare(made)
        yield made


def numbers(con: Any, relation: str) -> list[int]:
    return sorted(n for (n,) in con.execute(f"SELECT n FROM {relation}").fetchall())


def in_file(con: Any, folder: Path, source: Any) -> tuple[list[int], dict[str, int], bool]:
    """Of the rows of a file: those that are left, how many break each rule, and whether the work
    stops."""
    whole = read_events(con, source, base=folder, state_dir=folder, judged=False)
    contract = contract_of(source)
    found = measure(con, source, contract, whole.relation, other=lambda _: "")
    made = outcomes(contract, found, now_us=0, rows_before=None)
    left = read_events(con, source, base=folder, state_dir=folder)
    kept = numbers(con, left.relation)
    assert (left.rows, len(kept)) == (found.kept, found.kept)
    assert left.quarantined == found.rows - found.kept
    broken = {o.rule: o.broken for o in made if o.broken}
    return kept, broken, any(o.stops for o in made)


def in_push(source: Any, given: Any, folder: Path) -> tuple[list[int], dict[str, int], bool] | None:
    """As `in_file`, of a push; None where it is refused."""
    before = sorted(folder.rglob("*"))
    try:
        taken = read_rows(source, given, state_dir=folder)
    except ContractBroken:
        assert sorted(folder.rglob("*")) == before
        return None
    left = [row["n"] for row in taken.pushed]
    assert taken.quarantined == len(given) - len(left)
    assert [taken.number(place) for place in range(len(left))] == left
    return left, taken.broken, False


PROMPT = ("range", "pattern", "feature", "not null")
"""The kinds of rules that every run tries with each severity; `--thorough` does so with all."""


@pytest.mark.parametrize(
    ("kind", "severity"),
    slow_unless(
        lambda kind, severity: severity == "quarantine" or kind in PROMPT,
        [(kind, severity) for kind in RULES for severity in SEVERITIES],
    ),
)
def test_a_file_and_a_push_get_one_verdict(
    kind: str, severity: str, con: Any, tmp_path_factory: Any
) -> None:
    @given(rows())
    @settings(max_examples=settings.default.max_examples // 12)
    def check(given: list[dict[str, Any]]) -> None:
        folder = tmp_path_factory.mktemp("rows")
        source = source_of(folder / "rows.parquet", with_severity(kind, severity))
        (name,) = (rule.name for rule in source.expect)
        write(folder / "rows.parquet", given)
        meaning = RULES[kind][1]
        bad = [row["n"] for row in given if meaning(row) is False]
        kept = [row["n"] for row in given if severity != "quarantine" or row["n"] not in bad]
        counted = {name: len(bad)} if bad else {}
        assert in_file(con, folder, source) == (kept, counted, bool(bad) and severity == "fail")
        expected = None if bad and severity == "fail" else (kept, counted, False)
        for form, pushed in (("dicts", given), ("arrow", table_of(given))):
            state = folder / form
            state.mkdir()
            assert in_push(source, pushed, state) == expected, form

    check()


@given(rows())
@settings(max_examples=settings.default.max_examples // 12)
def test_all_rules_together_judge_each_row_as_they_do_alone(given: list[dict[str, Any]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as made, duckdb.connect() as con:
        prepare(con)
        folder = Path(made)
        kinds = list(RULES)
        aside, warned = kinds[::2], kinds[1::2]
        rules = [with_severity(k, "quarantine") for k in aside]
        rules += [with_severity(k, "warn") for k in warned]
        named = [_named(rule, n) for n, rule in enumerate(rules)]
        source = source_of(folder / "rows.parquet", *named)
        write(folder / "rows.parquet", given)
        gone = {r["n"] for r in given for k in aside if RULES[k][1](r) is False}
        kept = [r["n"] for r in given if r["n"] not in gone]
        broken = {
            rule.name: sum(RULES[k][1](r) is False for r in given)
            for rule, k in zip(named, [*aside, *warned], strict=True)
        }
        counted = {name: n for name, n in broken.items() if n}
        expected = (kept, counted, False)
        assert in_file(con, folder, source) == expected
        assert in_push(source, given, folder) == expected
        assert in_push(source, table_of(given), folder) == expected


def _named(rule: Any, number: int) -> Any:
    from dataclasses import replace

    return replace(rule, name=f"rule_{number}")


def test_rows_set_aside_are_kept_as_they_are_with_the_reason(con: Any, tmp_path: Path) -> None:
    source = source_of(tmp_path / "rows.parquet", with_severity("range", "quarantine"))
    given = [_row(n, q) for n, q in enumerate([5, 11, 7, -1])]
    write(tmp_path / "rows.parquet", given)
    found = read_events(con, source, base=tmp_path, state_dir=tmp_path)
    assert (found.rows, found.quarantined) == (2, 2)
    kept = pq.read_table(tmp_path / "quarantine" / "events.parquet").to_pylist()
    why = "rule q_between: not q >= 0 and q <= 10"
    assert [(r["n"], r["q"], r["__source_row"], r["reason"]) for r in kept] == [
        (1, 11, 1, why), (3, -1, 3, why)
    ]  # fmt: skip
    read_rows(source, given, state_dir=tmp_path)
    (pushed,) = (tmp_path / "quarantine").glob("*.jsonl")
    lines = [json.loads(line) for line in pushed.read_text().splitlines()]
    assert [(line["row"], line["reason"]) for line in lines] == [(1, why), (3, why)]


def _row(n: int, q: int) -> dict[str, Any]:
    from datetime import timedelta

    from contracts.ruled import NOON

    empty = dict.fromkeys(("y", "s", "unit price", "flag", "day", "seen", "tags"))
    return {"n": n, "q": q, "x": 0.0, **empty, "at": NOON + timedelta(seconds=n)}


def test_csv_in_folders_and_local_times_are_judged_like_their_values(
    con: Any, tmp_path: Path
) -> None:
    """Of a line that cannot be read, one that breaks S1 and two that break the contract, each is
    kept with its own reason."""
    import datetime as dt

    from featurekit import Between, EventSource, OneOf

    folder = tmp_path / "region=eu"
    folder.mkdir()
    (folder / "rows.csv").write_text(
        """q,seen,at
1,2024-07-01 10:00,2024-05-01 12:00
2,2024-07-01 14:00,2024-05-01 13:00
x,2024-07-01 10:00,2024-05-01 13:00
3,2024-07-01 10:00
99,2024-07-01 10:00,2024-05-01 13:00
"""
    )
    source = EventSource(
        "events",
        path=str(tmp_path / "region=*" / "rows.csv"),
        schema={"q": int, "seen": dt.datetime, "region": str},
        timestamp_field="at",
        timezone="Europe/Oslo",
        timestamp_format="iso",
        on_bad_row="quarantine",
        expect=[
            Between("q", 0, 9, severity="quarantine"),
            # 14:00 in Oslo is noon in UTC.
            Between(
                "seen", below=dt.datetime(2024, 7, 1, 12, tzinfo=dt.UTC), severity="quarantine"
            ),
            OneOf("region", ["eu"], severity="quarantine"),
        ],
    )
    found = read_events(con, source, base=tmp_path, state_dir=tmp_path)
    assert (found.rows, found.quarantined) == (1, 4)
    assert con.execute(f"SELECT q, region FROM {found.relation}").fetchall() == [(1, "eu")]
    kept = pq.read_table(tmp_path / "quarantine" / "events.parquet").to_pylist()
    reasons = sorted((row["__line"], row["reason"].split(":")[0]) for row in kept)
    assert reasons == [
        (3, "rule seen_between"), (4, "q"), (5, "2 fields where the header names 3"),
        (6, "rule q_between"),
    ]  # fmt: skip
