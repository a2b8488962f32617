"""Q: transforms that run after retrieval."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.aggregates import Count, Sum
from featurekit.errors import DefinitionError, EntityFrameError
from featurekit.testing import assert_parity
from rules.asking import ERRED, NOON, NULL, One, present, table

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Sum

user = Entity("user", {"key": int})
events = EventSource(
    "events", path="events.parquet", timestamp_field="at", created_timestamp_column="arrived",
    schema={"key": int, "n": int},
)
window = FeatureView("window", entities=[user], source=events, features={
    "count": Count(window="1d"), "total": Sum("n", window="1d", default=0),
    "spent": Sum("n", window="1d"),
})

@feature
def share(price: int, spent: int | None) -> float | None:
    return None if spent is None else price / spent

@feature
def doubled(share: float | None) -> float | None:
    return None if share is None else share * 2

@feature
def sure(count: int, total: int) -> int:
    return count + total

service = FeatureService("service", features=[window, share, doubled, sure],
                         request={"price": int})
"""
TABLES = {"events": table(n=pa.int64())}


def test_a_transform_takes_request_fields_features_and_other_transforms(one: One) -> None:
    one.push("events", 0, n=4)
    found = one.ask("service", 5, price=6)
    assert (found["share"], found["doubled"]) == (present(1.5), present(3.0))


def test_none_of_an_empty_window_reaches_the_transform(one: One) -> None:
    found = one.ask("service", 5, price=6)
    assert (found["share"], found["doubled"]) == (NULL, NULL)


def test_what_is_never_none_may_be_passed_without_a_test(one: One) -> None:
    """A Count has 0 where its window is empty, and a Sum its default."""
    assert one.ask("service", 5, price=6)["sure"] == present(0)


def test_an_error_after_retrieval_is_an_error(one: One) -> None:
    one.push("events", 0, n=0)
    found = one.ask("service", 5, price=6)
    assert (found["share"], found["doubled"]) == (ERRED, ERRED)


def test_offline_a_request_field_is_a_column_of_the_frame(store: FeatureStore) -> None:
    with pytest.raises(EntityFrameError, match="price"):
        store.get_historical_features([{"key": 1, "event_timestamp": NOON}], "service").to_arrow()
    with pytest.raises(EntityFrameError, match="price"):
        store.get_online_features("service", [{"key": 1}])


@feature
def plus_one(feature_of_window: int) -> int:
    return feature_of_window + 1


@pytest.mark.parametrize(
    ("given", "compiles"),
    [
        (Sum("n", window="1d"), False),
        (Sum("n", window="1d", default=0), True),
        (Count(window="1d"), True),
    ],
    ids=["of a sum", "of a sum with a default", "of a count"],
)
def test_a_feature_that_may_be_none_does_not_fit_a_parameter_that_may_not(
    given: Any, compiles: bool
) -> None:
    source = EventSource(
        "events", path="events.parquet", timestamp_field="at", schema={"key": int, "n": int}
    )
    view = FeatureView(
        "v", entities=[Entity("user", {"key": int})], source=source,
        features={"feature_of_window": given},
    )  # fmt: skip
    service = FeatureService("s", features=[view, plus_one])
    asked = [{"key": 1, "event_timestamp": NOON}]
    if compiles:
        assert_parity(service, {"events": [{"key": 1, "n": 1, "at": NOON}]}, asked)
    else:
        with pytest.raises(DefinitionError, match="may be None"):
            assert_parity(service, {}, asked)
