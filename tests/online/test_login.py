"""Users of Redis and passwords that are not in the URL: for threads, coroutines and feeding, with a
password that changes, and in errors."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from feature_repos import CONFIG, MakeRepo

from featurekit import FeatureStore, OnlineService
from featurekit.errors import ConfigError, StoreUnavailable
from featurekit.online.store.login import Login
from featurekit.online.store.redis import RedisStore
from featurekit.project.config import connection_url, load_config

FIRST, SECOND = "tyger,tyger@burning/bright", "in%the#forests:of-the-night"
KEY = b"fk:tests:k"


@pytest.fixture
def ask(redis_store: RedisStore) -> Iterator[Callable[..., None]]:
    """Changes the password of the user reader."""

    def change(password: str) -> None:
        words = ("SETUSER", "reader", "reset", "on", f">{password}", "~*", "&*", "+@all")
        redis_store.client.execute_command("ACL", *words)

    change(FIRST)
    yield change
    redis_store.client.execute_command("ACL", "DELUSER", "reader")


def secret(folder: Path, text: str, mode: int = 0o640) -> Path:
    path = folder / "password"
    path.write_text(text)
    path.chmod(mode)
    return path


def who(store: RedisStore) -> set[str]:
    """Whom the server takes a lookup, feeding and a coroutine for."""

    async def in_loop() -> str:
        await store.read_async([KEY])
        connections = store._of_loop()
        found = await connections.client.execute_command("ACL", "WHOAMI")
        await store.close_async()
        return str(found.decode())

    store.read([KEY])
    store.update([KEY], lambda values: [b"1"])
    found = {c.client.execute_command("ACL", "WHOAMI").decode() for c in (
        store, store._reading, store._writing)}  # fmt: skip
    return found | {asyncio.run(in_loop())}


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_or_a_variable_says_who_connects(
    ask: Callable[..., None],
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    end: str,
) -> None:
    monkeypatch.setenv("PASSWORD_OF_REDIS", FIRST)
    for login in (
        Login("reader", password_file=secret(tmp_path, FIRST + end)),
        Login("reader", password_env="PASSWORD_OF_REDIS"),
    ):
        store = RedisStore(redis_url, login=login)
        assert who(store) == {"reader"}
        store.close()


def test_a_password_that_was_changed_is_used_by_new_connections(
    ask: Callable[..., None], redis_url: str, redis_store: RedisStore, tmp_path: Path
) -> None:
    login = Login("reader", password_file=secret(tmp_path, FIRST))
    store = RedisStore(redis_url, login=login)
    assert who(store) == {"reader"}
    ask(SECOND)
    secret(tmp_path, SECOND)
    redis_store.client.execute_command("CLIENT", "KILL", "USER", "reader")
    assert who(store) == {"reader"}
    store.close()


def test_a_url_with_a_login_goes_before(
    ask: Callable[..., None], redis_url: str, tmp_path: Path
) -> None:
    sign = "&" if "?" in redis_url else "?"
    url = f"{redis_url}{sign}username=reader&password=tyger%2Ctyger%40burning%2Fbright"
    store = RedisStore(url, login=Login("nobody", password_file=secret(tmp_path, "wrong")))
    assert who(store) == {"reader"}
    store.close()


def test_no_error_shows_a_password(
    ask: Callable[..., None], redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    for text, mode, told in (
        (SECOND, 0o600, f"refuses the password: .*; put the right one into {path}"),
        (FIRST, 0o644, f"is not asked: the password of Redis {path} is open to other users; run"),
        (FIRST, 0o660, "is open to other users; run `chmod 640 "),
        ("\n", 0o600, "is empty"),
    ):
        store = RedisStore(redis_url, login=Login("reader", password_file=path))
        secret(tmp_path, text, mode)
        for read in (
            lambda store=store: store.read([KEY]),
            lambda store=store: store.update([KEY], lambda values: values),
            lambda store=store: asyncio.run(store.read_async([KEY])),
        ):
            with pytest.raises(StoreUnavailable, match=told) as error:
                read()
            shown = "".join(traceback.format_exception(error.value))
            assert not any(part in shown for part in (FIRST, SECOND))
        secret(tmp_path, FIRST)  # and nothing half open is left
        assert who(store) == {"reader"}
        store.close()
    path.unlink()
    with pytest.raises(StoreUnavailable, match=r"/password cannot be read: No such file"):
        RedisStore(redis_url, login=Login("reader", password_file=path)).read([KEY])
    with pytest.raises(StoreUnavailable, match="no variable 'NONE_OF_IT'; set it"):
        RedisStore(redis_url, login=Login(password_env="NONE_OF_IT")).read([KEY])


def test_settings_and_a_serving_process_name_the_file(
    ask: Callable[..., None], make_repo: MakeRepo, redis_url: str, tmp_path: Path
) -> None:
    own = f"featurekit: {{redis_url: '{redis_url}', redis_username: reader, redis_password_file: "
    path = secret(tmp_path, FIRST)
    folder = make_repo("", {}, f"{CONFIG}{own}../{path.name}}}\n")
    with FeatureStore(folder) as store:
        assert isinstance(store.online, RedisStore)
        assert who(store.online) == {"reader"}
    with OnlineService.connect(
        redis_url, "tests", "none", username="reader", password_file=path
    ) as service:
        assert isinstance(service.store, RedisStore)
        assert who(service.store) == {"reader"}
    with pytest.raises(ConfigError, match="username= has no password"):
        OnlineService.connect(redis_url, "tests", "none", username="reader")


def test_the_environment_names_the_file(
    ask: Callable[..., None],
    make_repo: MakeRepo,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FEATUREKIT_REDIS_PASSWORD_FILE", str(secret(tmp_path, FIRST)))
    monkeypatch.setenv("FEATUREKIT_REDIS_USERNAME", "reader")
    own = "featurekit: {redis_username: nobody, redis_password_env: NONE_OF_IT}\n"
    with FeatureStore(make_repo("", {}, CONFIG + own), redis_url=redis_url) as store:
        assert isinstance(store.online, RedisStore)
        assert who(store.online) == {"reader"}
    with OnlineService.connect(redis_url, "tests", "none") as service:
        assert isinstance(service.store, RedisStore)
        assert who(service.store) == {"reader"}


@pytest.mark.parametrize(
    ("own", "string", "told"),
    [
        ("{redis_username: u}", "h:1", "featurekit.redis_username has no password; write"),
        ("{redis_password_env: A, redis_password_file: b}", "h:1", "both say where the password"),
        ("{redis_password_file: b}", "h:1,password=c", "no password of its own; keep one of them"),
        ("{redis_url: 'redis://:c@h', redis_password_env: A}", "h:1", "no password of its own"),
        ("{redis_password_env: 'my-pass word'}", "h:1", "is the name of a variable"),
    ],
)
def test_settings_that_contradict_each_other_are_told(
    make_repo: MakeRepo, tmp_path: Path, own: str, string: str, told: str
) -> None:
    text = f"{CONFIG}  connection_string: '{string}'\nfeaturekit: {own}\n"
    with pytest.raises(ConfigError, match=told) as error:
        load_config(make_repo("", {}, text)).featurekit.login(tmp_path)
    assert "my-pass" not in str(error.value)


def test_a_connection_string_has_the_options_of_feast() -> None:
    given = "h:6380,ssl=true,username=u,password=p@,ssl_ca_certs=/a b/ca.pem,socket_timeout=0.5"
    assert connection_url(given) == (
        "rediss://u:p%40@h:6380/0?ssl_ca_certs=%2Fa%20b%2Fca.pem&socket_timeout=0.5"
    )
    with pytest.raises(ConfigError, match="ssl_ca_certs is of TLS; write ssl=true beside it"):
        connection_url("h:6380,ssl_ca_certs=ca.pem")
