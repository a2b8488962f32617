"""Turns a parameter of a public call into an example to copy, for errors about it."""

from __future__ import annotations

_ROW = '{"customer_id": 1, "basket_value": 25.0}'
_INSTANT = "datetime(2026, 10, 4, tzinfo=UTC)"

EXAMPLES: dict[str, str] = {
    # definitions
    "name": '"customer_orders"',
    "Entity.name": '"customer"',
    "EventSource.name": '"orders"',
    "FeatureService.name": '"checkout"',
    "description": '"Orders of the shop"',
    "owner": '"shop-team"',
    "tags": '{"team": "shop"}',
    "join_keys": '{"customer_id": int}',
    "path": '"data/orders.csv"',
    "FeatureStore.path": '"feature_repo"',
    "manifest": '"train.parquet.manifest.json"',
    "manifests": '["train.parquet.manifest.json"]',
    "column": '"orders.quantity"',
    "lineage.name": '"customer_orders:spend_7d"',
    "origin": 'SQLite("data/shop.db", table="orders")',
    "schema": '{"customer_id": int, "quantity": int}',
    "timestamp_field": '"ordered_at"',
    "created_timestamp_column": '"created_at"',
    "arrives": 'Delay("6h")',
    "timezone": '"Europe/London"',
    "sequence": '"line_number"',
    "event_id": '"order_id"',
    "dedupe_within": '"30d"',
    "op": '"op"',
    "format": '"csv"',
    "on_bad_row": '"quarantine"',
    "expect": '[Between("quantity", 0, 10_000)]',
    "encoding": '"utf-8"',
    "delimiter": '";"',
    "quote": "'\"'",
    "decimal": '","',
    "null_values": '["NA"]',
    "compression": '"gzip"',
    "timestamp_format": '"%d/%m/%Y %H:%M"',
    "entities": "[customer]",
    "source": "orders",
    "FeatureView.sources": '[web, {app: {"amount": "price"}}]',
    "explode": '"articles"',
    "features": '{"country": "country", "spend_7d": Sum("amount", window="7d")}',
    "FeatureService.features": "[customer_orders]",
    "ttl": '"30d"',
    "history": '"7d"',
    "on_error": '"fail"',
    "on_outage": '"defaults"',
    "request": '{"basket_value": float}',
    "on_unsupported": '"python"',
    "window": '"7d"',
    "windows": '["1h", "7d"]',
    "hop": '"1h"',
    "offset": '"1d"',
    "n": "3",
    "k": "3",
    "q": "0.95",
    "since": '"last"',
    "ddof": "1",
    # calls
    "redis_url": '"redis://localhost:6379/0"',
    "url": '"redis://localhost:6379/0"',
    "project": '"shop"',
    "definitions": "[checkout]",
    "state_folder": '"shop_state"',
    "service": '"checkout"',
    "to": '"0123abcd"',
    "versions": '["0123abcd"]',
    "log": '"served"',
    "as_of": _INSTANT,
    "start": _INSTANT,
    "end": _INSTANT,
    "known_at": _INSTANT,
    "at": f"[{_INSTANT}]",
    "every": '"1d"',
    "buckets": "8",
    "views": '["customer_orders"]',
    "materialize.entities": '[{"customer_id": 1}]',
    "get_historical_features.entities": '"customer_orders"',
    "get_historical_features.features": '["customer_orders:spend_7d"]',
    "get_online_features.features": '["customer_orders:spend_7d"]',
    "get_online_features_async.features": '["customer_orders:spend_7d"]',
    "push.source": '"orders"',
    "consume.source": '"orders"',
    "stream": '"orders"',
    "sources": '["orders"]',
    "rows": f"[{_ROW}]",
    "entity": '"customer"',
    "keys": '{"customer_id": 1}',
    "row": _ROW,
    "feature": '"spend_7d"',
    "mode": '"fuzz"',
    "budget": '"30s"',
    "values": "100_000",
    "seed": "0",
    "workers": "2",
    "on_mismatch": '"warn"',
    "public_keys": '["Ys4…="]',
    "username": '"shop-reader"',
    "password_file": '"/run/secrets/redis"',
    "connect_timeout_s": "1.0",
    "timeout_s": "0.5",
    "connections": "64",
    "clock_tolerance": '"5m"',
}
"""What may be written for a parameter, by its name, or by the name of the call, a dot and its name
where that says something else."""


def example(call: str, parameter: str) -> str | None:
    """What may be written for a parameter of a call, as Python has it; None where nobody knows."""
    own = EXAMPLES.get(f"{call.rpartition('.')[2]}.{parameter}")
    return own or EXAMPLES.get(parameter)


def assigned(call: str, parameter: str) -> str:
    """The example with the parameter's name before it: `every="1d"`."""
    return f"{parameter}={example(call, parameter) or '…'}"
