"""Plans that are signed, and readers that want a signature (F0)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from forged_plans import SERVICE, stamped

from featurekit import FeatureStore, OnlineService
from featurekit.cli import main
from featurekit.core.keys import project_key
from featurekit.core.signing import PrivateKey, PublicKey
from featurekit.define.published import Signer, Trust, opened, plan_bytes, read_plan
from featurekit.errors import ConfigError, PlanRefused
from featurekit.online.store.redis import RedisStore

KEY, OTHER = PrivateKey.make(), PrivateKey.make()
PLACE = ("service", SERVICE.fingerprint)


def signed(key: PrivateKey = KEY, project: str = "p", sequence: int = 5) -> bytes:
    return plan_bytes(SERVICE, signer=Signer(project, key, sequence))


def held(*keys: PrivateKey, project: str = "p") -> Trust:
    return Trust(project, tuple(key.public for key in keys))


def test_a_signed_plan_is_read_by_who_holds_the_key_and_by_who_holds_none() -> None:
    data = signed()
    for trust in (Trust("p"), held(KEY), held(OTHER, KEY)):
        assert read_plan(data, trust=trust, place=PLACE) == SERVICE
    signature = opened(data).signature
    assert signature is not None
    assert (signature.key, signature.sequence) == (KEY.public.text, 5)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (plan_bytes(SERVICE), "is not signed, and this reader holds a public key"),
        (signed(OTHER), "a signature that none of the keys held here made"),
        (signed(project="other"), "none of the keys held here made"),
    ],
    ids=["not signed", "another key", "another project"],  # the keys are others in each process
)
def test_another_signature_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(PlanRefused, match=told):
        read_plan(data, trust=held(KEY))


def test_every_part_of_a_signed_plan_is_signed() -> None:
    """A part that no fingerprint covers, too: on_error, the names of functions, the numerics."""

    def changed(**parts: Any) -> bytes:
        plan = json.loads(signed())
        plan |= parts
        return json.dumps(plan).encode()

    plan = json.loads(signed())
    other = stamped(replace(SERVICE, views=tuple(
        replace(v, on_error="fail") for v in SERVICE.views
    )))  # fmt: skip
    assert other.fingerprint == SERVICE.fingerprint
    of_other = json.loads(plan_bytes(other))["service"]
    for parts in (
        {"service": of_other},
        {"numerics": {**plan["numerics"], "unicode": "1.0"}},
        {"signature": {**plan["signature"], "sequence": 6}},
        {"signature": {**plan["signature"], "key": OTHER.public.text}},
        {"signature": {**plan["signature"], "ed25519": "00" * 64}},
        {"signature": {**plan["signature"], "ed25519": ""}},
        {"signature": None},
    ):
        with pytest.raises(PlanRefused):
            read_plan(changed(**parts), trust=held(KEY), on_mismatch="warn")
    for signature in ([], {"key": 1}, {**plan["signature"], "ed25519": "xx"}):
        with pytest.raises(PlanRefused, match="not what featurekit publishes"):
            opened(changed(signature=signature))
    assert read_plan(changed(featurekit="9"), trust=held(KEY)) == SERVICE


def test_a_key_is_one_word_and_the_private_one_is_never_shown() -> None:
    assert PublicKey.read(f" {KEY.public.text}\n", where="here") == KEY.public
    assert PrivateKey.read(KEY.text, where="here") == KEY
    assert KEY.text not in repr(KEY)
    for read, text in (
        (PrivateKey.read, KEY.public.text),
        (PublicKey.read, KEY.text),
        (PublicKey.read, KEY.public.text[:-4]),
        (PrivateKey.read, KEY.text + "AAAA"),
        (PrivateKey.read, "hunter2"),
        (PublicKey.read, ""),
    ):
        with pytest.raises(ConfigError, match=r"^here .*begins with fk-") as caught:
            read(text, where="here")
        assert KEY.text[11:] not in str(caught.value)
        assert "hunter2" not in str(caught.value)


# --- a store that signs ---------------------------------------------------------------------------

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count

user = Entity("user", {"key": int})
events = EventSource("events", path="data/events.parquet", schema={"key": int, "n": int},
                     timestamp_field="at")

@feature(on_unsupported="python")
def odd(n: int) -> bool:
    return complex(n).real % 2.0 == 1.0

view = FeatureView("view", entities=[user], source=events,
                   features={"count": Count(window="WINDOW"), "odd": Count(where=odd, window="9d")})
service = FeatureService("service", features=[view])
"""
AT = pa.array([0], pa.timestamp("us", tz="UTC"))


class World:
    """A repo with a key, and the Redis that it publishes to."""

    def __init__(self, folder: Path, store: RedisStore) -> None:
        self.folder, self.redis, self.project = folder, store, "tests"

    def define(self, window: str) -> None:
        (self.folder / "definitions.py").write_text(MODULE.replace("WINDOW", window))

    def deploy(self) -> None:
        with FeatureStore(self.folder, redis_url=self.redis.url) as store:
            store.apply()
            store.materialize()

    def reader(self, *keys: str, **options: Any) -> OnlineService:
        return OnlineService.connect(
            self.redis.url, self.project, "service", public_keys=keys, **options
        )

    def plans(self) -> dict[bytes, bytes]:
        keys = list(self.redis.keys(project_key(self.project, "plan")))
        return {k: v for k, v in zip(keys, self.redis.read(keys), strict=True) if v}


@pytest.fixture
def world(make_repo: Any, redis_store: RedisStore, monkeypatch: Any) -> World:
    for name in ("FEATUREKIT_PUBLIC_KEYS", "FEATUREKIT_SIGNING_KEY_FILE", "FEATUREKIT_RUN_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FEATUREKIT_SIGNING_KEY", KEY.text)
    tables = {"events": {"key": [1], "n": [3], "at": AT}}
    return World(make_repo(MODULE.replace("WINDOW", "1d"), tables), redis_store)


def test_apply_and_rollback_sign_and_an_older_plan_is_not_served_again(world: World) -> None:
    world.deploy()
    first = world.plans()
    with world.reader(KEY.public.text) as service:
        assert service.get([{"key": 1}]).columns["count"] == [0]
        world.define("2d")
        world.deploy()
        service.get([{"key": 1}])
        live = project_key(world.project, "live", "service")
        (old_key,) = first
        now = world.redis.read([live])[0]
        # Who may write pointers and plans brings the first version back, as it was signed then.
        world.redis.write({**first, live: old_key.rpartition(b":")[2]})
        with pytest.raises(PlanRefused, match="signed before the one that this reader has served"):
            service.get([{"key": 1}])
        world.redis.write({live: now or b""})
        service.get([{"key": 1}])
        with FeatureStore(world.folder, redis_url=world.redis.url) as store:
            store.rollback("service")
        service.get([{"key": 1}])
        assert service.current().service.views[0].features[0].window_us == 86_400_000_000


def test_a_function_of_python_is_served_where_the_plan_is_signed(world: World) -> None:
    world.deploy()
    with world.reader(KEY.public.text) as service:
        assert service.get([{"key": 1}]).columns["odd"] == [0]
    with world.reader() as service, pytest.raises(PlanRefused, match="odd"):
        service.get([{"key": 1}])
    with world.reader(run_python=True) as service:
        assert service.get([{"key": 1}]).columns["odd"] == [0]


def test_a_repo_runs_what_its_own_registry_has(world: World) -> None:
    """A store over its own repo has the source anyway."""
    world.deploy()
    with FeatureStore(world.folder, redis_url=world.redis.url) as store:
        assert store.get_online_features("service", [{"key": 1}]).columns["odd"] == [0]
        store.push("events", {"key": 1, "n": 5, "at": AT[0].as_py()})


def test_a_repo_that_wants_signatures_publishes_none_without(
    world: World, monkeypatch: Any
) -> None:
    world.deploy()
    before = world.plans()
    monkeypatch.delenv("FEATUREKIT_SIGNING_KEY")
    monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
    world.define("3d")
    with (
        FeatureStore(world.folder, redis_url=world.redis.url) as store,
        pytest.raises(ConfigError, match=r"would refuse an unsigned plan.*nothing was published"),
    ):
        store.apply()
    assert world.plans() == before


def test_a_list_of_features_wants_the_signature_too(world: World, monkeypatch: Any) -> None:
    world.deploy()
    ((key, plan),) = world.plans().items()
    monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
    for features in (["view:count"], ["view:odd"]):
        with FeatureStore(world.folder, redis_url=world.redis.url) as store:
            assert store.get_online_features(features, [{"key": 1}]).columns
    unsigned = {k: v for k, v in json.loads(plan).items() if k != "signature"}
    world.redis.write({key: json.dumps(unsigned).encode()})
    for features in (["view:count"], ["view:odd"]):
        with (
            FeatureStore(world.folder, redis_url=world.redis.url) as store,
            pytest.raises(PlanRefused, match="not signed"),
        ):
            store.get_online_features(features, [{"key": 1}])


def test_a_push_wants_the_signature_too(world: World, monkeypatch: Any) -> None:
    world.deploy()
    ((key, plan),) = world.plans().items()
    monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
    row = {"key": 1, "n": 5, "at": AT[0].as_py()}
    with FeatureStore(world.folder, redis_url=world.redis.url) as store:
        store.push("events", row)
        unsigned = {k: v for k, v in json.loads(plan).items() if k != "signature"}
        world.redis.write({key: json.dumps(unsigned).encode()})
        with pytest.raises(PlanRefused, match="not signed"):
            store.push("events", row)
        with pytest.raises(PlanRefused, match="not signed"):
            store.materialize()
        store.apply()
        store.push("events", row)


def test_keys_are_made_and_shown(world: World, monkeypatch: Any, capsys: Any) -> None:
    file = world.folder / "sign.key"
    repo = ["--repo", str(world.folder), "--json"]
    assert main([*repo, "keys", "generate", str(file)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert file.stat().st_mode & 0o777 == 0o600
    key = PrivateKey.read(file.read_text(), where="file")
    assert key.public.text == made["public_key"]
    assert main([*repo, "keys", "generate", str(file)]) == 2
    assert "never overwritten" in capsys.readouterr().err
    monkeypatch.delenv("FEATUREKIT_SIGNING_KEY")
    monkeypatch.setenv("FEATUREKIT_SIGNING_KEY_FILE", str(file))
    monkeypatch.setenv("FEATUREKIT_PUBLIC_KEYS", KEY.public.text)
    assert main([*repo, "keys"]) == 0
    text = capsys.readouterr().out
    shown = json.loads(text)
    assert (shown["signing"], shown["public_keys"]) == (key.public.text, [KEY.public.text])
    assert key.text not in text
    file.chmod(0o644)
    assert main([*repo, "apply"]) == 2
    assert "open to other users" in capsys.readouterr().err
