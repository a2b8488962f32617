"""What is deprecated is told wherever somebody may ask for it, and changes nothing else."""

from __future__ import annotations

import datetime as dt
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mistakes import FEATURES, write_repo

from featurekit import Deprecated, Entity, EventSource, FeatureService, FeatureStore, FeatureView
from featurekit.aggregates import Sum
from featurekit.cli import main
from featurekit.define import deprecated
from featurekit.errors import DefinitionError, DefinitionErrors, DeprecatedFeature
from featurekit.online.store.redis import RedisStore
from featurekit.project import deprecations
from featurekit.project.about import noted_deprecations, read_about

pytestmark = pytest.mark.filterwarnings("always::featurekit.errors.DeprecatedFeature")
TODAY = dt.datetime.now(dt.UTC).date()
LATER, OVER = TODAY + dt.timedelta(days=90), TODAY - dt.timedelta(days=1)
FEATURE = f'deprecated={{"spend_7d": Deprecated(after="{LATER}", use="checkout:basket_vs_habit")}},'
VIEW = f'deprecated=Deprecated(after="{LATER}", why="it counts returns"),'


def shop(*, of_view: str = "", of_service: str = "") -> str:
    """The shop's module, with `deprecated=` at its view and at its service."""
    text = FEATURES.replace("Entity,", "Deprecated, Entity,", 1)
    text = text.replace("    source=orders,\n", f"    source=orders,\n    {of_view}\n", 1)
    return text.replace('    "checkout", features', f'    "checkout", {of_service} features', 1)


@pytest.fixture
def repo(
    tmp_path: Path, redis_url: str, redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], FeatureStore]:
    """Writes the shop's module, and opens a store of it."""
    write_repo(tmp_path)
    monkeypatch.setattr(deprecated, "_warned", set())
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", redis_url)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> FeatureStore:
        (tmp_path / "features.py").write_text(text, encoding="utf-8")
        return FeatureStore(tmp_path)

    return write


def said(call: Callable[[], Any]) -> list[str]:
    """The warnings of a call that are about deprecations."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if w.category is DeprecatedFeature]


# --- definitions ----------------------------------------------------------------------------------


def test_a_day_is_a_date_or_a_text() -> None:
    day = dt.date(2027, 3, 1)
    assert Deprecated(day) == Deprecated("2027-03-01")
    assert Deprecated(day).sunset == dt.datetime(2027, 3, 2, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"after": "soon"}, "after is a day, found 'soon'; write a date or a text"),
        ({"after": "20270301"}, "after is a day"),
        ({"after": "2027-02-30"}, "'2027-02-30', which is no day"),
        ({"after": dt.datetime(2027, 3, 1)}, "after is a day"),
        ({"after": dt.date.max}, "the last day of the calendar"),
        ({"after": "2027-03-01", "use": "a:b:c"}, "use is the name of a successor, found 'a:b:c'"),
        ({"after": "2027-03-01", "use": "a b"}, "'a b' is not a name"),
        ({"after": "2027-03-01", "use": ""}, "is not a name"),
        ({"after": "2027-03-01", "why": 3}, "why is a text"),
    ],
)
def test_a_wrong_deprecation_is_explained(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        Deprecated(**options)


def view(name: str, **options: Any) -> FeatureView:
    source = EventSource("s", path="s.csv", schema={"k": int, "x": float}, timestamp_field="at")
    entity = Entity("e", {"k": int})
    made = {"total": Sum("x", window="1d"), "most": Sum("x", window="2d")}
    return FeatureView(name, entities=[entity], source=source, features=made, **options)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("2027-03-01", "deprecated is Deprecated"),
        ({}, "deprecated is Deprecated"),
        ({"totl": Deprecated("2027-03-01")}, "no feature 'totl' of its own; did you mean 'total'"),
        ({"total": "2027-03-01"}, "deprecated, 'total': found '2027-03-01'; write deprecated="),
    ],
)
def test_what_is_deprecated_of_a_view_is_checked(given: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        view("v", deprecated=given)


def test_a_service_deprecates_its_own_features_alone() -> None:
    with pytest.raises(DefinitionError, match="no feature 'total' of its own"):
        FeatureService("f", features=[view("v")], deprecated={"total": Deprecated("2027-03-01")})


LONG, SHORT = Deprecated("2027-03-01"), Deprecated("2027-01-01")


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (view("v", deprecated=Deprecated("2027-03-01", use="w")), "names no view of the repo"),
        (view("v", deprecated=Deprecated("2027-03-01", use="f")), "names no view of the repo"),
        (view("v", deprecated=Deprecated("2027-03-01", use="v")), "is the view itself"),
        (
            view("v", deprecated={"total": Deprecated("2027-03-01", use="v:totl")}),
            "names no feature of the repo; did you mean 'v:total'",
        ),
        (
            view("v", deprecated={"total": Deprecated("2027-03-01", use="v")}),
            "names no feature of the repo",
        ),
        (
            view("v", deprecated={"total": Deprecated("2027-03-01", use="v:most"), "most": SHORT}),
            "is deprecated itself, and kept until 2027-01-01; name what is kept longer",
        ),
        (
            view("v", deprecated={"total": Deprecated("2027-03-01", use="v:most"),
                                  "most": Deprecated("2027-03-01", use="v:total")}),
            "is deprecated itself",
        ),
    ],
)  # fmt: skip
def test_a_successor_that_is_none_is_a_fault_of_the_repo(made: FeatureView, told: str) -> None:
    with pytest.raises((DefinitionError, DefinitionErrors), match=told):
        FeatureStore(definitions=[FeatureService("f", features=[made])]).plan()


def test_a_successor_may_go_later() -> None:
    first = view("v", deprecated={"total": Deprecated("2027-01-01", use="v:most"), "most": LONG})
    store = FeatureStore(definitions=[first])
    assert [one.name for one in store.repo.deprecations()] == ["v:most", "v:total"]


def test_the_place_of_a_fault_is_that_of_the_deprecation(
    repo: Callable[[str], FeatureStore],
) -> None:
    text = shop(of_view=FEATURE.replace("basket_vs_habit", "basket"))
    line = next(n for n, one in enumerate(text.splitlines(), 1) if "deprecated=" in one)
    made = repo(text)
    with made as store, pytest.raises(DefinitionError) as error:
        store.plan()
    assert error.value.place is not None
    assert error.value.place.endswith(f"features.py:{line}")


# --- nothing else changes -------------------------------------------------------------------------


def test_no_fingerprint_and_no_value_changes(repo: Callable[[str], FeatureStore]) -> None:
    row = [{"customer_id": 1, "basket_value": 25.0}]
    answers, prints, hashes = [], [], []
    at = dt.datetime(2026, 10, 4, tzinfo=dt.UTC)
    frame = [{**row[0], "event_timestamp": at}]
    texts = (shop(), shop(of_view=FEATURE), shop(of_view=VIEW, of_service=VIEW))
    for text in (*texts, shop(of_view=VIEW.replace(str(LATER), str(OVER)))):
        with repo(text) as store:
            store.apply()
            store.materialize()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecatedFeature)
                answers.append(store.get_online_features("checkout", row, at).to_pylist())
                training = store.get_historical_features(frame, "checkout")
            hashes.append((training.to_arrow(), training.manifest["content_hash"])[1])
            prints.append(store.repo.compiled_services["checkout"].fingerprint)
            assert len(store.versions("checkout")) == 1
    assert len({repr(a) for a in answers}) == len(set(prints)) == len(set(hashes)) == 1


# --- who is told ----------------------------------------------------------------------------------


def test_training_and_lookups_warn_once(repo: Callable[[str], FeatureStore]) -> None:
    row = [{"customer_id": 1, "basket_value": 25.0}]
    frame = [{**row[0], "event_timestamp": dt.datetime(2026, 10, 4)}]
    text = (
        f"feature customer_orders:spend_7d is deprecated: kept until {LATER}; use "
        "checkout:basket_vs_habit"
    )
    with repo(shop(of_view=FEATURE)) as store:
        store.apply()
        store.materialize()
        assert said(lambda: store.get_historical_features(frame, "checkout")) == [text]
        assert said(lambda: store.get_historical_features(frame, "checkout")) == []
        asked = ["customer_orders:orders_30d"]
        assert said(lambda: store.get_online_features(asked, [{"customer_id": 1}])) == []
    deprecated._warned.clear()
    with repo(shop(of_view=FEATURE)) as store:
        assert said(lambda: store.get_online_features("checkout", row)) == [text]
        assert said(lambda: store.get_online_features("checkout", row)) == []
    deprecated._warned.clear()
    with repo(shop(of_view=FEATURE)) as store:
        listed = ["customer_orders:spend_7d"]
        assert said(lambda: store.get_online_features(listed, [{"customer_id": 1}])) == [text]


def test_a_feature_that_a_request_time_feature_reads_is_told(
    repo: Callable[[str], FeatureStore],
) -> None:
    """`basket_vs_habit` alone is asked for, and reads `mean_order_30d`."""
    module = shop(of_view=FEATURE.replace("spend_7d", "mean_order_30d"))
    module = module.replace("features=[customer_orders, basket", "features=[customer_orders[["
                            '"mean_order_30d"]], basket')  # fmt: skip
    with repo(module) as store:
        frame = [{"customer_id": 1, "basket_value": 1.0, "event_timestamp": "2026-10-04"}]
        found = said(lambda: store.get_historical_features(frame, ["basket_vs_habit"]))
    assert [text.split()[1] for text in found] == ["customer_orders:mean_order_30d"]


def test_a_view_is_told_once_and_a_service_itself(repo: Callable[[str], FeatureStore]) -> None:
    with repo(shop(of_view=VIEW, of_service=VIEW)) as store:
        frame = [{"customer_id": 1, "basket_value": 1.0, "event_timestamp": "2026-10-04"}]
        found = said(lambda: store.get_historical_features(frame, "checkout"))
    assert found == [
        f"service checkout is deprecated: kept until {LATER} (it counts returns)",
        f"view customer_orders is deprecated: kept until {LATER} (it counts returns)",
    ]


def test_the_warning_is_at_the_line_that_asked(repo: Callable[[str], FeatureStore]) -> None:
    with repo(shop(of_view=VIEW)) as store:
        store.apply()
        store.materialize()
        for ask in (
            lambda: store.get_historical_features(at=["2026-10-04"], features=["customer_orders"]),
            lambda: store.get_online_features(["customer_orders"], [{"customer_id": 1}]),
        ):
            deprecated._warned.clear()
            store.parts.notices._told.clear()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                ask()
            (one,) = [w for w in caught if w.category is DeprecatedFeature]
            assert one.filename == __file__


def test_what_was_applied_since_is_told_after_a_while(
    repo: Callable[[str], FeatureStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = [{"customer_id": 1, "basket_value": 25.0}]
    with repo(shop()) as store, FeatureStore(store.path) as reader:
        store.apply()
        store.materialize()
        assert said(lambda: reader.get_online_features("checkout", row)) == []
        with repo(shop(of_view=VIEW)) as other:
            other.apply()
        assert said(lambda: reader.get_online_features("checkout", row)) == []
        reader.parts.notices._next = 0.0
        assert len(said(lambda: reader.get_online_features("checkout", row))) == 1
        assert deprecations.LOOK_S == 60.0


async def _asked(store: FeatureStore) -> None:
    await store.get_online_features_async("checkout", [{"customer_id": 1, "basket_value": 25.0}])
    await store.close_async()


def test_awaited_lookups_warn_too(repo: Callable[[str], FeatureStore]) -> None:
    import asyncio

    with repo(shop(of_view=VIEW)) as store:
        store.apply()
        store.materialize()
        assert len(said(lambda: asyncio.run(_asked(store)))) == 1


def test_damaged_notes_stop_no_lookup(
    repo: Callable[[str], FeatureStore], redis_store: RedisStore
) -> None:
    row = [{"customer_id": 1, "basket_value": 25.0}]
    with repo(shop(of_view=VIEW)) as store:
        store.apply()
        store.materialize()
        redis_store.write({b"fk:shop:about": b'{"view customer_orders": 3}'})
        assert said(lambda: store.get_online_features("checkout", row)) == []
        store.apply()  # writes them anew
        assert len(noted_deprecations(read_about(store.online, "shop"))) == 1


def test_since_is_kept(repo: Callable[[str], FeatureStore]) -> None:
    found = []
    for text in (shop(of_view=VIEW), shop(of_view=VIEW), shop(), shop(of_view=VIEW)):
        with repo(text) as store:
            store.apply()
            found.append([o.since for o in noted_deprecations(read_about(store.online, "shop"))])
    assert found[0] == found[1]
    assert found[2] == []
    assert found[3] > found[0]


# --- what shows it --------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(list(argv))
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_plan_and_apply_show_it(
    repo: Callable[[str], FeatureStore], capsys: pytest.CaptureFixture[str]
) -> None:
    repo(shop())
    run(capsys, "apply")
    repo(shop(of_view=FEATURE))
    code, out, _ = run(capsys, "plan", "--detailed-exitcode")
    assert code == 2, "what is said of it has changed"
    assert f"spend_7d: deprecated: kept until {LATER}; use checkout:basket_vs_habit" in out
    assert "customer_orders:spend_7d  feature" in out
    told = json.loads(run(capsys, "plan", "--json", "--fail-overdue")[1])
    assert told["notes"]["deprecated"] == [
        {"kind": "feature", "name": "customer_orders:spend_7d", "after": str(LATER),
         "use": "checkout:basket_vs_habit", "why": "", "overdue": False}
    ]  # fmt: skip
    (change,) = told["changes"]
    assert (change["action"], change["old"]) == ("describe", change["new"])
    assert str(LATER) in run(capsys, "apply")[1]
    assert run(capsys, "plan", "--detailed-exitcode")[0] == 0
    repo(shop())
    assert "spend_7d: not deprecated any more" in run(capsys, "plan")[1]


def test_what_is_past_its_day_is_served_and_fails_a_build_that_asks_for_it(
    repo: Callable[[str], FeatureStore], capsys: pytest.CaptureFixture[str]
) -> None:
    repo(shop(of_view=VIEW.replace(str(LATER), str(OVER))))
    for verb in ("plan", "apply", "validate"):
        code, out, _ = run(capsys, verb)
        assert code == 0
        assert "overdue: view customer_orders: the last day is over" in out
    assert run(capsys, "materialize")[0] == 0
    asked = ("get-online", "checkout", "customer_id=1", "basket_value=25")
    code, out, err = run(capsys, *asked)
    assert (code, "spend_7d" in out) == (0, True)
    assert f"warning: view customer_orders is deprecated: kept until {OVER}, which is over" in err
    assert run(capsys, "plan", "--fail-overdue")[0] == 2
    assert run(capsys, "plan", "--fail-overdue", "--detailed-exitcode")[0] == 1
    assert run(capsys, "validate", "--fail-overdue")[0] == 3
    told = json.loads(run(capsys, "validate", "--json")[1])
    assert [one["name"] for one in told["overdue"]] == ["customer_orders"]
    repo(shop(of_view=VIEW.replace(str(LATER), str(TODAY))))
    assert run(capsys, "plan", "--fail-overdue")[0] == 0, "its last day is today"


def test_get_historical_says_it(
    repo: Callable[[str], FeatureStore], capsys: pytest.CaptureFixture[str]
) -> None:
    repo(shop(of_view=VIEW))
    code, _, err = run(capsys, "get-historical", "--features", "customer_orders", "--at",
                       "2026-10-04")  # fmt: skip
    assert code == 0
    assert err.count("warning: view customer_orders is deprecated") == 1


def test_lists_descriptions_and_searches_have_it(
    repo: Callable[[str], FeatureStore], capsys: pytest.CaptureFixture[str]
) -> None:
    repo(shop(of_view=FEATURE))
    listed = json.loads(run(capsys, "list", "--json")[1])["features"]
    named = {one["name"]: one["deprecated"] for one in listed}
    assert named["customer_orders:spend_7d"]["use"] == "checkout:basket_vs_habit"
    assert named["customer_orders:orders_30d"] is None
    assert str(LATER) in run(capsys, "list")[1]
    assert f"kept until {LATER}" in run(capsys, "describe", "spend_7d")[1]
    found = json.loads(run(capsys, "search", "deprecated", "--json")[1])["found"]
    assert [one["name"] for one in found] == ["customer_orders:spend_7d"]
    repo(shop(of_view=VIEW.replace(str(LATER), str(OVER))))
    assert f"{OVER} (over)" in run(capsys, "list", "views")[1]
    listed = json.loads(run(capsys, "list", "--of", "customer_orders", "--json")[1])["features"]
    assert all(one["deprecated"]["overdue"] for one in listed), "they go with their view"


def test_history_has_it(
    repo: Callable[[str], FeatureStore], capsys: pytest.CaptureFixture[str]
) -> None:
    for text in (
        shop(),
        shop(of_view=FEATURE),
        shop(of_view=FEATURE.replace(str(LATER), str(OVER))),
        shop().replace('window="7d"', 'window="8d"'),
        shop(of_view=VIEW),
    ):
        with repo(text) as store:
            store.apply(allow_breaking=True)

    def told(name: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(r.action, r.reasons) for r in store.history(name)]

    use = "; use checkout:basket_vs_habit"
    until = f"deprecated: kept until {LATER}"
    assert told("customer_orders:spend_7d") == [
        ("add", ()),
        ("deprecate", (f"{until}{use}",)),
        ("deprecate", (f"deprecated: kept until {OVER}{use}",)),
        ("change", ("window 1w → 8d",)),
        ("undeprecate", ("not deprecated any more",)),
        ("change", ("window 8d → 1w",)),
        ("deprecate", (f"{until} (it counts returns)",)),
    ]
    assert [a for a, _ in told("customer_orders:orders_30d")] == ["add", "deprecate"]
    assert [a for a, _ in told("customer_orders")] == [
        "add", "deprecate", "deprecate", "change", "undeprecate", "change", "deprecate",
    ]  # fmt: skip
    assert told("checkout")[-1][0] == "change"
    with pytest.raises(Exception, match="had a feature 'none'"):
        store.history("customer_orders:none")
    assert "undeprecate" in run(capsys, "history", "customer_orders")[1]


def test_a_registry_that_is_rebuilt_still_knows(repo: Callable[[str], FeatureStore]) -> None:
    with repo(shop(of_view=VIEW)) as store:
        store.apply()
        before = store.history("customer_orders")
        (store.state_dir / "registry.db").unlink()
    with repo(shop(of_view=VIEW)) as store:
        store.adopt()
        assert store.history("customer_orders") == before
        assert store.plan() == []


def test_the_catalogue_has_it(
    repo: Callable[[str], FeatureStore], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    repo(shop(of_view=VIEW.replace(str(LATER), str(OVER)), of_service=VIEW))
    assert run(capsys, "catalog", "--no-data", "-o", str(tmp_path / "site"))[0] == 0
    page = (tmp_path / "site" / "feature" / "customer_orders.spend_7d.html").read_text()
    assert "<span class='badge bad'>deprecated, its last day is over</span>" in page
    service = (tmp_path / "site" / "service" / "checkout.html").read_text()
    assert "<span class='badge late'>deprecated</span>" in service
    assert f"kept until {LATER} (it counts returns)" in service
    assert "is deprecated: kept until" in (tmp_path / "site" / "search.js").read_text()


def test_a_registry_of_an_earlier_release_is_read(repo: Callable[[str], FeatureStore]) -> None:
    import sqlite3

    with repo(shop()) as store:
        store.apply()
        with sqlite3.connect(store.state_dir / "registry.db") as file:
            file.execute("DROP TABLE deprecations")
    with repo(shop(of_view=VIEW)) as store:
        assert [c.action for c in store.plan()] == ["describe"]
        store.apply()
        assert [r.action for r in store.history("customer_orders")] == ["add", "deprecate"]


def test_no_plan_has_it() -> None:
    made = FeatureStore(definitions=[view("v", deprecated=LONG)]).repo.compiled_views["v"]
    assert made == FeatureStore(definitions=[view("v")]).repo.compiled_views["v"]
