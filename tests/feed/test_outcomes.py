"""Outcomes are kept once, corrected by the instant of knowing, refused as a whole where a row is
wrong, and forgotten with their entity."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redis

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import ArgumentError, DataError, DefinitionError
from featurekit.feed import forget_served
from featurekit.log.outcomes import Outcome, in_force, outcomes_folder, read_outcomes
from featurekit.online.store.server import scratch_redis

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

person = Entity("person", {"person_id": str})
shop = Entity("shop", {"shop_id": int})
visits = EventSource("visits", path="visits.parquet", timestamp_field="ts",
                     schema={"person_id": str, "shop_id": int, "paid": float})
people = FeatureView("people", entities=[person], source=visits,
                     features={"spend": Sum("paid", window="90000d")})
shops = FeatureView("shops", entities=[shop], source=visits,
                    features={"visits": Count(window="90000d")})
alone = FeatureService("alone", features=[people])
both = FeatureService("both", features=[people, shops])
guest = FeatureService("guest", features=[people.as_("guest", join_keys={"person_id": "row"})])
"""
SETTINGS = """
project: outcomes
provider: local
online_store: {{type: redis}}
featurekit:
  serving_log: {{to: {to}}}
"""
AT = dt.datetime(2024, 1, 1, 12, tzinfo=dt.UTC)
LATER = AT + dt.timedelta(days=3)
NAME = "person-number-17850"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with scratch_redis() as found:
        yield found


@pytest.fixture(params=["parquet"])
def store(request: Any, tmp_path: Path, url: str) -> Iterator[FeatureStore]:
    redis.Redis.from_url(url).flushdb()
    (tmp_path / "feature_store.yaml").write_text(SETTINGS.format(to=request.param))
    (tmp_path / "definitions.py").write_text(MODULE)
    with FeatureStore(tmp_path, redis_url=url) as made:
        made.apply()
        for person in (NAME, "other"):
            made.push("visits", [{"person_id": person, "shop_id": 7, "paid": 2.5, "ts": AT}])
        yield made


def counts(done: Any) -> tuple[int, ...]:
    return done.rows, done.taken, done.corrected, done.repeated


def kept(store: FeatureStore, service: str = "alone") -> list[Outcome]:
    return [one for f in read_outcomes(store.state_dir, service) for one in f.outcomes]


def said(store: FeatureStore) -> list[str]:
    """The outcomes that are in force."""
    return sorted(one.value for one in in_force(kept(store)).values())


# --- what is taken --------------------------------------------------------------------------------


def test_the_same_outcome_twice_counts_once(store):
    rows = [
        {"request_id": "a", "outcome": True},
        {"request_id": "a", "row": 1, "outcome": 3, "known_at": LATER},
        {"person_id": NAME, "at": AT, "outcome": "gone", "prediction": 0.25},
    ]
    assert counts(store.push_outcomes("alone", rows)) == (3, 3, 0, 0)
    before = kept(store)
    assert counts(store.push_outcomes("alone", rows)) == (3, 0, 0, 3)
    assert counts(store.push_outcomes("alone", [rows[1], rows[1]])) == (2, 0, 0, 2)
    assert kept(store) == before
    assert said(store) == ['"gone"', "3.0", "true"]


def test_a_copy_in_one_push_counts_once(store):
    row = {"request_id": "a", "outcome": True}
    assert counts(store.push_outcomes("alone", [row, row])) == (2, 1, 0, 1)


def test_a_correction_replaces_by_the_instant_of_knowing_in_whatever_order(store):
    late = [
        {"request_id": "a", "outcome": value, "known_at": AT + dt.timedelta(days=day)}
        for day, value in enumerate((False, True, False))
    ]
    for number, order in enumerate(itertools.permutations(late)):
        for row in order:
            store.push_outcomes("alone", {**row, "request_id": f"r{number}"})
    found = in_force(kept(store))
    assert len(found) == 6
    assert {(one.value, one.known_at) for one in found.values()} == {
        ("false", int((AT + dt.timedelta(days=2)).timestamp() * 1e6))
    }


def test_a_correction_is_counted_and_one_that_was_known_before_is_not(store):
    def put(outcome: int, **known: Any) -> tuple[int, ...]:
        row = {"request_id": "a", "outcome": outcome, **known}
        return counts(store.push_outcomes("alone", row))

    assert put(1, known_at=LATER) == (1, 1, 0, 0)
    assert put(2, known_at=AT) == (1, 1, 0, 0)
    assert said(store) == ["1.0"]
    assert put(3) == (1, 1, 1, 0)
    assert said(store) == ["3.0"]


def test_two_that_were_known_at_once_have_one_order(store):
    for number, order in enumerate((("x", "y"), ("y", "x"))):
        for value in order:
            row = {"request_id": f"{number}", "outcome": value, "known_at": AT}
            store.push_outcomes("alone", row)
    assert said(store) == ['"y"', '"y"']


def test_outcomes_of_another_service_or_entity_or_row_are_others(store):
    rows = [{"request_id": "a", "row": i, "outcome": True} for i in range(3)]
    rows += [{"person_id": p, "at": at, "outcome": False} for p in "pq" for at in (AT, LATER)]
    assert counts(store.push_outcomes("alone", rows)) == (7, 7, 0, 0)
    assert counts(store.push_outcomes("both", rows[:3])) == (3, 3, 0, 0)
    assert (len(in_force(kept(store))), len(in_force(kept(store, "both")))) == (7, 3)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(pd.DataFrame, id="pandas"),
        pytest.param(pa.Table.from_pylist, id="arrow"),
    ],
)
def test_a_frame_is_the_same_as_its_rows(store, made):
    rows = [
        {"request_id": "a", "row": 1, "person_id": None, "at": None, "outcome": True},
        {"request_id": None, "row": None, "person_id": NAME, "at": AT, "outcome": False},
    ]
    assert counts(store.push_outcomes("alone", made(rows))) == (2, 2, 0, 0)
    assert counts(store.push_outcomes("alone", rows)) == (2, 0, 0, 2)


def test_scalars_of_numpy_are_their_values(store):
    rows = [
        {"request_id": "a", "outcome": np.bool_(True)},
        {"request_id": "b", "outcome": np.int64(2), "prediction": np.float32(0.5)},
    ]
    store.push_outcomes("alone", rows)
    assert said(store) == ["2.0", "true"]


def test_pushes_at_once_keep_each_outcome_once(store):
    rows = [{"request_id": f"{i}", "outcome": True, "known_at": AT} for i in range(50)]
    work = [threading.Thread(target=store.push_outcomes, args=("alone", rows)) for _ in range(6)]
    for one in work:
        one.start()
    for one in work:
        one.join()
    assert len(kept(store)) == 50


# --- what is refused ------------------------------------------------------------------------------

BAD = [
    ({"outcome": True}, "it is the outcome of; write request_id, or person_id and at"),
    ({"person_id": "p", "outcome": True}, "says not what it is the outcome of"),
    ({"request_id": "a"}, "has no outcome; write true or false, a number or a text"),
    ({"request_id": "a", "outcome": None}, "has no outcome"),
    ({"request_id": "a", "outcome": float("nan")}, "outcome is true or false, a finite number"),
    ({"request_id": "a", "outcome": 2**60}, "outcome is true or false, a finite number"),
    ({"request_id": "a", "outcome": [1]}, r"outcome is true or false, .* found \[1\]"),
    ({"request_id": "a", "outcome": 1, "prediction": float("inf")}, "prediction is true or false"),
    ({"request_id": 7, "outcome": 1}, "request_id is a text, found 7"),
    ({"request_id": "", "outcome": 1}, "request_id is a text, found ''"),
    ({"request_id": "a", "row": -1, "outcome": 1}, "row is a whole number from 0 on, found -1"),
    ({"request_id": "a", "row": 0.5, "outcome": 1}, "row is a whole number from 0 on"),
    ({"request_id": "a", "row": float("nan"), "outcome": 1}, "row is a whole number from 0 on"),
    ({"request_id": "a", "row": True, "outcome": 1}, "row is a whole number from 0 on"),
    ({"person_id": "p", "at": AT, "row": 1, "outcome": 1}, "write request_id, too"),
    ({"person_id": 7, "at": AT, "outcome": 1}, "person_id: .*7"),
    ({"person_id": "p", "at": "soon", "outcome": 1}, "at is an instant, found 'soon'"),
    ({"person_id": "p", "at": "2999-01-01", "outcome": 1}, "at is 2999-01-01.* push it when"),
    ({"request_id": "a", "known_at": "2999-01-01", "outcome": 1}, "known_at is 2999-01-01"),
    ({"request_id": "a", "outcom": 1}, "no column 'outcom'; did you mean 'outcome'"),
]  # fmt: skip


def test_a_row_that_is_wrong_is_named_and_nothing_is_kept(store):
    good = {"request_id": "good", "outcome": True}
    for row, told in BAD:
        with pytest.raises(DataError, match=f"^outcomes, row 1: .*{told}.*; nothing was kept$"):
            store.push_outcomes("alone", [good, row])
        assert kept(store) == []


def test_what_are_no_rows_and_no_service_is_refused(store):
    with pytest.raises(ArgumentError, match="outcomes are a dict, a list of dicts or a frame"):
        store.push_outcomes("alone", 7)
    with pytest.raises(DefinitionError, match="no service 'alon'; did you mean 'alone'"):
        store.push_outcomes("alon", [])
    with pytest.raises(DefinitionError, match="has a join key 'row'"):
        store.push_outcomes("guest", [])
    with pytest.raises(DataError, match="lacks the join key 'shop_id'; write all of them, or none"):
        store.push_outcomes("both", {"person_id": NAME, "at": AT, "outcome": 1})
    mixed = pd.DataFrame({"request_id": ["a", "b"], "outcome": [True, "x"]})
    with pytest.raises(DataError, match="the frame cannot be read"):
        store.push_outcomes("alone", mixed)


def test_a_damaged_file_is_named(store):
    store.push_outcomes("alone", {"request_id": "a", "outcome": True})
    (path,) = outcomes_folder(store.state_dir).glob("*.parquet")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=f"{path.name} cannot be read"):
        store.push_outcomes("alone", {"request_id": "b", "outcome": True})
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(DataError, match=f"{path.name} is no file of outcomes"):
        store.push_outcomes("alone", {"request_id": "b", "outcome": True})


# --- forgetting -----------------------------------------------------------------------------------


def traces(store: FeatureStore) -> bytes:
    """What the files of outcomes have, uncompressed."""
    paths = outcomes_folder(store.state_dir).glob("*.parquet")
    return b"".join(repr(pq.read_table(p).to_pydict()).encode() + p.read_bytes() for p in paths)


def served_twice(store: FeatureStore) -> list[str]:
    """Ask about the person and about another one; the names of both rows' request."""
    store.get_online_features("alone", [{"person_id": NAME}, {"person_id": "other"}])
    store.serving_log.flush()
    return [f"{b.process}:{b.request[0]}" for b in store.parts.served(forgotten=True)]


@pytest.mark.parametrize("store", ["parquet", "stream"], indirect=True)
def test_forgetting_reaches_outcomes_by_their_keys_and_by_their_requests(store):
    (request,) = served_twice(store)
    mine = [
        {"person_id": NAME, "at": AT, "outcome": "mine"},
        {"request_id": request, "row": 0, "outcome": "mine"},
        {"request_id": "another", "person_id": NAME, "at": AT, "outcome": "mine"},
    ]
    others = [
        {"person_id": "other", "at": AT, "outcome": "theirs"},
        {"request_id": request, "row": 1, "outcome": "theirs"},
    ]
    store.push_outcomes("alone", mine[:1] + others[:1])
    store.push_outcomes("alone", mine[1:])
    store.push_outcomes("alone", others[1:])
    store.push_outcomes("both", {"person_id": NAME, "shop_id": 7, "at": AT, "outcome": "mine"})
    assert NAME.encode() in traces(store)
    done = store.forget("person", {"person_id": NAME})
    assert done.outcomes == 4
    assert said(store) == ['"theirs"', '"theirs"']
    assert kept(store, "both") == []
    assert NAME.encode() not in traces(store)
    assert b"mine" not in traces(store)
    assert store.forget("person", {"person_id": NAME}).outcomes == 0


def test_gc_takes_out_what_came_of_a_forgotten_row_later(store):
    (request,) = served_twice(store)
    store.push_outcomes("alone", {"request_id": "x", "outcome": "theirs"})
    store.forget("person", {"person_id": NAME})
    store.push_outcomes("alone", {"request_id": request, "row": 0, "outcome": "mine"})
    store.push_outcomes("alone", {"request_id": request, "row": 1, "outcome": "theirs"})
    store.gc()
    assert said(store) == ['"theirs"', '"theirs"']


def test_a_forgetting_that_ended_half_way_is_ended_by_the_next(store, monkeypatch):
    (request,) = served_twice(store)
    store.push_outcomes("alone", {"request_id": request, "outcome": "mine"})

    def dies(*given: Any) -> int:
        raise OSError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(forget_served, "strip_outcomes", dies)
        with pytest.raises(OSError, match="no more"):
            store.forget("person", {"person_id": NAME})
    assert said(store) == ['"mine"']
    assert store.forget("person", {"person_id": NAME}).outcomes == 1
    assert said(store) == []


# --- the command ----------------------------------------------------------------------------------


def run(store: FeatureStore, capsys: Any, *words: str) -> tuple[int, str, str]:
    place = ["--repo", str(store.path), "--redis-url", store.online.url]
    code = main([*place, *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_takes_json_lines_and_parquet(store, tmp_path, capsys):
    lines = tmp_path / "outcomes.jsonl"
    rows = [
        {"request_id": "a", "outcome": True},
        {"person_id": NAME, "at": "2024-01-01", "outcome": 1},
    ]
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _ = run(store, capsys, "--json", "outcomes", "push", "alone", str(lines))
    assert code == 0
    told = {"service": "alone", "rows": 2, "taken": 2, "corrected": 0, "repeated": 0}
    assert json.loads(out) == told
    table = tmp_path / "outcomes.parquet"
    pq.write_table(pa.Table.from_pylist([{"request_id": "b", "outcome": False}]), table)
    code, out, _ = run(store, capsys, "outcomes", "push", "alone", str(table))
    assert (code, said(store)) == (0, ["1.0", "false", "true"])
    assert "taken" in out
    lines.write_text('{"request_id": "c", "outcome": null}\n')
    code, out, err = run(store, capsys, "outcomes", "push", "alone", str(lines))
    assert (code, out) == (2, "")
    assert "outcomes, row 0: it has no outcome" in err
    code, _, err = run(store, capsys, "outcomes", "push", "alone", str(tmp_path / "none.jsonl"))
    assert code == 2
    assert "none.jsonl" in err
