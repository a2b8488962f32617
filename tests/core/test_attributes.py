"""Attributes that public objects lack: what the error says to write."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from typing import Any

import pyarrow as pa
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, results
from featurekit.aggregates import Count
from featurekit.core.attributes import Named

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def store() -> FeatureStore:
    events = EventSource(
        "events", frame=pa.table({"k": [1], "at": [AT]}), schema={"k": int}, timestamp_field="at"
    )
    view = FeatureView(
        "v", entities=[Entity("e", {"k": int})], source=events, features={"n": Count(window="1d")}
    )
    store = FeatureStore(definitions=[FeatureService("s", features=[view])])
    store.apply()
    store.materialize()
    return store


def online(store: FeatureStore, rows: int = 1) -> Any:
    return store.get_online_features("s", [{"k": 1}] * rows)


def training(store: FeatureStore) -> Any:
    return store.get_historical_features([{"k": 1, "event_timestamp": AT}] * 2, "s")


def test_every_result_names_what_it_has() -> None:
    kinds = [getattr(results, name) for name in dir(results) if name not in ("Names", "_names")]
    kinds = [kind for kind in kinds if isinstance(kind, type)]
    assert len(kinds) >= 15
    assert [kind.__name__ for kind in kinds if not issubclass(kind, Named)] == []


@pytest.mark.parametrize("make", [online, training])
@pytest.mark.parametrize(
    ("asked", "written"),
    [("df", r"\.to_pandas\(\)$"), ("iloc", r"\.to_pandas\(\)\.iloc"), ("n", r'\["n"\]')],
)
def test_a_result_says_what_to_write(
    store: FeatureStore, make: Any, asked: str, written: str
) -> None:
    with pytest.raises(AttributeError, match=f"has no '{asked}'; write .*{written}"):
        getattr(make(store), asked)


def test_a_result_has_as_many_rows_as_were_asked_for(store: FeatureStore) -> None:
    assert (len(online(store)), len(training(store))) == (1, 2)
    assert len(online(store, 0)) == 0
    assert online(store, 0)  # an answer is one also without rows


def test_results_are_copied_and_pickled(store: FeatureStore) -> None:
    found = online(store)
    assert copy.copy(found) == found == pickle.loads(pickle.dumps(found))
    assert not hasattr(found, "__array__")


def test_every_method_of_a_store_explains_a_call_that_does_not_fit(store: FeatureStore) -> None:
    """Python's own TypeError says neither what the call takes nor what to write."""
    for name in dir(FeatureStore):
        method = getattr(FeatureStore, name)
        if name.startswith("_") or isinstance(method, property) or name == "close_async":
            continue
        assert hasattr(method, "__wrapped__"), name
