"""`explain` shows the events that counted, the near misses with their rules, and the steps."""

from __future__ import annotations

import datetime as dt
import json

import pyarrow as pa
import pytest
from paths import in_small_blocks

from featurekit.cli import main
from featurekit.core.values import ERROR
from featurekit.errors import DefinitionError, EntityFrameError
from featurekit.parity.compare import bits
from featurekit.store import FeatureStore

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Mean, Sum

customer = Entity("customer", {"customer_id": int})
orders = EventSource(
    "orders", path="data/orders.parquet", timestamp_field="at", created_timestamp_column="known_at",
    event_id="order_id", dedupe_within="30d",
    schema={"order_id": str, "customer_id": int, "amount": float | None, "pieces": int},
)

@feature
def each(amount: float | None, pieces: int) -> float | None:
    if amount is None:
        return None
    return amount / pieces

@feature
def small(amount: float | None) -> bool:
    return amount is not None and amount < 100

windows = FeatureView(
    "windows", entities=[customer], source=orders, history="30d",
    features={
        "spend": Sum("amount", window="1d"),
        "mean_each": Mean(each, window="1d", where=small, default=-1.0),
    },
)
latest = FeatureView(
    "latest", entities=[customer], source=orders, ttl="1d", history="30d",
    features={"pieces": "pieces"},
)

@feature
def shared(basket: float, spend: float | None) -> float:
    return 0.0 if spend is None else basket / spend

service = FeatureService("service", features=[windows, latest, shared], request={"basket": float})
"""
T = dt.datetime(2020, 1, 3, 12, tzinfo=dt.UTC)
HOUR, DAY, US = dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(microseconds=1)
ROW = {"customer_id": 1, "basket": 2.0}


def orders() -> pa.Table:
    rows = [
        ("edge", T - DAY, T - DAY, 1.0, 1),
        ("inside", T - DAY + US, T - DAY + US, 0.1, 2),
        ("null", T - 5 * HOUR, T - 5 * HOUR, None, 1),
        ("big", T - 4 * HOUR, T - 4 * HOUR, 1000.0, 1),
        ("erring", T - 3 * HOUR, T - 3 * HOUR, 5.0, 0),
        ("twice", T - 2 * HOUR, T - 2 * HOUR, 0.2, 1),
        ("twice", T - 2 * HOUR, T - HOUR, 0.2, 1),
        ("late", T - HOUR, T + HOUR, 7.0, 1),
        ("after", T + US, T + US, 8.0, 1),
    ]
    names = ("order_id", "at", "known_at", "amount", "pieces")
    made = [dict(zip(names, row, strict=True)) | {"customer_id": 1} for row in rows]
    return pa.Table.from_pylist(
        made,
        schema=pa.schema(
            [("order_id", pa.string()), ("customer_id", pa.int64()), ("amount", pa.float64()),
             ("pieces", pa.int64()), ("at", pa.timestamp("us", "UTC")),
             ("known_at", pa.timestamp("us", "UTC"))]
        ),
    )  # fmt: skip


@pytest.fixture
def folder(make_repo):
    return make_repo(MODULE, {"orders": orders()})


@pytest.fixture
def store(folder, redis_store, redis_url):
    with FeatureStore(folder, redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def whys(made):
    return [(e.row["order_id"], e.why) for e in made.events]


def test_every_event_has_the_rule_that_left_it_out(store):
    made = store.explain("service", "spend", ROW, T)
    assert whys(made) == [
        ("edge", "T4: at the open end, where the window begins"),
        ("inside", "counts"),
        ("null", "counts"),
        ("big", "counts"),
        ("erring", "counts"),
        ("twice", "counts"),
        ("twice", "T7: a copy, a deletion, or a version that another one replaced at once"),
        ("late", "T3: arrives 1h after the instant asked"),
        ("after", "T3: happens 1 µs after the instant asked"),
    ]
    assert made.agree
    assert made.offline == (1005.3, "PRESENT")  # added from the left it is the next double
    counting = [e.why == "counts" for e in made.events]
    assert [e.offline for e in made.events] == counting
    assert [e.online for e in made.events] == counting


def test_an_aggregate_s_steps_end_in_its_value(store):
    made = store.explain("service", "spend", ROW, T)
    assert made.steps[:3] == [
        ("events in the window", 5),
        ("inputs that are None, skipped", 1),
        ("inputs", 4),
    ]
    assert made.steps[-1] == ("Sum, rounded once", made.online[0])
    assert made.steps[3][0] == "their exact sum"
    assert made.steps[3][1].startswith("1005.3000000000000")


@pytest.mark.parametrize("special", [float("nan"), float("inf")])
def test_inputs_of_none_and_nan_are_shown_together(make_repo, redis_store, redis_url, special):
    module = MODULE.replace("import Mean, Sum", "import LastN, Mean, Sum").replace(
        '"spend": Sum("amount", window="1d")',
        '"spend": Sum("amount", window="1d"),\n'
        '        "lasts": LastN("amount", n=9, window="1d", keep_none=True)',
    )
    rows = orders()
    amounts = [special if x == 0.1 else x for x in rows["amount"].to_pylist()]
    at = rows.column_names.index("amount")
    rows = rows.set_column(at, "amount", pa.array(amounts, pa.float64()))
    with FeatureStore(make_repo(module, {"orders": rows}), redis_url=redis_url) as store:
        made = store.explain("service", "lasts", ROW, T)
    assert ("NaN or infinite inputs", 1) in made.steps
    assert bits(made.steps[-1][1]) == bits(made.offline[0])


def test_a_condition_and_an_error_leave_events_out(store):
    made = store.explain("service", "windows__mean_each", ROW, T)
    found = dict(whys(made)[:6])
    assert found["null"] == "where: the condition is False"
    assert found["big"] == "where: the condition is False"
    assert found["erring"] == "counts"
    assert ("inputs that err, skipped (R3)", 1) in made.steps
    assert [bits(e.value) for e in made.events if e.row["order_id"] == "erring"] == [bits(ERROR)]
    assert made.offline == made.online == ((0.05 + 0.2) / 2, "PRESENT")


def test_a_transform_is_shown_node_by_node_on_both_paths(store):
    made = store.explain("service", "mean_each", ROW, T)
    last = [n for n in made.nodes if made.events[n.event - 1].row["order_id"] == "twice"]
    assert [(n.text, n.offline, n.online) for n in last] == [
        ("float(pieces)", 1.0, 1.0),
        ("amount / float(pieces)", 0.2, 0.2),
    ]


def test_of_a_latest_row_the_others_stand_behind_it(store):
    made = store.explain("service", "pieces", ROW, T)
    assert dict(whys(made)[1:6]) == {
        "inside": "T6: behind a later row",
        "null": "T6: behind a later row",
        "big": "T6: behind a later row",
        "erring": "T6: behind a later row",
        "twice": "counts",
    }
    assert [e.offline for e in made.events].count(True) == 1
    assert made.offline == (1, "PRESENT")


def test_a_request_time_transform_shows_what_it_reads(store):
    made = store.explain("service", "shared", ROW, T)
    spend = 1005.3, "PRESENT"
    assert made.inputs == [
        ("basket", "request field", (2.0, "PRESENT"), (2.0, "PRESENT")),
        ("spend", "feature windows__spend", spend, spend),
    ]
    assert made.nodes[-1].online == made.online[0] == 2.0 / spend[0]


def test_what_is_not_online_yet_is_said(folder, redis_store, redis_url):
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize(T - 4 * HOUR)
        made = store.explain("service", "spend", ROW, T)
    assert made.agree is False
    assert made.notes == [
        "2 events that count are not in the live state: not pushed or materialised yet"
    ]
    assert [e.row["order_id"] for e in made.events if e.counts and not e.known] == [
        "erring", "twice",
    ]  # fmt: skip


def test_a_state_that_is_not_whole_is_said(make_repo, redis_store, redis_url, monkeypatch):
    in_small_blocks(monkeypatch)
    without_ids = MODULE.replace('event_id="order_id", dedupe_within="30d",', "")
    folder = make_repo(without_ids, {"orders": orders()})
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize()
        whole = store.explain("service", "spend", ROW, T)
        store.online.delete([k for k in store.online.keys(b"fk:") if b":block:" in k])
        made = store.explain("service", "spend", ROW, T)
    assert (whole.agree, whole.notes) == (True, [])
    assert (made.agree, made.offline) == (None, whole.offline)
    assert [note.partition(": ")[0] for note in made.notes] == [
        "online does not answer", "the live state cannot be read",
    ]  # fmt: skip


def test_where_nothing_is_served_offline_answers_alone(folder, redis_store, redis_url):
    with FeatureStore(folder, redis_url=redis_url) as store:
        made = store.explain("service", "spend", ROW, T)
    assert made.online is None
    assert made.agree is None
    assert "online does not answer" in made.notes[0]
    assert made.offline[1] == "PRESENT"


def test_an_instant_before_the_horizon_is_said(store):
    made = store.explain("service", "spend", ROW, T - 90 * DAY)
    assert made.online is None
    assert "declare history=" in made.notes[0]


def test_forgotten_events_are_counted(store):
    store.forget("customer", {"customer_id": 1})
    made = store.explain("service", "spend", ROW, T)
    assert made.events == []
    assert "9 events are forgotten and read by nothing" in made.notes


def test_explaining_changes_nothing(store, redis_store):
    before = {k: redis_store.client.dump(k) for k in redis_store.client.keys("*")}
    store.explain("service", "spend", ROW, T)
    assert {k: redis_store.client.dump(k) for k in redis_store.client.keys("*")} == before


def test_an_unknown_entity_has_no_events(store):
    made = store.explain("service", "spend", ROW | {"customer_id": 2}, T)
    assert made.events == []
    assert made.agree
    assert made.offline == (None, "NOT_FOUND")


def test_a_null_key_belongs_to_no_entity(store):
    made = store.explain("service", "spend", ROW | {"customer_id": None}, T)
    assert made.notes == ["a join key is None, so the row belongs to no entity (S2)"]
    assert made.agree


@pytest.mark.parametrize(
    ("service", "feature", "row", "error", "said"),
    [
        ("other", "spend", ROW, DefinitionError, "no service 'other'"),
        ("service", "spent", ROW, DefinitionError,
         r"no feature 'spent'; did you mean 'spend'\? It has spend, mean_each"),
        ("service", "spend", {"customer_id": 1}, EntityFrameError, "lacks basket"),
        ("service", "spend", ROW | {"customer_id": "1"}, EntityFrameError, "expected int"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_refused(store, service, feature, row, error, said):
    with pytest.raises(error, match=said):
        store.explain(service, feature, row, T)


def test_the_verb_shows_tables_and_json(store, folder, redis_url, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    common = ["--repo", str(folder), "--redis-url", redis_url, "explain", "service"]
    asked = ["customer_id=1", "basket=2", "--as-of", T.isoformat()]
    assert main([*common, "mean_each", *asked]) == 0
    shown = capsys.readouterr().out
    for said in ("every bit agrees", "T4: at the open end", "where: the condition is False",
                 "amount / float(pieces)", "Mean, rounded once"):  # fmt: skip
        assert said in shown
    assert main([*common, "mean_each", *asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["agree"] is True
    assert document["events"][0]["why"] == "T4: at the open end, where the window begins"
    assert main([*common, "nothing", *asked]) == 2
    assert "has no feature 'nothing'" in capsys.readouterr().err
