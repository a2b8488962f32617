"""Which columns reach which features, in which role; and that a change of a column touches no
feature but those."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, Last, Sum
from featurekit.cli import main
from featurekit.define.repo import load_repo
from featurekit.errors import DataError, DefinitionError
from featurekit.project.lineage.definitions import column_id, lineage_of
from featurekit.project.lineage.graph import Lineage
from featurekit.project.lineage.picture import svg
from featurekit.project.site.gathered import Asked
from featurekit.project.site.write import write_site

ROOT = Path(__file__).parents[2]
RETAIL = ROOT.parent / "shared" / "data" / "online_retail.parquet"
AT = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)


@feature
def amount(quantity: int, price: float) -> float:
    """What a line is worth."""
    return quantity * price


@feature
def is_dear(amount: float) -> bool:
    """Whether a line is worth much."""
    return amount > 10.0


@feature
def only_first(kind: str, note: str) -> str:
    """Reads one of its two parameters."""
    return kind


@feature
def age_s(seen_at: dt.datetime, as_of: dt.datetime) -> float:
    """Seconds since a column's instant."""
    return (as_of - seen_at).total_seconds()


@feature
def share(basket: float, spend: float) -> float:
    """A request field against a feature."""
    return basket / spend if spend > 0.0 else 0.0


SCHEMA = {
    "k": int,
    "id": str,
    "op": str,
    "rev": int,
    "quantity": int,
    "price": float,
    "kind": str,
    "note": str,
    "seen_at": dt.datetime,
}


def definitions(path: str) -> list[Any]:
    """Views with every way in which a column may reach a feature."""
    lines = EventSource(
        "lines",
        path=path,
        schema=SCHEMA,
        timestamp_field="at",
        created_timestamp_column="came",
        event_id="id",
        op="op",
        sequence="rev",
        dedupe_within="365d",
    )
    customer = Entity("customer", {"k": int})
    rows = FeatureView(
        "rows",
        entities=[customer],
        source=lines,
        features={"amount": amount, "kind": "kind", "first": only_first, "age": age_s},
        ttl="300d",
    )
    upper = FeatureView(
        "upper",
        entities=[customer],
        source=lines,
        features={"amount": amount, "kind": "kind"},
        ttl="300d",
    )
    windows = FeatureView(
        "windows",
        entities=[customer],
        source=upper,
        features={
            "spend": Sum("amount", window="90d", default=0.0),
            "dear": Count(window="90d", where=is_dear),
            "kinds": CountDistinct("kind", window="90d"),
            "last": Last("kind", window="90d"),
        },
    )
    service = FeatureService("service", features=[rows, windows, share], request={"basket": float})
    return [service]


EXPECTED = {
    "rows:amount": {"quantity": "value", "price": "value"},
    "rows:kind": {"kind": "value"},
    "rows:first": {"kind": "value", "note": "unread"},
    "rows:age": {"seen_at": "value"},
    "windows:spend": {"quantity": "value", "price": "value"},
    "windows:dear": {"quantity": "filter", "price": "filter"},
    "windows:kinds": {"kind": "value"},
    "windows:last": {"kind": "value"},
    "service:share": {"quantity": "value", "price": "value"},
}
SHARED = {"k": "key", "at": "time", "came": "time", "id": "id", "op": "correction"}
ORDERED = {name for name in EXPECTED if name.startswith("rows:")} | {"windows:last"}


def graph() -> Lineage:
    return FeatureStore(definitions=definitions("lines.parquet")).lineage()


def found_id(name: str) -> str:
    return f"{'answer' if name.startswith(('service:', 'offer_v1:')) else 'feature'}:{name}"


def roles(found: Lineage, name: str) -> dict[str, str]:
    """For each column the strongest role that it plays for a feature."""
    made: dict[str, str] = {}
    for reach in found.reaching[found_id(name)]:
        column = reach.column.partition(".")[2]
        if reach.column.startswith("column:") and reach.role != "tie":
            made.setdefault(column, reach.role)
    return made


def test_every_role_is_told() -> None:
    found = graph()
    assert {n.name for n in found.of_kind("feature")} == {*EXPECTED}
    for name, own in EXPECTED.items():
        order = {"rev": "order"} if name in ORDERED else {}
        assert roles(found, name) == own | SHARED | order, name


def test_ties_are_told_of_ordered_features_alone() -> None:
    found = graph()
    ties = {r.feature.partition(":")[2] for r in found.reaches if r.role == "tie"}
    assert ties == ORDERED


def test_a_column_goes_through_the_transforms_of_chained_views() -> None:
    found = graph()
    (way,) = [
        r for r in found.reaching["feature:windows:dear"] if r.column == column_id("lines", "price")
    ]
    assert [found.nodes[t].name for t in way.through] == ["amount", "is_dear"]
    (request,) = [
        r for r in found.reaching["answer:service:share"] if r.column.startswith("request:")
    ]
    assert (request.column, request.role) == ("request:service.basket", "value")


def test_above_and_below_are_parts_of_the_graph() -> None:
    found = graph()
    below = found.below(column_id("lines", "seen_at"))
    assert {found.nodes[i].name for i in below if i.startswith(("feature", "service:"))} >= {
        "rows:age",
        "service",
    }
    assert "feature:windows:spend" not in {
        e.target for e in found.without_ties().edges if e.source == column_id("lines", "seen_at")
    }
    above = found.above("feature:windows:kinds")
    assert column_id("lines", "price") not in above


# --- by experiment --------------------------------------------------------------------------------


def events() -> pa.Table:
    n = 60
    at = [AT - dt.timedelta(days=1 + i % 20, minutes=i) for i in range(n)]
    return pa.table(
        {
            "k": pa.array([i % 3 for i in range(n)], pa.int64()),
            "id": [f"e{i // 2 if i % 5 == 0 else i}" for i in range(n)],
            "op": ["delete" if i % 11 == 10 else "upsert" for i in range(n)],
            "rev": pa.array([i % 4 for i in range(n)], pa.int64()),
            "quantity": pa.array([i % 7 for i in range(n)], pa.int64()),
            "price": [1.25 * (i % 9) for i in range(n)],
            "kind": [f"kind{i % 6}" for i in range(n)],
            "note": [f"note{i}" for i in range(n)],
            "seen_at": pa.array(at, pa.timestamp("us", "UTC")),
            "at": pa.array(at, pa.timestamp("us", "UTC")),
            "came": pa.array(
                [t + dt.timedelta(hours=i % 3) for i, t in enumerate(at)],
                pa.timestamp("us", "UTC"),
            ),
        }
    )


def changed(column: pa.ChunkedArray, name: str) -> pa.Array:
    """Other values of the same type."""
    values = column.to_pylist()
    match values[0]:
        case int():
            made = [v + 1 + i % 2 for i, v in enumerate(values)]
        case float():
            made = [v * 3.0 + 1.0 for v in values]
        case dt.datetime():
            made = [v - dt.timedelta(days=20 * (1 + i % 4)) for i, v in enumerate(values)]
        case _ if name == "op":
            made = ["upsert"] * len(values)
        case _:
            made = [f"{v}{i % 4}" for i, v in enumerate(values)]
    return pa.array(made, column.type)


def answers(folder: Path, table: pa.Table) -> dict[str, list[Any]]:
    """Each feature's values for every entity."""
    folder.mkdir()
    pq.write_table(table, folder / "lines.parquet")
    store = FeatureStore(definitions=definitions(str(folder / "lines.parquet")))
    labels = [{"k": k, "event_timestamp": AT, "basket": 5.0} for k in range(5)]
    made = store.get_historical_features(labels, "service").to_pylist()
    return {name: [row[name.partition(":")[2]] for row in made] for name in EXPECTED}


def test_a_changed_column_touches_the_features_that_impact_names_and_no_other(
    tmp_path: Path,
) -> None:
    table = events()
    before = answers(tmp_path / "before", table)
    store = FeatureStore(definitions=definitions("lines.parquet"))
    moved: dict[str, set[str]] = {}
    for name in table.column_names:
        other = table.set_column(table.column_names.index(name), name, changed(table[name], name))
        after = answers(tmp_path / name, other)
        moved[name] = {f for f in EXPECTED if repr(before[f]) != repr(after[f])}
        told = {f.feature for f in store.impact(f"lines.{name}").features}
        assert moved[name] <= told, name
    # The experiment shows something: what gives a value changes it.
    assert moved["price"] == {"rows:amount", "windows:spend", "windows:dear", "service:share"}
    assert moved["seen_at"] == {"rows:age"}
    assert moved["note"] == set()
    assert all(moved[name] for name in ("k", "at", "came", "id", "op", "quantity", "kind"))


# --- the shop and its data ------------------------------------------------------------------------


def shop() -> Lineage:
    repo = load_repo(ROOT / "feature_repo")
    return lineage_of(repo.compiled_views.values(), repo.compiled_services.values())


def test_the_shop_s_features_are_made_of_these_columns() -> None:
    found = shop()
    assert roles(found, "product_sales:mean_price_30d") == {
        "unit_price": "value",
        "stock_code": "filter",
        "quantity": "filter",
        "invoice_date": "time",
    }
    assert roles(found, "product_price:price_band") == {
        "list_price": "value",
        "stock_code": "key",
        "effective_from": "time",
        "recorded_at": "time",
        "revision": "order",
    }
    assert roles(found, "offer_v1:discount")["list_price"] == "value"


@pytest.mark.skipif(not RETAIL.exists(), reason=f"no {RETAIL.name} beside the checkout")
def test_the_impact_on_training_sets_of_the_real_data(tmp_path: Path) -> None:
    lines = EventSource(
        "retail",
        path=str(RETAIL),
        schema={"invoice_no": str, "quantity": int, "unit_price": float, "customer_id": int | None},
        timestamp_field="invoice_date",
        timezone="Europe/London",
    )

    @feature
    def worth(quantity: int, unit_price: float) -> float:
        return quantity * unit_price

    view = FeatureView(
        "orders",
        entities=[Entity("customer", {"customer_id": int})],
        source=lines,
        features={
            "spend": Sum(worth, window="30d"),
            "n": CountDistinct("invoice_no", window="30d"),
        },
    )
    store = FeatureStore(definitions=[FeatureService("retail_v1", features=[view])])
    at = dt.datetime(2011, 9, 1, tzinfo=dt.UTC)
    labels = [{"customer_id": 12347, "event_timestamp": at}]
    store.get_historical_features(labels, "retail_v1").to_parquet(tmp_path / "train.parquet")
    found = store.impact("retail.unit_price", manifests=[tmp_path])
    assert [(f.feature, f.roles, f.through) for f in found.features] == [
        ("orders:spend", ("value",), ("worth",))
    ]
    (made,) = found.training_sets
    assert (made.service, made.rows, made.features) == ("retail_v1", 1, ("orders:spend",))
    whole = store.lineage(manifests=[tmp_path])
    (node,) = whole.of_kind("training set")
    assert column_id("retail", "unit_price") in whole.above(node.id)


# --- versions that are served, and old training sets ----------------------------------------------


def test_versions_that_are_fed_are_asked_by_what_they_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(events(), folder / "lines.parquet")
    path = str(folder / "lines.parquet")
    store = FeatureStore(definitions=definitions(path))
    assert store.impact("lines.price").asked_online is False
    store.apply()
    store.materialize(AT)
    labels = [{"k": 1, "event_timestamp": AT, "basket": 5.0}]
    store.get_historical_features(labels, "service").to_parquet(tmp_path / "old.parquet")
    found = store.impact("lines.price")
    assert [(v.state, v.features) for v in found.versions] == [
        ("live", ("rows:amount", "windows:spend", "service:share", "windows:dear"))
    ]
    other = definitions(path)[0]
    rows, windows, _ = other.features
    fewer = FeatureView(
        "rows", entities=rows.entities, source=rows.source, features={"kind": "kind"}, ttl="300d"
    )
    store.apply([FeatureService("service", features=[fewer, windows])], allow_breaking=True)
    now = store.impact("lines.price", manifests=[tmp_path / "old.parquet.manifest.json"])
    assert [f.feature for f in now.features if not f.only_ties] == ["windows:spend", "windows:dear"]
    before = found.versions[0]
    assert next((v.state, v.fingerprint, v.features) for v in now.versions) == (
        "live", before.fingerprint, before.features,
    )  # fmt: skip
    assert [(v.state, v.features) for v in now.versions][1:] == [
        ("next", ("windows:spend", "windows:dear"))
    ]
    assert now.training_sets[0].features == before.features


def test_a_model_is_made_of_what_its_version_has(tmp_path: Path) -> None:
    path = str(tmp_path / "lines.parquet")
    pq.write_table(events(), path)
    store = FeatureStore(definitions=definitions(path))
    store.apply()
    store.materialize(AT)
    labels = [{"k": 1, "event_timestamp": AT, "basket": 5.0}]
    store.get_historical_features(labels, "service").to_parquet(tmp_path / "old.parquet")
    manifests = [tmp_path / "old.parquet.manifest.json"]
    (first,) = store.impact("lines.price").versions
    version = f"service@{first.fingerprint}"
    for name in ("models:/churn/3", "models:/churn/4", "a dashboard"):
        store.pin(version, by=name)
    assert made_of(store, "models:/churn/3") == {"service:service"}
    assert [node.name for node in store.lineage().of_kind("model")] == [
        "models:/churn/3", "models:/churn/4",
    ]  # fmt: skip
    (trained,) = made_of(store, "models:/churn/3", manifests)
    assert trained == f"training set:{manifests[0]}"
    whole = store.lineage(manifests=manifests)
    assert column_id("lines", "price") in whole.above("model:models:/churn/3")
    picture = svg(whole, label="all")
    assert picture.index("old.parquet") < picture.index("models:/churn/3")

    rows, windows, _ = definitions(path)[0].features
    fewer = FeatureView(
        "rows", entities=rows.entities, source=rows.source, features={"kind": "kind"}, ttl="300d"
    )
    store.apply([FeatureService("service", features=[fewer, windows])], allow_breaking=True)
    store.materialize(AT)
    # The service is another one now; these features are those that the models learnt from.
    names = {store.lineage().nodes[id_].name for id_ in made_of(store, "models:/churn/3")}
    assert names == {"rows:kind", "windows:spend", "windows:dear", "windows:kinds", "windows:last"}
    assert "service:service" not in store.lineage().above("model:models:/churn/3")
    told = {v.fingerprint: v for v in store.impact("lines.price").versions}
    assert told[first.fingerprint].needed_by == (
        "a dashboard",
        "models:/churn/3",
        "models:/churn/4",
    )
    assert [v.needed_by for f, v in told.items() if f != first.fingerprint] == [()]


def test_a_version_that_a_pin_alone_keeps_is_touched(tmp_path: Path) -> None:
    path = str(tmp_path / "lines.parquet")
    pq.write_table(events(), path)
    store = FeatureStore(definitions=definitions(path))
    store.apply()
    store.materialize(AT)
    (first,) = store.impact("lines.price").versions
    store.pin(f"service@{first.fingerprint}", by="models:/churn/3")
    rows, windows, _ = definitions(path)[0].features
    for column in ("kind", "note"):
        fewer = FeatureView(
            "rows", entities=rows.entities, source=rows.source, features={column: column},
            ttl="300d",
        )  # fmt: skip
        store.apply([FeatureService("service", features=[fewer, windows])], allow_breaking=True)
        store.materialize(AT)
    states = {v.state: v for v in store.impact("lines.price").versions}
    assert states["pinned"].fingerprint == first.fingerprint
    assert states["pinned"].features == first.features
    assert states["pinned"].needed_by == ("models:/churn/3",)


def made_of(store: FeatureStore, model: str, manifests: Sequence[Path] = ()) -> set[str]:
    edges = store.lineage(manifests=manifests).edges
    return {edge.source for edge in edges if edge.target == f"model:{model}"}


def test_a_training_set_of_an_unknown_version_is_told_by_its_source(tmp_path: Path) -> None:
    store = FeatureStore(definitions=definitions("lines.parquet"))
    manifest = {
        "service": "gone", "fingerprint": "0" * 32, "features": {}, "known_at": None,
        "sources": {"lines": {}}, "rows": 3, "content_hash": "", "labels": {},
    }  # fmt: skip
    path = tmp_path / "x.parquet.manifest.json"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    (found,) = store.impact("lines.price", manifests=[tmp_path]).training_sets
    assert (found.service, found.features) == ("gone", None)


def test_wrong_names_and_manifests_are_errors(tmp_path: Path) -> None:
    store = FeatureStore(definitions=definitions("lines.parquet"))
    with pytest.raises(DefinitionError, match=r"no source has the column 'lines\.prise'.*price"):
        store.impact("lines.prise")
    with pytest.raises(DefinitionError, match="no feature, service or column is named 'windos'"):
        store.lineage("windos")
    with pytest.raises(DataError, match=r"no file there ends in \.manifest\.json"):
        store.lineage(manifests=[tmp_path])
    broken = tmp_path / "a.manifest.json"
    for text in ("[]", "{}", '{"features": 3}', "\x00"):
        broken.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match="manifest"):
            store.lineage(manifests=[broken])


# --- pictures and the command line ----------------------------------------------------------------

HOSTILE = "</script><img src=x onerror=alert(1)>'\"&"


def test_hostile_names_are_no_markup_in_a_picture() -> None:
    source = EventSource(
        "s", path="s.parquet", schema={"k": int, HOSTILE: str}, timestamp_field="at"
    )
    view = FeatureView(
        "v", entities=[Entity("e", {"k": int})], source=source, features={"x": HOSTILE}, ttl="1d"
    )
    store = FeatureStore(definitions=[FeatureService("f", features=[view])])
    made = svg(store.lineage(), label=HOSTILE, alone=True)
    assert "<img" not in made
    assert "</script>" not in made
    assert made.count("&lt;img") >= 2


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["--repo", str(ROOT / "feature_repo"), *argv])
    return code, capsys.readouterr().out


def test_lineage_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "lineage", "units_sold_7d")
    assert code == 0
    assert [
        "order_lines.unit_price",
        "filter",
        "is_sale_of_goods",
        "product_sales:units_sold_7d",
    ] in [re.split(r"\s{2,}", line.strip()) for line in out.splitlines()]
    made = tmp_path / "l.svg", tmp_path / "l.html"
    argv = ["lineage", "checkout_v1", "--svg", str(made[0]), "--html", str(made[1]), "--json"]
    code, out = run(capsys, *argv)
    found = json.loads(out)
    assert (code, found["asked"]) == (0, "checkout_v1")
    assert {n["kind"] for n in found["nodes"]} == {
        "column", "request", "transform", "feature", "service",
    }  # fmt: skip
    assert {
        "column": "order_lines.quantity",
        "feature": "checkout_v1:basket_vs_habit",
        "role": "value",
        "through": ["amount", "basket_vs_habit"],
    } in found["columns"]
    assert made[0].read_text(encoding="utf-8").startswith("<svg xmlns=")
    assert "customer_orders:spend_30d" in made[1].read_text(encoding="utf-8")
    assert run(capsys, "lineage", "--svg", str(tmp_path / "none" / "x.svg"))[0] == 2


def test_impact_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "impact", "price_list.list_price", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["services"] == ["offer_v1"]
    assert [f["feature"] for f in found["features"] if f["roles"] != ["tie"]] == [
        "product_price:list_price",
        "product_price:price_band",
        "offer_v1:discount",
    ]
    code, out = run(capsys, "impact", "order_lines.description")
    assert code == 0
    assert "it decides also for" in out
    assert run(capsys, "impact", "order_lines.desc")[0] == 2


# --- unions and exploded lists --------------------------------------------------------------------


def test_a_union_reaches_the_columns_of_each_of_its_sources(tmp_path: Path) -> None:
    @feature
    def doubled(price: float) -> float:
        return price * 2.0

    web = EventSource(
        "web", path="w.parquet", schema={"k": int, "price": float, "n": int}, timestamp_field="at",
        created_timestamp_column="came", sequence="n",
    )  # fmt: skip
    app = EventSource(
        "app", path="a.parquet", schema={"user": int, "cost": float}, timestamp_field="when",
        created_timestamp_column="seen",
    )  # fmt: skip
    view = FeatureView(
        "both",
        entities=[Entity("e", {"k": int})],
        sources=[web, {app: {"k": "user", "price": "cost"}}],
        features={"spend": Sum(doubled, window="1d"), "last": Last("price", window="1d")},
    )
    store = FeatureStore(definitions=[FeatureService("f", features=[view])])
    found = store.lineage()
    own = {(r.column.partition(":")[2], r.role) for r in found.reaching["feature:both:spend"]}
    assert own == {
        ("web.price", "value"), ("app.cost", "value"), ("web.k", "key"), ("app.user", "key"),
        ("web.at", "time"), ("app.when", "time"), ("web.came", "time"), ("app.seen", "time"),
    }  # fmt: skip
    orders = {r.column.partition(":")[2] for r in found.reaching["feature:both:last"]
              if r.role == "order"}  # fmt: skip
    assert orders == {"web.n"}
    assert {n.details["source"] for n in found.of_kind("column")} == {"web", "app"}
    (touched,) = [f for f in store.impact("app.cost").features if f.feature == "both:spend"]
    assert (touched.roles, touched.through) == (("value",), ("doubled",))
    write_site(store.parts, tmp_path / "site", Asked())
    page = (tmp_path / "site" / "feature" / "both.spend.html").read_text(encoding="utf-8")
    assert "../source/web.html" in page
    assert "../source/app.html" in page
    assert {p.name for p in (tmp_path / "site" / "source").iterdir()} == {"web.html", "app.html"}


def test_an_exploded_list_is_what_its_elements_come_from() -> None:
    source = EventSource(
        "orders", path="o.parquet", schema={"k": int, "articles": list[str]}, timestamp_field="at"
    )
    view = FeatureView(
        "bought",
        entities=[Entity("article", {"articles": str})],
        source=source,
        explode="articles",
        features={"n": CountDistinct("k", window="1d"), "last": Last("k", window="1d")},
    )
    found = FeatureStore(definitions=[FeatureService("f", features=[view])]).lineage()
    own = [(r.column, r.role) for r in found.reaching["feature:bought:n"]]
    assert own == [
        ("column:orders.k", "value"),
        ("column:orders.articles", "key"),
        ("column:orders.at", "time"),
    ]
    assert {n.name for n in found.of_kind("column")} == {"orders.k", "orders.articles", "orders.at"}
