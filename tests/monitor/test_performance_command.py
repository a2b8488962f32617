"""`featurekit monitor performance` with slices, fairness, references, classes, a page and JUnit."""

from __future__ import annotations

import datetime as dt
import json
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from browser import CHROMIUM, browser

from featurekit.cli import main
from featurekit.core.types import INT, STR, Type
from featurekit.log.served.block import PREDICTED, ROUTED, ServedBlock, ServedHead, encode
from featurekit.log.served.parquet import written
from featurekit.store import FeatureStore

metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn, which measures")

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Last

person = Entity("k", {"k": str})
visits = EventSource("visits", path="visits.parquet", timestamp_field="ts",
                     schema={"k": str, "land": str, "age": int, "score": float})
v = FeatureView("v", entities=[person], source=visits, features={
    "land": Last("land", window="30d"), "age": Last("age", window="30d"),
    "score": Last("score", window="30d")})
s = FeatureService("s", features=[v])
t = FeatureService("t", features=[v])
"""
CONFIG = """
project: performance
online_store: {type: redis}
featurekit:
  redis_url: redis://127.0.0.1:9/0
  serving_log: {to: parquet}
  monitoring:
    performance: {s: {log_loss: 9.0}}
    fairness: {s: {demographic_parity_difference: 0.1}}
"""
NOW = dt.datetime(2026, 1, 9, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
OUTPUTS: dict[str, Type] = {"v__land": STR.or_none(), "v__age": INT.or_none()}


def write_log(folder: Path, service: str, name: str, rows: list[dict[str, Any]]) -> None:
    head = ServedHead(
        "performance", service, "f" * 32, {}, ("v",), {"k": STR.or_none()}, {}, OUTPUTS,
        dict(PREDICTED),
    )  # fmt: skip
    told = {"row": 0, "target": "m@1", "role": ROUTED, "answered": True, "error": None,
            "latency_us": 1, "model_version": None, "route": "m@1", "caller": ""}  # fmt: skip
    predicted = [{**told, "request_id": r["id"], "prediction": json.dumps(r["p"])} for r in rows]
    n = len(rows)
    made = ServedBlock(
        head, [r["at"] for r in rows], [r["at"] for r in rows], list(range(n)), [[1] * n],
        [[r["k"] for r in rows]], [], [[r["land"] for r in rows], [r["age"] for r in rows]],
        [["PRESENT"] * n] * 2, [None], "p", 0,
        [[one[column] for one in predicted] for column in PREDICTED],
    )  # fmt: skip
    served = folder / ".featurekit" / "served"
    served.mkdir(parents=True, exist_ok=True)
    data = written(head, [b"".join(encode(made))], [{**made.about(), "rows": n}])
    (served / f"{name}.parquet").write_bytes(data)


def drawn(rng: random.Random, name: str, end: dt.datetime, turned: bool) -> list[dict[str, Any]]:
    """Rows of two lands, of which one is told a yes more often; what comes true is what was
    predicted, or where the concept has turned its contrary."""
    start = int((end - DAY / 2).timestamp() * 1e6)
    rows = []
    for i in range(1_200):
        land = ("here", "there")[i % 2]
        p = rng.random() * (1.0 if land == "here" else 0.55)
        came = rng.random() < (1 - p if turned else p)
        rows.append({"id": f"{name}{i}", "k": f"k{i % 300}", "at": start + i, "land": land,
                     "age": rng.randrange(18, 80), "p": p, "came": came})  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quiet day and, after it, one on which the concept has turned; and a day of classes."""
    folder = tmp_path_factory.mktemp("performance_command")
    (folder / "feature_store.yaml").write_text(CONFIG)
    (folder / "definitions.py").write_text(MODULE)
    rng = random.Random(4)
    days = [drawn(rng, "was", NOW - DAY, False), drawn(rng, "now", NOW, True)]
    classes = []
    for row in drawn(rng, "class", NOW, False):
        a = rng.random() / 2
        classes.append({**row, "p": [a, a / 2, 1 - 1.5 * a], "came": rng.choice("aabc")})
    for service, name, rows in (("s", "0", days[0]), ("s", "1", days[1]), ("t", "2", classes)):
        write_log(folder, service, name, rows)
        with FeatureStore(folder) as store:
            store.push_outcomes(service, [{"request_id": r["id"], "outcome": r["came"]}
                                          for r in rows])  # fmt: skip
    write_training(folder, days[0])
    return folder


def write_training(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Events that have the predictions of a day as a feature, and labels with what came true."""
    first = {row["k"]: row for row in reversed(rows)}
    at = NOW - 2 * DAY
    columns = {name: [r[name] for r in first.values()] for name in ("k", "land", "age")}
    pq.write_table(
        pa.table({**columns, "score": [r["p"] for r in first.values()],
                  "ts": pa.array([at] * len(first), pa.timestamp("us", "UTC"))}),
        folder / "visits.parquet",
    )  # fmt: skip
    pq.write_table(
        pa.table({"k": [*first], "event_timestamp": [at + DAY / 2] * len(first),
                  "came": [r["came"] for r in first.values()]}),
        folder / "labels.parquet",
    )  # fmt: skip


def run(repo: Path, capsys: Any, service: str, *words: str) -> tuple[int, str, str]:
    given = ["monitor", "performance", service, "--end", NOW.isoformat(), *words]
    code = main(["--repo", str(repo), *given])
    out, err = capsys.readouterr()
    return code, out, err


def document(repo: Path, capsys: Any, service: str, *words: str) -> tuple[int, dict[str, Any]]:
    code, out, err = run(repo, capsys, service, "--json", *words)
    assert out, err
    return code, json.loads(out)


def test_slices_are_those_of_the_rows(repo: Path, capsys: Any) -> None:
    by = ("--by", "v__land", "--by", "v__age=30,60")
    code, told = document(repo, capsys, "s", *by)
    assert code == 0
    found = {(one["by"], one["value"]): one["rows"] for one in told["slices"]}
    assert (found["v__land", "here"], found["v__land", "there"]) == (600, 600)
    of_age = {value: n for (name, value), n in found.items() if name == "v__age"}
    assert (len(of_age), sum(of_age.values())) == (3, 1_200)
    _, out, _ = run(repo, capsys, "s", *by)
    assert "By v__land:" in out
    assert "By v__age:" in out


def test_an_unfair_service_exits_with_one_and_junit_names_it(
    repo: Path, tmp_path: Path, capsys: Any
) -> None:
    junit = tmp_path / "performance.xml"
    code, told = document(repo, capsys, "s", "--by", "v__land", "--fairness", "--junit", str(junit))
    assert code == 1
    (one,) = [f for f in told["fairness"] if f["measure"] == "demographic_parity_difference"]
    assert (one["by"], one["verdict"], {one["least"], one["most"]}) == (
        "v__land", "worse", {"here", "there"})  # fmt: skip
    assert 0.3 < one["value"] < 0.5
    cases = [case for suite in ET.parse(junit).getroot() for case in suite]
    failed = [case.get("name", "") for case in cases if case.find("failure") is not None]
    assert len(failed) == 1
    assert "demographic_parity_difference" in failed[0]


def test_what_has_turned_since_the_day_before_exits_with_one(
    repo: Path, tmp_path: Path, capsys: Any
) -> None:
    junit = tmp_path / "performance.xml"
    code, told = document(repo, capsys, "s", "--reference", "1d", "--junit", str(junit))
    assert code == 1
    changes = {one["measure"]: one for one in told["changes"]}
    assert changes["auc"]["was"] > 0.7 > 0.4 > changes["auc"]["now"]
    assert changes["auc"]["verdict"] == "worse"
    failed = [case.get("name") or "" for case in ET.parse(junit).getroot().iter("testcase")
              if case.find("failure") is not None]  # fmt: skip
    assert any("auc" in name for name in failed)
    code, told = document(repo, capsys, "s")
    assert (code, told.get("changes", [])) == (0, [])


def test_a_manifest_is_a_reference(repo: Path, tmp_path: Path, capsys: Any) -> None:
    train = tmp_path / "valid.parquet"
    given = ["--repo", str(repo), "get-historical", "s", str(repo / "labels.parquet")]
    assert main([*given, "-o", str(train)]) == 0
    capsys.readouterr()
    words = ("--reference", f"{train}.manifest.json", "--label", "came")
    code, _, err = run(repo, capsys, "s", *words)
    assert (code, "prediction: of the training set" in err) == (2, True)
    code, _, err = run(repo, capsys, "s", *words, "--prediction", "v__score")
    assert (code, "v__score" in err) == (2, True)  # the log has no such feature
    words = (*words[:3], "goes", "--prediction", "v__age")
    code, _, err = run(repo, capsys, "s", *words)
    assert (code, "'goes'" in err) == (2, True)
    code, told = document(repo, capsys, "s", *words[:3], "came", "--prediction", "v__age")
    assert code == 0
    assert told["reference_rows"] == 300
    rows = pq.read_table(train)
    want = metrics.roc_auc_score(rows["came"].to_pylist(), rows["age"].to_pylist())
    (auc,) = [one for one in told["changes"] if one["measure"] == "auc"]
    assert abs(auc["was"] - want) < 1e-12


def test_classes_are_in_the_order_of_the_probabilities(repo: Path, capsys: Any) -> None:
    code, told = document(repo, capsys, "t", "--classes", "a,b,c")
    assert code == 0
    assert [one["name"] for one in told["classes"]] == ["a", "b", "c"]
    named = {one["measure"]: one["value"] for one in told["scores"]}
    _, other = document(repo, capsys, "t", "--classes", "c,b,a")
    turned = {one["measure"]: one["value"] for one in other["scores"]}
    assert named["accuracy"] != turned["accuracy"]
    code, out, _ = run(repo, capsys, "t", "--classes", "a,b,c")
    assert (code, "class" in out) == (0, True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")
@pytest.mark.parametrize(
    "words",
    [
        ("s", "--by", "v__land", "--fairness", "--reference", "1d"),
        ("t", "--classes", "a,b,c", "--by", "v__age"),
    ],
)
def test_a_browser_shows_the_page(repo: Path, tmp_path: Path, capsys: Any, words: Any) -> None:
    page = tmp_path / "performance.html"
    code, _, _ = run(repo, capsys, *words, "--html", str(page))
    assert code in (0, 1)
    with browser(tmp_path) as shown:
        for width, dark in ((375, False), (1280, True)):
            shown.look(width, dark=dark)
            shown.go(page.as_uri())
            assert shown.run("document.documentElement.scrollWidth") <= width
            assert shown.complaints() == []
            assert shown.barriers() == []
