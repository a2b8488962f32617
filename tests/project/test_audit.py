"""What is done to a project has entries in its audit log, which hold no secret and no entity."""

from __future__ import annotations

import datetime as dt
import json
import os
import stat
from typing import Any

import pyarrow as pa
import pytest
from feature_repos import MakeRepo

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import FeaturekitError, RegistryError, WriteError
from featurekit.log.audit import AuditLog, Entry
from featurekit.online.store.redis import RedisStore
from featurekit.project import audit
from featurekit.project.audit import acting

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView

user = Entity("user", {"name": str})
clicks = EventSource("clicks", path="data/clicks.parquet", schema={"name": str, "n": int},
                     timestamp_field="at")
clicked = FeatureView("clicked", entities=[user], source=clicks, features={"last": "n"})
service = FeatureService("service", features=[clicked])
"""
NOW = dt.datetime.now(dt.UTC)
WHO = "Zebedee-4711"


@pytest.fixture
def store(make_repo: MakeRepo, redis_url: str, redis_store: RedisStore) -> FeatureStore:
    stamp = pa.timestamp("us", tz="UTC")
    table = pa.table({"name": [WHO], "n": [1], "at": pa.array([NOW], stamp)})
    return FeatureStore(make_repo(MODULE, {"clicks": table}), redis_url=redis_url)


def entries(store: FeatureStore) -> list[Entry]:
    found = list(AuditLog(store.state_dir / "audit.log").entries())
    assert all(isinstance(one, Entry) for one in found), found
    return [one for one in found if isinstance(one, Entry)]


def steps(store: FeatureStore) -> list[tuple[str, str]]:
    return [(one.verb, one.step) for one in entries(store)]


def row(**more: Any) -> dict[str, Any]:
    return {"name": WHO, "n": 2, "at": NOW, **more}


def test_every_verb_has_entries_without_secrets_and_entities(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with store:
        store.apply()
        store.materialize()
        store.push("clicks", [row(), row(n=3)])
        store.push("clicks", row())
        store.materialize_incremental()
        store.materialize(entities=[{"name": WHO}])
        with pytest.raises(RegistryError):
            store.rollback(WHO)
        with pytest.raises(RegistryError):
            store.rollback("service")
        store.forget("user", {"name": WHO})
        store.gc(dry_run=True)
        store.gc()
        store.unlock(force=True)
        assert main(["keys", "generate", str(store.path / "k"), "--repo", str(store.path)]) == 0
    made = entries(store)
    both = [("begun", "done")] * 3
    assert [(one.verb, one.step) for one in made] == [
        *(("apply", step) for step in both[0]),
        *(("materialize", step) for step in both[0]),
        ("push", "begun"),
        *(("materialize", step) for _ in range(2) for step in both[0]),
        *(("rollback", step) for _ in range(2) for step in ("begun", "failed")),
        *((verb, step) for verb in ("forget", "gc", "unlock") for step in both[0]),
        ("keys", "done"),
        ("push", "done"),
    ]
    told = {(one.verb, one.step): one for one in made}
    view = store.repo.compiled_views["clicked"]
    changes = {c["name"]: c for c in told["apply", "done"].about["changes"]}
    assert changes["clicked"]["new"] == view.fingerprint
    assert told["push", "done"].about == {"source": "clicks", "begun": 2, "taken": 2, "rows": 3}
    assert told["forget", "done"].about["tombstone"] == 1
    assert told["rollback", "failed"].about["error"] == "RegistryError"
    begun = next(one for one in made if one.verb == "rollback" and not one.about)
    assert made[begun.number].about == {"begun": begun.number, "error": "RegistryError"}
    text = store.state_dir.joinpath("audit.log").read_text()
    private = store.path.joinpath("k").read_text().strip()
    for secret in (WHO, private, store.online.url):  # type: ignore[attr-defined]
        assert secret not in text
    for file in ("audit.log", "audit.head"):
        assert stat.S_IMODE((store.state_dir / file).stat().st_mode) == 0o600


def test_pushes_are_counted_by_whom_they_are_for(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store:
        store.apply()
        store.push("clicks", row())
        with acting("key 17"):
            store.push("clicks", row())
            with pytest.raises(FeaturekitError):
                store.push("clicks", row(n="no number"))
        monkeypatch.setattr(audit, "EVERY_S", 0.0)
        with acting("key 17"):
            store.parts.audit.close()
            store.push("clicks", row())
            store.push("clicks", [row(), row()])
    found = [one for one in entries(store) if one.verb == "push"]
    mine = [one for one in found if one.who.endswith(" for key 17")]
    assert [(one.step, one.about.get("taken"), one.about.get("rows")) for one in mine] == [
        ("begun", None, None), ("done", 1, 1),
        ("goes on", 0, 0), ("goes on", 1, 1), ("done", 1, 2),
    ]  # fmt: skip
    other = [one for one in found if one not in mine]
    assert [(one.step, one.about.get("taken")) for one in other] == [("begun", None), ("done", 1)]
    assert {one.who for one in other} == {mine[0].who.removesuffix(" for key 17")}


def test_a_process_that_forks_tells_what_each_has_pushed(store: FeatureStore) -> None:
    with store:
        store.apply()
        store.push("clicks", row())
        if (child := os.fork()) == 0:
            try:
                with FeatureStore(store.path, redis_url=store.online.url) as own:  # type: ignore[attr-defined]
                    store.parts.audit.pushing("clicks").took(7)
                    store.parts.audit.close()
                    own.push("clicks", row())
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        store.push("clicks", row())
    counts = {(one.pid == os.getpid(), one.about["rows"]) for one in entries(store)
              if one.verb == "push" and one.step == "done"}  # fmt: skip
    assert counts == {(True, 2), (False, 7), (False, 1)}


def test_nothing_is_done_that_cannot_be_written_down(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, redis_store: RedisStore
) -> None:
    with store:
        store.apply()
        before = steps(store), redis_store.keys(b"fk:")

        def full(self: AuditLog, said: Any) -> None:
            raise WriteError("audit.log cannot be written: the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(AuditLog, "append", full)
            for verb in (
                store.apply,
                store.materialize,
                lambda: store.push("clicks", row()),
                lambda: store.forget("user", {"name": WHO}),
                lambda: store.rollback("service"),
                store.gc,
            ):
                with pytest.raises(WriteError, match=r"audit\.log"):
                    verb()
        assert (steps(store), redis_store.keys(b"fk:")) == before
        done = pytest.raises(WriteError, match="apply is done, and the audit log has its beginning")
        with done, store.parts.audit.doing("apply", {}):
            monkeypatch.setattr(AuditLog, "append", full)
        monkeypatch.undo()
        assert steps(store)[-1] == ("apply", "begun")


def test_the_command_line_shows_the_log_and_its_damage(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with store:
        store.apply()
        store.materialize()
        fingerprint = store.repo.compiled_views["clicked"].fingerprint[:12]

    def run(*words: str, code: int = 0) -> str:
        assert main(["audit", *words, "--repo", str(store.path)]) == code
        return capsys.readouterr().out

    shown = run("list", "--verb", "apply")
    assert f"add view clicked {fingerprint}" in shown
    assert "materialize" not in shown
    assert len(json.loads(run("--json", "--last", "3"))["entries"]) == 3
    assert json.loads(run("list", "--since", "2999-01-01", "--json"))["entries"] == []
    head = run("verify").split()[-1]
    whole = json.loads(run("verify", "--json", "--holds", head))
    assert whole == {"entries": 4, "head": head, "whole": True, "faults": []}
    path = store.state_dir / "audit.log"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    assert "line 1, byte 0: entry 1 were removed" in run("verify", code=1)
    found = json.loads(run("list", "--json", code=1))
    assert (len(found["entries"]), len(found["faults"])) == (3, 1)
    path.unlink()
    assert "entries 1 to 4 are missing" in run("verify", code=1)
    assert main(["audit", "verify", "--holds", "4", "--repo", str(store.path)]) == 64
