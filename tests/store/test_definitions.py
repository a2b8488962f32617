"""A store without a folder: definitions as a list, in memory, in a state folder or in a Redis."""

from __future__ import annotations

import datetime as dt
import gc
import linecache
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.aggregates import Count, Sum
from featurekit.core import html
from featurekit.errors import ArgumentError, ConfigError, DefinitionError, NotServed
from featurekit.project.changes import Changes

AT = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
ASKED = AT + dt.timedelta(hours=1)
customer = Entity("customer", {"k": int})
EVENTS = pa.table({"k": [1, 1, 2], "x": [0.1, 0.2, 0.3], "at": [AT] * 3})


def service(window: str = "1d", *, frame: Any = EVENTS, name: str = "service") -> FeatureService:
    events = EventSource("events", frame=frame, schema={"k": int, "x": float}, timestamp_field="at")
    features = {"n": Count(window=window), "x": Sum("x", window=window)}
    view = FeatureView("view", entities=[customer], source=events, features=features)
    return FeatureService(name, features=[view])


def served(store: FeatureStore, name: str = "service") -> list[dict[str, Any]]:
    return store.get_online_features(name, [{"k": 1}, {"k": 2}], ASKED).to_pylist()


WANTED = [{"k": 1, "n": 2, "x": 0.1 + 0.2}, {"k": 2, "n": 1, "x": 0.3}]


def test_a_store_without_a_folder_does_what_others_do() -> None:
    with FeatureStore(definitions=[service()]) as store:
        assert [c.kind for c in store.plan()] == ["view", "service"]
        store.apply()
        with pytest.raises(NotServed):
            store.get_online_features("nothing", [{"k": 1}])
        store.materialize(ASKED)
        assert served(store) == WANTED
        assert store.check_parity("service", budget=100).ok
        assert [v.state for v in store.versions("service")] == ["live"]
        state = store.state_dir
        assert state.stat().st_mode & 0o077 == 0
        store.close()
        assert served(store) == WANTED  # what is in memory stays until the store goes
    del store
    gc.collect()
    assert not state.exists()


def test_two_stores_in_memory_know_nothing_of_each_other() -> None:
    one, other = (FeatureStore(definitions=[service()]) for _ in range(2))
    one.apply()
    one.materialize(ASKED)
    with pytest.raises(NotServed):
        served(other)


def test_the_environment_s_redis_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook that is opened on a host of production tries things in memory."""
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", "redis://nowhere.invalid:1/0")
    store = FeatureStore(definitions=[service()])
    store.apply()
    store.materialize(ASKED)
    assert served(store) == WANTED


def test_a_redis_that_is_named_is_used(redis_url: str, redis_store: Any) -> None:
    with FeatureStore(definitions=[service()], redis_url=redis_url, project="mine") as store:
        store.apply()
        store.materialize(ASKED)
        assert served(store) == WANTED
        assert store.project == "mine"
        assert list(redis_store.keys(b"fk:mine:"))


def test_a_state_folder_stays(tmp_path: Path, redis_url: str) -> None:
    options: dict[str, Any] = {"state_folder": tmp_path / "state", "redis_url": redis_url}
    with FeatureStore(definitions=[service()], project="kept", **options) as store:
        store.apply()
        store.materialize(ASKED)
        before = served(store)
        store.push("events", {"k": 1, "x": 4.0, "at": AT})
    with FeatureStore(project="kept", **options) as store:
        assert store.get_online_features("service", [{"k": 1}]).status["n"] == ["PRESENT"]
        with pytest.raises(DefinitionError, match="the list of definitions defines no service 'se"):
            store.get_historical_features([], "service")
        assert [c.action for c in store.apply([service()])] == []
        labels = [{"k": k, "event_timestamp": ASKED} for k in (1, 2)]
        trained = store.get_historical_features(labels, "service").to_pylist()
        assert [{n: row[n] for n in ("k", "n", "x")} for row in trained] == before
        manifest = store.get_historical_features(labels, "service").manifest
        assert manifest["sources"]["events"]["pushed_segments"] == 1


def test_apply_adds_and_replaces_by_name() -> None:
    store = FeatureStore(definitions=[])
    assert store.plan() == store.apply() == []
    store.apply([service(name="one")])
    store.materialize(ASKED)
    assert {c.name for c in store.apply([service(name="two"), service(name="one")])} == {"two"}
    changes = store.apply([service("1h", name="one"), service("1h", name="two")])
    assert {(c.action, c.name) for c in changes} == {
        ("change", "view"), ("change", "one"), ("change", "two"),
    }  # fmt: skip
    with pytest.raises(
        DefinitionError, match=r"two definitions of FeatureView 'view'.*make what s"
    ):
        store.apply([service("2h", name="one")])
    assert store.plan() == []  # as it was before


TAXED = """
@feature
def taxed(x: float) -> float:
    return x * {rate}
"""


def cell(text: str) -> Any:
    """The `@feature` of a cell of this text, run once more: each has a text of its own."""
    name = f"<cell {len(linecache.cache)} {text!r}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names: dict[str, Any] = {"feature": feature, "__name__": "__main__"}
    exec(compile(text, name, "exec"), names)
    return names["taxed"]


def taxing(taxed: Any, name: str = "view", *, on: Entity = customer) -> FeatureView:
    events = EventSource(
        "events", frame=EVENTS, schema={"k": int, "x": float}, timestamp_field="at"
    )
    return FeatureView(name, entities=[on], source=events, features={"x": Sum(taxed, window="1d")})


def test_a_feature_that_is_made_anew_is_refused_until_what_reads_it_is() -> None:
    """The older function would go on, and nothing would say so."""
    store = FeatureStore(definitions=[taxing(cell(TAXED.format(rate=1.19)))])
    store.apply()
    anew = cell(TAXED.format(rate=1.25))
    with pytest.raises(DefinitionError, match="@feature 'taxed' was made anew, and FeatureView 'v"):
        store.apply([anew])
    assert store.plan() == []
    assert [c.action for c in store.apply([anew, taxing(anew)])] == ["change"]
    again = cell(TAXED.format(rate=1.25))
    assert store.apply([again]) == []  # it computes the same


def test_two_views_that_read_two_forms_of_a_feature_are_refused() -> None:
    views = [taxing(cell(TAXED.format(rate=r)), n) for r, n in ((1.19, "old"), (1.25, "new"))]
    with pytest.raises(DefinitionError, match="@feature 'taxed' has two forms: FeatureView 'old' "):
        FeatureStore(definitions=views).plan()


def test_features_of_one_name_that_a_function_makes_may_differ() -> None:
    def made(rate: float) -> Any:
        @feature
        def taxed(x: float) -> float:
            return x * rate

        return taxed

    views = [taxing(made(r), n) for r, n in ((1.19, "old"), (1.25, "new"))]
    assert {c.name for c in FeatureStore(definitions=views).plan()} == {"old", "new"}


def test_an_entity_that_is_made_anew_is_refused_until_what_reads_it_is() -> None:
    store = FeatureStore(definitions=[taxing("x")])
    store.apply()
    with pytest.raises(DefinitionError, match="Entity 'customer' was made anew, and FeatureView"):
        store.apply([Entity("customer", {"k2": int})])
    assert store.apply([Entity("customer", {"k": int})]) == []


@pytest.mark.parametrize("part", [Entity("seller", {"k": int}), cell(TAXED.format(rate=2.0))])
def test_what_nothing_reads_is_refused(part: Any) -> None:
    store = FeatureStore(definitions=[taxing("x")])
    with pytest.raises(DefinitionError, match=f"no view and no service reads .*{part.name!r}"):
        store.apply([part])
    assert [c.name for c in store.apply([taxing(part if callable(part) else "x")])] == ["view"]


def test_no_column_is_proposed_that_has_a_meaning_already() -> None:
    """An event's instant is not its `a`, however alike the names are."""
    frame = pa.table({"k": [1], " a ": [1], "at": [AT]})
    schema = {"k": int, "a": int}
    with pytest.raises(DefinitionError, match="no column 'a'; did you mean ' a '"):
        EventSource("e", frame=frame, schema=schema, timestamp_field="at")
    with pytest.raises(DefinitionError, match="no column 'a'; it has k, at"):
        EventSource("e", frame=frame.drop_columns([" a "]), schema=schema, timestamp_field="at")


def test_a_path_in_the_home_folder_is_written_out() -> None:
    with pytest.raises(DefinitionError, match=f'write path="{Path.home()}/orders.csv"'):
        EventSource("e", path="~/orders.csv", schema={"k": int}, timestamp_field="at")


def test_an_equal_definition_that_is_made_anew_is_the_same_one(tmp_path: Path) -> None:
    def source() -> EventSource:
        return EventSource("s", path="s.csv", schema={"k": int}, timestamp_field="at")

    views = [
        FeatureView(name, entities=[customer], source=source(), features={"n": Count(window="1d")})
        for name in ("a", "b")
    ]
    assert {c.name for c in FeatureStore(definitions=views).plan()} == {"a", "b"}


def test_a_folder_s_definitions_are_its_modules(make_repo: Any) -> None:
    folder = make_repo(MODULE, {"events": EVENTS})
    with FeatureStore(folder) as store, pytest.raises(DefinitionError, match="are the modules in"):
        store.apply([service()])
    with FeatureStore(folder, definitions=[service(name="listed")]) as store:
        assert list(store.repo.services) == ["listed"]
        assert store.project == "tests"


def test_paths_of_sources_are_relative_to_the_present_folder(
    make_repo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_repo(MODULE, {"events": EVENTS})
    monkeypatch.chdir(folder)
    events = EventSource("e", path="data/events.parquet", schema={"k": int}, timestamp_field="at")
    view = FeatureView("v", entities=[customer], source=events, features={"n": Count(window="1d")})
    store = FeatureStore(definitions=[FeatureService("s", features=[view])])
    made = store.get_historical_features([{"k": 1, "event_timestamp": ASKED}], "s")
    assert made.to_pylist()[0]["n"] == 2


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        (
            {"definitions": "service"},
            ArgumentError,
            "definitions is a list or None, found 'service'",
        ),
        ({"definitions": {"a": 1}}, ArgumentError, "definitions is a list or None, found {"),
        ({"definitions": 5}, ArgumentError, "definitions is a list or None, found 5"),
        ({"definitions": [], "project": "a b"}, ConfigError, "project 'a b' is no name; write"),
        ({"project": "a"}, ConfigError, "project= names a store without a folder; write def"),
        ({"path": ".", "state_folder": "x"}, ConfigError, "state_folder= and project= are of a"),
        ({"path": ".", "definitions": [], "project": "x"}, ConfigError, "leave out the path"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        FeatureStore(**options)


@pytest.mark.parametrize("thing", [5, "view", FeatureStore, lambda: None, [1]])
def test_what_is_no_definition_is_refused(thing: Any) -> None:
    store = FeatureStore(definitions=[thing])
    with pytest.raises(DefinitionError, match="is no definition; give a list of FeatureService"):
        store.plan()
    with pytest.raises(DefinitionError, match="is no definition"):
        FeatureStore(definitions=[]).apply([thing])


def test_a_function_without_a_text_is_refused() -> None:
    """As at `python -i` before 3.13, and of what comes through a pipe."""
    program = "from featurekit import feature\n@feature\ndef f(x: float) -> float:\n    return x\n"
    program += "from featurekit.define.parameters import read_transform\nread_transform(f)\n"
    done = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "f: its source text cannot be read (<stdin>, line 2); write it in a file" in done.stderr


# --- what is edited while a store is open ---------------------------------------------------------

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count
from windows import WINDOW

events = EventSource("events", path="data/events.parquet", schema={"k": int, "x": float},
                     timestamp_field="at")
view = FeatureView("view", entities=[Entity("customer", {"k": int})], source=events,
                   features={"n": Count(window=WINDOW)})
service = FeatureService("service", features=[view])
"""
LABELS = [{"k": 1, "event_timestamp": AT + dt.timedelta(hours=2)}]


@pytest.fixture
def folder(make_repo: Any) -> Path:
    made: Path = make_repo(MODULE, {"events": EVENTS})
    (made / "windows.py").write_text('WINDOW = "1d"\n')
    return made


def trained(store: FeatureStore) -> int:
    found: int = store.get_historical_features(LABELS, "service").to_pylist()[0]["n"]
    return found


def test_a_module_that_is_edited_is_run_again(folder: Path, redis_url: str) -> None:
    with FeatureStore(folder, redis_url=redis_url) as store:
        before = store.repo
        assert trained(store) == 2
        made = store.get_historical_features(LABELS, "service")
        (folder / "windows.py").write_text('WINDOW = "1h"\n')  # as long as it was
        assert trained(store) == 0
        assert store.repo is not before
        assert made.to_pylist()[0]["n"] == 2  # a training set is of the definitions of its day
        (folder / "more.py").write_text("from definitions import view\nnamed = view\n")
        renamed = MODULE.replace('FeatureService("service"', 'FeatureService("other"')
        (folder / "definitions.py").write_text(renamed)
        assert list(store.repo.services) == ["other"]
        (folder / "more.py").unlink()
        assert store.repo is store.repo


def test_a_module_that_is_broken_is_an_error_until_it_is_mended(
    folder: Path, redis_url: str
) -> None:
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize(ASKED)
        (folder / "windows.py").write_text("WINDOW = ")
        for call in (lambda: trained(store), store.plan, lambda: store.repo):
            with pytest.raises(DefinitionError, match=r"windows\.py:1"):
                call()
        assert store.get_online_features("service", [{"k": 1}], ASKED).columns["n"] == [2]
        (folder / "windows.py").write_text('WINDOW = "3h"\n')
        assert trained(store) == 2


def test_settings_that_are_edited_wait_for_reload(folder: Path, redis_url: str) -> None:
    settings_file = folder / "feature_store.yaml"
    with FeatureStore(folder, redis_url=redis_url) as store:
        store.apply()
        store.materialize(ASKED)
        text = settings_file.read_text()
        settings_file.write_text(f"{text}# a comment\n")
        assert trained(store) == 2
        settings_file.write_text(text.replace("project: tests", "project: moved"))
        with pytest.raises(ConfigError, match=r"settings have changed .* store\.reload\(\) reads"):
            trained(store)
        # Lookups go on with the settings of before.
        assert store.get_online_features("service", [{"k": 9}]).columns["n"] == [0]
        store.reload()
        assert store.project == "moved"
        with pytest.raises(NotServed):
            store.get_online_features("service", [{"k": 9}])
        assert trained(store) == 2
        settings_file.write_text("project: [")
        with pytest.raises(ConfigError):
            store.reload()
        settings_file.write_text(text)
        store.reload()
        assert store.project == "tests"


def test_reload_of_a_store_without_a_folder_keeps_all() -> None:
    store = FeatureStore(definitions=[service()])
    store.apply()
    store.materialize(ASKED)
    store.reload()
    assert served(store) == WANTED


# --- what notebooks show --------------------------------------------------------------------------

HOSTILE = "<script>alert('x')</script>&\"\ud800"


@settings(max_examples=50)
@given(st.text(st.characters()), st.text(st.characters()))
def test_what_is_shown_is_escaped(name: str, value: str) -> None:
    made = html.box(name, html.table([name], [[value], [{name: value}]]), html.line(value))
    made += html.facts({name: value})
    made.encode()
    tags = set(re_tags(made))
    assert tags <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}


def re_tags(text: str) -> list[str]:
    from html.parser import HTMLParser

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            assert not [name for name, _ in attrs if name not in ("style", "class")]
            self.found.append(tag)

    tags = Tags()
    tags.feed(text)
    return tags.found


def test_hostile_names_and_values_are_text_in_what_is_shown() -> None:
    frame = pa.table({"k": [1], HOSTILE[:-1]: [HOSTILE[:-1]], "at": [AT]})
    events = EventSource(
        "events", frame=frame, schema={"k": int, HOSTILE[:-1]: str}, timestamp_field="at"
    )
    view = FeatureView("view", entities=[customer], source=events, features={"f": HOSTILE[:-1]})
    written = FeatureService("service", features=[view], request={HOSTILE[:-1]: str})
    plain = FeatureService("plain", features=[view])
    store = FeatureStore(definitions=[written, plain])
    trained = store.get_historical_features([{"k": 1, "event_timestamp": ASKED}], "plain")
    unread = trained._repr_html_()
    assert "Rows are computed when they are asked for" in unread
    trained.to_arrow()
    changes = store.apply()
    store.materialize(ASKED)
    online = store.get_online_features("plain", [{"k": 1}], ASKED)
    things: list[Any] = [view, written, store, trained, changes, online]
    for shown in [thing._repr_html_() for thing in things]:
        assert "<script" not in shown
        assert set(re_tags(shown)) <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td"}
        assert "color:" not in shown.replace("currentcolor", "")
    assert "&lt;script&gt;" in trained._repr_html_() + online._repr_html_()
    assert "&lt;script&gt;" in view._repr_html_()


def test_a_broken_repo_is_shown_as_its_error(folder: Path) -> None:
    (folder / "windows.py").write_text("WINDOW = <")
    with FeatureStore(folder) as store:
        assert "windows.py:1" in store._repr_html_()


def test_a_long_table_is_cut() -> None:
    made = html.table(["n"], [[n] for n in range(html.MOST_ROWS + 5)])
    assert f">{html.MOST_ROWS - 1}<" in made
    assert f">{html.MOST_ROWS}<" not in made
    assert "… and 5 more" in made
    assert len(html.text("x" * 1000)) == 80


def test_no_changes_say_so() -> None:
    assert "No changes" in Changes()._repr_html_()
