"""Parity of what is live: `sample` reads the online store, `replay` the serving log.

Each is held to three answers: nothing where the paths agree, lag where events are not online yet,
and skew for what is planted, whatever lags beside it.
"""

from __future__ import annotations

import datetime as dt
import functools
import operator
from contextlib import closing
from typing import Any

import pytest
from live_orders import (
    HOUR,
    NOW,
    late_orders,
    lose_an_event,
    open_store,
    orders,
    serve_all,
    write_orders,
)
from paths import in_small_blocks

from featurekit.aggregates import Sum
from featurekit.core import keys as keys_module
from featurekit.core.keys import state_prefix
from featurekit.core.types import micros
from featurekit.errors import DataError, FingerprintMismatch, NotServed, OnlineError
from featurekit.feed import settle
from featurekit.feed.events import Pushed
from featurekit.online.lookup import service
from featurekit.online.state.seal import opened, sealed
from featurekit.online.store.protocol import Pending, PendingSteps
from featurekit.parity import paths
from featurekit.parity.budget import Budget
from featurekit.parity.modes import sample as live_check
from featurekit.parity.modes.sample import LiveCheck
from featurekit.store import FeatureStore

__all__ = ["open_store"]


def sample(store: FeatureStore, **options: Any) -> Any:
    return store.check_parity("service", mode="sample", budget=2_000, **options)


def replayed(store: FeatureStore, **options: Any) -> Any:
    store.close()
    return store.check_parity("service", mode="replay", **options)


# --- sample ---------------------------------------------------------------------------------------


def test_a_sample_finds_nothing_where_the_paths_agree(open_store):
    store = open_store()
    store.push("orders", [{"customer": 3, "shop": "a", "amount": 1.0, "word": None,
                           "at": NOW - HOUR}])  # fmt: skip
    report = sample(store)
    assert (report.differing, report.lagging, dict(report.unchecked)) == (0, 0, {})
    assert report.compared >= 1_000
    assert len(report.features) == 9
    assert {"PRESENT", "NULL_VALUE"} <= {s for f in report.features.values() for s in f.statuses}
    assert all(f.fresh_us is not None for f in report.features.values())


def test_many_rows_are_read_by_processes_with_the_same_answer(open_store, monkeypatch):
    monkeypatch.setattr(live_check, "_MANY", 10)
    store = open_store()
    with closing(LiveCheck(store.parts, "service", workers=2)) as check:
        agreeing = check.run(Budget(values=1_000))
        assert check.readers is not None
        assert agreeing.ok
        assert len(agreeing.features) == 9
        write_orders(store, orders() + late_orders())
        lose_an_event(store)
        differing = check.run(Budget(values=1_000))
    counts = differing.features["of_customer__orders"]
    assert counts.differing > 0
    assert counts.compared == agreeing.features["of_customer__orders"].compared
    revenue = differing.features["of_shop__revenue"]
    assert (revenue.differing, revenue.lagging > 0) == (0, True)


def test_events_that_wait_for_materialize_lag(open_store):
    store = open_store()
    write_orders(store, orders() + late_orders())
    report = sample(store)
    assert report.differing == 0
    assert report.ok
    spend, back = report.features["of_customer__spend"], report.features["refunded__back"]
    assert spend.lagging > 0
    assert report.features["left"].lagging > 0, "a transform lags with what it reads"
    assert spend.lag_us is not None
    assert 0 <= spend.lag_us < 600_000_000
    assert (back.lagging, back.lag_us) == (0, None)
    store.materialize_incremental()
    assert sample(store).lagging == 0


@pytest.mark.parametrize("lagging", [False, True])
def test_an_event_that_the_states_lost_is_skew_whatever_lags(open_store, lagging):
    store = open_store()
    if lagging:
        write_orders(store, orders() + late_orders())
    lose_an_event(store)
    report = sample(store)
    assert not report.ok
    assert report.features["of_customer__orders"].differing > 0
    assert report.features["of_shop__revenue"].differing == 0
    assert (report.features["of_shop__revenue"].lagging > 0) is lagging
    lost = next(d.diagnosis for d in report.differences if d.feature == "of_customer__orders")
    assert lost is not None
    assert lost.cause == "missing event", "the lagging ones are not what the state has lost"
    assert lost.where.startswith("online is what comes without event ")
    assert lost.case == "", "its events, played again, make no difference"
    assert " are enough" not in lost.text()


def test_a_feature_that_goes_on_differing_is_diagnosed_once(open_store):
    store = open_store()
    lose_an_event(store)
    with closing(LiveCheck(store.parts, "service")) as check:
        reports = [check.run(Budget(values=2_000)) for _ in range(2)]
    assert all(r.features["of_customer__orders"].differing for r in reports)
    told = [{d.feature for d in r.differences if d.diagnosis is not None} for r in reports]
    assert told[0]
    assert not told[0] & told[1]


def test_a_state_that_is_gone_misses_every_event(open_store):
    store = open_store()
    (view,) = [v for v in store.live()["service"].views if v.name == "of_customer"]
    store.online.delete(list(store.online.keys(state_prefix("tests", view))))
    report = sample(store)
    found = next(d.diagnosis for d in report.differences if d.feature == "of_customer__orders")
    assert found is not None
    assert (found.cause, found.where) == (
        "missing event",
        "online is what comes without any event",
    )


def test_a_state_of_yesterday_is_stale(open_store):
    store = open_store(rows=[])
    (view,) = [v for v in store.live()["service"].views if v.name == "of_customer"]

    def push(hours: int) -> None:
        store.push("orders", [{"customer": 1, "shop": "a", "amount": 1.0, "word": None,
                               "at": NOW - hours * HOUR}])  # fmt: skip

    push(5)
    (key,) = store.online.keys(state_prefix("tests", view))
    old = store.online.read([key])[0] or b""
    push(4)
    push(3)
    store.online.write({key: old})
    report = sample(store)
    found = next(d.diagnosis for d in report.differences if d.feature == "of_customer__orders")
    assert found is not None
    assert found.cause == "stale state"
    assert found.where.startswith("online is what comes without the 2 events that arrived from ")


def test_an_entity_of_one_side_only_is_seen(open_store):
    store = open_store()
    (view,) = [v for v in store.live()["service"].views if v.name == "of_both"]
    keys = sorted(store.online.keys(state_prefix("tests", view)))
    blob = store.online.read(keys[:1])[0]
    ghost = keys[0].replace(b"2:sa}", b"6:sghost}")
    assert ghost != keys[0]
    store.online.write({ghost: sealed(ghost, opened(keys[0], blob or b"") or b"")})
    report = sample(store)
    assert {d.row["shop"] for d in report.differences} == {"ghost"}
    store.online.delete([ghost, keys[0]])
    report = sample(store)
    assert {d.row["shop"] for d in report.differences} == {"a"}
    assert {d.feature for d in report.differences} <= {"of_both__last", "of_both__word"}


def plain_sum(self: Sum, values: Any, item: Any) -> Any:
    """Rounded at each step, as no sum here is; Python's own `sum` is not, from 3.12 on."""
    return functools.reduce(operator.add, values) if len(values) else None


def test_another_arithmetic_on_one_path_is_skew(open_store, monkeypatch):
    store = open_store()
    monkeypatch.setattr(Sum, "over", plain_sum)
    report = sample(store)
    assert report.features["of_customer__spend"].differing > 0
    found = next(d.diagnosis for d in report.differences if d.feature == "of_customer__spend")
    assert found is not None
    assert found.cause == "float order"
    assert len(found.scenario.deliveries) <= 5
    assert "parity(" in found.case


def test_pushes_that_go_on_meanwhile_are_no_skew(open_store, monkeypatch):
    store = open_store()
    check = LiveCheck(store.parts, "service")
    ask, pushed = live_check.read, 0

    def pushing(*args: Any, **kwargs: Any) -> Any:
        nonlocal pushed
        if pushed < 2:
            pushed += 1
            store.push("orders", [{"customer": c, "shop": "a", "amount": 1.0, "word": None,
                                   "at": NOW - HOUR} for c in range(3)])  # fmt: skip
        return ask(*args, **kwargs)

    monkeypatch.setattr(live_check, "read", pushing)
    report = check.run(Budget(values=2_000))
    assert pushed == 2
    assert (report.differing, report.lagging) == (0, 0)
    assert report.compared > 1_500
    assert not report.unchecked


def test_a_state_that_changes_under_the_check_is_asked_again(open_store, monkeypatch):
    """A push of rows with arrivals of their own lands between the two paths' answers."""
    store = open_store()
    offline, pushed = paths.Offline.answers, []

    def after(*args: Any) -> Any:
        if not pushed:
            old = NOW - dt.timedelta(minutes=50)
            pushed.append(store.push("orders", [
                {"customer": c, "shop": "a", "amount": 1.0, "word": None, "at": old, "known": old}
                for c in range(12)
            ]))  # fmt: skip
        return offline(*args)

    monkeypatch.setattr(paths.Offline, "answers", after)
    report = sample(store)
    assert pushed
    assert (report.differing, report.lagging, dict(report.unchecked)) == (0, 0, {})


DAMAGED = r"'of_customer': the state of customer=\d+ is damaged: block .* is not as its head says"


def test_a_state_that_is_not_whole_is_an_error_and_not_left_out(open_store, monkeypatch):
    in_small_blocks(monkeypatch)
    store = open_store()
    # ValueCounts reads every block of its window. A sum or a mean reads only the one in which its
    # window begins, and none where it begins between two.
    store.online.delete(list(store.online.keys(b"fk:tests:block:of_customer:")))
    with pytest.raises(OnlineError, match=DAMAGED):
        sample(store)


def test_checks_one_after_the_other_see_every_entity(open_store):
    store = open_store()
    check = LiveCheck(store.parts, "service")
    lose_an_event(store, "of_both")
    assert any(not check.run(Budget(values=100)).ok for _ in range(20))


def test_a_live_version_that_the_repo_has_left_behind_is_compared_by_its_own_definition(open_store):
    store = open_store()
    path = store.path / "definitions.py"
    path.write_text(path.read_text().replace('Sum("amount", window="30d")', 'Count(window="9d")'))
    with FeatureStore(store.path) as changed:
        changed.apply(allow_breaking=True)
        report = sample(changed)
        assert report.ok
        assert "is live, and the repo defines" in report.notes[0]


def test_what_is_not_live_is_no_result(open_store):
    store = open_store()
    store.online.delete([keys_module.project_key("tests", "live", "service")])
    with pytest.raises(NotServed, match="serves no service"):
        sample(store)


# --- replay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["parquet", "stream"])
def test_a_replay_finds_nothing_where_nothing_happened(open_store, to):
    store = open_store(f"{{to: {to}}}")
    serve_all(store)
    store.online.clock = lambda: micros(NOW + HOUR)
    serve_all(store, NOW + HOUR)
    report = replayed(store)
    assert (report.differing, report.lagging, dict(report.unchecked)) == (0, 0, {})
    assert report.rows == 84
    assert report.compared == 84 * 9


def test_a_replay_of_what_was_served_before_later_events(open_store):
    """What came to be known after a row was served is not known to it, however old it is."""
    store = open_store()
    serve_all(store)
    old = NOW - dt.timedelta(hours=2)
    store.push("orders", [{"customer": 1, "shop": "a", "amount": 5.0, "word": "x", "at": old}])
    serve_all(store)
    store.materialize()
    report = replayed(store)
    assert (report.differing, report.lagging) == (0, 0)
    assert report.rows == 84


def test_what_was_served_before_materialize_brought_it_lags(open_store):
    store = open_store()
    write_orders(store, orders() + late_orders())
    serve_all(store)
    store.materialize()
    serve_all(store)
    report = replayed(store)
    assert report.differing == 0
    spend = report.features["of_customer__spend"]
    assert spend.lagging == 6, "two customers with three shops, in the first request only"
    assert spend.lag_us is not None
    assert 0 <= spend.lag_us < 600_000_000
    assert report.features["left"].lagging == 6


def test_what_was_served_while_a_push_was_under_way_lags(open_store, monkeypatch):
    store = open_store()
    open_write = settle.open_write

    def slow(*args: Any) -> Pending[Pushed]:
        def steps() -> PendingSteps[Pushed]:
            with open_write(*args) as pending:
                yield
                serve_all(store)  # the rows are stamped, and in the log, and not in the states
                return pending.result()

        return Pending(steps())

    monkeypatch.setattr(settle, "open_write", slow)
    store.push("orders", [{"customer": 1, "shop": "a", "amount": 5.0, "word": "x",
                           "at": NOW - HOUR}])  # fmt: skip
    report = replayed(store)
    assert report.differing == 0
    assert report.features["of_customer__orders"].lagging == 3


@pytest.mark.parametrize("lagging", [False, True])
def test_what_was_served_wrong_is_skew_whatever_lags(open_store, lagging, monkeypatch):
    store = open_store()
    if lagging:
        write_orders(store, orders() + late_orders())
    with monkeypatch.context() as m:
        m.setattr(Sum, "over", plain_sum)
        serve_all(store)
    store.materialize()
    report = replayed(store)
    assert report.features["of_customer__spend"].differing > 0
    assert report.features["of_customer__orders"].differing == 0
    assert (report.features["of_customer__orders"].lagging > 0) is lagging
    found = next(d.diagnosis for d in report.differences if d.feature == "of_customer__spend")
    assert found is not None
    assert found.case == "", "what was served wrong is not computed so any more"
    assert found.evidence


def test_a_replay_tells_the_event_that_was_not_served(open_store):
    store = open_store()
    lose_an_event(store)
    serve_all(store)
    store.materialize()
    report = replayed(store)
    found = next(d.diagnosis for d in report.differences if d.feature == "of_customer__orders")
    assert found is not None
    assert found.cause == "missing event"
    assert found.where.startswith("online is what comes without event ")


def test_an_older_version_is_replayed_by_the_registry_s_definition(open_store):
    store = open_store()
    serve_all(store)
    store.close()
    path = store.path / "definitions.py"
    path.write_text(path.read_text().replace('Sum("amount", window="30d")', 'Count(window="9d")'))
    with FeatureStore(store.path) as changed:
        changed.apply(allow_breaking=True)
        changed.materialize()
        serve_all(changed)
        report = replayed(changed)
        assert (report.rows, report.differing, dict(report.unchecked)) == (84, 0, {})
        changed.registry.kept.path.unlink()
        report = replayed(changed)
        assert report.rows == 42
        ((reason, rows),) = report.unchecked.items()
        assert "which the registry does not have" in reason
        assert rows == 42


def test_rows_of_a_forgotten_entity_are_not_checked(open_store):
    store = open_store()
    serve_all(store)
    store.forget("customer", {"customer": 3})
    report = replayed(store)
    assert report.differing == 0
    assert report.unchecked["values of before an entity was forgotten"] > 0


def test_rows_of_another_platform_are_not_checked_unless_told_to(open_store, monkeypatch):
    store = open_store()
    with monkeypatch.context() as m:
        m.setattr("featurekit.log.served.log.numeric_fingerprint", lambda s: {"libm": "other"})
        serve_all(store)
        store.close()
    report = replayed(store)
    assert report.rows == 0
    assert list(report.unchecked) == ["served on a platform that differs in libm (R6)"]


def test_a_budget_ends_a_replay(open_store):
    store = open_store()
    for _ in range(3):
        serve_all(store)
        store.close()
    assert replayed(store, budget=100).rows == 42


def test_what_the_log_dropped_is_said(open_store):
    store = open_store("{to: parquet, queue_rows: 50}")
    store.serving_log._over.set()
    serve_all(store)
    serve_all(store)
    report = replayed(store)
    assert report.rows == 42
    assert report.notes == ["serving let go of 42 rows that its log could not take in time"]
    with pytest.raises(DataError, match="no serving log"):
        store.check_parity("service", mode="replay", log="nowhere")


# --- the numeric fingerprint (R6) -----------------------------------------------------------------


def plant_fingerprint(store: FeatureStore) -> None:
    """As if the service had been published on a platform with another libm."""
    import json

    online = store.online
    live = (online.read([keys_module.project_key("tests", "live", "service")])[0] or b"").decode()
    key = keys_module.project_key("tests", "plan", "service", live)
    plan = json.loads(online.read([key])[0] or b"")
    plan["numerics"]["libm exp(float)"] = "0123456789abcdef"
    online.write({key: json.dumps(plan).encode()})


ROW = {"customer": 1, "shop": "a", "basket": 0.5}
ORDER = {"customer": 3, "shop": "a", "amount": 1.0, "word": None, "at": NOW - HOUR}
REFUND = {"refund": "new", "op": "upsert", "customer": 1, "amount": 1.0, "at": NOW - HOUR}
READERS = {
    "get_online_features": lambda store: store.get_online_features("service", [ROW]),
    "OnlineService": lambda store: service.OnlineService(store.online, "tests", "service").get(
        [ROW]
    ),
    "materialize": lambda store: store.materialize(),
    "push": lambda store: store.push("orders", ORDER),
    "consume": lambda store: store.consume("refunds", until_empty=True),
    "sample": sample,
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_platform_with_other_bits(open_store, redis_store, reader):
    store = open_store()
    READERS[reader](store)
    plant_fingerprint(store)
    store.close()
    own = (b":pushes:", b":clock")  # a push is announced, and stamped, before it reads what is fed
    keys = [k for k in redis_store.client.scan_iter() if not any(part in k for part in own)]
    before = {key: redis_store.client.dump(key) for key in keys}
    with pytest.raises(FingerprintMismatch, match=r"libm exp\(float\)"):
        READERS[reader](store)
    after = {k: redis_store.client.dump(k) for k in before}
    assert after == before, "nothing was written"
    log = store.state_dir / "log" / "orders"
    assert len(list(log.glob("[!.]*"))) == (reader == "push"), "the refused push is not in the log"


@pytest.mark.parametrize("reader", [r for r in READERS if r != "OnlineService"])
def test_told_to_warn_every_reader_goes_on(open_store, reader):
    store = open_store()
    plant_fingerprint(store)
    store.close()
    store.config.featurekit.numeric_mismatch = "warn"
    with pytest.warns(UserWarning, match=r"libm exp\(float\)"):
        READERS[reader](store)


def test_publishing_from_here_asks_for_the_states_to_be_made_anew(open_store):
    store = open_store()
    lose_an_event(store)  # as another platform's bits would be there
    plant_fingerprint(store)
    with pytest.warns(UserWarning, match=r"libm exp\(float\)"):
        store.apply()
    with pytest.raises(NotServed, match="run `featurekit materialize`"):
        sample(store)
    store.materialize_incremental()
    assert sample(store).ok
