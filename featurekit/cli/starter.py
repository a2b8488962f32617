"""Turns a folder and an instant into a small feature repo that works as it stands."""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from featurekit.core.files import whole
from featurekit.errors import ConfigError, WriteError

_YAML = """\
# Feast's own file; what is featurekit's stands under `featurekit`. Without a connection_string a
# private Redis keeps its data in .featurekit.
project: {project}
provider: local
registry: .featurekit/feast_registry.db
entity_key_serialization_version: 3

offline_store:
  type: duckdb

online_store:
  type: redis

featurekit:
  registry: .featurekit/registry.db
  # What runs again and again: `featurekit pipeline export --to airflow -o ../dags` writes it for
  # an orchestrator. {{end}} is the instant of the run.
  pipeline:
    steps:
      - {{name: validate, run: validate}}
      - {{name: apply, run: apply}}
      - {{name: materialize, run: "materialize --incremental --end {{end}}"}}
      - {{name: parity, run: parity sample --budget 10000}}
      - name: training-set
        run: get-historical checkout labels.csv -o train.parquet --contract train.contract.json
        needs: [materialize]
      - {{name: deploy-check, run: deploy check --contract train.contract.json}}
"""

_MODULE = '''\
"""What customers order: features to start from."""

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Mean, Sum

customer = Entity("customer", join_keys={"customer_id": int})

orders = EventSource(
    "orders",
    path="data/orders.csv",
    schema={"customer_id": int, "quantity": int, "unit_price": float, "country": str},
    timestamp_field="ordered_at",
    timezone="UTC",
)


@feature
def amount(quantity: int, unit_price: float) -> float:
    """Value of the order; negative for a return."""
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
    """This basket against the customer's usual order; None for a customer without orders."""
    if mean_order_30d is None or mean_order_30d == 0.0:
        return None
    return basket_value / mean_order_30d


checkout = FeatureService(
    "checkout", features=[customer_orders, basket_vs_habit], request={"basket_value": float}
)
'''

# Customer, quantity, unit price, country, and how long ago.
_ORDERS = [
    (1, 2, "4.95", "Norway", "26d 3h"),
    (2, 1, "12.50", "Spain", "21d 20h"),
    (1, 10, "0.85", "Norway", "16d 1h"),
    (3, 3, "7.95", "Germany", "12d 22h"),
    (2, -1, "12.50", "Spain", "9d 5h"),
    (1, 1, "39.95", "Norway", "6d 2h"),
    (3, 6, "2.55", "France", "3d 18h"),
    (2, 4, "3.75", "Spain", "2d 7h"),
    (1, 12, "1.25", "Norway", "1d 4h"),
    (3, 1, "0.10", "France", "1d 4h"),
]


def write_starter(folder: Path, now: dt.datetime) -> list[Path]:
    """Write the repo, with orders of the weeks before `now`; returns its files. ConfigError where
    the folder holds anything, or cannot be written."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty; name a new folder")
    project = re.sub(r"\W+", "_", folder.resolve().name, flags=re.ASCII).strip("_") or "features"
    if not project[0].isalnum() or project == "feature_repo":
        project = "my_project"
    now = now.replace(minute=0, second=0, microsecond=0, tzinfo=None)
    orders = "customer_id,quantity,unit_price,country,ordered_at\n"
    for customer, quantity, price, country, ago in _ORDERS:
        days, hours = (int(part[:-1]) for part in ago.split())
        at = now - dt.timedelta(days=days, hours=hours)
        orders += f"{customer},{quantity},{price},{country},{at.isoformat()}\n"
    labels = "customer_id,event_timestamp,basket_value,bought\n"
    for customer, days_ago, basket, bought in [(1, 15, 25, 1), (2, 8, 40, 0), (3, 1, 12.5, 1)]:
        at = now - dt.timedelta(days=days_ago)
        labels += f"{customer},{at.isoformat()}Z,{basket},{bought}\n"
    files = {
        "feature_store.yaml": _YAML.format(project=project),
        "features.py": _MODULE,
        "data/orders.csv": orders,
        "labels.csv": labels,
        ".gitignore": ".featurekit/\n",
    }
    try:
        if folder.exists():
            _fill(folder, files)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with whole(folder) as hidden:
                _fill(hidden, files)
    except WriteError:
        raise
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None
    return [folder / name for name in files]


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files, all of them or none."""
    try:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except BaseException:
        for name in files:
            top = folder / name.split("/")[0]
            shutil.rmtree(top, ignore_errors=True)
            top.unlink(missing_ok=True)
        raise
