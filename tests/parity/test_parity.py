"""A parity check finds nothing where the paths agree, and every skew that is planted into one.

Each skew is looked for twice: by `check_parity`, and by an ordinary test that compares both paths
with the oracle on events that Python read from the same file.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import awkward
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from paths import Paths, Question, connect
from slow import slow_unless

from featurekit import sources
from featurekit.core import status as state
from featurekit.core.types import micros
from featurekit.errors import DefinitionError
from featurekit.feed import events as events_module
from featurekit.feed import settle
from featurekit.language import ops
from featurekit.online.lookup import evaluator as serve
from featurekit.online.store.memory import MemoryStore
from featurekit.parity import paths as players
from featurekit.parity.diagnose import diagnose
from featurekit.parity.modes import prove
from featurekit.parity.modes.aggregates import check_aggregates
from featurekit.parity.modes.operators import connection
from featurekit.store import FeatureStore
from tests.planted.skews import SKEWS

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, Last, Max, Mean, Min, Sum

customer = Entity("customer", {"customer_id": int})
orders = EventSource(
    "orders", path="data/orders.parquet", timestamp_field="at", timezone="Europe/London",
    created_timestamp_column="known_at",
    schema={"customer_id": int | None, "amount": float, "pieces": int, "word": str | None},
)

@feature
def each(amount: float, pieces: int) -> float:
    return amount / pieces

@feature
def in_tens(pieces: int) -> int:
    return 10 // pieces

@feature
def many(pieces: int) -> bool:
    return pieces > 1

windows = FeatureView(
    "windows", entities=[customer], source=orders,
    features={
        "spend": Sum("amount", window="7d"),
        "spend_or": Sum("amount", window="1h", default=0.0),
        "mean": Mean("amount", window="1d", offset="1h"),
        "spend_hop": Sum("amount", window="1d", hop="6h"),
        "spend_many": Sum("amount", window="30d", where=many),
        "spend_ever": Sum("amount", window="lifetime", offset="1h"),
        "orders": Count(window="1d"),
        "orders_hop": Count(window="6h", hop="1d"),
        "pieces": Sum("pieces", window="7d"),
        "least": Min("amount", window="1h"),
        "most": Max("amount", window="1d"),
        "amounts": CountDistinct("amount", window="7d"),
        "word": Last("word", window="1d"),
    },
)
latest = FeatureView(
    "latest", entities=[customer], source=orders, ttl="1d",
    features={"amount": "amount", "pieces_then": "pieces", "each": each, "in_tens": in_tens},
)

@feature
def of_basket(basket: float, pieces_then: int | None) -> float:
    if pieces_then is None:
        return basket
    return basket / pieces_then

service = FeatureService(
    "service", features=[windows, latest, of_basket], request={"basket": float}
)
"""
LONDON = ZoneInfo("Europe/London")


def orders() -> pa.Table:
    """Two hundred orders of a handful of customers, in summer time, across a clock change, before
    1970, late, tied, doubled, with zeros of both signs, NaN and sums that rounding can part."""
    rng = random.Random(5)
    starts = [dt.datetime(2011, 7, 1), dt.datetime(2011, 10, 29, 20), dt.datetime(1969, 12, 30)]
    amounts = [0.1, 0.2, 0.3, 1e16, -1e16, 1.0, 12.75, 0.0, -0.0, 3.3, -7.7, 1e-3]
    rows = []
    for customer in (1, 2, 3, 4, None):
        at = rng.choice(starts) if customer in (3, None) else starts[(customer or 0) % 3]
        for _ in range(50):
            at += dt.timedelta(hours=rng.choice((0, 0, 1, 1, 3, 6, 24)))
            utc = at.replace(tzinfo=LONDON).astimezone(dt.UTC)
            late = rng.choice((0, 0, 0, 1, 3600, 7200, 100_000))
            rows.append({
                "customer_id": customer,
                "amount": rng.choice(amounts if customer != 4 else [0.0, -0.0]),
                "pieces": rng.choice((0, 1, 1, 2, 3, 7)),
                "word": rng.choice((None, "a", "b", "B", "é")),
                "at": at,
                "known_at": utc + dt.timedelta(seconds=late),
            })  # fmt: skip
    for i in rng.sample(range(150), 3):
        rows[i]["amount"] = float("nan")
    rows += rng.sample(rows, 10)
    rng.shuffle(rows)
    return pa.Table.from_pylist(rows).cast(
        pa.schema([("customer_id", pa.int64()), ("amount", pa.float64()), ("pieces", pa.int64()),
                   ("word", pa.string()), ("at", pa.timestamp("us")),
                   ("known_at", pa.timestamp("us", "UTC"))])
    )  # fmt: skip


@pytest.fixture
def store(make_repo) -> Iterator[FeatureStore]:
    with FeatureStore(make_repo(MODULE, {"orders": orders()})) as opened:
        yield opened


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as connection:
        yield connection


def checked(store: FeatureStore) -> Any:
    return store.check_parity("service", values=5_000)


class Ordinary:
    """The oracle's answers, worked out once, with nothing of featurekit's reading in them."""

    def __init__(self, con: Any, store: FeatureStore) -> None:
        service = store.repo.services["service"]
        self.source = store.repo.sources["orders"]
        self.raw = pq.read_table(store.path / self.source.path).to_pylist()
        events = [
            {n: r[n] for n in self.source.schema}
            | {"__ts": micros(r["at"].replace(tzinfo=LONDON)), "__created": micros(r["known_at"])}
            for r in self.raw
        ]
        self.created = [e["__created"] for e in events]
        self.paths = Paths(con, service, {"orders": events})
        of_views = list(self.paths.views.values())
        rng = random.Random(3)
        self.questions = []
        for customer in (1, 2, 3, 4, 99, None):
            own = [e for e in events if e["customer_id"] == customer]
            edges = awkward.edges(own, awkward.windows(*of_views)) or [0]
            # The ends of the ttl that can be seen: nothing happened between.
            ends = [e["__ts"] + awkward.DAY for e in own]
            quiet = [t for t in ends if not any(t - awkward.DAY < e["__ts"] <= t for e in own)]
            self.questions += [
                Question({"customer_id": customer, "basket": rng.choice((25.0, -0.0, 0.1))}, t)
                for t in {*quiet, *rng.sample(edges, min(len(edges), 40))}
            ]
        self.questions.sort(key=lambda q: q.t)
        self.middle = next(
            q.t for q in self.questions[len(self.questions) // 3 :]
            if any(e["customer_id"] == q.row["customer_id"] and e["__ts"] <= q.t < e["__created"]
                   for e in events)
        )  # fmt: skip
        self.expected = self.paths.oracle(self.questions)

    def differing(self, store: FeatureStore) -> int:
        """Values offline, and online, that are not the oracle's."""
        got = [self.offline(store), self.online(store)]
        return sum(len(self.paths.shown(self.questions, self.expected, g)) for g in got)

    def offline(self, store: FeatureStore) -> Any:
        frame = pa.table({
            "customer_id": pa.array([q.row["customer_id"] for q in self.questions], pa.int64()),
            "basket": pa.array([q.row["basket"] for q in self.questions], pa.float64()),
            "event_timestamp": pa.array(
                [q.t for q in self.questions], pa.timestamp("us", "UTC")
            ),
        })  # fmt: skip
        training = store.get_historical_features(frame, "service", statuses=True)
        table = training.to_arrow()
        names = training.names
        return [[(row[n], row[f"{n}__status"]) for n in names] for row in table.to_pylist()]

    def online(self, store: FeatureStore) -> Any:
        """The questions in the order of their instants, from pushes, and from one instant on, at
        which an entity waits for a late event, from a materialisation and pushes."""
        online, known, answers = MemoryStore(), state.NEVER, []
        paths = self.paths
        paths.plan = serve.Evaluator("tests", paths.service)
        middle, filled = self.middle, False
        for question in self.questions:
            if question.t >= middle and not filled:
                online, filled, known = MemoryStore(), True, middle
                events = store.parts.connect()
                for view in paths.service.views:
                    found = store.parts.events(events, view)
                    # As the check imports it, for skews that are planted there.
                    players.materialize_view(events, online, "tests", view, found, until=middle)
                events.close()
            rows = [
                r for r, c in zip(self.raw, self.created, strict=True) if known < c <= question.t
            ]
            known = question.t
            if rows:
                taken = sources.read_rows(self.source, rows, state_dir=None).table.to_pylist()
                settle.write(online, events_module.prepare("tests", paths.service.views, taken))
            answers += paths.online([question], online)
        return answers


@pytest.fixture(scope="module")
def ordinary(con, tmp_path_factory) -> Ordinary:
    from feature_repos import CONFIG

    folder: Path = tmp_path_factory.mktemp("ordinary")
    (folder / "data").mkdir()
    (folder / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "definitions.py").write_text(MODULE, encoding="utf-8")
    pq.write_table(orders(), folder / "data" / "orders.parquet")
    return Ordinary(con, FeatureStore(folder))


def test_the_paths_agree(store, ordinary):
    report = checked(store)
    assert [d.to_dict() for d in report.differences] == []
    assert report.ok
    assert report.compared >= 5_000
    assert ordinary.differing(store) == 0


def test_every_status_is_compared(store):
    found: set[str] = set()
    for feature in checked(store).features.values():
        found |= set(feature.statuses)
    # DAMAGED is said of a state that is not as it was written, and DEFAULT while none can be read.
    assert found == {*state.STATUSES} - {state.DAMAGED, state.DEFAULT}


def test_the_same_seed_asks_the_same(store):
    one, other = (store.check_parity("service", values=1_000, seed=4).to_dict() for _ in range(2))
    assert one | {"seconds": 0} == other | {"seconds": 0}


def test_a_difference_shows_both_values_in_hexadecimal(store, monkeypatch):
    monkeypatch.setattr(diagnose, "MOST_DIAGNOSED", 0)
    SKEWS["plain_sum_online"].plant(monkeypatch)
    shown = checked(store).differences[0].to_dict()
    assert "0x" in shown["offline"]["value"]
    assert shown["feature"].startswith("windows__")
    assert shown["offline"] != shown["online"]


# --- skews ----------------------------------------------------------------------------------------


OF_ORDERS = {name: skew for name, skew in SKEWS.items() if skew.orders}
# A check takes seconds, and so does a diagnosis: one of each cause, of which a third runs each
# time. `python -m tests.planted --diagnose` makes them all.
TOLD = {skew.cause: name for name, skew in reversed(OF_ORDERS.items())}
PROMPT = list(TOLD.values())[::3]


@pytest.mark.parametrize("name", slow_unless(lambda name: name in PROMPT, OF_ORDERS))
def test_a_skew_is_caught_and_its_cause_named(store, ordinary, monkeypatch, name):
    skew = OF_ORDERS[name]
    told = TOLD[skew.cause] == name
    monkeypatch.setattr(diagnose, "MOST_DIAGNOSED", int(told))
    skew.plant(monkeypatch)
    report = checked(store)
    assert report.differing > 0
    assert ordinary.differing(store) > 0
    causes = [d.diagnosis.cause for d in report.differences if d.diagnosis is not None]
    assert causes == [skew.cause] * told


def test_operators_are_a_mode_of_the_store_about_no_service(store, monkeypatch):
    # Of the aggregates some: `python -m tests.prove` compares them all.
    some = check_aggregates(connection(), only="Sum(")
    monkeypatch.setattr(prove, "check_aggregates", lambda *_, **__: some)
    report = store.check_parity(mode="operators", budget=1)
    assert report.ok
    assert report.all.keys() == ops.TABLE.keys() | some.keys()
    assert report.compared > 10_000
    with pytest.raises(DefinitionError, match="about no service"):
        store.check_parity("service", mode="operators")
    with pytest.raises(DefinitionError, match="takes the name of a service"):
        store.check_parity(mode="fuzz")
