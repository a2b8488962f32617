"""What is served is compared with what a model was trained on, and with what was served before."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import CHROMIUM, browser
from prometheus_client.parser import text_string_to_metric_families

from featurekit.aggregates.quantiles import bucket
from featurekit.cli import main
from featurekit.core.types import FLOAT, INT, STR, Type, list_of
from featurekit.errors import ArgumentError, ConfigError, DataError
from featurekit.log.served.block import (
    PREDICTED,
    ROUTED,
    SHADOW,
    ServedBlock,
    ServedHead,
)
from featurekit.monitor.drift.judge import Thresholds
from featurekit.monitor.drift.metrics import GAUGES
from featurekit.monitor.drift.page import page, write_page
from featurekit.monitor.drift.report import drift_between
from featurekit.monitor.drift.samples import Window, windows
from featurekit.online.store.server import scratch_redis
from featurekit.store import FeatureStore

MODULE = """
import datetime as dt
from typing import Literal
from featurekit import Entity, EventSource, FeatureService, FeatureView, Vector, feature
from featurekit.aggregates import Count, LastN, Sum, ValueCounts

customer = Entity("customer", {"customer": int})
orders = EventSource(
    "orders", path="data/orders.parquet", timestamp_field="at",
    schema={"customer": int, "amount": float, "country": Literal["DE", "FR", "IT"], "word": str,
            "raw": bytes, "day": dt.date, "when": dt.datetime, "took": dt.timedelta, "yes": bool,
            "point": Vector[2], "many": list[float]},
)
spent = FeatureView("spent", entities=[customer], source=orders, features={
    "total": Sum("amount", window="7d"), "orders": Count(window="7d")})
latest = FeatureView("latest", entities=[customer], source=orders, ttl="30d",
                     features={"country": "country"})

@feature
def share(total: float | None, basket: float) -> float | None:
    if total is None:
        return None
    return basket / total

service = FeatureService("service", features=[spent, latest, share], request={"basket": float})

wide = FeatureView("wide", entities=[customer], source=orders, ttl="30d", features={
    "country": "country", "word": "word", "raw": "raw", "day": "day", "when": "when",
    "took": "took", "yes": "yes", "point": "point", "many": "many"})
kinds = FeatureView("kinds", entities=[customer], source=orders, features={
    "countries": ValueCounts("country", window="7d"), "amounts": LastN("amount", n=2, window="7d")})
every_type = FeatureService("every_type", features=[wide, kinds])
"""
CONFIG = """
project: drift
online_store: {{type: redis}}
featurekit:
  redis_url: {url}
  serving_log: {{to: parquet}}
"""
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DAY = dt.timedelta(days=1)


def events(rng: random.Random, n: int = 4_000) -> pa.Table:
    return pa.table(
        {
            "customer": pa.array([rng.randrange(600) for _ in range(n)], pa.int64()),
            "amount": pa.array([rng.lognormvariate(3, 1) for _ in range(n)], pa.float64()),
            "country": [rng.choice(["DE", "DE", "FR", "IT"]) for _ in range(n)],
            "word": ["x"] * n,
            "raw": [b"x"] * n,
            "day": [dt.date(2026, 1, 1)] * n,
            "when": pa.array([NOW] * n, pa.timestamp("us", "UTC")),
            "took": pa.array([DAY] * n, pa.duration("us")),
            "yes": [True] * n,
            "point": pa.array([[0.5, 1.0]] * n, pa.list_(pa.float32())),
            "many": [[0.1, math.nan]] * n,
            "at": pa.array(
                [NOW - dt.timedelta(seconds=rng.randrange(3_600, 7 * 86_400)) for _ in range(n)],
                pa.timestamp("us", "UTC"),
            ),
        }
    )


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Iterator[Path]:
    """A repo that is filled, and its Redis."""
    folder = tmp_path_factory.mktemp("drift")
    (folder / "definitions.py").write_text(MODULE)
    (folder / "data").mkdir()
    pq.write_table(events(random.Random(1)), folder / "data" / "orders.parquet")
    with scratch_redis() as url:
        (folder / "feature_store.yaml").write_text(CONFIG.format(url=url))
        with FeatureStore(folder) as store:
            store.apply()
            store.materialize()
        yield folder


def asked(rng: random.Random, n: int, stretch: float = 1.0) -> list[dict[str, Any]]:
    return [
        {"customer": rng.randrange(600), "basket": stretch * rng.lognormvariate(2, 1)}
        for _ in range(n)
    ]


def serve(repo: Path, rows: list[dict[str, Any]], service: str = "service") -> dt.datetime:
    """Ask for rows, and give the instant after the last answer."""
    with FeatureStore(repo) as store:
        for at in range(0, len(rows), 500):
            store.get_online_features(service, rows[at : at + 500])
    return dt.datetime.now(dt.UTC) + dt.timedelta(microseconds=1)


def trained(repo: Path, rng: random.Random, n: int = 4_000) -> Any:
    """The contract of a training set of entities as they are asked online."""
    frame = [{**row, "event_timestamp": NOW} for row in asked(rng, n)]
    with FeatureStore(repo) as store:
        return store.get_historical_features(pa.Table.from_pylist(frame), "service").contract()


@pytest.fixture(scope="module")
def calm(repo) -> tuple[dt.datetime, dt.datetime, dt.datetime]:
    """The borders of two windows: rows of one distribution, and then of another."""
    began = dt.datetime.now(dt.UTC)
    middle = serve(repo, asked(random.Random(2), 3_000))
    return began, middle, serve(repo, asked(random.Random(3), 3_000, stretch=20.0))


def window(start: dt.datetime, end: dt.datetime) -> dict[str, Any]:
    return {"window": end - start, "end": end}


def test_what_is_served_as_trained_is_steady_and_another_basket_drifts(repo, calm):
    began, middle, end = calm
    contract = trained(repo, random.Random(4))
    with FeatureStore(repo) as store:
        same = store.drift("service", contract, **window(began, middle))
        other = store.drift("service", contract, **window(middle, end))
    assert (same.rows, same.reference_rows, same.drifting) == (3_000, 4_000, [])
    assert {f.measure for f in same.figures if f.feature == "latest__country"} == {
        "psi", "jensen_shannon", "chi_squared", "null_share", "error_share"}  # fmt: skip
    assert other.drifting == ["share"]
    assert {f.measure for f in other.figures if f.verdict == "drift"} == {"psi"}


def test_a_window_is_compared_with_the_one_before_it(repo, calm):
    began, middle, end = calm
    with FeatureStore(repo) as store:
        found = store.drift("service", middle - began, **window(middle, end))
    assert found.reference_rows == found.rows == 3_000
    assert found.drifting == ["share"]
    assert {f.feature for f in found.figures} > {"age of spent", "age of latest", "spent__total"}


def test_the_figures_are_those_of_the_raw_values(repo, calm):
    """The log's own files, read by Arrow, give the same counts as the windows."""
    began, middle, end = calm
    stats = pytest.importorskip("scipy.stats", reason="needs SciPy, to compare with")
    with FeatureStore(repo) as store:
        found = store.drift("service", middle - began, **window(middle, end))
    log = pa.concat_tables(map(pq.read_table, sorted((repo / ".featurekit/served").glob("*"))))
    served = log["served_at"].to_pylist()
    values = log["value"].combine_chunks().field("share").to_pylist()
    both = ([], [])
    for at, value in zip(served, values, strict=True):
        if value is not None:
            both[at >= middle].append(value)
    figures = {f.measure: f for f in found.figures if f.feature == "share"}
    nulls = [values[i] is None for i in range(len(values))]
    shares = [
        sum(n for n, at in zip(nulls, served, strict=True) if (at >= middle) == later) / 3_000
        for later in (False, True)
    ]
    assert figures["null_share"].value == abs(shares[1] - shares[0])
    apart, moved = figures["kolmogorov_smirnov"], figures["wasserstein"]
    want = stats.ks_2samp(*both).statistic
    assert abs(apart.value - want) <= apart.bound + 1e-12
    assert abs(moved.value - stats.wasserstein_distance(*both)) <= moved.bound + 1e-9


def test_a_manifest_stands_for_its_training_set(repo, calm, tmp_path):
    began, middle, _ = calm
    frame = [{**row, "event_timestamp": NOW} for row in asked(random.Random(4), 4_000)]
    with FeatureStore(repo) as store:
        made = store.get_historical_features(pa.Table.from_pylist(frame), "service")
        made.to_parquet(tmp_path / "train.parquet")
        found = store.drift(
            "service", tmp_path / "train.parquet.manifest.json", **window(began, middle)
        )
        again = store.drift("service", made.contract(), **window(began, middle))
    assert found.to_dict() == again.to_dict()


def test_by_command_a_manifest_stands_for_its_training_set(repo, calm, tmp_path, capsys):
    began, middle, end = calm
    frame = [{**row, "event_timestamp": NOW} for row in asked(random.Random(4), 2_000)]
    pq.write_table(pa.Table.from_pylist(frame), tmp_path / "labels.parquet")
    train = tmp_path / "train.parquet"
    given = ["--repo", str(repo), "get-historical", "service", str(tmp_path / "labels.parquet")]
    assert main([*given, "-o", str(train)]) == 0
    capsys.readouterr()
    reference = ("service", "--reference", f"{train}.manifest.json")
    code, out, _ = run(repo, capsys, "--json", *reference, *words(began, middle))
    told = json.loads(out)
    assert (code, told["drifting"], told["reference_rows"], told["rows"]) == (0, [], 2_000, 3_000)
    code, out, _ = run(repo, capsys, "--json", *reference, *words(middle, end))
    assert (code, json.loads(out)["drifting"]) == (1, ["share"])


def test_by_command_evidently_is_asked_of_the_same_rows(repo, calm, tmp_path, capsys):
    pytest.importorskip(
        "evidently", reason="needs Evidently: ./run pytest --evidently tests/monitor"
    )
    began, middle, end = calm
    frame = [{**row, "event_timestamp": NOW} for row in asked(random.Random(4), 1_500)]
    with FeatureStore(repo) as store:
        made = store.get_historical_features(pa.Table.from_pylist(frame), "service")
        made.to_parquet(tmp_path / "train.parquet")
        made.contract().save(tmp_path / "churn.contract.json")
    page = tmp_path / "evidently.html"
    before = f"{(middle - began) // dt.timedelta(microseconds=1)}us"
    manifest = str(tmp_path / "train.parquet.manifest.json")
    for reference, ages in ((before, {"age of spent", "age of latest"}), (manifest, set())):
        given = ("service", "--reference", reference, *words(middle, end))
        code, out, _ = run(repo, capsys, "--json", *given, "--evidently", str(page))
        told = json.loads(out)
        assert (code, told["drifting"]) == (1, ["share"])
        names = {"spent__total", "spent__orders", "latest__country", "share", *ages}
        assert {f["feature"] for f in told["evidently"]} == names
        moved = {f["feature"]: f["value"] for f in told["evidently"]}["share"]
        assert moved > 1.0
        code, out, _ = run(repo, capsys, "--json", *given)
        assert {**json.loads(out), "evidently": told["evidently"]} == told
        assert "share" in page.read_text()
        page.unlink()
    code, out, _ = run(repo, capsys, *given, "--evidently", str(page))
    assert "Evidently, by its own defaults:" in out
    assert "Wasserstein distance (normed)" in out


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--reference", "7d", "--profiles"], "profiles have none"),
        (["--reference", "CONTRACT"], "write the manifest of its training set"),
        (["--reference", "7d", "--evidently", "gone/page.html"], "there is no folder gone"),
    ],
)
def test_what_evidently_cannot_be_asked_of_is_an_error(
    repo, calm, tmp_path, capsys, monkeypatch, given, told
):
    monkeypatch.setattr("featurekit.monitor.drift.evidently.find_spec", lambda name: name)
    began, middle, _ = calm
    trained(repo, random.Random(4), 100).save(tmp_path / "churn.contract.json")
    given = [str(tmp_path / "churn.contract.json") if w == "CONTRACT" else w for w in given]
    page = ["--evidently", str(tmp_path / "page.html")]
    code, _, err = run(repo, capsys, "service", *page, *given, *words(began, middle))
    assert code == 2
    assert told in " ".join(err.split())
    assert not (tmp_path / "page.html").exists()


def test_evidently_is_loaded_only_where_it_is_asked(repo, calm):
    """Nothing of it is imported by a comparison without it, in a process of its own."""
    began, middle, _ = calm
    code = (
        "import sys; from featurekit.cli import main; main(sys.argv[1:]); "
        "sys.exit(any(name.split('.')[0] == 'evidently' for name in sys.modules) * 9)"
    )
    given = ["--repo", str(repo), "monitor", "drift", "service", "--reference", "7d"]
    done = subprocess.run(
        [sys.executable, "-c", code, *given, *words(began, middle)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "there is no row to compare" in done.stderr) == (0, True)


def test_another_type_and_a_feature_that_is_gone_drift(repo, calm, tmp_path):
    began, middle, _ = calm
    copy = tmp_path / "repo"
    shutil.copytree(repo, copy, ignore=shutil.ignore_patterns(".featurekit"))
    text = MODULE.replace('"orders": Count(window="7d")', '"orders": Sum("amount", window="1d")')
    text = text.replace('{"country": "country"}', '{"country": "country", "spent": "amount"}')
    (copy / "definitions.py").write_text(text)
    contract = trained(copy, random.Random(4))
    with FeatureStore(repo) as store:
        found = store.drift("service", contract, **window(began, middle))
    assert found.lacking == {
        "spent__orders": "float in the reference, and int served",
        "latest__spent": "float in the reference, and not served",
    }
    assert {*found.lacking} <= {*found.drifting}


def test_features_of_every_type_are_steady_where_nothing_changes(repo):
    began = dt.datetime.now(dt.UTC)
    rows = [{"customer": i % 600} for i in range(1_200)]
    middle = serve(repo, rows, "every_type")
    end = serve(repo, rows, "every_type")
    frame = pa.Table.from_pylist([{**row, "event_timestamp": NOW} for row in rows])
    with FeatureStore(repo) as store:
        contract = store.get_historical_features(frame, "every_type").contract()
        for reference in (contract, middle - began):
            found = store.drift("every_type", reference, **window(middle, end))
            assert (found.lacking, found.drifting, found.rows) == ({}, [], 1_200)
            names = {f"wide__{n}" for n in ("country", "word", "raw", "day", "when", "took", "yes",
                                            "point", "many")}  # fmt: skip
            assert {f.feature for f in found.figures} >= {
                *names, "kinds__countries", "kinds__amounts"}  # fmt: skip
            assert {f.value for f in found.figures} == {0.0} or reference is not contract


# --- the page -------------------------------------------------------------------------------------


def test_the_page_shows_what_drifts_first_and_escapes_names(repo, calm):
    began, middle, end = calm
    with FeatureStore(repo) as store:
        found = store.drift("service", middle - began, **window(middle, end))
    text = page(found)
    titles = re.findall(r"<h2 id='f\d+'>(.*?) <span class='badge (\w+)'>(.*?)<", text)
    assert titles[0] == ("share", "bad", "drifts")
    assert ("spent__total", "good", "steady") in titles
    assert len(titles) == len({f.feature for f in found.figures})
    shares = found.shapes["latest__country"]
    for name, was in zip(shares.names, shares.was.tolist(), strict=True):
        assert f"{name}: {was / shares.was.sum():.1%} before" in text
    hostile = replace(found, service="<script>", lacking={"<b>": "int & float"})
    assert "<script>" not in page(hostile)
    assert "<b>" not in page(hostile)
    assert "int &amp; float" in page(hostile)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_a_browser_shows_the_page_without_scrolling_sideways(repo, calm, tmp_path):
    began, middle, end = calm
    with FeatureStore(repo) as store:
        found = store.drift("service", middle - began, **window(middle, end))
    write_page(tmp_path / "drift.html", found)
    with browser(tmp_path) as shown:
        for width, dark in ((375, False), (1280, True)):
            shown.look(width, dark=dark)
            shown.go((tmp_path / "drift.html").as_uri())
            assert shown.run("document.documentElement.scrollWidth") <= width
            assert shown.run("document.querySelectorAll('svg rect').length") > 20
            assert shown.complaints() == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
def test_axe_finds_nothing_in_the_page(repo, calm, tmp_path):
    began, middle, end = calm
    with FeatureStore(repo) as store:
        found = store.drift("service", middle - began, **window(middle, end))
    write_page(tmp_path / "drift.html", replace(found, lacking={"gone": "int, and not served"}))
    with browser(tmp_path) as shown:
        for dark in (False, True):
            shown.look(1280, dark=dark)
            shown.go((tmp_path / "drift.html").as_uri())
            assert shown.barriers() == []


# --- the command ----------------------------------------------------------------------------------


def run(repo: Path, capsys, *words: str) -> tuple[int, str, str]:
    code = main(["--repo", str(repo), "monitor", "drift", *words])
    out, err = capsys.readouterr()
    return code, out, err


def words(start: dt.datetime, end: dt.datetime) -> list[str]:
    length = (end - start) // dt.timedelta(microseconds=1)
    return ["--window", f"{length}us", "--end", end.isoformat()]


def test_the_command_shows_the_figures_and_fails_on_drift(repo, calm, tmp_path, capsys):
    began, middle, end = calm
    path = tmp_path / "churn.contract.json"
    trained(repo, random.Random(4)).save(path)
    code, out, _ = run(repo, capsys, "service", "--reference", str(path), *words(began, middle))
    assert code == 0
    assert "0 of 4 features drift." in out
    junit, gauges = tmp_path / "drift.xml", tmp_path / "drift.prom"
    code, out, _ = run(
        repo,
        capsys,
        "service",
        "--reference",
        str(path),
        *words(middle, end),
        "--junit",
        str(junit),
        "--metrics-file",
        str(gauges),
    )
    assert code == 1
    assert "1 of 4 features drift: share." in out
    suite = ET.parse(junit).getroot()[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert (suite.get("tests"), failed) == ("4", ["share"])
    code, out, _ = run(
        repo, capsys, "--json", "service", "--reference", str(path), *words(middle, end)
    )
    assert code == 1
    told = json.loads(out)
    assert told["drifting"] == ["share"]
    assert_metrics(gauges.read_text(), told)


def assert_metrics(text: str, told: dict[str, Any]) -> None:
    """Metrics say what the document of a comparison says, and nothing else."""
    found = {
        (
            one.name.removeprefix("featurekit_drift_"),
            *(one.labels[n] for n in ("service", "feature", "measure", "side") if n in one.labels),
        ): one.value
        for metric in text_string_to_metric_families(text)
        for one in metric.samples
    }
    checked = found.pop(("last_check_timestamp_seconds", "service"))
    assert abs(checked - time.time()) < 600
    figures = told["figures"]
    end = dt.datetime.fromisoformat(told["end"]).timestamp()
    assert found == {
        ("rows", "service", "served"): told["rows"],
        ("rows", "service", "reference"): told["reference_rows"],
        ("window_end_timestamp_seconds", "service"): end,
        **{("drifting", "service", f["feature"]): f["feature"] == "share" for f in figures},
        **{("figure", "service", f["feature"], f["measure"]): f["value"] for f in figures},
        **{
            ("threshold", "service", f["feature"], f["measure"]): f["threshold"]
            for f in figures
            if f["threshold"] is not None
        },
    }


def test_docs_list_every_metric_of_drift() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert {*re.findall(r"`(featurekit_drift_\w+)`", page)} == {*GAUGES}


def test_a_file_of_metrics_that_cannot_be_written_is_an_error(repo, calm, tmp_path, capsys):
    path = tmp_path / "churn.contract.json"
    trained(repo, random.Random(4)).save(path)
    told = ["--metrics-file", str(tmp_path / "none" / "x.prom")]
    code, _, err = run(repo, capsys, "service", "--reference", str(path), *words(*calm[:2]), *told)
    assert code == 2
    assert "x.prom cannot be written" in err


def test_thresholds_are_those_of_the_repo(repo, calm, tmp_path):
    began, middle, end = calm
    copy = tmp_path / "repo"
    shutil.copytree(repo, copy)
    settings = copy / "feature_store.yaml"
    written = settings.read_text()
    for monitoring, drifting in (
        ("{features: {share: {psi: null}}}", []),
        ("{thresholds: {psi: 99}}", []),
        ("{thresholds: {psi: 99, kolmogorov_smirnov: 0.3}}", ["share"]),
    ):
        settings.write_text(f"{written}  monitoring: {monitoring}\n")
        with FeatureStore(copy) as store:
            found = store.drift("service", middle - began, **window(middle, end))
        assert found.drifting == drifting
    settings.write_text(f"{written}  monitoring: {{features: {{shared: {{psi: 1}}}}}}\n")
    with FeatureStore(copy) as store, pytest.raises(ConfigError, match="did you mean 'share'"):
        store.drift("service", "1d")
    settings.write_text(f"{written}  monitoring: {{thresholds: {{psy: 1}}}}\n")
    with pytest.raises(ConfigError, match="psy"):
        FeatureStore(copy)


@pytest.mark.usefixtures("calm")
def test_what_is_no_reference_is_refused(repo):
    with FeatureStore(repo) as store:
        with pytest.raises(ArgumentError, match="found 'last week'; write a feature contract"):
            store.drift("service", "last week")
        with pytest.raises(DataError, match=r"gone\.json: there is no such file"):
            store.drift("service", "gone.json")
        with pytest.raises(DataError, match="there is no row to compare"):
            store.drift("service", "1d", window="1d", end=NOW - 30 * DAY)
        with pytest.raises(DataError, match="there is no row to compare"):
            store.drift("no_service", "1d")
        contract = trained(repo, random.Random(4), 10)
        with pytest.raises(ArgumentError, match="of service 'service'"):
            store.drift("other", contract)


# --- windows --------------------------------------------------------------------------------------


def test_a_window_has_its_start_and_not_its_end():
    head = ServedHead("p", "s", "f" * 32, {}, ("v",), {}, {}, {"x": FLOAT.or_none()})
    block = ServedBlock(
        head,
        served_at=[9, 10, 29, 30],
        as_of=[9, 10, 29, 30],
        request=[0, 1, 2, 3],
        arrivals=[[1, None, 4, 5]],
        keys=[],
        fields=[],
        values=[[1.0, 2.0, None, 8.0]],
        statuses=[["PRESENT", "PRESENT", "ERROR", "PRESENT"]],
        until=[None],
    )
    window, before = Window(10, 30), Window(-10, 10)
    windows([block, block], "s", [before, window])
    windows([block], "another", [window])
    found = window.samples()
    assert (window.rows, window.versions) == (4, {"f" * 32: 4})
    assert (found["x"].rows, found["x"].null, found["x"].errors) == (4, 2, 2)
    assert found["x"].numbers.counts.tolist() == [2]
    age = found["age of v"]
    assert (age.rows, age.null, age.numbers.counts.tolist()) == (4, 2, [2])
    assert age.numbers.buckets.tolist() == [bucket(29.0 - 4.0)]
    assert before.rows == 2


def test_a_shadow_is_no_row_that_was_served_twice():
    head = ServedHead("p", "s", "f" * 32, {}, ("v",), {}, {}, {"x": FLOAT.or_none()}, PREDICTED)
    told = {"request_id": "r", "row": 0, "target": "t", "role": ROUTED, "answered": True,
            "prediction": "1", "error": None, "latency_us": 1, "model_version": None,
            "route": "t", "caller": ""}  # fmt: skip
    rows = [told, {**told, "role": SHADOW, "answered": False}]
    block = ServedBlock(
        head,
        served_at=[10, 11],
        as_of=[10, 11],
        request=[0, 0],
        arrivals=[[1, 1]],
        keys=[],
        fields=[],
        values=[[1.0, 1.0]],
        statuses=[["PRESENT", "PRESENT"]],
        until=[None],
        predicted=[[row[name] for row in rows] for name in PREDICTED],
    )
    window = Window(0, 100)
    windows([block], "s", [window])
    assert window.rows == window.samples()["x"].rows == 1


def block(
    version: str, keys: dict[str, Type], outputs: dict[str, Type], values: list
) -> ServedBlock:
    """Two rows of a version, whose keys are all alike."""
    head = ServedHead("p", "s", version * 32, {}, ("v",), keys, {}, outputs)
    return ServedBlock(
        head, served_at=[1, 2], as_of=[1, 2], request=[0, 1], arrivals=[[1, 1]],
        keys=[["a", "a"] for _ in keys], fields=[], values=values,
        statuses=[["PRESENT", "PRESENT"] for _ in outputs], until=[None],
    )  # fmt: skip


def test_a_window_over_two_versions_counts_the_same_in_either_order():
    """One of them calls its key otherwise, and gives `x` another type."""
    blocks = [
        block("a", {"k": STR}, {"v__x": INT, "v__y": INT}, [[1, 2], [3, 4]]),
        block("b", {"key": STR, "l": STR}, {"v__x": FLOAT, "v__y": INT}, [[1.0, 2.0], [3, 4]]),
    ]
    found = []
    for order in (blocks, blocks[::-1]):
        one = Window(0, 10, {"v": ("k",)})
        windows(order, "s", [one])
        found.append((one.rows, one.types, one.samples().keys(), one.samples()["v__y"].independent))
    assert found[0] == found[1]
    assert found[0][1] == {"v__x": "float and int", "v__y": "int", "age of v": "int"}
    assert found[0][2] == {"v__y", "age of v"}
    assert found[0][3] == pytest.approx(0.5)


def test_a_feature_of_two_types_or_of_one_side_alone_drifts():
    old, now = Window(0, 10), Window(0, 10)
    windows([block("a", {}, {"v__x": INT, "v__y": INT}, [[1, 2], [3, 4]])], "s", [old])
    both = [
        block("a", {}, {"v__x": INT, "v__y": INT}, [[1, 2], [3, 4]]),
        block("b", {}, {"v__x": FLOAT, "v__y": INT, "v__z": INT}, [[1.0, 2.0], [3, 4], [5, 6]]),
    ]
    windows(both, "s", [now])
    found = drift_between("s", [], old, now, Thresholds())
    assert found.lacking == {
        "v__x": "int in the reference, and float and int served",
        "v__z": "int served, and not in the reference",
    }
    assert found.drifting == ["v__x", "v__z"]


def test_lists_of_other_items_are_another_type():
    old, now = Window(0, 10), Window(0, 10)
    for one, type_ in ((old, INT), (now, FLOAT)):
        windows([block("a", {}, {"v__x": list_of(type_)}, [[[], []]])], "s", [one])
    found = drift_between("s", [], old, now, Thresholds())
    assert found.lacking == {"v__x": "list[int] in the reference, and list[float] served"}


def test_a_reference_from_the_log_names_no_value_of_few_entities() -> None:
    head = ServedHead("p", "s", "f", {}, (), {"k": INT.or_none()}, {}, {"v__town": STR.or_none()})
    rows = [(i, "Leeds") for i in range(11)] + [(17850, "Farawayville")] * 30
    window = Window(0, 10)
    window.take(
        ServedBlock(
            head,
            [5] * 41,
            [5] * 41,
            [0] * 41,
            [],
            [[k for k, _ in rows]],
            [],
            [[town for _, town in rows]],
            [["PRESENT"] * 41],
            [],
        )
    )
    assert window.samples()["v__town"].classes == {"Farawayville": 30, "Leeds": 11}
    assert window.samples(named=True)["v__town"].classes == {"Leeds": 11}
