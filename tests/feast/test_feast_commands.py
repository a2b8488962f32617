"""Feast's commands, its SDK, its feature server and its UI on `feature_repo/`, once its definitions
are published: each says what featurekit itself says, to the bit."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from browser import CHROMIUM, browser
from feast_servers import FEAST, ROOT, environment, post, run_feast, serving
from published_repos import STORES, bits, columns

from featurekit import FeatureStore
from featurekit.cli.demo.sample_data import write_sample_data

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Any]:
    """`feature_repo/` with data of today, published to Feast and filled."""
    folder = tmp_path_factory.mktemp("shop")
    shutil.copy(ROOT / "feature_repo/shop.py", folder)
    write_sample_data(folder / "data", lines=3_000)
    (folder / "feature_store.yaml").write_text(
        "project: published_shop\nprovider: local\nregistry: feast.db\n"
        f"entity_key_serialization_version: 3\n{STORES}  redis_url: {redis_url}\n"
        "featurekit:\n  publish: feast\n",
        encoding="utf-8",
    )
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
        store.push("order_lines", _lines_of_today(folder))
        yield store


def _lines_of_today(folder: Path) -> list[dict[str, Any]]:
    """The newest order lines once more, as of the last hour: their windows are not empty."""
    table = pq.read_table(folder / "data/order_lines.parquet").slice(2_500).to_pylist()
    now = dt.datetime.now(dt.UTC)
    return [
        {**row, "invoice_date": now - dt.timedelta(seconds=i + 1)} for i, row in enumerate(table)
    ]


def _asked(store: FeatureStore, name: str, count: int = 40) -> list[dict[str, Any]]:
    """Rows of a service: customers and products of the data, with request fields."""
    table = pq.read_table(store.path / "data/order_lines.parquet").slice(2_500).to_pandas()
    known = table.dropna(subset=["customer_id"]).drop_duplicates("customer_id").head(count)
    given = {"basket_value": 0.1, "offered_price": 2.3}
    service = store.repo.compiled_services[name]
    return [
        {key: int(row[key]) if key == "customer_id" else row[key] for key in service.join_keys}
        | {p.name: given[p.name] * (i + 1) for p in service.request}
        for i, row in enumerate(known.to_dict("records"))
    ]


def test_feast_lists_what_is_published(shop: FeatureStore) -> None:
    listed = run_feast(shop.path, "feature-views", "list")
    for name in shop.repo.views:
        assert name in listed
    assert "checkout_v1_request" in run_feast(shop.path, "on-demand-feature-views", "list")
    assert "customer_orders:spend_7d" in run_feast(shop.path, "feature-services", "list")
    told = run_feast(shop.path, "feature-views", "describe", "customer_orders")
    assert "How much, how often and from where a customer buys." in told
    assert shop.repo.compiled_views["customer_orders"].fingerprint in told


def test_feast_apply_does_not_take_away_what_is_published(shop: FeatureStore) -> None:
    before = (shop.path / "feast.db").read_bytes()
    made = subprocess.run(
        [FEAST, "apply"], cwd=shop.path, env=environment(), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert made.returncode != 0
    assert "run `featurekit apply`" in made.stderr
    assert (shop.path / "feast.db").read_bytes() == before


@pytest.mark.parametrize("service", ["checkout_v1", "offer_v1"])
def test_the_sdk_answers_as_featurekit_does(shop: FeatureStore, service: str) -> None:
    from feast import FeatureStore as FeastStore

    feast = FeastStore(repo_path=str(shop.path))
    asked = feast.get_feature_service(service)
    rows = _asked(shop, service)
    names = [o.name for o in shop.repo.compiled_services[service].outputs]
    online = shop.get_online_features(service, rows)
    assert len({tuple(bits(online.columns[n])) for n in names}) > 5
    assert columns(feast.get_online_features(asked, rows).to_dict(), names) == columns(
        online.columns, names
    )
    at = pd.Timestamp("2011-09-20 12:00:00.000001", tz="UTC")
    labels = pd.DataFrame(rows).assign(
        event_timestamp=[at + pd.Timedelta(days=i) for i in range(len(rows))]
    )
    theirs = feast.get_historical_features(labels, asked).to_arrow().to_pydict()
    ours = shop.get_historical_features(labels, service).to_arrow().to_pydict()
    assert columns(theirs, names) == columns(ours, names)


def test_the_feature_server_answers_and_takes_pushes(shop: FeatureStore) -> None:
    rows = _asked(shop, "checkout_v1", 5)
    body = {
        "feature_service": "checkout_v1",
        "entities": {name: [row[name] for row in rows] for name in rows[0]},
    }
    line = _lines_of_today(shop.path)[0]
    line |= {"customer_id": rows[0]["customer_id"], "quantity": 3, "unit_price": 0.1}
    pushed = {name: [value] for name, value in line.items()}
    pushed["invoice_date"] = [dt.datetime.now(dt.UTC).isoformat()]
    before = shop.get_online_features("checkout_v1", rows)
    with serving(shop.path, "serve", "--workers", "1", ready="/health") as url:
        first = _by_name(post(f"{url}/get-online-features", body))
        assert columns(first, list(before.columns)) == columns(before.columns, list(before.columns))
        post(f"{url}/push", {"push_source_name": "order_lines_push", "df": pushed, "to": "online"})
        second = _by_name(post(f"{url}/get-online-features", body))
        after = shop.get_online_features("checkout_v1", rows)
    assert after.columns["lines_7d"][0] == before.columns["lines_7d"][0] + 1
    assert columns(second, list(after.columns)) == columns(after.columns, list(after.columns))


def _by_name(answer: Any) -> dict[str, list[Any]]:
    names = answer["metadata"]["feature_names"]
    return {n: r["values"] for n, r in zip(names, answer["results"], strict=True)}


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, Feast's page in a browser")
def test_the_ui_shows_views_services_and_lineage(shop: FeatureStore, tmp_path: Path) -> None:
    project = "published_shop"
    with (
        serving(shop.path, "ui", ready="/") as url,
        browser(tmp_path) as page,
    ):
        page.look(1400)
        page.go(f"{url}/p/{project}/feature-view/customer_orders")
        page.until("document.body.innerText.includes('spend_7d_before')", 60)
        page.until("document.body.innerText.includes('checkout_v1')", 60)
        text = page.run("document.body.innerText")
        page.shot(tmp_path / "view.png")
        page.go(f"{url}/p/{project}/feature-service/checkout_v1")
        page.until("document.body.innerText.includes('basket_vs_habit')", 60)
        page.shot(tmp_path / "service.png")
    assert shop.repo.compiled_views["customer_orders"].fingerprint in text
    assert "How much, how often and from where a customer buys." in text
    assert "personal" in text
