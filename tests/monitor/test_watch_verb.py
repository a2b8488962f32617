"""`featurekit watch` as processes: no occasion is done twice, whatever dies, and ends are clean."""

from __future__ import annotations

import datetime as dt
import json
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from slow import slow_unless
from watching import LEASE_S, NOTES, Watching, done, state_of, wait_for, watching, write_repo

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.log.audit import Entry
from featurekit.monitor.triggers.judge import ask
from featurekit.monitor.triggers.record import Record
from featurekit.online.store.redis import RedisStore


def shell(text: str) -> dict[str, list[str]]:
    return {"command": ["sh", "-c", text]}


@pytest.fixture
def repo(tmp_path: Path, redis_store: RedisStore) -> Path:
    """The folder of a repo, which a test writes."""
    return tmp_path / "repo"


def write(repo: Path, store: RedisStore, **triggers: Any) -> Path:
    return write_repo(repo, store.url, triggers=triggers)


def fire(repo: Path, trigger: str) -> None:
    with FeatureStore(repo) as store:
        ask(store.parts, trigger, id_=uuid.uuid4().hex, reason="a test")


def leader(*watches: Watching) -> tuple[Watching, Watching]:
    """The one of two that leads, and the other."""
    wait_for(lambda: any(one.leads for one in watches))
    one, other = watches
    return (one, other) if one.leads else (other, one)


def steps(repo: Path) -> list[tuple[str, str]]:
    """The occasions and steps in the log of triggers, whose chain must hold."""
    found = list(Record(repo / ".featurekit").log.entries())
    assert all(isinstance(one, Entry) for one in found)
    return [(e.about["occasion"], e.step) for e in found if isinstance(e, Entry)]


def test_of_two_one_leads_and_each_occasion_is_done_once(
    repo: Path, redis_store: RedisStore
) -> None:
    write(repo, redis_store, go={"event": "go", "actions": [shell(NOTES.format(folder=repo))]})
    with watching(repo) as one, watching(repo) as two:
        for n in range(3):
            fire(repo, "go")
            wait_for(lambda n=n: state_of(redis_store, "go").fired == n + 1)  # type: ignore[misc]
            wait_for(lambda: state_of(redis_store, "go").now is None)
        assert sorted([one.leads, two.leads]) == [False, True]
        assert one.get("/ready")[0] == two.get("/ready")[0] == 200
        first, second = leader(one, two)
        assert first.end(signal.SIGTERM) == (143, "featurekit: terminated\n")
        wait_for(lambda: second.leads, within_s=LEASE_S * 0.8)
        fire(repo, "go")
        wait_for(lambda: len(state_of(redis_store, "go").past) == 4)
        wait_for(lambda: len(steps(repo)) == 12)
    assert done(repo) == ["go-1", "go-2", "go-3", "go-4"]
    each = ("due", "claimed", "done")
    assert steps(repo) == [(f"go-{n}", step) for n in range(1, 5) for step in each]


WORK = "echo begun >> {folder}/begun.txt; sleep 0.6; " + NOTES


@pytest.mark.parametrize(
    ("repeatable", "after_s"),
    slow_unless(
        lambda repeatable, after_s: (after_s in (0.35, 0.9) and not repeatable) or after_s == 0.3,
        [(r, s) for r in (False, True) for s in (0.0, 0.05, 0.15, 0.3, 0.35, 0.6, 0.65, 0.7, 0.9)],
    ),
)
def test_what_a_killed_process_had_begun_is_lost_or_done_by_the_next_one(
    repo: Path, redis_store: RedisStore, repeatable: bool, after_s: float
) -> None:
    """The kill comes before the claim, while the command runs, or after it."""
    work = shell(WORK.format(folder=repo))
    write(repo, redis_store, go={"event": "go", "actions": [work], "repeatable": repeatable})
    with watching(repo) as one, watching(repo) as two:
        first, second = leader(one, two)
        fire(repo, "go")
        time.sleep(after_s)
        first.end(signal.SIGKILL)
        wait_for(lambda: second.leads)
        wait_for(lambda: state_of(redis_store, "go").past and not state_of(redis_store, "go").asked)
        time.sleep(1.0)  # what an orphan would do, it would have done
        state = state_of(redis_store, "go")
        told = steps(repo)
    path = repo / "begun.txt"
    begun = path.read_text().split() if path.exists() else []
    phase = state.past[0].phase
    assert state.fired == 1
    if repeatable:
        assert phase == "done"
        assert len(done(repo)) in (1, 2), "twice only where the first one was done, and not noted"
    else:
        assert phase in ("done", "lost")
        assert len(begun) <= 1, "it was never begun twice"
        assert len(done(repo)) == 1 if phase == "done" else len(done(repo)) <= len(begun)
    # A kill may come between the note in the store and the entry of the log.
    assert told[-1] in (("go-1", phase), ("go-1", "claimed"))


def test_a_command_ends_with_the_process_that_ran_it(repo: Path, redis_store: RedisStore) -> None:
    work = shell(f"echo $$ > {repo}/pid; sleep 60; " + NOTES.format(folder=repo))
    write(repo, redis_store, go={"event": "go", "actions": [work]})
    with watching(repo) as one:
        fire(repo, "go")
        wait_for(lambda: (repo / "pid").exists() and (repo / "pid").read_text())
        pid = int((repo / "pid").read_text())
        assert Path(f"/proc/{pid}").exists()
        one.end(signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), within_s=10)
    assert done(repo) == []


def test_who_wakes_up_after_its_lease_ends_what_it_had_begun(
    repo: Path, redis_store: RedisStore
) -> None:
    work = shell(f"echo begun >> {repo}/begun.txt; sleep 5; " + NOTES.format(folder=repo))
    write(repo, redis_store, go={"event": "go", "actions": [work]})
    with watching(repo) as one, watching(repo) as two:
        first, second = leader(one, two)
        fire(repo, "go")
        wait_for(lambda: (repo / "begun.txt").exists())
        first.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: second.leads)
        wait_for(lambda: state_of(redis_store, "go").past)
        first.process.send_signal(signal.SIGCONT)
        wait_for(lambda: not first.leads)
        time.sleep(3.0)
        assert state_of(redis_store, "go").past[0].phase == "lost"
        assert (done(repo), second.leads) == ([], True)
        assert first.get("/ready")[1]["role"] == "waits"


def test_at_sigterm_an_action_that_is_under_way_is_waited_for(
    repo: Path, redis_store: RedisStore
) -> None:
    work = shell(f"touch {repo}/begun; sleep 3; " + NOTES.format(folder=repo))
    write(repo, redis_store, go={"event": "go", "actions": [work]})
    with watching(repo) as one:
        fire(repo, "go")
        wait_for((repo / "begun").exists)
        assert one.end(signal.SIGTERM) == (143, "featurekit: terminated\n")
    assert done(repo) == ["go-1"]
    assert state_of(redis_store, "go").past[0].phase == "done"


def test_what_takes_longer_than_the_drain_is_ended_and_told(
    repo: Path, redis_store: RedisStore
) -> None:
    work = shell(f"touch {repo}/begun; sleep 60; " + NOTES.format(folder=repo))
    write(repo, redis_store, go={"event": "go", "actions": [work], "retries": 3})
    with watching(repo, "--drain", "1s") as one:
        fire(repo, "go")
        wait_for((repo / "begun").exists)
        begun = time.monotonic()
        assert one.end(signal.SIGINT) == (130, "featurekit: interrupted\n")
        assert time.monotonic() - begun < 20
    (firing,) = state_of(redis_store, "go").past
    assert firing.phase == "failed"
    assert "sh was ended: the watch was told to end 1 s before" in firing.said


def run(repo: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """The exit code and the document of a verb."""
    code = main(["--repo", str(repo), "--json", *words])
    out = capsys.readouterr().out
    return code, json.loads(out)


def test_a_person_says_yes_or_no(
    repo: Path, redis_store: RedisStore, capsys: pytest.CaptureFixture[str]
) -> None:
    action = shell(NOTES.format(folder=repo))
    write(repo, redis_store, go={"event": "go", "approve": True, "actions": [action]})
    with watching(repo) as one:
        fire(repo, "go")
        wait_for(lambda: (now := state_of(redis_store, "go").now) and now.phase == "asked")
        asked = 'featurekit_trigger_open{phase="asked",trigger="go"}'
        wait_for(lambda: one.metrics()[asked] == 1)
        assert done(repo) == []
        code, said = run(repo, capsys, "triggers", "approve", "go", "--occasion", "go-7")
        assert code == 2
        assert "what waits is go-1: a test" in said["error"]["message"]
        code, said = run(repo, capsys, "triggers", "approve", "go", "--occasion", "go-1")
        assert (code, said["phase"], bool(said["judge"])) == (0, "approved", True)
        wait_for(lambda: done(repo) == ["go-1"])
        fire(repo, "go")
        wait_for(lambda: (now := state_of(redis_store, "go").now) and now.phase == "asked")
        code, said = run(repo, capsys, "triggers", "reject", "go", "--reason", "not today")
        assert (code, said["phase"], said["said"]) == (0, "rejected", "not today")
        outcome = 'featurekit_trigger_firings_total{outcome="%s",trigger="go"}'
        wait_for(lambda: one.metrics()[outcome % "rejected"] == 1)
        wait_for(lambda: one.metrics()[outcome % "done"] == 1)
        code, said = run(repo, capsys, "triggers", "approve", "go")
        assert code == 2
        wanted = "no firing of trigger go waits for approval; go-2 is rejected"
        assert wanted in said["error"]["message"]
    assert done(repo) == ["go-1"]
    code, said = run(repo, capsys, "triggers", "log")
    assert code == 0
    assert [(e["occasion"], e["step"]) for e in said["entries"]] == steps(repo)
    assert {e["reason"] for e in said["entries"]} == {"a test"}
    code, said = run(repo, capsys, "triggers", "list")
    assert [(t["trigger"], t["fired"], t["phase"]) for t in said["triggers"]] == [
        ("go", 2, "waits")
    ]


def test_what_a_trigger_would_do_is_shown_and_nothing_changes(
    repo: Path, redis_store: RedisStore, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = {"start": "00:00", "end": "23:59"}
    write(
        repo,
        redis_store,
        more={
            "new_rows": {"source": "orders", "at_least": 5},
            "approve": True,
            "quiet_hours": quiet,
            "actions": [shell("true"), {"webhook": {"url": "https://hooks.example/secret"}}],
        },
    )
    with FeatureStore(repo) as store:
        store.apply()
    code, said = run(repo, capsys, "triggers", "fire", "more", "--dry-run")
    assert (code, said["holds"]) == (0, False)
    assert said["actions"] == ["command sh -c true", "webhook hooks.example (plain)"]
    assert "a person says yes" in said["first"]
    assert redis_store.read([b"fk:tests:trigger:more"]) == [None]
    code, said = run(repo, capsys, "triggers", "fire", "more", "--reason", "by hand")
    assert (code, said) == (0, {"trigger": "more", "reason": "by hand"})
    code, said = run(repo, capsys, "triggers", "show", "more")
    assert (code, said["waiting"], said["fired"]) == (0, 1, 0)
    code, said = run(repo, capsys, "triggers", "show", "moar")
    assert code == 2
    assert "no trigger 'moar'" in said["error"]["message"]
    assert "did you mean 'more'" in said["error"]["message"]
    assert main(["--repo", str(repo), "triggers", "show", "more"]) == 0
    shown = capsys.readouterr().out
    assert "does: webhook hooks.example (plain)" in shown
    assert "quiet hours: 00:00 to 23:59 in UTC" in shown
    assert "secret" not in shown


def test_a_log_that_was_changed_is_told(
    repo: Path, redis_store: RedisStore, capsys: pytest.CaptureFixture[str]
) -> None:
    write(repo, redis_store, go={"event": "go", "dry_run": True, "actions": [shell("true")]})
    with watching(repo):
        fire(repo, "go")
        wait_for(lambda: steps(repo) == [("go-1", "dry")])
    path = repo / ".featurekit" / "triggers.log"
    path.write_bytes(path.read_bytes().replace(b"a test", b"a rest"))
    code, said = run(repo, capsys, "triggers", "log")
    assert code == 1
    assert "was changed" in said["faults"][0]["what"]


def test_a_dry_run_does_nothing_and_tells_of_it(repo: Path, redis_store: RedisStore) -> None:
    write(repo, redis_store, go={"event": "go", "actions": [shell(NOTES.format(folder=repo))]})
    with watching(repo, "--dry-run"):
        fire(repo, "go")
        wait_for(lambda: steps(repo) == [("go-1", "dry")])
    assert state_of(redis_store, "go").past[0].phase == "dry"
    assert done(repo) == []


def orders(n: int, first: int = 0) -> list[dict[str, Any]]:
    at = dt.datetime.now(dt.UTC)
    return [
        {"order": f"o{i}", "customer": 1, "amount": 1.0, "at": at} for i in range(first, first + n)
    ]


def test_rows_that_come_while_it_runs_are_counted_by_the_definitions_of_the_moment(
    repo: Path, redis_store: RedisStore
) -> None:
    rows = {"source": "orders", "at_least": 5}
    action = shell("echo $FEATUREKIT_REASON >> reasons.txt")
    write(repo, redis_store, more={"new_rows": rows, "every": "200ms", "actions": [action]})
    with FeatureStore(repo) as store:
        store.apply()
        with watching(repo) as one:
            looks = 'featurekit_trigger_looks_total{outcome="holds not",trigger="more"}'
            wait_for(lambda: one.metrics()[looks] >= 1)
            store.push("orders", orders(4))
            before = one.metrics()[looks]
            wait_for(lambda: one.metrics()[looks] >= before + 2)
            assert state_of(redis_store, "more").fired == 0
            store.push("orders", orders(3, first=4))
            wait_for(lambda: state_of(redis_store, "more").past)
            path = repo / "definitions.py"
            kept = path.read_text()
            path.write_text("raise RuntimeError('half written')\n")
            wait_for(lambda: "half written" in state_of(redis_store, "more").error)
            path.write_text(kept)
            wait_for(lambda: not state_of(redis_store, "more").error)
            _, errors = one.end(signal.SIGTERM)
    reasons = (repo / "reasons.txt").read_text().splitlines()
    assert reasons == ["7 rows came to orders, where 5 are enough"]
    assert errors.count("trigger more: ") == 1, "a look that fails is told once"


def test_nothing_to_watch_is_an_error(repo: Path, redis_store: RedisStore) -> None:
    write_repo(repo, redis_store.url)
    with pytest.raises(AssertionError, match="there is nothing to watch: write triggers: or wat"):
        Watching(repo)


def test_a_port_that_is_taken_is_an_error(repo: Path, redis_store: RedisStore) -> None:
    write(repo, redis_store, go={"event": "go", "actions": [shell("true")]})
    with watching(repo) as one:
        port = one.url.rpartition(":")[2]
        with pytest.raises(AssertionError, match=f"the watch cannot be served at 127.0.0.1:{port}"):
            Watching(repo, "--port", port)


def test_when_redis_is_away_it_is_not_ready_and_goes_on_afterwards(
    repo: Path, redis_store: RedisStore
) -> None:
    write(repo, redis_store, go={"event": "go", "actions": [shell(NOTES.format(folder=repo))]})
    with watching(repo) as one:
        wait_for(lambda: one.leads)
        redis_store.client.client_pause(12_000)  # longer than a reply is waited for
        wait_for(lambda: one.get("/ready")[0] == 503)
        assert one.get("/health")[0] == 200
        fire(repo, "go")
        wait_for(lambda: done(repo) == ["go-1"])
        wait_for(lambda: one.get("/ready")[0] == 200)
        _, errors = one.end(signal.SIGTERM)
    assert 1 <= errors.count("Redis at ") <= 6, "it is told once, and not each second"
