"""Every public function and method, called with arguments of wrong types and values: the error is
featurekit's own.

Each parameter in turn gets every value of `WRONG`, while the others are right. A call may work; if
it does not, it raises a FeaturekitError, or a TypeError that names the parameter that was meant.
"""

from __future__ import annotations

import datetime as dt
import inspect
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mistakes import write_repo
from slow import slow_unless

from featurekit import (
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    OnlineService,
    aggregates,
    feature,
)
from featurekit.errors import FeaturekitError, InstantsInFuture
from featurekit.online.store.server import scratch_redis

WRONG: list[Any] = [
    None,
    True,
    0,
    -1,
    5,
    2**70,
    1.5,
    math.nan,
    "",
    "x",
    "a\x00b",
    "\ud800",
    "2026-13-45",
    b"x",
    [],
    [1],
    [None],
    ["x"],
    [{}],
    [["a"], 3],
    {},
    {"a": 1},
    {1: "a"},
    {"customer_id": []},
    (),
    {3},
    object(),
    int,
    len,
    dt.datetime(2026, 1, 1),
    dt.date(2026, 1, 1),
    dt.timedelta(days=-1),
    dt.datetime.max,
]

customer = Entity("customer", join_keys={"customer_id": int})
orders = EventSource(
    "orders", path="o.csv", schema={"customer_id": int, "n": int}, timestamp_field="at"
)
view = FeatureView("view", entities=[customer], source=orders, features={"n": "n"})

DEFINITIONS: dict[Callable[..., Any], dict[str, Any]] = {
    Entity: {"name": "customer", "join_keys": {"customer_id": int}},
    EventSource: {
        "name": "orders",
        "path": "o.csv",
        "schema": {"customer_id": int, "id": str, "n": int},
        "timestamp_field": "at",
        "created_timestamp_column": "created",
        "timezone": "UTC",
        "sequence": "n",
        "event_id": "id",
        "dedupe_within": "1d",
        "op": None,
        "format": "csv",
        "on_bad_row": "error",
    },
    FeatureView: {
        "name": "view",
        "entities": [customer],
        "source": orders,
        "features": {"n": "n"},
        "ttl": "1d",
        "history": "1d",
        "on_error": "null",
        "description": "",
        "owner": "",
        "tags": {},
    },
    FeatureService: {"name": "service", "features": [view], "request": {"x": int}},
    feature: {"description": "", "owner": "", "tags": {}, "on_unsupported": "refuse"},
    **{
        kind: {"input": "n", "window": "1d", "where": None, "default": None}
        | {"hop": None, "offset": None}
        for kind in aggregates.BY_NAME.values()
        if kind is not aggregates.TimeSince
    },
}

ROW = {"customer_id": 1, "basket_value": 1.0}
FRAME = [{**ROW, "event_timestamp": dt.datetime(2026, 10, 4)}]
EVENT = {
    "customer_id": 1,
    "quantity": 1,
    "unit_price": 1.0,
    "country": "Spain",
    "ordered_at": dt.datetime(2026, 10, 4),
}
METHODS: dict[str, dict[str, Any]] = {
    "get_online_features": {"service": "checkout", "rows": [ROW], "as_of": None},
    "get_historical_features": {
        "entity_df": FRAME,
        "service": "checkout",
        "timezone": "UTC",
        "known_at": None,
        "buckets": None,
        "statuses": False,
        "full_feature_names": False,
    },
    "materialize": {"end": None, "views": None, "entities": None},
    "materialize_incremental": {"end": None, "views": None},
    "push": {"source": "orders", "rows": []},
    "forget": {"entity": "customer", "keys": {"customer_id": 777}},
    "explain": {"service": "checkout", "feature": "spend_7d", "row": ROW, "as_of": None},
    "versions": {"service": "checkout"},
    "history": {"name": "checkout"},
    "rollback": {"service": "checkout", "to": None},
    "gc": {"versions": (), "dry_run": True},
    "apply": {"allow_breaking": False},
    "served": {"log": None},
    "check_parity": {"service": "checkout", "mode": "history", "seed": 0},
}
GRID = {
    "service": ["customer_orders:spend_7d"],
    "start": dt.datetime(2026, 10, 1),
    "end": dt.datetime(2026, 10, 4),
    "every": "1d",
    "entities": None,
}


def misused(call: Callable[..., Any], right: dict[str, Any]) -> Iterator[str]:
    """What escapes of a call, for each parameter and each wrong value. An instant of a frame that
    is to come is no error, and the warning of it says so."""
    attempts = [{**right, name: wrong} for name in right for wrong in WRONG]
    attempts += [{k: v for k, v in right.items() if k != name} for name in right]
    attempts += [{**right, "defualt_": 1}, {**right, f"{next(iter(right))}_": 1}]
    for given in attempts:
        try:
            call(**given)
        except (FeaturekitError, InstantsInFuture) as error:
            if not str(error).strip():
                yield f"{given!r:.200}: an error without a text"
        except TypeError as error:
            if not any(said in str(error) for said in ("has no parameter", "lacks ", " takes ")):
                yield f"{given!r:.200}: TypeError: {error}"
        except Exception as error:
            yield f"{given!r:.200}: {type(error).__name__}: {error}"


@pytest.mark.parametrize("kind", DEFINITIONS, ids=lambda kind: kind.__name__)
def test_a_wrong_definition_is_explained(kind: Callable[..., Any]) -> None:
    assert [*misused(kind, DEFINITIONS[kind])] == []


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """The shop, applied and filled."""
    folder = tmp_path_factory.mktemp("misuse")
    write_repo(folder)
    with scratch_redis() as url, FeatureStore(folder, redis_url=url) as made:
        made.apply()
        made.materialize()
        yield made


def done(found: Any) -> None:
    """Ask for what a lazy result computes."""
    if hasattr(found, "to_arrow"):
        found.to_arrow()
    elif inspect.isgenerator(found):
        list(found)


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_call_of_the_store_is_explained(store: FeatureStore, name: str) -> None:
    few = {"values": 10} if name == "check_parity" else {}

    def call(**given: Any) -> None:
        done(getattr(store, name)(**given, **few))

    assert [*misused(call, METHODS[name])] == []


def test_a_wrong_grid_is_explained(store: FeatureStore) -> None:
    def call(**given: Any) -> None:
        done(store.get_historical_features(**given))

    assert [*misused(call, GRID)] == []
    assert [*misused(call, {"service": GRID["service"], "at": [dt.datetime(2026, 10, 4)]})] == []


@pytest.mark.parametrize(
    "column",
    slow_unless(
        lambda column: column == "event_timestamp",
        ["customer_id", "basket_value", "event_timestamp"],
    ),
)
def test_a_wrong_value_in_a_row_is_explained(store: FeatureStore, column: str) -> None:
    def offline(**given: Any) -> None:
        done(store.get_historical_features([given], "checkout"))

    def online(**given: Any) -> None:
        done(store.get_online_features("checkout", [given]))

    assert [*misused(offline, FRAME[0])] == []
    if column != "event_timestamp":
        assert [*misused(online, ROW)] == []


@pytest.mark.parametrize("column", EVENT)
def test_a_wrong_value_in_a_pushed_row_is_explained(store: FeatureStore, column: str) -> None:
    def push(**given: Any) -> None:
        if given.keys() == EVENT.keys() and given[column] is not EVENT[column]:
            store.push("orders", [given])

    assert [*misused(push, EVENT)] == []


def test_a_wrong_store_is_explained(tmp_path: Path) -> None:
    assert [*misused(FeatureStore, {"path": tmp_path, "redis_url": "redis://127.0.0.1:1"})] == []


def test_a_wrong_online_service_is_explained(store: FeatureStore) -> None:
    right = {"url": store.parts.redis_url, "project": "shop", "service": "checkout"}

    def connect(**given: Any) -> None:
        with OnlineService.connect(**given) as made:
            made.get([ROW])

    assert [*misused(connect, right)] == []
    with OnlineService.connect(**right) as service:
        assert [*misused(service.get, {"rows": [ROW], "as_of": None})] == []


def test_a_misspelt_method_names_the_one_that_was_meant(store: FeatureStore) -> None:
    with pytest.raises(AttributeError, match="did you mean 'get_online_features'"):
        store.get_online_feature  # noqa: B018
