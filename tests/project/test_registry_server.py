"""A registry in PostgreSQL: it answers as a file does, and several people write to it at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import origins
import pytest
from origins import PostgresServer, server_binaries
from versioned import MODULE, SETTINGS, Repo, at

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.core.keys import project_key
from featurekit.core.postgres import Refused, Server
from featurekit.core.types import INT
from featurekit.errors import ConfigError, RegistryError, WriteError
from featurekit.log.tombstones import Tombstone
from featurekit.project import registry_server, registry_tables
from featurekit.project.registry import Definition, Registry
from featurekit.project.registry_file import RegistryFile
from featurekit.project.registry_server import RegistryServer, schema_of
from tests import forks

ROWS = [(1, 5, 0), (1, 7, 1), (2, 11, 2)]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no server of PostgreSQL in /usr/lib/postgresql or on PATH: nothing to keep it")
    with TemporaryDirectory(prefix="pg-") as folder, PostgresServer(Path(folder), binaries) as made:
        yield made


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    """The URL of its owner; the database is empty."""
    yield f"postgresql://owner@/postgres?host={server.folder}"
    for schema in schemas(server):
        server.do(f'DROP SCHEMA "{schema}" CASCADE')


def schemas(server: PostgresServer) -> list[str]:
    with server.owning() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'featurekit%'")
        return sorted(name for (name,) in cursor.fetchall())


def settle(repo: Repo, url: str) -> None:
    """Write the registry into the settings of a repo."""
    text = f'{SETTINGS}featurekit:\n  registry: "{url}"\n'
    (repo.folder / "feature_store.yaml").write_text(text)


@pytest.fixture
def shared(repo: Repo, url: str) -> Repo:
    """A repo whose registry is on the server."""
    settle(repo, url)
    repo.files(*ROWS)
    return repo


def tombstone(digest: str) -> Tombstone:
    return Tombstone("entity", (("k", INT),), digest, "secret", 2**62, "", "", None)


def told(registry: Registry, repo: Repo) -> list[Any]:
    """Everything that a registry says of what is done to it, without names and instants."""
    found: list[Any] = [registry.known(), registry.tombstones(), registry.fills("s")]
    with repo.store() as store:
        every = store.parts.repo
    wanted = [Definition(v, {"owner": "a'?%$1"}) for v in every.compiled_views.values()]
    wanted += [Definition(s, {}) for s in every.compiled_services.values()]
    found += [registry.plan(wanted), registry.apply(wanted), registry.apply(wanted)]
    found.append(registry.apply(wanted[1:]))
    registry.make_id()
    holds = registry.known()
    assert holds is not None
    registry.make_id()
    assert registry.known() == holds
    first = wanted[0].value
    registry.roll_back("view", first.name, first.fingerprint)
    found += [holds.changes, registry.history("view", first.name), registry.names("view")]
    found += [[one for one, *_ in registry.versions("view", first.name)]]
    found += [registry.definition("view", first.name, first.fingerprint)]
    found += [registry.next_sequence(5), registry.next_sequence(2**53), registry.next_sequence(1)]
    for number in (1, 2):
        registry.filled("s", "v", number)
    found += [registry.fills("s"), registry.fills("t")]
    found += [registry.forget(tombstone("a")), registry.forget(tombstone("b"))]
    registry.forgot(2, {"rows": 7})
    found += [[(t.digest, t.until, t.removed) for t in registry.tombstones()]]
    record = registry.dump()
    texts = {v[:3]: registry.written(*v[:3]) or "" for v in record.versions}
    found.append(registry.rebuild(record, texts, "id") is not None)
    assert registry.dump() == record
    found += [registry.known(), [row[:4] for row in record.changes], record.current]
    found += [registry.runnable("service", every.compiled_services["service"].fingerprint).name]
    with pytest.raises(RegistryError, match="has no version"):
        registry.definition("view", "none", "0")
    return found


def test_both_say_the_same(repo: Repo, url: str, tmp_path: Path) -> None:
    repo.files(*ROWS)
    file = Registry(RegistryFile(tmp_path / "other.db"))
    assert told(Registry(RegistryServer(url, "p")), repo) == told(file, repo)


def test_a_project_lives_on_it(shared: Repo, server: PostgresServer) -> None:
    for window in ("30d", "20d"):
        shared.define(window=window)
        shared.deploy()
    offline, online = shared.both(1, at(10))
    assert offline == online
    with shared.store() as store:
        versions = store.versions("service")
        store.rollback("service")
        assert store.plan()
        store.forget("entity", {"k": 1})
        rows = store.get_historical_features([{"k": 1, "event_timestamp": at(10)}], "service")
        assert rows.to_pylist()[0]["sum"] == 0 or rows.to_pylist()[0]["sum"] is None
    assert len(versions) == 2
    assert not (shared.folder / ".featurekit" / "registry.db").exists()
    assert schemas(server) == ["featurekit_versions"]


def test_a_colleague_has_the_same_registry(shared: Repo, url: str, tmp_path: Path) -> None:
    shared.deploy()
    (tmp_path / "colleague").mkdir()
    other = Repo(tmp_path / "colleague", shared.url)
    settle(other, url)
    other.files(*ROWS)
    with other.store() as store:
        assert not store.plan()
    other.define(window="9d")
    with other.store() as store:
        store.apply()
    with shared.store() as store:
        changed = {c.name for c in store.plan()}
    assert changed == {"window", "service"}


def test_projects_share_a_database(url: str, server: PostgresServer) -> None:
    first, second = (Registry(RegistryServer(url, name)) for name in ("a", "b"))
    first.forget(tombstone("a"))
    assert second.tombstones() == []
    assert second.forget(tombstone("b")) == 1
    assert [t.digest for t in first.tombstones()] == ["a"]
    assert schemas(server) == ["featurekit_a", "featurekit_b"]


def test_a_long_name_has_a_schema_of_its_own() -> None:
    names = [schema_of("p" * 100 + end) for end in ("a", "b")]
    assert len({*names}) == 2
    assert all(len(name) <= 63 for name in names)


def _applied(url: str, redis: str, folder: str, window: str, start: Any) -> None:
    repo = Repo(Path(folder), redis)
    settle(repo, url)
    repo.files(*ROWS)
    repo.define(window=window)
    start.wait(60)
    for _ in range(3):
        with repo.store() as store:
            store.apply()


@pytest.mark.slow
def test_two_people_apply_at_once(shared: Repo, url: str, tmp_path: Path) -> None:
    """Each version is recorded, each change follows the one before, and one of them is in force."""
    shared.deploy()
    context = forks.context()
    start = context.Barrier(2)
    windows = ("11d", "12d")
    people = []
    for window in windows:
        folder = tmp_path / window
        folder.mkdir()
        arguments = (url, shared.url, str(folder), window, start)
        people.append(context.Process(target=_applied, args=arguments))
    for one in people:
        one.start()
    for one in people:
        one.join(120)
    assert [one.exitcode for one in people] == [0, 0]
    with shared.store() as store:
        registry = store.registry
        assert len(registry.versions("view", "window")) == 3
        chain = registry.history("view", "window")
        assert all(a != b for a, b in itertools.pairwise(chain))
        record = registry.dump()
        in_force = {(kind, name): f for kind, name, f, _ in record.current}
        assert in_force["view", "window"] == chain[-1]
        held = registry.definition("service", "service", in_force["service", "service"])
        (waiting,) = store.parts.online.read([project_key("versions", "next", "service")])
    assert in_force["view", "window"] in {view.fingerprint for view in held.views}
    assert waiting == in_force["service", "service"].encode()  # and the store waits for the same


def test_numbers_that_many_take_at_once_are_all_others(url: str) -> None:
    registries = [Registry(RegistryServer(url, "p")) for _ in range(4)]

    def take(registry: Registry) -> list[int]:
        return [registry.next_sequence(1) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        taken = [number for some in pool.map(take, registries) for number in some]
    assert sorted(taken) == list(range(1, 41))


@contextmanager
def held(url: str) -> Iterator[None]:
    """As by a process that was stopped in the middle of a write."""
    with RegistryServer(url, "p").opened(write=True):
        yield


def test_who_holds_it_is_waited_for_and_told_of(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(RegistryServer(url, "p"))
    registry.make_id()
    monkeypatch.setattr(registry_tables, "WAIT_S", 0.3)
    with held(url):
        with pytest.raises(
            RegistryError, match=r"is held by another process, .* 0\.3 s;.*pg_locks"
        ):
            registry.next_sequence(1)
        assert registry.known() is not None  # who reads waits for nobody
        assert registry.tombstones() == []
    monkeypatch.setattr(registry_tables, "WAIT_S", 30.0)
    holding = held(url)
    holding.__enter__()
    ended = threading.Timer(0.2, holding.__exit__, (None, None, None))
    ended.start()
    assert registry.next_sequence(3) == 3
    ended.join()


def test_what_fails_in_the_middle_leaves_nothing(
    url: str, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(RegistryServer(url, "p"))
    registry.forget(tombstone("a"))
    before = registry.dump()

    def no(*_: Any) -> None:
        raise Refused("could not extend file: No space left on device", "53100")

    with monkeypatch.context() as patched:
        patched.setattr("featurekit.project.registry._set_fact", no)
        with pytest.raises(WriteError, match="make room on the server's disk"):
            registry.rebuild(before, {}, "id")
    assert registry.dump() == before
    assert schemas(server) == ["featurekit_p"]
    assert registry.rebuild(before, {}, "id") == schemas(server)[1]


def test_a_connection_that_was_lost_is_opened_again(url: str, server: PostgresServer) -> None:
    registry = Registry(RegistryServer(url, "p"))
    registry.forget(tombstone("a"))
    assert len(registry.tombstones()) == 1
    server.do(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    assert len(registry.tombstones()) == 1


def test_a_process_that_was_forked_has_a_connection_of_its_own(url: str) -> None:
    registry = Registry(RegistryServer(url, "p"))
    registry.forget(tombstone("a"))
    assert len(registry.tombstones()) == 1
    kept = registry.kept
    assert isinstance(kept, RegistryServer)
    assert kept._kept is not None
    kept._kept = kept._kept[0] + 1, kept._kept[1]  # as another process would find it
    assert len(registry.tombstones()) == 1


PASSWORD = "s3cret pass"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "postgresql://owner@/none?host={folder}",
            'database "none" does not exist.*correct the URL',
        ),
        ("postgresql://owner@/postgres?host={folder}/none", "see that the server runs"),
        ("postgresql://reader:${{REGISTRY_PASSWORD}}@/postgres?host={folder}", "password auth"),
        ("postgresql://reader:${{NO_SUCH_NAME}}@/postgres?host={folder}", "'NO_SUCH_NAME'; set it"),
        ("postgresql://poor:${{REGISTRY_PASSWORD}}@/postgres?host={folder}", "create a schema"),
    ],
)
def test_a_server_that_cannot_be_used_is_told(
    server: PostgresServer, given: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PASSWORD", PASSWORD)
    server.do("DROP ROLE IF EXISTS poor", f"CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'")
    registry = Registry(RegistryServer(given.format(folder=server.folder), "p"))
    for ask in (lambda: registry.apply([]), registry.make_id):
        with pytest.raises(RegistryError, match=said) as raised:
            ask()
        assert PASSWORD not in str(raised.value)
    if "poor" not in given:  # whose registry is not there: nothing was ever written
        with pytest.raises(RegistryError, match=said):
            registry.tombstones()
        with pytest.raises(RegistryError, match=said):
            registry.fills("s")


@pytest.mark.parametrize("whole", [False, True])
def test_a_password_comes_from_the_environment(
    repo: Repo, server: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    del url  # what is written is removed
    server.do("GRANT CREATE ON DATABASE postgres TO reader")
    there = f"@/postgres?host={server.folder}"
    monkeypatch.setenv("REGISTRY_PASSWORD", origins.PASSWORD)
    monkeypatch.setenv("REGISTRY", f"postgresql://reader:{quote(origins.PASSWORD, safe='')}{there}")
    settle(repo, "${REGISTRY}" if whole else f"postgresql://reader:${{REGISTRY_PASSWORD}}{there}")
    repo.files(*ROWS)
    repo.deploy()
    with repo.store() as store:
        registry, settings = store.registry, store.parts.config
        assert registry.names("service") == ["service"]
    for shown in (registry.place, repr(settings)):
        assert origins.PASSWORD not in shown
        assert quote(origins.PASSWORD, safe="") not in shown
    server.do("REVOKE CREATE ON DATABASE postgres FROM reader")


def test_a_lost_schema_is_made_again_from_the_store(shared: Repo, server: PostgresServer) -> None:
    shared.deploy()
    with shared.store() as store:
        store.forget("entity", {"k": 1})
    server.do("DROP SCHEMA featurekit_versions CASCADE")
    with shared.store() as store, pytest.raises(RegistryError, match="featurekit adopt"):
        store.apply()
    assert main(["--repo", str(shared.folder), "--redis-url", shared.url, "adopt"]) == 0
    offline, online = shared.both(2, at(10))
    assert offline == online
    with shared.store() as store:
        assert not store.plan()
        assert len(store.registry.tombstones()) == 1


def test_a_url_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "definitions.py").write_text(MODULE)
    for given in ("mysql://me@db/x", "sqlite:///x.db", "postgresql+psycopg://me@db/x"):
        (tmp_path / "feature_store.yaml").write_text(
            f"{SETTINGS}featurekit:\n  registry: {given}\n"
        )
        with pytest.raises(ConfigError, match="the URL of a PostgreSQL server, as in postgresql"):
            FeatureStore(tmp_path)


def test_a_url_is_shown_without_its_password() -> None:
    server = Server("postgresql://me:pass@db:5432/x?sslmode=require")
    assert server.shown == "postgresql://me@db:5432/x?sslmode=require"
    assert Server("postgresql:///x?host=/tmp").shown == "postgresql:///x?host=/tmp"
    assert "pass" not in registry_server.RegistryServer(server.url, "p").place
