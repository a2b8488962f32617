"""`assert_parity`, and the plugin that brings it to other people's tests."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from visits import SERVICE, latest_visit, spending

import featurekit
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Sum, exact
from featurekit.core import coerce
from featurekit.errors import BadRowError, DefinitionError, EntityFrameError
from featurekit.testing import ParityError, assert_parity, values

pytest_plugins = "pytester"

AT = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
ORDERS = [
    {"customer_id": 1, "amount": a, "word": None, "at": at, "known_at": at}
    for i, a in enumerate((1e16, 1.0, 1.0))
    for at in [AT - dt.timedelta(seconds=9 - i)]
]
ASKED = {"customer_id": 1, "basket": 2.0, "event_timestamp": AT}


def plain_sum(monkeypatch):
    def added(values):
        total = 0.0
        for value in values:
            total += value
        return total

    monkeypatch.setattr(exact, "exact_sum", added)


def test_paths_that_agree_pass():
    assert_parity(SERVICE, {"orders": ORDERS}, [ASKED])


def test_a_service_as_it_was_written_is_compiled():
    written = FeatureService("written", features=[spending, latest_visit])
    assert_parity(written, {"orders": ORDERS}, [{"customer_id": 1, "event_timestamp": AT}])


def test_the_values_that_both_paths_agree_on_come_back():
    found = values(SERVICE, {"orders": ORDERS}, [ASKED, ASKED | {"customer_id": 2}])
    assert found == assert_parity(SERVICE, {"orders": ORDERS}, [ASKED, ASKED | {"customer_id": 2}])
    assert [row["spend"] for row in found] == [1e16 + 2.0, None]
    assert [row["orders"] for row in found] == [3, 0]
    assert found[0]["share"] == 2.0 / (1e16 + 2.0)
    assert list(found[0]) == [o.name for o in SERVICE.outputs]
    assert [row["spend"] for row in found.statuses] == ["PRESENT", "NOT_FOUND"]
    assert found[1]["page"] is None
    assert found.statuses[1]["page"] == "NOT_FOUND"


def test_values_are_those_of_the_window_to_the_microsecond():
    events = {"orders": ORDERS}  # 9, 8 and 7 seconds before AT
    hour, tick = dt.timedelta(hours=1), dt.timedelta(microseconds=1)
    first = ORDERS[0]["at"]
    asked = [first - tick, first, first + hour - tick, first + hour]
    rows = [{"customer_id": 1, "event_timestamp": at} for at in asked]
    found = values(SERVICE, events, rows, features=["spending__orders", "word"])
    assert [row["spending__orders"] for row in found] == [0, 1, 3, 2]
    assert [list(row) for row in found] == [["spending__orders", "word"]] * 4


def test_the_example_of_the_docs_passes():
    page = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")
    (example,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.S) if "import values" in b]
    space: dict[str, object] = {}
    exec(example, space)
    space["test_a_window_begins_after_its_border"]()


def test_values_that_part_are_no_values(monkeypatch):
    plain_sum(monkeypatch)
    with pytest.raises(ParityError, match="float order"):
        values(SERVICE, {"orders": ORDERS}, [ASKED])


def test_a_difference_fails_with_its_diagnosis(monkeypatch):
    plain_sum(monkeypatch)
    with pytest.raises(ParityError, match="float order") as found:
        assert_parity(SERVICE, {"orders": ORDERS}, [ASKED])
    said = str(found.value)
    assert "spending__spend differs" in said
    assert "offline  1.0000000000000002e+16 (0x1.1c37937e08001p+53)  PRESENT" in said
    assert "online   1e+16 (0x1.1c37937e08000p+53)  PRESENT" in said
    assert found.value.diagnosis.ulps == 1


def test_features_may_be_named_and_then_need_only_what_they_read(monkeypatch):
    plain_sum(monkeypatch)
    row = {"customer_id": 1, "event_timestamp": AT}
    assert_parity(SERVICE, {"orders": ORDERS}, [row], features=["orders"])
    with pytest.raises(ParityError):
        assert_parity(SERVICE, {"orders": ORDERS}, [row], features=["spend"])


def test_the_case_of_a_diagnosis_reproduces_it(monkeypatch):
    plain_sum(monkeypatch)
    with pytest.raises(ParityError) as found:
        assert_parity(SERVICE, {"orders": ORDERS}, [ASKED])
    space: dict[str, object] = {}
    exec(found.value.diagnosis.case, space)

    def parity(name, **given):
        assert name == SERVICE.name
        assert_parity(SERVICE, **given)

    with pytest.raises(ParityError):
        space["test_spending__spend_agrees"](parity)
    monkeypatch.undo()
    space["test_spending__spend_agrees"](parity)


london = EventSource(
    "clicks", path="clicks.parquet", timestamp_field="at", timezone="Europe/London",
    schema={"customer_id": int, "x": float},
)  # fmt: skip
clicked = FeatureView(
    "clicked", entities=[Entity("customer", {"customer_id": int})], source=london,
    features={"clicks": Count(window="1h"), "sum": Sum("x", window="1h")},
)  # fmt: skip
CLICKED = FeatureService("clicked", features=[clicked])
SUMMER = dt.datetime(2020, 7, 1, 12, tzinfo=dt.UTC)


def test_local_times_are_read_on_both_paths(monkeypatch):
    events = {"clicks": [{"customer_id": 1, "x": 1.0, "at": SUMMER}]}
    asked = [{"customer_id": 1, "event_timestamp": SUMMER}]
    assert_parity(CLICKED, events, asked)
    read = coerce.to_utc_us
    monkeypatch.setattr(coerce, "to_utc_us", lambda value, zone: read(value, "UTC"))
    with pytest.raises(ParityError, match="time zone"):
        assert_parity(CLICKED, events, asked)


def test_a_live_push_s_arrival_can_be_said():
    late = {"customer_id": 1, "x": 1.0, "at": SUMMER, "__created": SUMMER + dt.timedelta(hours=1)}
    assert_parity(CLICKED, {"clicks": [late]}, [{"customer_id": 1, "event_timestamp": SUMMER}])


@pytest.mark.parametrize(
    ("events", "rows", "error", "said"),
    [
        ({"visit": []}, [ASKED], DefinitionError, "reads no source 'visit'"),
        ({}, [], EntityFrameError, "nothing would be compared"),
        ({}, [{"customer_id": 1}], EntityFrameError, "row 0 lacks event_timestamp"),
        ({}, [ASKED | {"x": 1}], EntityFrameError, "row 0 has x; service"),
        ({}, [{"customer_id": 1, "event_timestamp": AT}], EntityFrameError, "row 0 lacks basket"),
        ({"orders": [{"customer_id": 1}]}, [ASKED], EntityFrameError, "event 0 of orders: at is"),
        ({"orders": [ORDERS[0] | {"amount": "a"}]}, [ASKED], BadRowError, "amount"),
    ],
)
def test_bad_input_is_refused(events, rows, error, said):
    with pytest.raises(error, match=said):
        assert_parity(SERVICE, events, rows)


# --- the plugin -----------------------------------------------------------------------------------

INSTALLED = any(e.name == "featurekit" for e in importlib.metadata.entry_points(group="pytest11"))
PLUGIN = () if INSTALLED else ("-p", "featurekit.parity.pytest_plugin")

TEST = """
import datetime as dt
import featurekit.aggregates.exact as exact

AT = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
ORDERS = [
    {"customer_id": 1, "amount": a, "at": AT + dt.timedelta(seconds=i)}
    for i, a in enumerate((1e16, 1.0, 1.0))
]

def ask(parity):
    return parity("shop", {"orders": ORDERS},
           [{"customer_id": 1, "event_timestamp": AT + dt.timedelta(minutes=1)}])

def test_agrees(parity):
    assert ask(parity)[0]["spend"] == 1e16 + 2.0

def test_parts(parity, monkeypatch):
    monkeypatch.setattr(exact, "exact_sum", lambda xs: max(xs))
    ask(parity)

def test_something_else():
    pass
"""
REPO = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Sum

orders = EventSource("orders", path="orders.parquet", timestamp_field="at",
                     schema={"customer_id": int, "amount": float})
spending = FeatureView("spending", entities=[Entity("customer", {"customer_id": int})],
                       source=orders, features={"spend": Sum("amount", window="1h")})
shop = FeatureService("shop", features=[spending])
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    from feature_repos import CONFIG

    pytester.makeini("[pytest]\nfeaturekit_repo = features\n")
    folder = pytester.mkdir("features")
    (folder / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "shop.py").write_text(REPO, encoding="utf-8")
    pytester.makepyfile(TEST)
    return pytester


def test_the_fixture_names_services_of_the_repo(project):
    found = project.runpytest_subprocess(*PLUGIN, "--strict-markers")
    found.assert_outcomes(passed=2, failed=1)
    found.stdout.fnmatch_lines(
        [
            "*spending__spend differs as of *",
            "*cause    *",
            "*this case reproduces it*",
            "*def test_spending__spend_agrees(parity):*",
        ]
    )
    found.stdout.no_fnmatch_line("*testing.py*")


def test_the_marker_selects_what_takes_the_fixture(project):
    asked = ("-m", "parity", "--strict-markers", "--collect-only", "-q")
    found = project.runpytest_subprocess(*PLUGIN, *asked)
    found.stdout.fnmatch_lines(
        ["*::test_agrees", "*::test_parts", "*2/3 tests collected (1 deselected)*"]
    )


def test_loading_the_plugin_loads_nothing_more():
    code = (
        "import sys, pytest\nbefore = set(sys.modules)\nimport featurekit.parity.pytest_plugin\n"
        "print(sorted(m for m in set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "'featurekit.parity.pytest_plugin'" in done.stdout
    heavy = ("featurekit.testing", "featurekit.language.ops", "duckdb", "pyarrow", "pandas")
    loaded = [m for m in heavy if f"'{m}'" in done.stdout]
    assert loaded == []


def install(folder: Path) -> None:
    """Lay featurekit into `folder` as pip lays a wheel: the package, and what pyproject says."""
    root = Path(featurekit.__file__).parents[1]
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(root / "featurekit", folder / "featurekit", ignore=ignored)
    said = folder / "featurekit-0.1.0.dist-info"
    said.mkdir()
    (said / "METADATA").write_text("Metadata-Version: 2.1\nName: featurekit\nVersion: 0.1.0\n")
    plugins = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"{name} = {module}\n" for name, module in plugins["pytest11"].items()]
    (said / "entry_points.txt").write_text("[pytest11]\n" + "".join(lines))
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    (said / "RECORD").write_text("".join(f"{name},,\n" for name in files))


def test_an_installed_featurekit_is_not_rewritten(pytester, monkeypatch):
    site = pytester.mkdir("site")
    install(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    pytester.makeconftest("import featurekit.store\n")
    pytester.makepyfile("import featurekit.testing\n\ndef test_it(parity):\n    assert parity")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
    cached = [path.name for path in site.rglob("*.pyc")]
    rewritten = {name.split(".")[0] for name in cached if "-pytest-" in name}
    # What is loaded before the plugin, and with it.
    assert rewritten == {"__init__", "names", "pytest_plugin", "version"}
    assert {"store", "testing"} <= {name.split(".")[0] for name in cached}


def test_no_distribution_is_listed_twice_while_pytest_runs(pytester):
    pytester.makepyfile(
        "import importlib.metadata as m\nfrom collections import Counter\n\n"
        "def test_it(parity):\n"
        "    found = Counter(str(d._path) for d in m.distributions())\n"
        "    assert max(found.values()) == 1"
    )
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=1)


def test_a_service_by_name_needs_a_repo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DefinitionError, match=r"no feature repo feature_repo in .*repo=…"):
        assert_parity("checkout", {}, [])
