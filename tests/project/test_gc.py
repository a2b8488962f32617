"""What no version in use needs goes, and nothing else, whatever is published meanwhile."""

import datetime as dt
from contextlib import nullcontext
from typing import Any

import pytest
from paths import in_small_blocks
from versioned import Repo, deploy, live_days

from featurekit.core.keys import project_key, state_prefix
from featurekit.errors import DamagedNote, OnlineError, RegistryError
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import fed_views
from featurekit.project.gc import collect


def held(store: Any) -> dict[bytes, bytes | None]:
    """Every key of the project but its bookkeeping, with its value."""
    keys = [*store.online.keys(b"fk:versions:state:"), *store.online.keys(b"fk:versions:plan:")]
    return dict(zip(keys, store.online.read(keys), strict=True))


def of_window(store: Any, fingerprint: str) -> list[bytes]:
    """The keys of the states of the view `window` that a version of the service reads."""
    service = store.registry.definition("service", "service", fingerprint)
    return list(store.online.keys(state_prefix(store.project, service.views[1])))


def test_states_and_plan_of_an_unused_version_go_and_all_others_stay(repo: Repo) -> None:
    repo.files((1, 1, 10), (2, 2, 10))
    first, second, _ = deploy(repo, "30d", "20d", "10d")
    with repo.store() as store:
        before = held(store)
        unused = {*of_window(store, first), project_key("versions", "plan", "service", first)}
        assert len(unused) == 3
        planned = store.gc(dry_run=True)
        assert held(store) == before
        done = store.gc()
        assert done.versions == planned.versions
        assert held(store) == {k: v for k, v in before.items() if k not in unused}
        assert (done.keys, done.bytes > sum(map(len, unused))) == (3, True)
        kept = {(v.kind, v.name): v.used_by for v in done.versions if second in v.fingerprint}
        assert kept == {("service", "service"): ("retained service",)}
        assert store.gc().removed == ()
    assert live_days(repo) == 10
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert online == offline
    with repo.store() as store:
        assert store.rollback("service").live
        assert not store.rollback("service", first).live


def test_blocks_of_an_unused_version_go(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_blocks(monkeypatch)
    repo.files(*[(1, x, 10 + x) for x in range(9)])
    deploy(repo, "30000d", "20000d", "10000d")
    with repo.store() as store:
        blocks = b"fk:versions:block:window:"
        before = {k.split(b":")[4] for k in store.online.keys(blocks)}
        store.gc()
        after = {k.split(b":")[4] for k in store.online.keys(blocks)}
        fed = {v.fingerprint.encode() for v in fed_views(store.online, store.project)}
    assert len(before) == 3
    assert after == before & fed
    assert len(after) == 2


class Crashed(Exception):
    """The end of a process."""


@pytest.mark.parametrize("step", range(1, 8))
def test_a_version_serves_again_wherever_its_removal_broke_off(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A head never outlives its blocks: a state is there whole, or has to be filled again."""
    in_small_blocks(monkeypatch)
    repo.files(*[(1, x, 10 + x) for x in range(9)])
    first = deploy(repo, "30000d", "20000d", "10000d")[0]
    with repo.store() as store:
        online, left = store.online, step

        class Breaking:
            """A store that removes a key at a time, and `step` of them."""

            def scan(self, prefix: bytes) -> Any:
                return ([key] for keys in online.scan(prefix) for key in sorted(keys))

            def delete_if(self, *arguments: Any) -> bool:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Crashed
                return online.delete_if(*arguments)

            def __getattr__(self, name: str) -> Any:
                return getattr(online, name)

        with pytest.raises(Crashed):
            collect(Breaking(), store.project)  # type: ignore[arg-type]
        assert not store.rollback("service", first).live
        assert store.materialize().live == ("service",)
    repo.define(window="30000d")
    offline, served = repo.both(1, dt.datetime.now(dt.UTC))
    assert served == offline


def test_a_retained_version_goes_when_it_is_let_go_of(repo: Repo) -> None:
    repo.files((1, 1, 10))
    first, second = deploy(repo, "30d", "20d")
    with repo.store() as store:
        assert store.gc(retained=True, dry_run=True).keys == 2
        assert store.versions("service")[0].state == "retained"
        assert store.gc(retained=True).keys == 2
        assert [v.state for v in store.versions("service")] == ["unfed", "live"]
        assert of_window(store, first) == []
        assert len(of_window(store, second)) == 1
        assert not store.rollback("service").live
        store.materialize()
    assert live_days(repo) == 30
    offline, online = repo.both(1, dt.datetime.now(dt.UTC))
    assert (online["x"], online["sum"]) == (offline["x"], (None, "NULL_VALUE"))


def test_a_version_in_use_is_refused_by_name(repo: Repo) -> None:
    repo.files((1, 1, 10))
    first, _ = deploy(repo, "30d", "20d")
    with repo.store() as store:
        before = held(store)
        view = store.repo.compiled_views["window"].fingerprint
        with pytest.raises(RegistryError, match=f"window:{view[:12]} is used by live service"):
            store.gc([f"window:{view[:8]}"])
        with pytest.raises(RegistryError, match=r"view latest:\w+ is used by live service, retain"):
            store.gc(["latest"])
        with pytest.raises(RegistryError, match=f"service:{first[:12]} is used by retained serv"):
            store.gc([f"service:{first}"])
        with pytest.raises(RegistryError, match="holds no unused version 'windows'"):
            store.gc(["windows"])
        assert held(store) == before


def test_one_unused_version_goes_by_name(repo: Repo) -> None:
    repo.files((1, 1, 10))
    first = deploy(repo, "30d", "20d", "10d")[0]
    with repo.store() as store:
        unused = store.registry.definition("service", "service", first).views[1]  # type: ignore[union-attr]
        (gone,) = store.gc([f"window:{unused.fingerprint[:10]}"]).removed
        assert (gone.kind, gone.fingerprint, gone.keys) == ("view", unused.fingerprint, 1)
        assert project_key("versions", "plan", "service", first) in held(store)


class Interrupted:
    """A store in which something happens before the first removal."""

    def __init__(self, store: OnlineStore, happening: Any, *, checked: bool) -> None:
        self.store, self.happening, self.checked = store, happening, checked

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def delete_if(self, keys: Any, guards: Any, values: Any) -> bool:
        happening, self.happening = self.happening, lambda: None
        happening()
        if self.checked:
            return self.store.delete_if(keys, guards, values)
        self.store.delete(keys)
        return True


@pytest.mark.parametrize("checked", [True, False])
def test_a_version_that_is_published_meanwhile_loses_nothing(repo: Repo, checked: bool) -> None:
    """Without the check, which `checked` False leaves out, its states are lost."""
    repo.files((1, 1, 10))
    first = deploy(repo, "30d", "20d", "10d")[0]

    def bring_back() -> None:
        with repo.store() as other:
            other.rollback("service", first)
            assert other.materialize().live == ("service",)

    with repo.store() as store:
        wrapped = Interrupted(store.online, bring_back, checked=checked)
        with nullcontext() if checked else pytest.raises(DamagedNote, match="plan:service:"):
            collect(wrapped, store.project)  # type: ignore[arg-type]
        assert len(of_window(store, first)) == (1 if checked else 0)


def test_gc_refuses_to_guess_where_a_plan_is_lost(repo: Repo) -> None:
    repo.files((1, 1, 10))
    (first,) = deploy(repo, "30d")
    with repo.store() as store:
        store.online.delete([project_key("versions", "plan", "service", first)])
        with pytest.raises(OnlineError, match="has no plan in the online store"):
            store.gc()


def test_pointers_of_a_service_that_is_no_more_go(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d")
    with repo.store() as store:
        left = project_key("versions", "live", "gone")
        store.online.write({left: b"abc"})
        assert [(v.kind, v.name, v.fingerprint) for v in store.gc().removed] == [
            ("pointer", "gone", "live")
        ]
        assert store.online.read([left]) == [None]


def test_a_store_removes_keys_only_while_their_guards_hold(online: OnlineStore) -> None:
    online.write({b"a:1": b"x", b"a:2": b"y", b"b": b"guard"})
    assert online.count() == 3
    assert sorted(k for keys in online.scan(b"a:") for k in keys) == [b"a:1", b"a:2"]
    present, absent = online.sizes([b"a:1", b"nope"])
    assert present >= 4
    assert absent == 0
    assert not online.delete_if([b"a:1"], [b"b", b"nope"], [b"other", None])
    assert not online.delete_if([b"a:1"], [b"b", b"nope"], [b"guard", b""])
    assert online.read([b"a:1"]) == [b"x"]
    assert online.delete_if([b"a:1"], [b"b", b"nope"], [b"guard", None])
    assert online.read([b"a:1", b"a:2"]) == [None, b"y"]


# --- removal of what a live version uses ----------------------------------------------------------


def test_a_view_that_the_live_version_uses_cannot_be_removed(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d")
    text = (repo.folder / "definitions.py").read_text()
    (repo.folder / "definitions.py").write_text(text.replace('    "window", ', '    "sums", '))
    with repo.store() as store:
        with pytest.raises(RegistryError, match="no view 'window' any more, and the live version"):
            store.apply()
        assert [c.action for c in store.plan()] == ["add", "change", "remove"]
    assert live_days(repo) == 30
    # With both views there the new version comes to be live, and then the old view can go.
    view, service = text[text.index("window =") :].split("service =")
    renamed = view.replace("window =", "sums =").replace('"window"', '"sums"')
    both = f"{text.split('service =')[0]}{renamed}service ={service.replace('window', 'sums')}"
    (repo.folder / "definitions.py").write_text(both)
    repo.deploy()
    (repo.folder / "definitions.py").write_text(text.replace('    "window", ', '    "sums", '))
    with repo.store() as store:
        assert "remove" in [c.action for c in store.apply()]


def test_a_source_that_the_live_version_reads_cannot_be_removed(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d")
    text = (repo.folder / "definitions.py").read_text()
    (repo.folder / "definitions.py").write_text(text.replace('    "events", ', '    "orders", '))
    with repo.store() as store:
        with pytest.raises(RegistryError, match="no source 'events' any more"):
            store.apply()
        assert store.registry.history("service", "service") == [store.live()["service"].fingerprint]


def test_a_view_may_go_where_the_new_version_is_live_at_once(repo: Repo) -> None:
    repo.files((1, 1, 10))
    deploy(repo, "30d")
    text = (repo.folder / "definitions.py").read_text()
    start, end = text.index("window = "), text.index("service = ")
    without = text[:start] + text[end:].replace("[latest, window]", "[latest]")
    (repo.folder / "definitions.py").write_text(without)
    with repo.store() as store:
        store.apply(allow_breaking=True)
        assert [v.name for v in store.live()["service"].views] == ["latest"]
