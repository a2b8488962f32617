"""A pinned version stays fed and can be asked, whatever is live, until its pins are gone."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from versioned import Repo, deploy, live_days

from featurekit import FeatureStore
from featurekit.cli.__main__ import main
from featurekit.errors import NotServed, OnlineError, RegistryError
from featurekit.online.store.redis import RedisStore
from featurekit.project import deployment
from featurekit.project import pins as module
from featurekit.project.deployment import fed_views, pinned_versions, pins_key
from featurekit.project.site.gathered import Asked
from featurekit.project.site.write import write_site

MODEL = "models:/churn/3"
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
JOINED = """
from featurekit import feature

prices = EventSource(
    "prices", path="prices.parquet", schema={"k": int, "price": float},
    timestamp_field="ts", created_timestamp_column="arrived",
)
price = FeatureView("price", entities=[entity], source=prices, features={"price": "price"})

@feature
def amount(x: int, price: float | None) -> float | None:
    return None if price is None else x * price

spent = FeatureView(
    "spent", entities=[entity], source=source.join(price, on="k"),
    features={"spent": Sum(amount, window="30000d")},
)
"""


def asked(store: FeatureStore, name: str, key: int = 1, **options: Any) -> tuple[Any, Any]:
    found = store.get_online_features(name, [{"k": key}], **options)
    return tuple((found.columns[n][0], found.status[n][0]) for n in ("x", "sum"))


def offline(repo: Repo, window: str, when: dt.datetime, key: int = 1) -> tuple[Any, Any]:
    """What the definitions with this window give."""
    repo.define(window=window)
    with repo.store() as store:
        frame = [{"k": key, "event_timestamp": when}]
        (row,) = (
            store.get_historical_features(frame, "service", statuses=True).to_arrow().to_pylist()
        )
    return tuple((row[n], row[f"{n}__status"]) for n in ("x", "sum"))


@pytest.fixture
def three(repo: Repo) -> tuple[Repo, list[str]]:
    """Three versions of which the first is pinned while it is retained."""
    repo.files((1, 1, 10))
    first, second = deploy(repo, "30000d", "1d")
    with repo.store() as store:
        done = store.pin(f"service@{first[:9]}", by=MODEL, owner="ann")
        assert (done.pin.fingerprint, done.unfilled) == (first, ())
    return repo, [first, second, *deploy(repo, "2d")]


def test_the_catalogue_shows_the_model_that_needs_a_version(
    three: tuple[Repo, list[str]], tmp_path: Path
) -> None:
    repo, (first, *_) = three
    with repo.store() as store:
        write_site(store.parts, tmp_path / "site", Asked())
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("site/*/*.html")}
    named = sorted(name for name, text in pages.items() if MODEL in text)
    assert named == ["latest.x", "service", "window.sum"]
    for name in named:
        assert first[:12] in pages[name]
        assert "ann" in pages[name]


def test_a_pinned_version_misses_no_push_and_answers_with_its_own_bits(
    three: tuple[Repo, list[str]],
) -> None:
    """F1: each version answers as its own definitions do offline."""
    repo, (first, second, third) = three
    repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))
    with repo.store() as store:
        when = dt.datetime.now(dt.UTC)
        pinned = asked(store, f"service@{first[:9]}", as_of=when)
        assert pinned == ((5, "PRESENT"), (6, "PRESENT"))
        assert asked(store, f"service@{first}", as_of=when) == pinned
        assert asked(store, "service", as_of=when) == ((5, "PRESENT"), (5, "PRESENT"))
        assert asked(store, f"service@{second}", as_of=when)[1] == (5, "PRESENT")  # retained
        assert asked(store, f"service@{third}", as_of=when)[1] == (5, "PRESENT")  # live
        states = {v.fingerprint: (v.state, v.pinned_by) for v in store.versions("service")}
    assert states == {
        first: ("pinned", (MODEL,)),
        second: ("retained", ()),
        third: ("live", ()),
    }
    assert offline(repo, "30000d", when) == pinned


def test_gc_and_rollback_leave_a_pinned_version_alone(three: tuple[Repo, list[str]]) -> None:
    repo, (first, *_) = three
    with repo.store() as store:
        with pytest.raises(RegistryError, match=r"is used by pinned service.*featurekit unpin"):
            store.gc([f"service:{first}"])
        store.rollback("service")
        collected = store.gc(retained=True)
        assert {v.fingerprint for v in collected.versions if "pinned service" in v.used_by} > {
            first
        }
        assert asked(store, f"service@{first}")[1] == (1, "PRESENT")
        assert live_days(repo) == 1
        assert [one.state for one in store.versions("service")] == ["pinned", "live", "unfed"]


def test_a_version_that_was_not_fed_is_pinned_and_then_filled(repo: Repo) -> None:
    repo.files((1, 1, 10))
    first, _, _ = deploy(repo, "30000d", "1d", "2d")
    repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))  # the first version misses it
    with repo.store() as store:
        with pytest.raises(NotServed, match=f"feeds no version '{first[:8]}'.*featurekit pin"):
            asked(store, f"service@{first[:8]}")
        done = store.pin(f"service@{first}", by=MODEL)
        assert done.unfilled == ("window",)
        with pytest.raises(NotServed, match=r"its view 'window' is not filled.*materialize"):
            asked(store, f"service@{first}")
        store.materialize()
        assert asked(store, f"service@{first}")[1] == (6, "PRESENT")
        assert asked(store, "service")[1] == (5, "PRESENT")


def test_what_is_unpinned_is_refused_at_once_and_goes_with_gc(
    three: tuple[Repo, list[str]],
) -> None:
    repo, (first, *_) = three
    with repo.store() as reader, repo.store() as store:
        assert asked(reader, f"service@{first}")[1] == (1, "PRESENT")
        store.pin(f"service@{first}", by="models:/other/1")
        (gone,) = store.unpin(f"service@{first[:7]}", by=MODEL)
        assert (gone.by, gone.owner) == (MODEL, "ann")
        assert asked(reader, f"service@{first}")[1] == (1, "PRESENT")  # another needs it
        store.unpin("service")
        with pytest.raises(NotServed, match=r"its view 'window' is not filled"):
            asked(reader, f"service@{first}")
        assert first in {one.fingerprint for one in store.gc().removed}
        with pytest.raises(NotServed, match="has no plan there"):
            asked(reader, f"service@{first}")
        assert store.pins() == []


def test_a_version_that_is_pinned_again_is_not_taken_as_filled(
    three: tuple[Repo, list[str]],
) -> None:
    repo, (first, *_) = three
    with repo.store() as store:
        store.unpin("service")
        repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))
        assert store.pin(f"service@{first}", by=MODEL).unfilled == ("window",)
        with pytest.raises(NotServed):
            asked(store, f"service@{first}")
        store.materialize()
        assert asked(store, f"service@{first}")[1] == (6, "PRESENT")


def test_a_version_that_is_released_while_it_is_pinned_is_not_taken_as_filled(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is fed is decided in the write that pins: here another version goes live before it, by a
    process that ends before it has forgotten that the first one was filled."""
    repo.files((1, 1, 10))
    first, _ = deploy(repo, "30000d", "1d")
    repo.define(window="2d")
    with repo.store() as other:
        other.apply()
        before, begun = module.fed_plans, []

        def overtaken(*args: Any) -> Any:
            found = before(*args)
            if not begun:
                begun.append(1)
                with monkeypatch.context() as ended:
                    ended.setattr(deployment, "forget_unfed", lambda *_: None)
                    other.materialize()  # the first version is retained no longer
                repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))
            return found

        monkeypatch.setattr(module, "fed_plans", overtaken)
        with repo.store() as store:
            assert store.pin(f"service@{first}", by=MODEL).unfilled == ("window",)
            store.materialize()
            assert asked(store, f"service@{first}")[1] == (6, "PRESENT")


def test_the_end_of_a_pin_lets_it_go_with_the_next_gc_or_apply(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.files((1, 1, 10))
    first, _ = deploy(repo, "30000d", "1d")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)
    with repo.store() as store:
        store.pin(f"service@{first}", by=MODEL, until=later)
        store.pin(f"service@{first}", by="shadow", until=later + dt.timedelta(days=1))
        deploy(repo, "2d")
        for days, left in ((2, 2), (3.5, 1), (5, 0)):
            at = int((dt.datetime.now(dt.UTC) + dt.timedelta(days=days)).timestamp() * 1e6)
            monkeypatch.setattr(type(store.online), "now_us", lambda _, at=at: at)
            store.gc(dry_run=True)
            store.gc() if days < 5 else store.apply()
            assert len(store.pins()) == left
            (value,) = store.online.read([pins_key(store.project)])
            assert pinned_versions(value) == ([("service", first)] if left else [])


def test_apply_refuses_a_source_that_a_pinned_version_cannot_read(
    three: tuple[Repo, list[str]],
) -> None:
    repo, (first, *_) = three
    repo.define(window="2d", schema='{"k": int, "x": int | None}')
    with repo.store() as store:
        said = re.escape(
            f"version {first[:12]} of service 'service' is pinned by {MODEL} (owner ann)"
        )
        with pytest.raises(RegistryError, match=f"{said}.*Nothing was applied.*featurekit unpin"):
            store.apply()
        assert asked(store, f"service@{first}")[1] == (1, "PRESENT")
        assert [v.state for v in store.versions("service")] == ["pinned", "retained", "live"]
        store.unpin(f"service@{first}")
        store.apply()


def test_pins_are_fed_again_after_the_store_lost_them(
    three: tuple[Repo, list[str]],
) -> None:
    """The registry has the pins; a version that missed rows meanwhile is filled before it is
    asked."""
    repo, (first, *_) = three
    key = pins_key("versions")
    redis_store = RedisStore(repo.url)
    (before,) = redis_store.read([key])
    assert before is not None
    for bad in (None, before[:-1] + bytes([before[-1] ^ 1])):
        if bad is None:
            redis_store.delete([key])
        else:
            redis_store.write({key: bad})
            with (
                repo.store() as store,
                pytest.raises(OnlineError, match="'pins' in Redis is damag"),
            ):
                store.push("events", {"k": 1, "x": 1, "ts": dt.datetime.now(dt.UTC)})
        with repo.store() as store:
            store.apply()
            assert redis_store.read([key]) == [before]
            store.materialize()
        repo.push(k=1, x=5, ts=dt.datetime.now(dt.UTC))
        with repo.store() as store:
            when = dt.datetime.now(dt.UTC)
            found = asked(store, f"service@{first}", as_of=when)
        assert found == offline(repo, "30000d", when)
        repo.define(window="2d")


def test_a_registry_that_was_lost_comes_back_with_its_pins(
    three: tuple[Repo, list[str]],
) -> None:
    repo, (first, *_) = three
    with repo.store() as store:
        before = store.pins()
        folder = store.state_dir
    for path in folder.glob("registry.*"):
        path.unlink()
    with repo.store() as store:
        store.adopt()
        assert store.pins() == before
        assert [one.fingerprint for one in before] == [first]
        store.apply()
        assert asked(store, f"service@{first}")[1] == (1, "PRESENT")


def test_a_service_that_is_removed_keeps_its_pinned_version(
    three: tuple[Repo, list[str]],
) -> None:
    repo, (first, *_) = three
    text = (repo.folder / "definitions.py").read_text()
    (repo.folder / "definitions.py").write_text(
        text.replace('FeatureService("service"', 'FeatureService("another"')
    )
    with repo.store() as store:
        store.apply(allow_breaking=True)
        store.materialize()
        store.push("events", {"k": 1, "x": 5, "ts": dt.datetime.now(dt.UTC)})
        assert asked(store, f"service@{first}")[1] == (6, "PRESENT")
        with pytest.raises(NotServed):
            asked(store, "service")


def test_what_a_pinned_version_takes_from_another_view_is_fed_with_it(repo: Repo) -> None:
    """T11: the other view has states that nothing else reads any more."""
    at = pa.array([START, START], pa.timestamp("us", tz="UTC"))
    prices = {"k": [1, 2], "price": [2.5, 4.0], "ts": at, "arrived": at}
    pq.write_table(pa.table(prices), repo.folder / "prices.parquet")
    repo.files((1, 1, 10))
    text = (repo.folder / "definitions.py").read_text()
    joined = text.replace("window = FeatureView(", JOINED + "window = FeatureView(").replace(
        "features=[latest, window]", "features=[latest, window, spent]"
    )
    (repo.folder / "definitions.py").write_text(joined)
    repo.deploy()
    with repo.store() as store:
        first = store.repo.compiled_services["service"].fingerprint
        assert store.pin(f"service@{first}", by=MODEL).unfilled == ()
    for window in ("1d", "2d"):  # two versions that take nothing
        (repo.folder / "definitions.py").write_text(text.replace("30d", window))
        with repo.store() as store, pytest.raises(RegistryError, match="'price"):
            store.apply(allow_breaking=True)
        unused = text.replace("30d", window) + JOINED
        unused += "other = FeatureService('o', features=[spent])\n"
        (repo.folder / "definitions.py").write_text(unused)
        with repo.store() as store:
            store.apply(allow_breaking=True)
            store.materialize()
    now = dt.datetime.now(dt.UTC)
    with repo.store() as store:
        store.gc(retained=True)
        store.push("prices", {"k": 1, "price": 8.0, "ts": now})
        store.push("events", {"k": 1, "x": 5, "ts": dt.datetime.now(dt.UTC)})
        found = store.get_online_features(f"service@{first}", [{"k": 1}])
        assert (found.columns["spent"][0], found.status["spent"][0]) == (2.5 + 8.0 * 5, "PRESENT")


def test_wrong_pins_are_told(three: tuple[Repo, list[str]]) -> None:
    repo, (first, *_) = three
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    with repo.store() as store:
        for words, options, said in (
            ("service", {"by": "x"}, "no version is named; write its fingerprint"),
            ("service@zzz", {"by": "x"}, "'zzz' is no version in the registry; there are"),
            ("servise@1", {"by": "x"}, "knows no service 'servise'; did you mean 'service'"),
            (f"service@{first}", {"by": " "}, "by is ' '; write what needs the version"),
            (f"service@{first}", {"by": "x", "owner": ""}, "owner is ''"),
            (
                f"service@{first}",
                {"by": "x", "until": yesterday},
                "write an instant that is to come",
            ),
        ):
            with pytest.raises(RegistryError, match=re.escape(said)):
                store.pin(words, **options)
        with pytest.raises(RegistryError, match="service by x is not pinned; there are service@"):
            store.unpin("service", by="x")
        assert len(store.pins()) == 1
        assert {v.fingerprint for v in fed_views(store.online, store.project)} == {
            v.fingerprint for v in store.parts.fed()
        }


def test_the_command_line_pins_lists_and_shows_the_cost(
    repo: Repo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.files((1, 1, 10))
    first, _ = deploy(repo, "30000d", "1d")
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", repo.url)

    def run(*words: str) -> tuple[int, str]:
        code = main([*words, "--repo", str(repo.folder)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    code, text = run("pin", f"service@{first[:10]}", "--by", MODEL, "--until", "2100-01-01")
    assert (code, f"service@{first[:12]} is pinned by {MODEL} until 2100-01-01" in text) == (
        0,
        True,
    )
    assert "Fed for it alone: window." in text
    document = json.loads(run("pins", "--json")[1])["pins"]
    assert [(p["fingerprint"], p["by"], p["extra_views"]) for p in document] == [
        (first, MODEL, ["window"])
    ]
    for verb in ("pins", "plan"):
        assert MODEL in run(verb)[1]
    assert json.loads(run("plan", "--json")[1])["notes"]["pinned"] == document
    code, text = run("get-online", f"service@{first[:10]}", "k=1", "--json")
    assert code == 0, text
    assert run("pin", "service@zzz", "--by", MODEL)[0] == 2
    assert run("pin", f"service@{first}")[0] == 64
    assert "no longer pinned" in run("unpin", "service")[1]
    assert "No version is pinned." in run("pins")[1]
