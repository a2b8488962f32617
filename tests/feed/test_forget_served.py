"""After a forgetting no byte of the serving log tells of the entity, in files or in a stream; the
rows say FORGOTTEN, and nothing that reads the log takes them for values."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.core.status import FORGOTTEN
from featurekit.errors import DataError
from featurekit.log.served import forget as forget_log
from featurekit.log.served import log as served_log
from featurekit.log.served.block import ServedBlock, is_forgotten
from featurekit.offline.manifest import labels_beside
from featurekit.online.store.server import scratch_redis
from featurekit.parity.compare import bits

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Sum

person = Entity("person", {"person_id": str})
shop = Entity("shop", {"shop_id": int})
visits = EventSource("visits", path="visits.parquet", timestamp_field="ts",
                     schema={"person_id": str, "shop_id": int, "town": str, "paid": float})
people = FeatureView("people", entities=[person], source=visits,
                     features={"spend": Sum("paid", window="90000d"),
                               "town": Last("town", window="90000d")})
shops = FeatureView("shops", entities=[shop], source=visits,
                    features={"visits": Count(window="90000d")})

@feature
def hint(note: str) -> str:
    return note

alone = FeatureService("alone", features=[people, hint], request={"note": str})
both = FeatureService("both", features=[people, shops])
as_guest = people.as_("guest", join_keys={"person_id": "guest_id"})
guest = FeatureService("guest", features=[as_guest, shops])
"""
SETTINGS = """
project: forget
provider: local
online_store: {{type: redis}}
featurekit:
  serving_log: {{to: {to}}}
"""
NAME, TOWN, NOTE = "person-number-17850", "Farawayville", "a secret of this person's"
SPENT = 1234.0625
TRACES = (NAME, TOWN, NOTE)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with scratch_redis() as found:
        yield found


@pytest.fixture(params=["parquet", "stream"])
def store(request: Any, tmp_path: Path, url: str) -> Iterator[FeatureStore]:
    redis.Redis.from_url(url).flushdb()
    (tmp_path / "feature_store.yaml").write_text(SETTINGS.format(to=request.param))
    (tmp_path / "definitions.py").write_text(MODULE)
    with FeatureStore(tmp_path, redis_url=url) as made:
        made.apply()
        at = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        for person, town, paid in ((NAME, TOWN, SPENT), ("other", "Leeds", 2.5)):
            row = {"person_id": person, "shop_id": 7, "town": town, "paid": paid, "ts": at}
            made.push("visits", [row])
        ask(made)
        made.serving_log.flush()  # type: ignore[union-attr]
        yield made


def ask(store: FeatureStore) -> None:
    """Each service about the person, and about another one."""
    store.get_online_features("alone", [
        {"person_id": NAME, "note": NOTE}, {"person_id": "other", "note": "of another"},
    ])  # fmt: skip
    store.get_online_features("both", [{"person_id": NAME, "shop_id": 7}])
    store.get_online_features("guest", [{"guest_id": NAME, "shop_id": 7}])
    store.get_online_features("guest", [{"guest_id": "other", "shop_id": 7}])


def blocks(store: FeatureStore) -> list[ServedBlock]:
    return list(store.parts.served(forgotten=True))


def told(store: FeatureStore) -> list[tuple[str, Any]]:
    """Each row: its service, and its keys; None where they are forgotten."""
    found = [
        (b.head.service, None if is_forgotten(b, i) else tuple(c[i] for c in b.keys))
        for b in blocks(store) for i in range(b.rows)
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one[0], one[1] is not None, repr(one[1])))


def kept(store: FeatureStore) -> bytes:
    """Every byte that files of the state folder and keys of the store have, with the columns of
    Parquet files, which compress."""
    found = []
    for path in store.state_dir.rglob("*"):
        if path.is_file():
            found.append(path.read_bytes())
        if path.suffix == ".parquet":
            found.append(repr(pq.read_table(path).to_pydict()).encode())
    client = redis.Redis.from_url(store.online.url)  # type: ignore[attr-defined]
    for key in client.scan_iter("*"):
        found += [key, client.dump(key)]
        if client.type(key) == b"stream":
            # Not their repr, in which an apostrophe is escaped where a byte happens to be a quote.
            found += [
                part for _, fields in client.xrange(key) for pair in fields.items() for part in pair
            ]
    return b"\n".join(found)


def forget(store: FeatureStore, **options: Any) -> Any:
    return store.forget("person", {"person_id": NAME}, **options)


def test_no_byte_of_the_entity_is_left_and_its_rows_say_so(store: FeatureStore) -> None:
    before = kept(store)
    assert all(trace.encode() in before for trace in TRACES)
    assert forget(store).served_rows == 3
    after = kept(store)
    assert not [trace for trace in TRACES if trace.encode() in after]
    assert told(store) == [
        ("alone", None), ("alone", ("other",)), ("both", None), ("guest", None),
        ("guest", ("other", 7)),
    ]  # fmt: skip
    for block in blocks(store):
        for i in range(block.rows):
            if is_forgotten(block, i):
                parts = (block.keys, block.fields, block.values, block.arrivals)
                assert [c[i] for columns in parts for c in columns if c[i] is not None] == []
                assert {c[i] for c in block.statuses} == {FORGOTTEN}
                assert block.as_of[i]
                assert block.served_at[i]


def test_the_rows_of_others_keep_every_bit(store: FeatureStore) -> None:
    def others() -> list[Any]:
        return sorted(
            repr([block.head.service, block.as_of[i], block.request[i],
                  *(bits(c[i]) for cs in (block.keys, block.fields, block.values) for c in cs),
                  *(c[i] for c in block.statuses), *(c[i] for c in block.arrivals)])
            for block in blocks(store) for i in range(block.rows)
            if not is_forgotten(block, i) and NAME not in [c[i] for c in block.keys]
        )  # fmt: skip

    before = others()
    forget(store)
    assert len(before) == 2
    assert others() == before


def test_replay_takes_no_forgotten_row_for_a_value(store: FeatureStore) -> None:
    forget(store)
    report = store.check_parity("alone", mode="replay")
    assert report.ok
    assert report.rows == 1
    assert not any(is_forgotten(b, i) for b in store.served() for i in range(b.rows))


def test_an_audit_of_the_request_says_forgotten(store: FeatureStore) -> None:
    (block,) = [b for b in blocks(store) if b.head.service == "alone"]
    request = f"{block.process}:{block.request[0]}"
    assert store.audit_prediction(request).equal is True
    forget(store)
    gone, other = store.audit_prediction(request).rows
    assert gone.forgotten
    assert not other.forgotten
    assert {f.verdict for f in gone.features} == {FORGOTTEN}
    assert gone.keys == {"person_id": None}
    assert {f.verdict for f in other.features} == {"equal"}
    assert store.audit_prediction(request).equal is None


def test_what_a_process_writes_later_goes_with_gc(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_log, "_POLL_S", 3600.0)  # so that `late` writes at its end alone
    log = store.serving_log
    assert log is not None
    with FeatureStore(store.path, redis_url=store.online.url) as late:  # type: ignore[attr-defined]
        ask(late)
        forget(store)
        late.push("visits", [{"person_id": NAME, "shop_id": 7, "town": "Leeds", "paid": 1.0,
                              "ts": dt.datetime(2024, 1, 2, tzinfo=dt.UTC)}])  # fmt: skip
    assert TOWN.encode() in kept(store)
    assert store.gc(dry_run=True).served_rows == 0
    assert store.gc().served_rows == 3
    assert not [trace for trace in TRACES[1:] if trace.encode() in kept(store)]
    assert store.gc().served_rows == 0


def test_what_is_served_of_a_new_start_stays(store: FeatureStore) -> None:
    forget(store)
    store.push("visits", [{"person_id": NAME, "shop_id": 7, "town": "Leeds", "paid": 1.0,
                           "ts": dt.datetime(2024, 1, 2, tzinfo=dt.UTC)}])  # fmt: skip
    store.parts.tolerance_us = 0
    tombstone = store.registry.tombstones()[-1]
    while store.parts.now() <= tombstone.until + store.parts.tolerance_us:
        pass
    ask(store)
    store.serving_log.flush()  # type: ignore[union-attr]
    assert store.gc().served_rows == 0
    assert ("alone", (NAME,)) in told(store)


def test_another_log_is_named_and_one_that_is_not_there_is_refused_before(
    store: FeatureStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="there is no serving log"):
        forget(store, logs=[tmp_path / "none"])
    assert store.registry.tombstones() == []
    words = ["forget", "person", "--key", f"person_id={NAME}", "--repo", str(store.path)]
    words += ["--redis-url", store.online.url]  # type: ignore[attr-defined]
    assert main([*words, "--log", str(tmp_path / "none")]) == 2
    capsys.readouterr()
    assert main(words) == 0
    assert "3 rows of the serving log say FORGOTTEN now." in capsys.readouterr().out


def test_what_is_added_to_a_stream_meanwhile_stays(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store.config.featurekit.serving_log.to != "stream":  # type: ignore[union-attr]
        return
    client = redis.Redis.from_url(store.online.url)  # type: ignore[attr-defined]
    key = "fk:forget:served"
    written, added = forget_log.entry, []

    def slow(*words: Any) -> Any:
        if len(added) < 3:  # while the first entries are copied, as a process that serves
            added.append(client.xadd(key, client.xrange(key)[0][1]))
        return written(*words)

    monkeypatch.setattr(forget_log, "entry", slow)
    before = len(client.xrange(key))
    forget(store)
    assert len(added) == 3
    assert len(client.xrange(key)) == before + 3
    assert not [trace for trace in TRACES if trace.encode() in kept(store)]


def test_contracts_and_manifests_that_name_the_entity_are_listed(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def put(name: str, said: Any) -> str:
        path = store.path / "models" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(said))
        return str(path)

    def contract(*top: Any, first: str = "") -> Any:
        column = {"top": [[value, 3] for value in top], "numbers": None}
        errors = {"transforms": {"t": {"events": 1, "first": {"person_id": first}}}}
        return {"contract": {"profile": {"columns": {"c": column}}, "manifest": {"errors": errors}}}

    wanted = [
        put("a.contract.json", contract("other", NAME)),
        put("b.contract.json", contract(first=NAME)),
        put("c.parquet.manifest.json", {"label_columns": {"x": {"classes": [{"value": NAME}]}}}),
        put("model", contract(NAME)),  # a contract may be called anything
        put("model.json", contract(NAME)),
    ]
    put("d.contract.json", contract("other", first="other"))
    put("e.contract.json", ["no contract"])
    (store.path / "models" / "f.contract.json").write_bytes(b'{"contract": no JSON')
    os.mkfifo(store.path / "models" / "pipe")
    words = ["forget", "person", "--key", f"person_id={NAME}", "--repo", str(store.path), "--json"]
    assert main([*words, "--redis-url", store.online.url]) == 0  # type: ignore[attr-defined]
    assert json.loads(capsys.readouterr().out)["told"] == wanted


def test_labels_of_training_sets_with_the_entity_are_listed(
    store: FeatureStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a role calls the key otherwise, and where the registry has not the version."""
    at = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
    people = [NAME, "other", NAME, None]
    wanted = {}
    for service, key, rows in (("alone", "person_id", 2), ("guest", "guest_id", 2)):
        more = {"note": "n"} if service == "alone" else {"shop_id": 7}
        frame = [{key: who, **more, "event_timestamp": at} for who in people]
        made = store.get_historical_features(frame, service)
        manifest = made.save_manifest(store.path / f"{service}.parquet")
        wanted[str(labels_beside(manifest))] = rows
    manifest = made.save_manifest(store.path / "unread.parquet")
    labels_beside(manifest).write_bytes(b"no Arrow")
    row = {"person_id": NAME, "note": "", "event_timestamp": at}
    old = store.get_historical_features([row], "alone")
    manifest = old.save_manifest(store.path / "old.parquet")
    manifest.write_text(json.dumps({**old.manifest, "fingerprint": "0" * 64}))
    wanted[str(labels_beside(manifest))] = 1
    words = ["forget", "person", "--key", f"person_id={NAME}", "--repo", str(store.path), "--json"]
    assert main([*words, "--redis-url", store.online.url]) == 0  # type: ignore[attr-defined]
    files = json.loads(capsys.readouterr().out)["files"]
    found = {f["path"]: f["rows"] for f in files if f["what"] == "labels of a training set"}
    assert found == wanted
    assert store.forget("person", {"person_id": "nobody"}).labels == ()


def test_a_manifest_and_a_contract_name_nobody(store: FeatureStore) -> None:
    """A transform errs on the person's event, and the person's values are rare."""
    import pyarrow as pa

    (store.path / "definitions.py").write_text(
        MODULE
        + """
@feature
def odd(paid: float) -> int:
    return 1 // (0 if paid > 1000.0 else 1)

odds = FeatureView("odds", entities=[person], source=visits,
                   features={"odd": Sum(odd, window="90000d"),
                             "town": Last("town", window="90000d")})
erring = FeatureService("erring", features=[odds])
"""
    )
    at = pa.array([dt.datetime.now(dt.UTC)] * 2, pa.timestamp("us", "UTC"))
    frame = pa.table({"person_id": [NAME, "other"], "event_timestamp": at})
    store.reload()
    made = store.get_historical_features(frame, "erring")
    assert NAME in json.dumps(made.statistics)
    assert made.manifest["errors"]["transforms"]["odds: odd"] == {"events": 1}
    told = made.contract().to_bytes() + json.dumps(made.manifest).encode()
    assert not [trace for trace in TRACES if trace.encode() in told]
