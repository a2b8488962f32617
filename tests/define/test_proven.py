"""Versions of DuckDB are proven by the release or here, and whatever is not is said, once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurekit import FeatureStore
from featurekit.aggregates import BY_NAME
from featurekit.cli import main
from featurekit.core.types import INT
from featurekit.define import proven
from featurekit.define.numerics import numeric_fingerprint
from featurekit.errors import UnprovenEngine
from featurekit.language import ops
from featurekit.language.ops.table import EDGES
from featurekit.parity.modes import aggregates, operators, prove
from featurekit.parity.modes.operators import OperatorsReport, RowReport

YAML = "project: proofs\nonline_store:\n  type: redis\n"
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

events = EventSource("events", path="*.parquet", schema={"k": int, "x": float}, timestamp_field="t")
view = FeatureView("v", entities=[Entity("e", {"k": int})], source=events,
                   features={"x": Sum("x", window="1d")})
service = FeatureService("s", features=[view])
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repo with one service and one event."""
    at = pa.array([0], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"k": [1], "x": [0.5], "t": at}), tmp_path / "events.parquet")
    (tmp_path / "feature_store.yaml").write_text(YAML, encoding="utf-8")
    (tmp_path / "features.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has said nothing yet, and where warnings are no errors."""
    proven.fingerprint()  # of the table as it is, whatever a test plants
    monkeypatch.setattr(proven, "_said", set())
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        yield


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of DuckDB that no release was proven on."""
    monkeypatch.setattr(proven, "duckdb_version", lambda: "2.9.9")
    monkeypatch.setattr(prove, "duckdb_version", lambda: "2.9.9")


def said(act: Any) -> list[str]:
    """The warnings of an unproven engine that `act` gives."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        act()
    return [str(w.message) for w in found if issubclass(w.category, UnprovenEngine)]


def report(*failing: str) -> OperatorsReport:
    """A report of all operators and aggregates, as if they had been compared; `failing` differ."""
    keys = [*ops.TABLE, "Sum(float)", *failing]
    rows = {key: RowReport("sql", raises=True, inputs=1_000) for key in dict.fromkeys(keys)}
    for key in failing:
        rows[key].differing.append(((None,), None, None, False))
    return OperatorsReport(0, rows)


# --- the release's list ---------------------------------------------------------------------------


def test_the_release_was_proven_on_the_operators_and_aggregates_that_it_has() -> None:
    # `python -m tests.prove 2.0.0 2.0.1` writes the list.
    listed = json.loads(proven.LIST.read_text(encoding="utf-8"))["duckdb"]
    assert {"2.0.0", "2.0.1"} <= set(listed)
    for found in listed.values():
        assert found["fingerprint"] == proven.fingerprint()
        assert found["operators"] == len(ops.TABLE)


def test_the_fingerprint_is_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    before = proven.fingerprint()
    row = ops.Op("planted", (INT,), INT, "{0}", "{0}")
    monkeypatch.setitem(ops.TABLE, row.key, row)
    assert proven.fingerprint.__wrapped__() != before


# --- what is said ---------------------------------------------------------------------------------


def test_a_version_of_the_list_needs_no_word(repo: Path) -> None:
    with FeatureStore(repo) as store:
        assert said(store.plan) == []


@pytest.mark.usefixtures("unknown")
def test_another_version_is_said_once_and_where_it_is_proven_not_at_all(repo: Path) -> None:
    with FeatureStore(repo) as store:
        (message,) = said(store.plan)
        assert "DuckDB 2.9.9" in message
        assert "2.0.0" in message
        assert "featurekit parity operators" in message
        assert said(lambda: store.get_historical_features([], "s")) == []
    assert prove.keep_proof(report(), repo / ".featurekit") is not None
    proven._said.clear()
    with FeatureStore(repo) as store:
        assert said(store.plan) == []


@pytest.mark.usefixtures("unknown")
@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.plan(),
        lambda store: store.get_historical_features([], "s"),
        lambda store: store.materialize(),
        lambda store: store.materialize_incremental(),
    ],
)
def test_each_verb_that_computes_says_it(repo: Path, redis_url: str, act: Any) -> None:
    with FeatureStore(repo, redis_url=redis_url) as store:
        store.apply()
        assert len(said(lambda: act(store))) == 1


def test_a_failed_proof_is_kept_and_names_what_failed(repo: Path) -> None:
    # On a version of the list, too: what was seen here goes before.
    failing = report("in(int,dict[int, int])", "Sum(float)", *(f"row {n}" for n in range(9)))
    path = prove.keep_proof(failing, repo / ".featurekit")
    assert path is not None
    assert json.loads(path.read_text(encoding="utf-8"))["ok"] is False
    with FeatureStore(repo) as store:
        (message,) = said(store.plan)
    assert "FAILED its proof here: in(int,dict[int, int]), Sum(float), row 0" in message
    assert "and 6 more" in message


@pytest.mark.usefixtures("unknown")
def test_a_proof_of_other_operators_or_of_another_platform_proves_nothing(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = repo / ".featurekit"
    prove.keep_proof(report(), state)
    assert proven.proof(state) is not None
    with monkeypatch.context() as other:
        other.setattr(proven, "fingerprint", lambda: "other")
        assert proven.proof(state) is None
    with monkeypatch.context() as other:
        other.setattr(proven, "machine", lambda: "another")
        assert proven.proof(state) is None


def test_part_of_the_operators_is_no_proof(tmp_path: Path) -> None:
    assert prove.keep_proof(report(), tmp_path, only="str.") is None
    few = report()
    next(iter(few.rows.values())).inputs = 10
    assert prove.keep_proof(few, tmp_path) is None
    assert [*tmp_path.iterdir()] == []


def test_a_proof_that_cannot_be_kept_is_said_and_the_report_stays(tmp_path: Path) -> None:
    (tmp_path / "proofs").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.warns(UserWarning, match="the proof is not kept"):
        assert prove.keep_proof(report(), tmp_path) is None


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.usefixtures("unknown")
def test_plan_warns_in_one_line_until_the_proof_is_kept(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--repo", str(repo), "plan"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("featurekit: warning: DuckDB 2.9.9 is none of the versions")

    monkeypatch.setattr(prove, "check_operators", lambda **_: report())
    monkeypatch.setattr(prove, "check_aggregates", lambda *_, **__: {})
    assert main(["--repo", str(repo), "parity", "operators"]) == 0
    assert "DuckDB 2.9.9: the proof is kept in" in capsys.readouterr().out
    proven._said.clear()
    assert main(["--repo", str(repo), "plan"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("unknown")
def test_a_planted_row_fails_the_proof_and_plan_names_it(
    repo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "len(dict[str, int])"
    wrong = ops.TABLE[key]
    with monkeypatch.context() as planted:
        planted.setattr(ops, "TABLE", {key: wrong})
        row = ops.Op(wrong.name, wrong.params, wrong.result, wrong.python, "0::BIGINT")
        planted.setitem(ops.TABLE, key, row)
        planted.setattr(prove, "check_aggregates", lambda *_, **__: {})
        assert main(["--repo", str(repo), "parity", "operators", "--inputs", "50"]) == 1
    capsys.readouterr()
    assert main(["--repo", str(repo), "plan"]) == 0
    assert f"FAILED its proof here: {key} do not" in capsys.readouterr().err


# --- aggregates -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found() -> dict[str, RowReport]:
    """Every aggregate over ints."""
    return aggregates.check_aggregates(operators.connection(), only="(int)")


def test_every_aggregate_means_one_thing(found: dict[str, RowReport]) -> None:
    assert {key: row.differing[:1] for key, row in found.items() if row.differing} == {}
    assert all(row.inputs > 1_000 for row in found.values())


def test_every_aggregate_is_tried() -> None:
    types = {str(t) for t in EDGES if t.name != "dict"}
    takes = {
        name: {str(w.type) for w in aggregates.worlds() if aggregates.takes(kind, w)}
        for name, kind in BY_NAME.items()
    }
    assert all(takes.values())
    assert takes["Last"] >= {"bool", "int", "float", "str", "list[float]"}
    assert set.union(*takes.values()) <= types


@pytest.mark.parametrize(
    ("only", "old", "new"),
    [
        ("Sum(int)", "CASE WHEN {0} > 0", "CASE WHEN {0} >= 0"),
        ("Count(int)", "coalesce({0}, 0)", "coalesce({0}, 0) + 1"),
        ("LastN(int)", "[]::BIGINT[]", "[NULL]::BIGINT[]"),
    ],
)
def test_a_wrong_aggregate_is_found(
    monkeypatch: pytest.MonkeyPatch, only: str, old: str, new: str
) -> None:
    kind = BY_NAME[only.partition("(")[0]]
    right = kind.sql

    def wrong(self: Any, column: Any, keep: str) -> Any:
        made = right(self, column, keep)
        return replace(made, value=made.value.replace(old, new))

    monkeypatch.setattr(kind, "sql", wrong)
    (row,) = aggregates.check_aggregates(operators.connection(), only=only).values()
    assert row.differing
    assert not row.ok


# --- manifests ------------------------------------------------------------------------------------


def test_a_manifest_has_the_versions_of_the_libraries_and_the_fingerprint_has_not(
    repo: Path,
) -> None:
    at = pa.array([0], pa.timestamp("us", "UTC"))
    with FeatureStore(repo) as store:
        frame = pa.table({"k": [1], "event_timestamp": at})
        training = store.get_historical_features(frame, "s")
        training.to_arrow()
        assert training.manifest["libraries"] == {
            "duckdb": duckdb.__version__,
            "arrow": pa.__version__,
            "tzdata": "2026f",
        }
        service = store.repo.compiled_services["s"]
    assert not [name for name in numeric_fingerprint(service) if "duckdb" in name.lower()]
