"""What is public: the names of featurekit, those of results, and a serving process's own door."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import featurekit
from featurekit import FeatureStore, OnlineService, aggregates, results
from featurekit.core.names import Names
from featurekit.errors import ConfigError, FingerprintMismatch, NotServed, StoreUnavailable

T = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
DEFINITIONS = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum

user = Entity("user", {"k": int})
events = EventSource("events", path="data/events.parquet", schema={"k": int, "x": float},
                     timestamp_field="at")
view = FeatureView("view", entities=[user], source=events,
                   features={"n": Count(window="1d"), "x": Sum("x", window="1d")})
service = FeatureService("service", features=[view])
"""


def test_the_public_names_are_these():
    assert sorted(featurekit.__all__) == sorted((
        "Between", "Commit", "Contract", "Delay", "Delta", "Deprecated", "DuckDB", "Entity",
        "EventSource", "FeatureService", "FeatureStore", "FeatureView", "FeaturekitError",
        "Fresh", "Holds",
        "Iceberg", "Length", "Matches", "Modified", "Monotone", "NotNull", "NotNullShare", "OneOf",
        "OnlineService", "Postgres", "References", "RowCount", "SQLite", "Share", "Unique",
        "Vector", "bucket", "cosine", "dot", "feature", "norm",
    ))  # fmt: skip
    assert sorted(results.__all__) == sorted((
        "Adopted", "Change", "Collection", "Consumed", "Deprecation", "Explanation", "Forgot",
        "Impact", "Item", "Lineage", "Materialization", "ModelComparison", "OnlineResult",
        "Performance", "Pin", "Pinned", "PredictionAudit", "Profiled", "Pushed", "PushedOutcomes",
        "Report", "Revision", "RolledBack", "SourceCheck", "Splits", "TrainingSet", "Validation",
        "Version",
    ))  # fmt: skip
    assert {"Aggregate", *aggregates.BY_NAME} == {*aggregates.__all__}


@pytest.mark.parametrize("module", [featurekit, results, aggregates])
def test_every_name_is_loaded_from_its_module(module):
    for name, home in Names(module.__name__).homes.items():
        assert getattr(module, name) is getattr(sys.modules[home], name)
        assert name in dir(module)


@pytest.mark.parametrize("module", [featurekit, results, aggregates])
def test_another_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nil'"):
        _ = module.nil


def test_a_name_that_is_taken_back_is_loaded_again(monkeypatch):
    found = results.OnlineResult
    monkeypatch.delitem(vars(results), "OnlineResult")
    assert results.OnlineResult is found


def test_names_without_their_source_say_so(monkeypatch):
    names = Names("featurekit.results")
    monkeypatch.setattr(results.__spec__.loader, "get_source", lambda name: None, raising=False)
    with pytest.raises(ImportError, match="its source, in which its names stand, is not there"):
        names.get("OnlineResult")


PUBLIC = {
    f"featurekit{m}"
    for m in ("", ".aggregates", ".client", ".errors", ".plugins.airflow", ".plugins.feast",
              ".plugins.mlflow", ".results", ".testing")
}  # fmt: skip
SHOWN_TOO = {
    "featurekit.project.config.ServingLogConfig",
    "featurekit.project.served_log.open_log",
}
"""What else is shown: the log of a process that serves without the repo."""
IMPORTED = re.compile(r"^[ \t]*from (featurekit[\w.]*) import ([^()\n]+|\([^)]+)", re.M)


def shown() -> Iterator[tuple[str, str, str]]:
    """What README, docs and the example repo import of featurekit: where, from what, and what."""
    root = Path(featurekit.__file__).parents[1]
    files = [*(root / "docs").rglob("*.md"), *(root / "feature_repo").rglob("*.py")]
    for path in [root / "README.md", *files]:
        for module, names in IMPORTED.findall(path.read_text(encoding="utf-8")):
            for name in names.strip("( ,\n").split(","):
                yield path.relative_to(root).as_posix(), module, name.split()[0]


def test_what_is_shown_to_users_is_public_and_there():
    found = list(shown())
    assert ("README.md", "featurekit", "FeatureStore") in found
    for where, module, name in found:
        assert module in PUBLIC or f"{module}.{name}" in SHOWN_TOO, f"{where} shows {module}.{name}"
        try:
            there = importlib.import_module(module)
        except ConfigError:  # a plugin without its library
            spec = importlib.util.find_spec(module)
            assert spec is not None
            assert spec.origin is not None
            text = Path(spec.origin).read_text(encoding="utf-8")
            assert re.search(rf"^(def|class) {name}\b|^    \"{name}\",$", text, re.M), where
            continue
        assert hasattr(there, name) or importlib.util.find_spec(f"{module}.{name}"), where


# --- a serving process ----------------------------------------------------------------------------


@pytest.fixture
def served(make_repo, redis_url, redis_store) -> Path:
    """A repo whose service is live in the Redis."""
    at = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    folder = make_repo(DEFINITIONS, {"events": {"k": [1, 1], "x": [0.1, 0.2], "at": [at, at]}})
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize(T)
    return folder


ALONE = """
import datetime as dt
import sys

from featurekit import OnlineService

with OnlineService.connect(sys.argv[1], "tests", "service") as service:
    found = service.get([{"k": 1}], dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
print(found.to_pylist())
heavy = ("duckdb", "pyarrow", "pandas", "polars", "yaml", "featurekit.store",
         "featurekit.project", "featurekit.define.repo", "featurekit.sources", "featurekit.log",
         "featurekit.offline", "featurekit.feed",
         "featurekit.language.ops")  # this service has no transform that would need it
print([name for name in heavy if name in sys.modules])
"""


def test_a_serving_process_needs_a_url_and_two_names(served, redis_url, tmp_path):
    command = [sys.executable, "-c", ALONE, redis_url]
    root = Path(featurekit.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    answer, loaded = done.stdout.splitlines()
    assert answer == str([{"k": 1, "n": 2, "x": 0.1 + 0.2}])
    assert loaded == "[]"


def test_it_answers_within_an_event_loop_too(served, redis_url):
    async def ask() -> list[dict[str, object]]:
        service = OnlineService.connect(redis_url, "tests", "service")
        found = (await service.get_async([{"k": 1}, {"k": 2}], T)).to_pylist()
        await service.close_async()
        service.close()
        return found

    assert asyncio.run(ask()) == [{"k": 1, "n": 2, "x": 0.1 + 0.2}, {"k": 2, "n": 0, "x": None}]


def test_one_that_is_closed_connects_again(served, redis_url):
    service = OnlineService.connect(redis_url, "tests", "service")
    before = service.get([{"k": 1}], T).to_pylist()
    service.close()
    assert service.get([{"k": 1}], T).to_pylist() == before
    service.close()


def test_what_is_not_there_is_an_error_of_the_first_lookup(redis_store, redis_url):
    with (
        OnlineService.connect(redis_url, "tests", "nothing") as service,
        pytest.raises(NotServed, match="project 'tests' serves no service 'nothing'"),
    ):
        service.get([{"k": 1}])
    with (
        OnlineService.connect("redis://127.0.0.1:1", "tests", "service") as service,
        pytest.raises(StoreUnavailable),
    ):
        service.get([{"k": 1}])


def test_another_platform_s_numbers_are_refused_unless_a_warning_will_do(
    served, redis_url, monkeypatch
):
    monkeypatch.setattr(
        "featurekit.define.published.numeric_fingerprint", lambda _: {"cpu": "another"}
    )
    with (
        OnlineService.connect(redis_url, "tests", "service") as service,
        pytest.raises(FingerprintMismatch),
    ):
        service.get([{"k": 1}], T)
    with (
        OnlineService.connect(redis_url, "tests", "service", on_mismatch="warn") as service,
        pytest.warns(UserWarning, match="published on a platform that differs in"),
    ):
        assert service.get([{"k": 1}], T).to_pylist() == [{"k": 1, "n": 2, "x": 0.1 + 0.2}]
