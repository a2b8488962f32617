"""A table of beginners' mistakes, and a folder in which each is made: what featurekit says of it.

A mistake is an edit of a small feature repo and a command, or a few lines of Python over a store
that is applied and filled. `provoke` makes one, and gives the text that its maker reads.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit import FeatureStore, OnlineService
from featurekit.cli import main
from featurekit.errors import FeaturekitError

SETTINGS = """\
project: shop
provider: local
online_store:
  type: redis
"""

FEATURES = """\
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Mean, Quantile, Sum

customer = Entity("customer", join_keys={"customer_id": int})

orders = EventSource(
    "orders",
    path="data/orders.csv",
    schema={"customer_id": int, "quantity": int, "unit_price": float, "country": str},
    timestamp_field="ordered_at",
)


@feature
def amount(quantity: int, unit_price: float) -> float:
    return quantity * unit_price


customer_orders = FeatureView(
    "customer_orders",
    entities=[customer],
    source=orders,
    features={
        "spend_7d": Sum(amount, window="7d", default=0.0),
        "orders_30d": Count(window="30d"),
        "mean_order_30d": Mean(amount, window="30d"),
        "country": Last("country", window="365d"),
    },
)


@feature
def basket_vs_habit(basket_value: float, mean_order_30d: float | None) -> float | None:
    if mean_order_30d is None or mean_order_30d == 0.0:
        return None
    return basket_value / mean_order_30d


checkout = FeatureService(
    "checkout", features=[customer_orders, basket_vs_habit], request={"basket_value": float}
)
"""

ORDERS = """\
customer_id,quantity,unit_price,country,ordered_at
1,2,4.95,Norway,2026-10-01T09:00:00
2,1,12.5,Spain,2026-10-02T10:00:00
1,10,0.85,Norway,2026-10-03T11:00:00
"""

LABELS = "customer_id,event_timestamp,basket_value\n1,2026-10-04T00:00:00Z,25\n"

FILES = {
    "feature_store.yaml": SETTINGS,
    "features.py": FEATURES,
    "data/orders.csv": ORDERS,
    "labels.csv": LABELS,
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake: what is replaced in which file, files that are added, and what is run then.

    `run` is a command line without `featurekit`; `code` is Python over `store`, a FeatureStore.
    A `live` one is made in a repo that is applied and filled.
    """

    name: str
    run: str = ""
    code: str = ""
    old: str = ""
    new: str = ""
    file: str = "features.py"
    add: tuple[tuple[str, str], ...] = ()
    live: bool = False


def edit(name: str, old: str, new: str, run: str = "plan", **more: Any) -> Mistake:
    """A text of features.py, or of another `file`, is replaced."""
    return Mistake(name, run, old=old, new=new, **more)


def command(name: str, run: str, **more: Any) -> Mistake:
    """A command over the repo that is applied and filled."""
    return Mistake(name, run, live=True, **more)


def call(name: str, code: str) -> Mistake:
    """Python over the store that is applied and filled."""
    return Mistake(name, code=code, live=True)


SPEND = 'Sum(amount, window="7d", default=0.0)'
SCHEMA = '{"customer_id": int, "quantity": int, "unit_price": float, "country": str}'
SERVED = 'features=[customer_orders, basket_vs_habit], request={"basket_value": float}'
BODY = "    return quantity * unit_price"
HEAD = "def amount(quantity: int, unit_price: float) -> float:"
ROW = '{"customer_id": 1, "basket_value": 25.0}'
FRAME = (
    'import datetime as dt; df = [{"customer_id": 1, "basket_value": 25.0, '
    '"event_timestamp": dt.datetime(2026, 10, 4, tzinfo=dt.UTC)}]; '
)
PANDAS = "import pandas as pd; "
HISTORICAL = "store.get_historical_features"
COMPUTED = f"{HISTORICAL}(df, 'checkout').to_arrow()"
YAML = {"file": "feature_store.yaml"}

SETTINGS_MISTAKES = [
    Mistake("no_feature_store_yaml", "plan --repo .."),
    command("repo_that_is_no_folder", "plan --repo nowhere"),
    edit("yaml_with_a_tab", "  type: redis", "\ttype: redis", **YAML),
    edit("yaml_that_is_empty", SETTINGS, "", **YAML),
    edit("yaml_that_is_a_list", SETTINGS, "- project: shop\n", **YAML),
    edit("setting_misspelt", "provider: local", "providr: local", **YAML),
    edit("project_missing", "project: shop\n", "", **YAML),
    edit("project_with_a_dash", "project: shop", "project: my-shop", **YAML),
    edit("project_is_a_number", "project: shop", "project: 7", **YAML),
    edit("online_store_of_another_type", "type: redis", "type: dynamodb", **YAML),
    edit("online_store_is_a_word", "online_store:\n  type: redis", "online_store: sqlite", **YAML),
    edit("own_setting_misspelt", "provider: local", "featurekit: {state_dirr: .state}", **YAML),
    edit("memory_limit_in_words", "provider: local", "featurekit: {memory_limit: 4 gigs}", **YAML),
    edit("buckets_in_words", "provider: local", "featurekit: {buckets: many}", **YAML),
    edit(
        "registry_that_is_a_url",
        "provider: local",
        "featurekit: {registry: 'postgresql://db/registry'}",
        **YAML,
    ),
    edit(
        "connection_string_with_an_unknown_option",
        "  type: redis",
        "  type: redis\n  connection_string: localhost:6379,database=1",
        "apply",
        **YAML,
    ),
    edit(
        "variable_that_is_not_set",
        "  type: redis",
        "  type: redis\n  connection_string: ${SHOP_REDIS}",
        "apply",
        **YAML,
    ),
    command(
        "redis_that_is_not_there",
        "get-online checkout customer_id=1 basket_value=1 --redis-url redis://127.0.0.1:1/0",
    ),
    command(
        "redis_url_of_another_kind",
        "get-online checkout customer_id=1 basket_value=1 --redis-url http://127.0.0.1:6379",
    ),
    command(
        "redis_url_with_a_port_in_words",
        "get-online checkout customer_id=1 basket_value=1 --redis-url redis://localhost:port/0",
    ),
]

MODULE_MISTAKES = [
    edit("comma_forgotten", 'path="data/orders.csv",', 'path="data/orders.csv"'),
    edit(
        "bracket_forgotten",
        '"country": Last("country", window="365d"),\n    },\n)',
        '"country": Last("country", window="365d"),\n    },\n',
    ),
    edit("wrong_indentation", BODY, BODY[4:]),
    edit("name_misspelt", "source=orders,", "source=order,"),
    edit(
        "import_misspelt",
        "import Entity, EventSource, FeatureService, FeatureView",
        "import Entity, EventSource, FeatureService, FeatureVeiw",
    ),
    edit(
        "aggregate_from_the_package",
        "import Count, Last, Mean, Quantile, Sum",
        "import Count, Last, Mean, Quantile\nfrom featurekit import Sum",
    ),
    edit("aggregate_that_is_not_imported", "Last, Mean, Quantile, Sum", "Last, Mean, Quantile"),
    edit("name_that_is_not_imported", "import Entity, EventSource", "import EventSource"),
    edit(
        "aggregate_of_another_name",
        "import Count, Last, Mean, Quantile, Sum",
        "import Avg, Count, Last, Mean, Quantile, Sum",
    ),
    edit(
        "median_of_another_store",
        "import Count, Last, Mean, Quantile, Sum",
        "import Count, Last, Mean, Median, Quantile, Sum",
    ),
    edit(
        "aggregate_of_another_store_from_the_package",
        "import Count, Last, Mean, Quantile, Sum",
        "import Count, Last, Mean, Quantile, Sum\nfrom featurekit import Stddev",
    ),
    edit("aggregate_of_another_store", 'Last("country"', 'Latest("country"'),
    edit(
        "package_that_is_not_installed",
        "from featurekit import Entity",
        "import pandsa\nfrom featurekit import Entity",
    ),
    edit("module_that_raises", "customer = Entity", "limit = 10 / 0\ncustomer = Entity"),
    Mistake("module_named_like_a_library", "plan", add=(("json.py", "x = 1\n"),)),
    edit("repo_without_definitions", FEATURES, "x = 1\n"),
    edit("repo_without_views", FEATURES[FEATURES.index("customer_orders =") :], ""),
    Mistake(
        "two_views_of_one_name",
        "plan",
        add=(
            (
                "more.py",
                "from features import *\nother = FeatureView(\n    'customer_orders', "
                "entities=[customer], source=orders, features={'country': 'country'}\n)\n",
            ),
        ),
    ),
    Mistake(
        "two_sources_of_one_name",
        "plan",
        add=(
            (
                "more.py",
                "from features import *\nother = EventSource(\n    'orders', path='data/o.csv',"
                " schema={'customer_id': int}, timestamp_field='at'\n)\n",
            ),
        ),
    ),
    edit(
        "two_faults_at_once",
        'features={\n        "spend_7d"',
        'ttl="a month",\n    features={\n        "spend_7d"',
        add=(
            (
                "more.py",
                "from featurekit import Entity\nseller = Entity('seller', "
                "join_keys={'seller_id': float})\n",
            ),
        ),
    ),
    edit(
        "definitions_in_a_function",
        "checkout = FeatureService(",
        "def service():\n    return FeatureService(",
        "get-online checkout customer_id=1",
    ),
]

ENTITY_MISTAKES = [
    edit("join_keys_is_a_list", '{"customer_id": int}', '["customer_id"]'),
    edit("join_key_is_a_float", '{"customer_id": int}', '{"customer_id": float}'),
    edit("join_key_may_be_none", '{"customer_id": int}', '{"customer_id": int | None}'),
    edit("join_key_type_in_quotes", '{"customer_id": int}', '{"customer_id": "int"}'),
    edit("join_key_misspelt_in_the_schema", 'schema={"customer_id"', 'schema={"custommer_id"'),
    edit("join_keys_missing", ', join_keys={"customer_id": int}', ""),
    edit("parameter_of_another_store", "join_keys={", "join_key={"),
    edit("entity_name_with_a_space", 'Entity("customer"', 'Entity("the customer"'),
    edit("entity_without_a_name", 'Entity("customer", ', "Entity("),
]

SOURCE_MISTAKES = [
    edit("path_of_another_format", "data/orders.csv", "data/orders.json"),
    edit(
        "format_of_another_kind",
        'path="data/orders.csv",',
        'path="data/orders.csv", format="json",',
    ),
    edit("path_of_another_store", "data/orders.csv", "hdfs://shop/orders.csv"),
    edit("path_of_a_folder", "data/orders.csv", "data"),
    edit(
        "column_that_only_the_timestamp_resembles",
        '"country": str}',
        '"country": str, "order": str}',
        "get-historical checkout labels.csv",
    ),
    edit("path_is_a_list", '"data/orders.csv"', '["data/orders.csv"]'),
    edit("file_that_is_not_there", "data/orders.csv", "data/order.csv", "materialize", live=True),
    edit(
        "glob_without_a_match",
        "data/orders.csv",
        "data/2026/*.csv",
        "get-historical checkout labels.csv",
    ),
    edit("column_misspelt", '"unit_price": float, "country"', '"unitprice": float, "country"'),
    edit(
        "schema_column_not_in_file",
        '"country": str}',
        '"country": str, "city": str}',
        "get-historical checkout labels.csv",
    ),
    edit(
        "timestamp_not_in_file",
        '"ordered_at"',
        '"order_time"',
        "get-historical checkout labels.csv",
    ),
    edit("timestamp_declared_int", '"country": str}', '"country": str, "ordered_at": int}'),
    edit("timestamp_field_missing", '    timestamp_field="ordered_at",\n', ""),
    edit("timestamp_parameter_misspelt", "timestamp_field=", "timestamp_column="),
    edit(
        "created_column_not_in_file",
        'timestamp_field="ordered_at"',
        'timestamp_field="ordered_at", created_timestamp_column="created"',
        "get-historical checkout labels.csv",
    ),
    edit("schema_is_a_list", SCHEMA, '["customer_id", "quantity"]'),
    edit("schema_is_empty", SCHEMA, "{}"),
    edit("schema_type_in_quotes", '"quantity": int', '"quantity": "int"'),
    edit("schema_type_is_a_pair", '"quantity": int', '"quantity": (int, None)'),
    edit("schema_type_is_a_bare_list", '"quantity": int', '"quantity": list'),
    edit("schema_type_of_numpy", '"quantity": int', '"quantity": __import__("numpy").int64'),
    edit(
        "schema_type_too_narrow",
        '"unit_price": float',
        '"unit_price": int',
        "get-historical checkout labels.csv",
    ),
    edit(
        "schema_type_of_a_text",
        '"country": str',
        '"country": float',
        "get-historical checkout labels.csv",
    ),
    edit(
        "text_where_a_number_is_declared",
        "1,2,4.95,Norway",
        "1,two,4.95,Norway",
        "get-historical checkout labels.csv",
        file="data/orders.csv",
    ),
    edit(
        "empty_field_where_none_is_not_declared",
        "1,2,4.95,Norway",
        "1,,4.95,Norway",
        "get-historical checkout labels.csv",
        file="data/orders.csv",
    ),
    edit(
        "date_in_another_form",
        "2026-10-01T09:00:00",
        "01/10/2026 9:00",
        "get-historical checkout labels.csv",
        file="data/orders.csv",
    ),
    edit(
        "time_zone_misspelt",
        'timestamp_field="ordered_at"',
        'timestamp_field="ordered_at", timezone="Europe/Olso"',
    ),
    edit(
        "sequence_not_in_schema",
        'timestamp_field="ordered_at"',
        'timestamp_field="ordered_at", sequence="seq"',
    ),
    edit(
        "event_id_not_in_schema",
        'timestamp_field="ordered_at"',
        'timestamp_field="ordered_at", event_id="order_id"',
    ),
    edit(
        "op_without_event_id",
        'timestamp_field="ordered_at"',
        'timestamp_field="ordered_at", op="country"',
    ),
    edit(
        "on_bad_row_of_another_name",
        'timestamp_field="ordered_at"',
        'timestamp_field="ordered_at", on_bad_row="skip"',
    ),
]

VIEW_MISTAKES = [
    edit("window_in_words", 'window="7d"', 'window="7 days"'),
    edit("window_is_a_number", 'window="7d"', "window=7"),
    edit("window_missing", 'Count(window="30d")', "Count()"),
    edit("window_negative", 'window="7d"', 'window="-7d"'),
    edit("windows_and_window", SPEND, 'Sum(amount, window="7d", windows=["1d", "7d"])'),
    edit("parameter_misspelt", "default=0.0", "defualt=0.0"),
    edit("default_of_another_type", "default=0.0", 'default="none"'),
    edit("feature_in_quotes", "Sum(amount,", 'Sum("amount",'),
    edit("feature_that_is_called", "Sum(amount,", "Sum(amount(1, 2.0),"),
    edit(
        "source_is_a_frame",
        "source=orders,",
        'source=__import__("pandas").DataFrame({"customer_id": [1]}),',
    ),
    edit("sum_of_a_text", "Sum(amount,", 'Sum("country",'),
    edit("sum_without_an_input", "Sum(amount, ", "Sum("),
    edit("aggregate_that_is_not_called", SPEND, "Sum"),
    edit("aggregated_column_misspelt", 'Last("country"', 'Last("county"'),
    edit("aggregated_function_not_a_feature", "@feature\ndef amount", "def amount"),
    edit("where_not_a_bool", 'Count(window="30d")', 'Count(window="30d", where="country")'),
    edit(
        "quantile_out_of_range", 'Count(window="30d")', 'Quantile("unit_price", window="30d", q=95)'
    ),
    edit("hop_in_words", 'Count(window="30d")', 'Count(window="30d", hop="daily")'),
    edit("ttl_in_words", "source=orders,", 'source=orders,\n    ttl="1 month",'),
    edit("view_parameter_misspelt", "source=orders,", 'source=orders,\n    tll="30d",'),
    edit("entities_not_a_list", "entities=[customer]", "entities=customer"),
    edit("entities_by_name", "entities=[customer]", 'entities=["customer"]'),
    edit("source_by_name", "source=orders,", 'source="orders",'),
    edit(
        "features_is_a_list",
        'features={\n        "spend_7d": Sum(amount, window="7d", '
        'default=0.0),\n        "orders_30d": Count(window="30d"),\n        "mean_order_30d": '
        'Mean(amount, window="30d"),\n        "country": Last("country", window="365d"),\n    }',
        'features=["country", "quantity"]',
    ),
    edit("feature_name_that_begins_with_a_digit", '"spend_7d"', '"7d_spend"'),
    edit("feature_that_is_a_number", SPEND, "7"),
    edit("feature_named_event_timestamp", '"spend_7d"', '"event_timestamp"'),
    edit("columns_beside_aggregates", 'Last("country", window="365d")', '"country"'),
    edit("join_key_not_in_schema", '"customer_id": int, "quantity"', '"quantity"'),
    edit(
        "join_key_of_another_type",
        '"customer_id": int, "quantity"',
        '"customer_id": str, "quantity"',
    ),
    edit("on_error_of_another_name", "source=orders,", 'source=orders,\n    on_error="raise",'),
    edit("view_name_with_a_dash", '"customer_orders"', '"customer-orders"'),
]

TRANSFORM_MISTAKES = [
    edit("parameter_without_a_type", HEAD, "def amount(quantity, unit_price: float) -> float:"),
    edit("result_without_a_type", HEAD, "def amount(quantity: int, unit_price: float):"),
    edit(
        "parameter_of_a_type_that_is_none",
        HEAD,
        "def amount(quantity: complex, unit_price: float) -> float:",
    ),
    edit("parameter_that_is_no_column", HEAD, "def amount(quantity: int, price: float) -> float:"),
    edit(
        "parameter_of_another_type_than_the_column",
        HEAD,
        "def amount(quantity: str, unit_price: float) -> float:",
    ),
    edit("result_of_another_type", HEAD, "def amount(quantity: int, unit_price: float) -> int:"),
    edit("star_arguments", HEAD, "def amount(*values: float) -> float:"),
    edit(
        "call_of_a_library",
        BODY,
        "    import json\n    return json.loads(str(quantity * unit_price))",
    ),
    edit(
        "call_of_the_clock", BODY, "    import time\n    return quantity * unit_price + time.time()"
    ),
    edit(
        "try_in_a_transform",
        BODY,
        "    try:\n        return quantity * unit_price\n    except OSError:\n        return 0.0",
    ),
    edit(
        "while_in_a_transform",
        BODY,
        "    while quantity > 0:\n        quantity -= 1\n    else:\n        quantity = 1\n"
        "    return unit_price",
    ),
    edit("global_in_a_transform", BODY, "    return quantity * unit_price * RATE"),
    edit(
        "none_not_tested",
        "    if mean_order_30d is None or mean_order_30d == 0.0:\n        return None\n",
        "",
    ),
    edit(
        "none_not_declared",
        "mean_order_30d: float | None) -> float | None",
        "mean_order_30d: float) -> float | None",
    ),
    edit("numpy_in_a_transform", BODY, f"    import numpy as np\n{BODY}"),
    edit("return_forgotten", BODY, "    quantity * unit_price"),
    edit(
        "feature_over_a_lambda",
        "@feature\ndef amount",
        "double = feature(lambda x: 2 * x)\n\n@feature\ndef amount",
    ),
    edit(
        "feature_over_a_value",
        "@feature\ndef amount",
        "double = feature(2)\n\n@feature\ndef amount",
    ),
    edit("feature_option_misspelt", "@feature\ndef amount", "@feature(owners='me')\ndef amount"),
    edit("method_that_is_not_known", BODY, "    return str(quantity).zfil(3) == ''"),
]

SERVICE_MISTAKES = [
    edit("service_without_features", SERVED, "features=[]"),
    edit("service_features_not_a_list", SERVED, "features=customer_orders"),
    edit("service_of_a_view_s_features", SERVED, "features=[customer_orders.features]"),
    edit("service_features_by_name", SERVED, 'features=["customer_orders"]'),
    edit("selection_misspelt", SERVED, 'features=[customer_orders[["spend_7days"]]]'),
    edit("request_field_missing", ', request={"basket_value": float}', ""),
    edit(
        "request_parameter_misspelt", "basket_value: float, mean_order", "basket: float, mean_order"
    ),
    edit(
        "request_field_of_another_type",
        'request={"basket_value": float}',
        'request={"basket_value": int}',
    ),
    edit(
        "request_type_in_quotes",
        'request={"basket_value": float}',
        'request={"basket_value": "float"}',
    ),
    edit(
        "request_field_that_is_a_join_key",
        'request={"basket_value": float}',
        'request={"basket_value": float, "customer_id": int}',
    ),
    edit("request_is_a_list", 'request={"basket_value": float}', 'request=["basket_value"]'),
    edit("service_parameter_misspelt", "request={", "requests={"),
    edit("service_name_with_a_dash", '"checkout", features', '"check-out", features'),
]

COMMAND_MISTAKES = [
    command("verb_misspelt", "materialise"),
    command("verb_of_another_store", "teardown"),
    command("no_verb", ""),
    command(
        "option_misspelt", "get-online checkout customer_id=1 basket_value=1 --asof 2026-10-04"
    ),
    command("option_that_is_not_there", "plan --verbose"),
    command("option_without_a_value", "materialize --end"),
    command("service_misspelt", "get-online chekout customer_id=1 basket_value=1"),
    command("no_row", "get-online checkout"),
    command("join_key_misspelt", "get-online checkout customerid=1 basket_value=1"),
    command("request_field_left_out", "get-online checkout customer_id=1"),
    command("value_of_another_type", "get-online checkout customer_id=abc basket_value=1"),
    command("value_without_a_key", "get-online checkout 1 basket_value=1"),
    command("options_before_values", "get-online checkout --as-of yesterday customer_id=1"),
    command("instant_in_words", "get-online checkout customer_id=1 basket_value=1 --as-of noon"),
    command("rows_file_that_is_not_there", "get-online checkout --rows rows.jsonl"),
    command("historical_service_misspelt", "get-historical checkot labels.csv"),
    command("historical_frame_that_is_not_there", "get-historical checkout label.csv"),
    command(
        "historical_frame_of_another_format",
        "get-historical checkout labels.txt",
        add=(("labels.txt", LABELS),),
    ),
    command(
        "historical_frame_without_a_key",
        "get-historical checkout few.csv",
        add=(("few.csv", "event_timestamp,basket_value\n2026-10-04,1\n"),),
    ),
    command(
        "historical_frame_without_instants",
        "get-historical checkout few.csv",
        add=(("few.csv", "customer_id,basket_value\n1,1\n"),),
    ),
    command(
        "historical_frame_with_a_bad_value",
        "get-historical checkout few.csv",
        add=(("few.csv", "customer_id,event_timestamp,basket_value\nx,2026-10-04,1\n"),),
    ),
    command(
        "historical_output_in_no_folder", "get-historical checkout labels.csv -o out/train.parquet"
    ),
    command("historical_without_a_frame", "get-historical checkout"),
    command(
        "every_in_words",
        "get-historical checkout --start 2026-10-01 --end 2026-10-03 --every daily",
    ),
    command("push_to_an_unknown_source", "push order data/orders.csv"),
    command("push_of_a_file_that_is_not_there", "push orders more.csv"),
    command(
        "push_of_what_is_not_json",
        "push orders bad.jsonl",
        add=(("bad.jsonl", "customer_id: 1\n"),),
    ),
    command(
        "push_without_a_column",
        "push orders bad.jsonl",
        add=(("bad.jsonl", '{"customer_id": 1, "ordered_at": "2026-10-04T00:00:00Z"}\n'),),
    ),
    command(
        "push_of_another_type",
        "push orders bad.jsonl",
        add=(
            (
                "bad.jsonl",
                '{"customer_id": 1, "quantity": "two", "unit_price": 1.0, '
                '"country": "Spain", "ordered_at": "2026-10-04T00:00:00Z"}\n',
            ),
        ),
    ),
    command("materialize_an_unknown_view", "materialize --view customer_order"),
    command("materialize_an_entity_by_another_key", "materialize --entity id=1"),
    Mistake("materialize_before_apply", "materialize"),
    Mistake("get_online_before_apply", "get-online checkout customer_id=1 basket_value=1"),
    command("explain_an_unknown_feature", "explain checkout spend customer_id=1 basket_value=1"),
    command("explain_an_unknown_service", "explain check spend_7d customer_id=1 basket_value=1"),
    command("versions_of_an_unknown_service", "versions chekout"),
    command("rollback_without_an_older_version", "rollback checkout"),
    command("rollback_to_an_unknown_version", "rollback checkout --to abc"),
    command("pin_of_an_unknown_version", "pin checkout@zzz --by models:/m/1"),
    command("pin_of_a_service_without_a_version", "pin checkout --by models:/m/1"),
    command("pin_that_nothing_needs", "pin checkout@abc"),
    command("pin_that_has_ended", "pin checkout@abc --by models:/m/1 --until yesterday"),
    command("unpin_what_is_not_pinned", "unpin checkout --by models:/m/1"),
    command("parity_of_an_unknown_service", "parity chekout"),
    command("parity_mode_misspelt", "parity fuz"),
    command("parity_budget_in_words", "parity fuzz --budget lots"),
    command("parity_replay_without_a_log", "parity replay"),
    command("forget_an_unknown_entity", "forget custmer --key customer_id=1"),
    command("consume_a_source_without_ids", "consume orders --until-empty"),
    command("consume_from_a_url_with_a_login", "consume orders --from kafka://me:pw@host/orders"),
    command("consume_from_a_url_without_a_topic", "consume orders --from kafka://host:9092"),
    command(
        "consume_with_a_registry_that_has_a_login",
        "consume orders --from kafka://host/orders --registry http://me:pw@host",
    ),
    command("gc_of_an_unknown_version", "gc nothing"),
    command("init_where_something_is", "init ."),
    command("apply_of_a_folder", "apply ."),
    command("init_of_a_name_of_two_words", "init my shop"),
    command("join_keys_as_options", "get-online checkout --customer_id 1 --basket_value 25"),
    command("several_values_for_a_key", "get-online checkout customer_id=1,2 basket_value=25"),
    command("historical_words_exchanged", "get-historical labels.csv checkout"),
    command("historical_of_one_row", "get-historical checkout customer_id=1"),
    command(
        "historical_of_a_service_and_features",
        "get-historical checkout labels.csv --features customer_orders:spend_7d",
    ),
    command(
        "historical_start_after_end",
        "get-historical checkout --start 2026-01-02 --end 2026-01-01 --every 1d",
    ),
    command("materialize_between_two_instants", "materialize 2026-01-01 2026-02-01"),
    command("push_without_a_source", "push data/orders.csv"),
    command("push_to_no_source_from_standard_input", "push order"),
    command("explain_without_a_feature", "explain checkout customer_id=1"),
    command("explain_without_a_row", "explain checkout spend_7d"),
    command("forget_without_an_option", "forget customer 1"),
]

CALL_MISTAKES = [
    call("store_of_a_folder_that_is_not_there", "FeatureStore('nowhere')"),
    call("store_of_a_number", "FeatureStore(5)"),
    call("method_misspelt", f"store.get_online_feature('checkout', [{ROW}])"),
    call("lookup_of_one_dict", f"store.get_online_features('checkout', {ROW})"),
    call("lookup_of_numbers", "store.get_online_features('checkout', [1, 2])"),
    call("lookup_of_a_text", "store.get_online_features('checkout', 'customer_id=1')"),
    call("lookup_service_misspelt", f"store.get_online_features('chekout', [{ROW}])"),
    call(
        "lookup_without_a_request_field",
        "store.get_online_features('checkout', [{'customer_id': 1}])",
    ),
    call(
        "lookup_with_a_misspelt_key",
        "store.get_online_features('checkout', [{'customerid': 1, 'basket_value': 1.0}])",
    ),
    call(
        "lookup_with_a_misspelt_request_field",
        "store.get_online_features('checkout', [{'customer_id': 1, 'basket': 1.0}])",
    ),
    call(
        "lookup_of_a_frame_with_a_misspelt_key",
        f"{PANDAS}store.get_online_features("
        "'checkout', pd.DataFrame({'customerid': [1], 'basket_value': [1.0]}))",
    ),
    call(
        "historical_with_a_misspelt_key",
        f"{HISTORICAL}([{{'customerid': 1, 'basket_value': 1.0, 'event_timestamp': "
        "'2026-10-04'}], 'checkout').to_arrow()",
    ),
    call(
        "historical_of_a_frame_with_a_misspelt_request_field",
        f"{PANDAS}{HISTORICAL}(pd.DataFrame({{'customer_id': [1], 'basket': [1.0], "
        "'event_timestamp': ['2026-10-04']}), 'checkout').to_arrow()",
    ),
    call(
        "lookup_with_a_key_of_text",
        "store.get_online_features('checkout', [{'customer_id': '1', 'basket_value': 1.0}])",
    ),
    call("lookup_as_of_a_word", f"store.get_online_features('checkout', [{ROW}], as_of='noon')"),
    call("lookup_as_of_a_number", f"store.get_online_features('checkout', [{ROW}], as_of=1700000)"),
    call(
        "lookup_parameter_misspelt",
        f"store.get_online_features('checkout', [{ROW}], asof='2026-10-04')",
    ),
    call(
        "lookup_parameters_of_another_store",
        f"store.get_online_features(features=['customer_orders:spend'], rows=[{ROW}])",
    ),
    call("historical_of_a_number", "store.get_historical_features(5, 'checkout').to_arrow()"),
    call("historical_without_a_service", FRAME + "store.get_historical_features(df)"),
    call(
        "historical_service_misspelt_in_python",
        FRAME + "store.get_historical_features(df, 'chekout').to_arrow()",
    ),
    call(
        "historical_feature_misspelt",
        FRAME + "store.get_historical_features(df, features=['customer_orders:spend_7'])",
    ),
    call(
        "historical_view_misspelt",
        FRAME + "store.get_historical_features(df, features=['customer_order:spend_7d'])",
    ),
    call(
        "historical_key_left_out",
        "import datetime as dt; store.get_historical_features("
        "[{'basket_value': 1.0, 'event_timestamp': dt.datetime(2026, 10, 4)}], "
        "'checkout').to_arrow()",
    ),
    call(
        "historical_key_of_text",
        "import datetime as dt; store.get_historical_features("
        "[{'customer_id': 'a', 'basket_value': 1.0, 'event_timestamp': "
        "dt.datetime(2026, 10, 4)}], 'checkout').to_arrow()",
    ),
    call(
        "historical_instants_of_text",
        "store.get_historical_features("
        "[{'customer_id': 1, 'basket_value': 1.0, 'event_timestamp': 'monday'}], "
        "'checkout').to_arrow()",
    ),
    call(
        "historical_column_misspelt_in_pandas",
        "import pandas as pd; "
        "store.get_historical_features(pd.DataFrame({'customer_ids': [1], 'basket_value': [1.0], "
        "'event_timestamp': [pd.Timestamp('2026-10-04')]}), 'checkout').to_arrow()",
    ),
    call(
        "historical_time_zone_misspelt",
        FRAME + "store.get_historical_features(df, 'checkout', timezone='Oslo').to_arrow()",
    ),
    call(
        "historical_at_one_instant",
        "import datetime as dt; store.get_historical_features("
        "service='checkout', at=dt.datetime(2026, 10, 4)).to_arrow()",
    ),
    call(
        "historical_every_a_number",
        "import datetime as dt; store.get_historical_features("
        "service='checkout', start=dt.datetime(2026, 10, 1), end=dt.datetime(2026, 10, 4), "
        "every=1).to_arrow()",
    ),
    call(
        "historical_buckets_of_text",
        FRAME + "store.get_historical_features(df, 'checkout', buckets='two').to_arrow()",
    ),
    call("store_of_a_service", "FeatureStore(store.repo.services['checkout'])"),
    call("apply_of_a_store", "store.apply(store)"),
    call("lookup_without_rows", "store.get_online_features('checkout')"),
    call("lookup_words_exchanged", f"store.get_online_features([{ROW}], 'checkout')"),
    call("historical_words_exchanged_in_python", f"{HISTORICAL}('checkout', [{ROW}])"),
    call(
        "historical_of_one_feature_as_a_text",
        f"{FRAME}{HISTORICAL}(df, 'customer_orders:spend_7d')",
    ),
    call(
        "lookup_of_a_key_beyond_64_bits",
        "store.get_online_features('checkout', [{'customer_id': 2**70, 'basket_value': 1.0}])",
    ),
    call("lookup_of_a_series", f"{PANDAS}store.get_online_features('checkout', pd.Series({ROW}))"),
    call("historical_of_a_series", f"{PANDAS}{HISTORICAL}(pd.Series({ROW}), 'checkout')"),
    call(
        "historical_of_a_frame_indexed_by_the_key",
        f"{FRAME}{PANDAS}df = pd.DataFrame(df).set_index('customer_id'); {COMPUTED}",
    ),
    call(
        "historical_of_dates",
        f"{FRAME}{PANDAS}df = pd.DataFrame(df).assign(event_timestamp=dt.date(2026, 10, 4)); "
        f"{COMPUTED}",
    ),
    call(
        "historical_of_two_columns_of_one_name",
        f"{FRAME}{PANDAS}df = pd.concat([pd.DataFrame(df)] * 2, axis=1); {COMPUTED}",
    ),
    call(
        "historical_of_mixed_objects",
        f"{FRAME}{PANDAS}df = pd.DataFrame(df * 2).assign(more=[1, 'x']); {COMPUTED}",
    ),
    *(
        call(f"result_s_{name}", f"store.get_online_features('checkout', [{ROW}]).{text}")
        for name, text in (
            ("df", "df"),
            ("to_json", "to_json()"),
            ("head", "head()"),
            ("feature", "spend_7d"),
            ("misspelt_method", "to_panda()"),
        )
    ),
    call("training_set_s_to_excel", f"{FRAME}{HISTORICAL}(df, 'checkout').to_excel('x.xlsx')"),
    call("version_s_name", "store.versions('checkout')[0].name"),
    call("catalog_with_a_word", "store.catalog('x')"),
    call("push_to_a_definition", "store.push(store.repo.sources['orders'], [])"),
    call(
        "push_of_an_instant_in_text",
        "store.push('orders', [{'customer_id': 1, 'quantity': 2, 'unit_price': 1.0, "
        "'country': 'Spain', 'ordered_at': '2026-10-04'}])",
    ),
    call("push_of_a_number", "store.push('orders', 5)"),
    call("push_to_a_misspelt_source", "store.push('order', [])"),
    call(
        "push_of_a_text_column",
        "import datetime as dt; store.push('orders', [{'customer_id': "
        "1, 'quantity': '2', 'unit_price': 1.0, 'country': 'Spain', 'ordered_at': "
        "dt.datetime(2026, 10, 4)}])",
    ),
    call(
        "push_of_a_misspelt_column",
        "import datetime as dt; store.push('orders', "
        "[{'customer_id': 1, 'quantty': 2, 'unit_price': 1.0, 'country': 'Spain', 'ordered_at': "
        "dt.datetime(2026, 10, 4)}])",
    ),
    call("materialize_until_a_word", "store.materialize('tomorrow')"),
    call("materialize_views_as_one_text", "store.materialize(views='customer_orders')"),
    call("materialize_entities_as_one_dict", "store.materialize(entities={'customer_id': 1})"),
    call("parity_of_another_mode", "store.check_parity('checkout', mode='fast')"),
    call("parity_budget_of_words", "store.check_parity('checkout', budget='lots')"),
    call("explain_without_the_row", "store.explain('checkout', 'spend_7d')"),
    call("explain_of_a_list", "store.explain('checkout', 'spend_7d', [1])"),
    call("forget_by_a_number", "store.forget('customer', 1)"),
    call("rollback_to_a_number", "store.rollback('checkout', to=3)"),
    call("versions_of_a_number", "store.versions(5)"),
    call(
        "online_service_of_a_misspelt_scheme",
        "OnlineService.connect('redi://localhost', 'shop', 'checkout').get([])",
    ),
    call("online_service_without_a_service", "OnlineService.connect('redis://localhost', 'shop')"),
    call(
        "training_set_into_no_folder",
        FRAME + "store.get_historical_features(df, 'checkout').to_parquet('out/train.parquet')",
    ),
]

MISTAKES = [
    *SETTINGS_MISTAKES,
    *MODULE_MISTAKES,
    *ENTITY_MISTAKES,
    *SOURCE_MISTAKES,
    *VIEW_MISTAKES,
    *TRANSFORM_MISTAKES,
    *SERVICE_MISTAKES,
    *COMMAND_MISTAKES,
    *CALL_MISTAKES,
]
BY_NAME = {mistake.name: mistake for mistake in MISTAKES}


def write_repo(folder: Path) -> None:
    """Write the repo in which mistakes are made."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def fill(folder: Path) -> None:
    """Apply and materialise the repo."""
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()


@contextlib.contextmanager
def made(mistake: Mistake, folder: Path) -> Iterator[None]:
    """The repo in `folder` with the mistake in it, as the current folder; all is put back."""
    before = Path.cwd()
    path = folder / mistake.file
    text = path.read_text(encoding="utf-8")
    added = [folder / name for name, _ in mistake.add]
    try:
        os.chdir(folder)
        if mistake.old:
            assert mistake.old in text, mistake.name
            path.write_text(text.replace(mistake.old, mistake.new, 1), encoding="utf-8")
        for name, content in mistake.add:
            (folder / name).write_text(content, encoding="utf-8")
        yield
    finally:
        os.chdir(before)
        path.write_text(text, encoding="utf-8")
        for one in added:
            one.unlink()
        shutil.rmtree(folder / "out", ignore_errors=True)


def provoke(mistake: Mistake, folder: Path) -> str:
    """Make the mistake in the repo in `folder`; what its maker reads, the folder's path left
    out."""
    with made(mistake, folder):
        said = _call(mistake.code) if mistake.code else _command(mistake.run)
    said = said.replace(f"{folder.resolve()}/", "").replace(str(folder.resolve()), "REPO")
    said = said.replace(str(folder.resolve().parent), "FOLDER")
    return re.sub(r"[0-9a-f]{12}\b", "FINGERPRINT", said).rstrip()


def _command(line: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line.split(" ") if line else [])
    return f"exit {code}\n{err.getvalue() or out.getvalue()}"


def _call(code: str) -> str:
    with FeatureStore(".") as store:
        names = {"store": store, "FeatureStore": FeatureStore, "OnlineService": OnlineService}
        try:
            exec(code, names)
        except (FeaturekitError, Exception) as error:
            return f"{type(error).__name__}: {error}"
    return "nothing was said"
