"""What `plan` says of a change: why, what breaks, and what is wrong with the files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mistakes import FEATURES, write_repo

from featurekit import FeatureStore
from featurekit.errors import BreakingChange
from featurekit.online.store.redis import RedisStore
from featurekit.results import Change


@pytest.fixture
def shop(tmp_path: Path, redis_url: str, redis_store: RedisStore) -> Path:
    """The shop, applied."""
    write_repo(tmp_path)
    with FeatureStore(tmp_path, redis_url=redis_url) as store:
        store.apply()
    return tmp_path


def changed(folder: Path, *pairs: tuple[str, str]) -> dict[str, Change]:
    """The changes of the plan after texts of the module were replaced, by name."""
    text = FEATURES
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    (folder / "features.py").write_text(text, encoding="utf-8")
    return {change.name: change for change in FeatureStore(folder).plan()}


VIEW = {
    ('window="7d"', 'window="8d"'): ["spend_7d: window 1w → 8d"],
    ('Count(window="30d")', 'Count(window="30d", offset="1d", hop="1h")'): [
        "orders_30d: offset none → 1d",
        "orders_30d: hop none → 1h",
    ],
    ("default=0.0", "default=1.5"): ["spend_7d: default 0.0 → 1.5"],
    ("Last", "First"): ["country: aggregate Last → First"],
    ('Last("country"', 'Last("quantity"'): [
        "country: type str | None → int | None",
        "country: input country → quantity",
    ],
    ('        "orders_30d": Count(window="30d"),\n', ""): ["orders_30d: removed"],
    ('"orders_30d": Count', '"orders_1d": Count(window="1d"), "orders_30d": Count'): [
        "orders_1d: new, int"
    ],
    ("source=orders,", 'source=orders, ttl="90d",'): [
        "ttl none → 90d",
        "spend_7d: type float → float | None",
        "orders_30d: type int → int | None",
    ],
    ("return quantity * unit_price", "return unit_price * quantity"): [
        "spend_7d: transform amount reads otherwise",
        "    -     return float(quantity) * unit_price",
        "    +     return unit_price * float(quantity)",
        "mean_order_30d: transform amount reads otherwise",
        "    -     return float(quantity) * unit_price",
        "    +     return unit_price * float(quantity)",
    ],
    ('timestamp_field="ordered_at",', 'timestamp_field="ordered_at", timezone="Europe/Oslo",'): [
        "source orders: timezone UTC → Europe/Oslo"
    ],
    ('"country": str}', '"country": str | None, "city": str}'): [
        "source orders: column city: new, str",
        "source orders: column country: str → str | None",
    ],
}


@pytest.mark.parametrize("pair", VIEW)
def test_plan_says_why_a_view_has_another_fingerprint(shop: Path, pair: tuple[str, str]) -> None:
    found = changed(shop, pair)["customer_orders"]
    assert (found.action, list(found.reasons)) == ("change", VIEW[pair])


def test_a_change_that_decides_no_value_has_no_reason(shop: Path) -> None:
    assert (
        changed(shop, ("source=orders,", 'source=orders, owner="me",'))["customer_orders"].reasons
        == ()
    )


def test_every_change_of_a_fingerprint_has_a_reason(shop: Path) -> None:
    for pair in VIEW:
        assert all(c.reasons for c in changed(shop, pair).values() if c.action == "change"), pair


def test_what_is_new_is_listed_with_its_types(tmp_path: Path) -> None:
    write_repo(tmp_path)
    view, service = FeatureStore(tmp_path).plan()
    assert dict(view.features) == {
        "spend_7d": "float",
        "orders_30d": "int",
        "mean_order_30d": "float | None",
        "country": "str | None",
    }
    assert dict(service.features) == {**view.features, "basket_vs_habit": "float | None"}


# --- what breaks callers --------------------------------------------------------------------------

OTHER = (
    "@feature\ndef basket_vs_habit",
    'other = FeatureView("other", entities=[customer], source=orders, features={{"{name}": '
    '"{column}"}})\n\n@feature\ndef basket_vs_habit',
)


def other(name: str, column: str) -> list[tuple[str, str]]:
    """A second view with a feature of this name, in the service before the first one."""
    return [
        (OTHER[0], OTHER[1].format(name=name, column=column)),
        ("features=[customer_orders, basket", "features=[other, customer_orders, basket"),
    ]


BREAKING = {
    "a second view has the name": (
        other("country", "country"),
        ["country is named customer_orders__country now, as another feature has its name"],
    ),
    "another view takes the name": (
        [
            *other("country", "country"),
            ('        "country": Last("country", window="365d"),\n', ""),
        ],
        ["country means other__country now, and meant customer_orders__country"],
    ),
    "a feature is gone": (
        [('        "orders_30d": Count(window="30d"),\n', "")],
        ["orders_30d is gone"],
    ),
    "a feature has another type": (
        [('Last("country"', 'Last("quantity"')],
        ["country is int | None now, and was str | None"],
    ),
    "a row brings more": (
        [('request={"basket_value": float}', 'request={"basket_value": float, "hour": int}')],
        ["a row brings the request field hour now"],
    ),
    "a request field has another type": (
        [
            ('request={"basket_value": float}', 'request={"basket_value": int}'),
            ("basket_value: float", "basket_value: int"),
            ("return basket_value /", "return float(basket_value) /"),
        ],
        ["the request field basket_value is int now, and was float"],
    ),
    "the join key has another name": (
        [("customer_id", "client_id")],
        [
            "a row brings the join key client_id now",
            "a row brings no join key customer_id any more",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_callers_is_shown_and_wants_to_be_allowed(
    shop: Path, redis_url: str, name: str
) -> None:
    pairs, wanted = BREAKING[name]
    assert list(changed(shop, *pairs)["checkout"].breaking) == wanted
    with FeatureStore(shop, redis_url=redis_url) as store:
        planned = store.plan()
        with pytest.raises(BreakingChange, match="nothing was applied") as raised:
            store.apply()
        assert wanted[0] in str(raised.value)
        assert store.plan() == planned
        store.apply(allow_breaking=True)
        assert store.plan() == []


HARMLESS = {
    "a feature more": [('"orders_30d": Count', '"more": Count(window="1d"), "orders_30d": Count')],
    "a view of another name": [('"customer_orders"', '"orders_of_customers"')],
    "another window": [('window="7d"', 'window="8d"')],
    "a second view of another name": other("land", "country"),
    "another service": [("checkout = FeatureService(", "FeatureService('x', features=[customer_"
                        "orders]) and None\ncheckout = FeatureService(")],
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_breaks_nobody_is_applied(shop: Path, redis_url: str, name: str) -> None:
    changes = changed(shop, *HARMLESS[name])
    assert not any(c.breaking for c in changes.values())
    with FeatureStore(shop, redis_url=redis_url) as store:
        store.apply()
        assert store.plan() == []


# --- files ----------------------------------------------------------------------------------------


def check(folder: Path, text: str = FEATURES) -> tuple[int, str | None, list[str]]:
    """What is seen of the source: its files, why there is none, and the faults."""
    (folder / "features.py").write_text(text, encoding="utf-8")
    (one,) = FeatureStore(folder).check_sources()
    return one.files, one.missing, [str(fault) for fault in one.faults]


def test_files_that_fit_have_no_fault(tmp_path: Path) -> None:
    write_repo(tmp_path)
    assert check(tmp_path) == (1, None, [])
    assert not (tmp_path / ".featurekit").exists()


def test_a_source_without_a_file_is_told_and_no_fault(tmp_path: Path) -> None:
    write_repo(tmp_path)
    files, missing, faults = check(tmp_path, FEATURES.replace("orders.csv", "order.csv"))
    assert (files, faults) == (0, [])
    assert f"{tmp_path / 'features.py'}:8: EventSource 'orders': there is no file" in str(missing)


FAULTY = {
    ('"country": str}', '"country": str, "city": str}'): "there is no column 'city'",
    ('"country": str}', '"country": int}'): "row 0 (the first is 0), column 'country'",
    ('"ordered_at"', '"order_time"'): "no column 'order_time'; did you mean 'ordered_at'?",
    ('"country": str}', '"country": bytes}'): "use Parquet",
}


@pytest.mark.parametrize("pair", FAULTY)
def test_columns_and_types_that_do_not_fit_are_faults(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    write_repo(tmp_path)
    files, missing, faults = check(tmp_path, FEATURES.replace(*pair))
    assert (files, missing, len(faults)) == (1, None, 1)
    assert FAULTY[pair] in faults[0]
    assert re.match(rf"{tmp_path / 'features.py'}:(6|9|10): EventSource 'orders', ", faults[0])


def test_one_bad_file_among_many_is_found(tmp_path: Path) -> None:
    write_repo(tmp_path)
    good = (tmp_path / "data" / "orders.csv").read_text(encoding="utf-8")
    for number in range(4):
        (tmp_path / "data" / f"o{number}.csv").write_text(good, encoding="utf-8")
    (tmp_path / "data" / "o2.csv").write_text(good.replace("country", "land"), encoding="utf-8")
    files, _, faults = check(tmp_path, FEATURES.replace("orders.csv", "o[0-9].csv"))
    assert (files, len(faults)) == (4, 1)
    assert "o2.csv: there is no column 'country'" in faults[0]
