"""Lists of features and FeatureService objects, offline and online: the bits of a service's."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mistakes import FEATURES, write_repo

from featurekit import FeatureService, FeatureStore, feature
from featurekit.errors import DefinitionError, EntityFrameError, NotServed
from featurekit.feed import materialise
from featurekit.online.store.redis import RedisStore
from featurekit.project.restore import restore

AT = "2026-10-04"
KEYS = [{"customer_id": 1}, {"customer_id": 2}, {"customer_id": 99}, {"customer_id": None}]
ROWS = [{**keys, "basket_value": 3.0} for keys in KEYS]


@pytest.fixture
def store(tmp_path: Path, redis_url: str, redis_store: RedisStore) -> Iterator[FeatureStore]:
    """The shop, applied and filled."""
    write_repo(tmp_path)
    with FeatureStore(tmp_path, redis_url=redis_url) as made:
        made.apply()
        made.materialize()
        yield made


def bits(value: Any) -> Any:
    return struct.pack(">d", value) if isinstance(value, float) else value


def online(store: FeatureStore, asked: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The values by their bits and the statuses, by feature."""
    found = store.get_online_features(asked, rows, AT)
    return {n: ([*map(bits, v)], found.status[n]) for n, v in found.columns.items()}


def offline(store: FeatureStore, asked: Any, rows: list[dict[str, Any]]) -> dict[str, Any]:
    frame = [{**row, "event_timestamp": store_instant()} for row in rows]
    training = store.get_historical_features(frame, asked, statuses=True)
    table = training.to_arrow()
    return {
        n: ([*map(bits, table[n].to_pylist())], table[f"{n}__status"].to_pylist())
        for n in training.names
    }


def store_instant() -> Any:
    import datetime as dt

    return dt.datetime.fromisoformat(AT).replace(tzinfo=dt.UTC)


LISTS = {
    "some": ["customer_orders:spend_7d", "customer_orders:country"],
    "in another order": ["customer_orders:country", "customer_orders:spend_7d"],
    "with two underscores": ["customer_orders__mean_order_30d"],
    "a whole view": ["customer_orders"],
    "a request-time feature": ["basket_vs_habit"],
    "both": ["basket_vs_habit", "customer_orders:orders_30d"],
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_the_bits_of_the_service_on_both_paths(store: FeatureStore, name: str) -> None:
    names = LISTS[name]
    rows = ROWS if "basket_vs_habit" in names else KEYS
    whole = online(store, "checkout", ROWS)
    found = online(store, names, rows)
    assert found == {n: whole[n] for n in found}
    assert found == offline(store, names, rows)
    if names != ["customer_orders"]:
        wanted = [n.replace("__", ":").rpartition(":")[2] for n in names]
        assert sorted(found) == sorted(wanted)
        assert [n for n in found if n != "basket_vs_habit"] == [
            n for n in wanted if n != "basket_vs_habit"
        ]


def test_definitions_are_taken_where_a_service_is(store: FeatureStore) -> None:
    view, service = store.repo.views["customer_orders"], store.repo.services["checkout"]
    whole = online(store, "checkout", ROWS)
    assert online(store, service, ROWS) == whole == offline(store, service, ROWS)
    assert online(store, view, KEYS) == online(store, [view], KEYS) == offline(store, view, KEYS)
    assert online(store, view[["country"]], KEYS) == {"country": whole["country"]}
    made = FeatureService("never_applied", features=[view[["spend_7d"]]])
    assert online(store, made, KEYS) == {"spend_7d": whole["spend_7d"]}
    found = store.get_online_features(features=[view[["country"]]], rows=KEYS, as_of=AT)
    assert [*map(bits, found.columns["country"])] == whole["country"][0]


def test_a_transform_in_a_list_asks_the_caller_for_what_no_feature_gives(
    store: FeatureStore,
) -> None:
    @feature
    def doubled(spend_7d: float, factor: int) -> float:
        return spend_7d * float(factor)

    rows = [{"customer_id": 1, "factor": 2}]
    asked = ["customer_orders:spend_7d", doubled]
    found = online(store, asked, rows)
    assert found == offline(store, asked, rows)
    assert found["doubled"][0] == [bits(36.8)]
    with pytest.raises(EntityFrameError, match="lacks factor"):
        store.get_online_features(asked, [{"customer_id": 1}])


def test_async_lookups_take_lists(store: FeatureStore) -> None:
    async def ask() -> list[dict[str, Any]]:
        try:
            found = await store.get_online_features_async(LISTS["some"], KEYS, AT)
            return found.to_pylist()
        finally:
            await store.close_async()

    assert asyncio.run(ask()) == store.get_online_features(LISTS["some"], KEYS, AT).to_pylist()


UNKNOWN = {
    "customer_order:spend_7d": "there is no view 'customer_order'; did you mean 'customer_orders'?",
    "customer_orders:spend": "has no feature 'spend'; did you mean 'spend_7d'?",
    "spend_7d": "no such view or request-time feature; write 'customer_orders:spend_7d'",
    "basket_vs_habits": "no such view or request-time feature; views are customer_orders",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_name_is_told_on_both_paths(store: FeatureStore, name: str) -> None:
    for ask in (store.get_historical_features, store.get_online_features):
        with pytest.raises(DefinitionError) as raised:
            ask(features=[name], **({} if "historical" in ask.__name__ else {"rows": KEYS}))
        assert UNKNOWN[name] in str(raised.value)


def test_a_transform_alone_is_answered_before_anything_is_filled(
    tmp_path: Path, redis_url: str, redis_store: RedisStore
) -> None:
    @feature
    def doubled(factor: int) -> int:
        return factor * 2

    write_repo(tmp_path)
    with FeatureStore(tmp_path, redis_url=redis_url) as made:
        made.apply()
        assert online(made, [doubled], [{"factor": 2}])["doubled"][0] == [4]
        made.materialize()
        assert online(made, [doubled], [{"factor": 3}])["doubled"][0] == [6]


def edit(store: FeatureStore, old: str, new: str) -> FeatureStore:
    path = store.path / "features.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return FeatureStore(store.path, redis_url=store.parts.redis_url)


def test_a_list_follows_the_version_that_is_live_and_mixes_none(store: FeatureStore) -> None:
    """An open handle answers from the old states until the new ones are filled, and never from
    states that are gone."""
    asked = ["customer_orders:spend_7d"]
    before = online(store, asked, KEYS)
    with edit(store, 'window="7d"', 'window="2d"') as changed:
        changed.apply()
        assert online(store, asked, KEYS) == before
        changed.materialize()
        after = online(changed, asked, KEYS)
        assert after != before
        assert online(store, asked, KEYS) == after
        changed.gc(retained=True)
        assert online(store, asked, KEYS) == after


def test_a_list_follows_a_rollback_and_what_goes_live_after_it_was_filled(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is filled does not change then, and who asks is another process's store."""
    asked = ["customer_orders:spend_7d"]
    first, promote, between = online(store, asked, KEYS), materialise.promote, []

    def promoted(*given: Any) -> list[str]:
        between.append(online(store, asked, KEYS))
        return promote(*given)

    with edit(store, 'window="7d"', 'window="1us"') as changed:
        changed.apply()
        monkeypatch.setattr(materialise, "promote", promoted)
        changed.materialize()
        assert between == [first]  # filled, and not live
        second = online(store, asked, KEYS)
        assert second == online(changed, asked, KEYS) != first
        changed.rollback("checkout")
        assert online(store, asked, KEYS) == first


OTHER = 'other = FeatureService("other", features=[customer_orders])\n'
"""A service that keeps the view fed, so that what is filled stays as it is."""


def test_a_list_follows_a_pointer_that_was_damaged_and_removed(
    store: FeatureStore, redis_store: RedisStore
) -> None:
    asked = ["basket_vs_habit"]
    with edit(store, "\ncheckout = ", f"\n{OTHER}checkout = ") as changed:
        changed.apply()
        online(store, asked, ROWS)
        redis_store.write({b"fk:shop:live:checkout": b"\xff" * 64})
        restore(redis_store, "shop", lambda *_: None)
        with pytest.raises(DefinitionError, match="no such view or request-time feature"):
            store.get_online_features(asked, ROWS)
        changed.apply()
        assert online(store, asked, ROWS) == online(changed, asked, ROWS)


def test_a_list_follows_a_service_that_is_withdrawn(store: FeatureStore) -> None:
    asked = ["basket_vs_habit"]
    with edit(store, "\ncheckout = ", f"\n{OTHER}checkout = ") as changed:
        changed.apply()
    online(store, asked, ROWS)
    text = (store.path / "features.py").read_text(encoding="utf-8")
    with edit(store, text[text.index("checkout = F") :], "") as changed:
        changed.apply()
        with pytest.raises(DefinitionError, match="no such view or request-time feature"):
            store.get_online_features(asked, ROWS)
        assert online(store, ["customer_orders"], KEYS)


def test_a_view_without_filled_states_is_not_served(store: FeatureStore) -> None:
    view = store.repo.views["customer_orders"]
    with edit(store, 'window="7d"', 'window="3d"') as changed:
        other = changed.repo.views["customer_orders"]
        with pytest.raises(NotServed, match="no filled states of view 'customer_orders'"):
            changed.get_online_features([other], KEYS)
        assert online(changed, [view], KEYS)


def test_two_features_of_one_name_are_named_in_full(tmp_path: Path, redis_url: str) -> None:
    write_repo(tmp_path)
    more = FEATURES.replace(
        "@feature\ndef basket_vs_habit",
        'other = FeatureView("other", entities=[customer], source=orders, '
        'features={"country": "country"})\n\n@feature\ndef basket_vs_habit',
    )
    (tmp_path / "features.py").write_text(more, encoding="utf-8")
    with FeatureStore(tmp_path, redis_url=redis_url) as store:
        training = store.get_historical_features(
            features=["customer_orders:country", "other:country"], at=[AT]
        )
        assert training.names == ["customer_orders__country", "other__country"]
