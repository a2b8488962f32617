"""The examples that errors propose: each is one that the call or the setting itself takes."""

from __future__ import annotations

import ast
import datetime as dt
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import featurekit
from featurekit import (
    Between,
    Delay,
    Deprecated,
    Entity,
    EventSource,
    FeatureService,
    FeatureStore,
    FeatureView,
    OnlineService,
    SQLite,
    aggregates,
    feature,
)
from featurekit.core.calls import _declared, fits
from featurekit.core.examples import EXAMPLES, example
from featurekit.core.samples import row_in_json, row_in_python, row_in_words
from featurekit.core.texts import loads, of_json, of_text
from featurekit.core.types import from_hint
from featurekit.project.config import EXAMPLES as SETTINGS
from featurekit.project.config import RepoConfig, load_config, model_at

customer = Entity("customer", join_keys={"customer_id": int})
orders = EventSource("orders", path="o.csv", schema={"customer_id": int}, timestamp_field="at")
customer_orders = FeatureView(
    "customer_orders",
    entities=[customer],
    source=orders,
    features={"n": aggregates.Count(window="1d")},
)
checkout = FeatureService("checkout", features=[customer_orders])
NAMES: dict[str, Any] = {
    "customer": customer,
    "orders": orders,
    "web": orders,
    "app": orders,
    "customer_orders": customer_orders,
    "checkout": checkout,
    "Sum": aggregates.Sum,
    "SQLite": SQLite,
    "Delay": Delay,
    "Between": Between,
    "Deprecated": Deprecated,
    "datetime": dt.datetime,
    "UTC": dt.UTC,
}
OBVIOUS = {"progress", "stop", "function"}
"""Parameters that take an object of the caller's, of which a text is no example."""


def calls() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public calls that are explained, by the names that their errors have."""
    for kind in (Entity, EventSource, FeatureView, FeatureService, *aggregates.BY_NAME.values()):
        yield kind.__name__, kind.__init__
    yield "feature", inspect.unwrap(feature)
    for owner in (FeatureStore, OnlineService):
        for name, method in vars(owner).items():
            inner = getattr(method, "__func__", method)
            if hasattr(inner, "__wrapped__"):
                shown = owner.__name__ if name == "__init__" else name
                yield shown, inner.__wrapped__


@pytest.mark.parametrize(
    ("name", "function"), [*calls()], ids=lambda one: getattr(one, "__name__", one)
)
def test_each_parameter_has_an_example_that_the_call_takes(
    name: str, function: Callable[..., Any]
) -> None:
    signature, hints = _declared(function)
    lacking, wrong = [], []
    for parameter in [*signature.parameters][1:] if name != "feature" else signature.parameters:
        hint = hints.get(parameter, Any)
        if hint is Any or hint is bool or hint == bool | None or parameter in OBVIOUS:
            continue
        written = example(name, parameter)
        if written is None:
            lacking.append(parameter)
        elif not fits(eval(written, NAMES), hint):
            wrong.append((parameter, written))
    assert (lacking, wrong) == ([], [])


def test_no_example_is_of_a_parameter_that_no_call_has() -> None:
    known = {p for _, function in calls() for p in inspect.signature(function).parameters}
    called = {name for name, _ in calls()}
    for key in EXAMPLES:
        call, _, parameter = key.rpartition(".")
        assert parameter in known, key
        assert not call or call in called, key


# --- settings -------------------------------------------------------------------------------------


def settings() -> Iterator[str]:
    """The settings that featurekit itself reads, by their dotted names."""
    yield from _settings((), RepoConfig)


def _settings(above: tuple[str, ...], model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if field.annotation is Any:
            continue
        place = (*above, name)
        yield ".".join(place)
        of_many = model_at((*place, "*"))
        if of_many is not None and model_at(place) is None:
            place = (*place, "*")
            yield ".".join(place)
        inside = model_at(place)
        if inside is not None:
            yield from _settings(place, inside)


LISTS = ("actions", "steps", "targets", "tell")
SEVERAL = (*LISTS, "triggers", "consume")
"""The settings of which there are several, in a list or by names."""
ACTIONS = [{"command": ["true"]}]
CONDITIONS = ("performance", "drift", "skew", "new_rows", "schedule", "event")
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("openlineage", "url"): {},
    ("openlineage", "file"): {},
    ("performance", "measure"): {"service": "s", "below": 0.5},
    ("performance", "below"): {"service": "s", "measure": "auc"},
    ("performance", "above"): {"service": "s", "measure": "rmse"},
    ("drift", "measure"): {"service": "s", "reference": "7d", "above": 0.5},
    ("drift", "above"): {"service": "s", "reference": "7d", "measure": "psi"},
    ("webhook", "url"): {},
    ("webhook", "url_env"): {},
    ("webhook", "key_env"): {"format": "pagerduty"},
    ("steps", "name"): {"run": "validate"},
    ("steps", "run"): {"name": "validate"},
    ("steps", "command"): {"name": "train"},
    ("airflow", "username"): {"url": "http://a", "dag_id": "d", "password_env": "P"},
    ("airflow", "password_env"): {"url": "http://a", "dag_id": "d", "username": "u"},
    ("kafka", "username"): {"password_env": "P"},
    ("kafka", "password_env"): {"username": "u"},
    ("kafka", "password_file"): {"username": "u"},
    ("kafka", "certificate_file"): {"key_file": "k"},
    ("kafka", "key_file"): {"certificate_file": "c"},
    ("registry", "username"): {"url": "http://a", "password_env": "P"},
    ("registry", "password_env"): {"url": "http://a", "username": "u"},
    ("registry", "password_file"): {"url": "http://a", "username": "u"},
}
"""What alone stands beside a setting, by what it is in and its own name."""
INSIDE: dict[str, dict[str, Any]] = {
    "online_store": {"type": "redis"},
    "serving_log": {"to": "parquet"},
    "openlineage": {"file": "lineage.jsonl"},
    "steps": {"name": "validate", "run": "validate"},
    "targets": {"url": "http://a"},
    "triggers": {"actions": ACTIONS},
    "performance": {"service": "s"},
    "drift": {"service": "s", "reference": "7d"},
    "skew": {"service": "s"},
    "new_rows": {"source": "s", "at_least": 1},
    "schedule": {"cron": "0 3 * * *"},
    "quiet_hours": {"start": "01:00", "end": "02:00"},
    "webhook": {"url": "http://a"},
    "tell": {"url": "http://a"},
    "airflow": {"url": "http://a", "dag_id": "d"},
    "registry": {"url": "http://a"},
}
"""What must stand beside any setting inside of these."""


def _beside(above: list[str], name: str) -> dict[str, Any]:
    """What must or may not stand beside a setting, by its place."""
    words = [word for word in above if word != "*"]
    inside = words[-1] if words and words != ["featurekit"] else ""
    own = BESIDE.get(("webhook" if inside == "tell" else inside, name))
    if own is not None:
        return own
    if above[-2:] == ["monitoring", "performance"] or (above and above[-1] in SEVERAL):
        return {}
    one = {"skew": {"service": "s"}} if inside == "triggers" and name not in CONDITIONS else {}
    return {**INSIDE.get(inside, {}), **one}


FEAST = {
    "featurekit.publish": {
        "provider": "local",
        "registry": "feast.db",
        "offline_store": "featurekit.plugins.feast.FeaturekitOfflineStore",
        "online_store": "featurekit.plugins.feast.FeaturekitOnlineStore",
        "batch_engine": "featurekit.plugins.feast.FeaturekitEngine",
    }
}
"""What of Feast's own settings must stand beside a setting."""


def test_each_setting_has_an_example() -> None:
    assert SETTINGS.keys() == {*settings()}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_example_of_a_setting_is_read(tmp_path: Path, name: str) -> None:
    value: Any = yaml.safe_load(SETTINGS[name])
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        part, above = parts[n - 1], parts[: n - 1]
        if part == "*":
            value = [value] if above[-1] in LISTS else {"any": value}
            continue
        value = {**_beside(above, part), part: value}
    text = yaml.safe_dump({"project": "shop", **FEAST.get(name, {}), **value})
    (tmp_path / "feature_store.yaml").write_text(text, encoding="utf-8")
    load_config(tmp_path)


# --- rows -----------------------------------------------------------------------------------------

TYPES = {
    hint.__name__ if isinstance(hint, type) else str(hint): from_hint(hint)
    for hint in (bool, int, float, str, bytes, dt.datetime, dt.date, dt.timedelta, list[int])
}


@pytest.mark.parametrize("name", TYPES)
def test_a_row_to_copy_has_a_value_of_each_type_however_it_is_written(name: str) -> None:
    type_ = TYPES[name]
    names = {**NAMES, "date": dt.date, "timedelta": dt.timedelta}
    in_python = eval(row_in_python({"x": type_}), names)["x"]
    in_json = of_json(loads(row_in_json({"x": type_}))["x"], type_)
    in_words = of_text(row_in_words({"x": type_}).removeprefix("x="), type_)
    assert type(in_python) is type(in_json) is type(in_words) is type_.python


# --- codes of rules -------------------------------------------------------------------------------

CODE = re.compile(r"\([A-Z][0-9]{1,2}(, [A-Z][0-9]{1,2})*\)")


def texts_of_errors() -> Iterator[tuple[str, str]]:
    """Every text in a `raise` of the package, or in a call that refuses a part of a transform."""
    for path in Path(featurekit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            failing = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "fail"
            if isinstance(node, ast.Raise) or failing:
                for part in ast.walk(node):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield f"{path.name}:{part.lineno}", part.value


def test_no_error_has_the_code_of_a_rule_without_the_page_that_explains_it() -> None:
    assert [place for place, text in texts_of_errors() if CODE.search(text)] == []
    snapshots = Path(__file__).parents[1] / "snapshots"
    for path in snapshots.glob("*.txt"):
        assert CODE.findall(path.read_text(encoding="utf-8")) == []
