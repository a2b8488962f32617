"""No error shows a password, however a URL is spelt; and a wrong URL is told what is wrong."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.connection import parse_url

from featurekit import FeatureStore, OnlineService
from featurekit.cli import main
from featurekit.errors import ConfigError, FeaturekitError, StoreUnavailable
from featurekit.online.store.open import open_store
from featurekit.online.store.redis import RedisStore, connect
from featurekit.online.store.url import OPTIONS, check_url, shown_url, without_secrets

SECRETS = ["hunter2", "p@ss", "pa/ss", "pa?ss", "pa#ss", "pa[ss", "pa:ss", "100%", "a b", "ä=1&b"]
SHAPES = [
    "redis://:{}@host:6379/0",
    "redis://user:{}@host:6379",
    "rediss://user:{}@host:port/0",
    "redis://user:{}@host:99999/0",
    "redis://user:{}@host:6379/zero",
    "redis://user:{}@ho st/0",
    "redis://user:{}@[::1/0",
    "redis://{}@host:6379",
    "redis://:{}host:6379/0",
    "redis://host:6379/0?password={}",
    "redis://host:6379/0?passwort={}",
    "redis://host:6379/0?db={}",
    "redis://host:6379/0?{}",
    "redis://host:{}/0",
    "redis://host/{}",
    "redis://host/0#{}",
    "redis:/user:{}@host",
    "redis:user:{}@host",
    "REDIS://user:{}@host",
    "http://user:{}@host:6379",
    "://user:{}@host",
    "//user:{}@host",
    "user:{}@host:6379",
    ":{}@host",
    "{}",
    "host:6379,password={}",
    "unix://user:{}@run/redis.sock",
    "unix://{}/run/redis.sock",
    "unix:///nowhere/redis.sock?password={}",
    "unix:///nowhere/redis.sock?passwd={}",
    "redis://user:{}\n@host",
    "redis://user:{}@host,redis://user:{}@other",
    "redis+{}://host",
    "{}://host",
    "{}:123",
    "redis://host:6379/0?{}=1",
    "rediss://host:1/0?ssl_cert_reqs={}",
]


def said(work: Callable[[], Any]) -> str:
    """The text of the error and of everything that Python prints of it."""
    with pytest.raises(FeaturekitError) as caught:
        work()
    printed = traceback.TracebackException.from_exception(caught.value, lookup_lines=False)
    chained, texts = printed, list[str]()
    while chained is not None:
        texts += chained.format_exception_only()
        chained = chained.__cause__ or chained.__context__
    return "".join(texts)


def forms(secret: str) -> set[str]:
    """A password as it is, and by its codes; a part of it on either side of a sign counts, too."""
    parts = {secret, quote(secret, safe=""), quote(secret)}
    for sign in "@/?#[:% =&":
        parts |= {part for part in secret.split(sign) if len(part) > 2}
    return parts


@pytest.mark.parametrize("shape", SHAPES)
def test_no_error_shows_a_password(shape: str) -> None:
    for secret, encoded in itertools.product(SECRETS, (False, True)):
        url = shape.replace("{}", quote(secret, safe="") if encoded else secret)

        def asked(url: str = url) -> None:
            # A host that is none resolves to nothing, and a unix socket is not there.
            url = url.replace("host", "host.invalid")
            open_store(url).read([b"k"])

        text = said(asked)
        for form in forms(secret):
            assert form not in text, (url, text)


@given(secret=st.text(min_size=4, max_size=12), shape=st.sampled_from(SHAPES))
def test_no_password_of_any_signs_is_shown(secret: str, shape: str) -> None:
    def told(secret: str) -> str:
        url = shape.replace("{}", secret)
        try:
            check_url(url)
        except StoreUnavailable as error:
            return f"{shown_url(url)} {error}"
        return shown_url(url)

    shown = told(secret)
    of_the_secret = shown != told("Zq" * (len(secret) // 2))  # else its words are ours
    shown = shown.replace("redis", "")
    assert secret.strip("0/.-: ") in ("", *"redis") or not (of_the_secret and secret in shown)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://host/0?foo=1", "option, number 1, that is not known; redis:// has db, username"),
        ("rediss://host/0?ssl_cert=x", "option, number 1, that is not known.*ssl_certfile"),
        ("redis://host/0?ssl_certfile=x", "'ssl_certfile' that is not known"),
        ("unix:///s?socket_keepalive=1", "'socket_keepalive' that is not known"),
        ("redis://host/0?decode_responses=true", "'decode_responses' that is not known"),
        ("rediss://host/0?db=1&ssl_cert_reqs=x", "'ssl_cert_reqs' is not none, optional or requ"),
        ("redis://host/0?db=one", "option 'db' is not a whole number"),
        ("redis://host/0?socket_timeout=fast", "'socket_timeout' is not a number of seconds"),
        ("redis://host/0?socket_keepalive=maybe", "'socket_keepalive' is not yes or no"),
        ("redis://host:port/0", "its port, .* is not a number up to 65535"),
        ("redis://host:0/0", "its port, .* is not a number"),
        ("redis://user:p:ss@host:port/0", "its port, .* is not a number .*; write a sign"),
        ("redis://ho^st/0", "where its host is to be is not one"),
        ("redis://host/zero", "no number of a database"),
        ("redis://a:p@ss@host", "an @ too many; write a sign"),
        ("redis://:p/ss@host", "an @ too many"),
        ("redis://:p#ss@host", "a #"),
        ("redis://:p%ss@host", "a % that begins no code"),
        ("unix://run/redis.sock", "a third /"),
        ("unix://", "a third /"),
        ("redis://host 1", "a space"),
    ],
)
def test_a_wrong_url_is_told_what_is_wrong(url: str, told: str) -> None:
    for work in (connect, RedisStore, open_store):
        with pytest.raises(StoreUnavailable, match=rf"is no Redis URL: .*{told}.*; write redis://"):
            work(url)


def test_codes_of_signs_are_spoken_of_only_where_a_url_has_a_login() -> None:
    for url, told in [("redis://host:port/0", False), ("redis://me:secret@host:port/0", True)]:
        with pytest.raises(StoreUnavailable) as raised:
            check_url(url)
        assert ("as %40 for @" in str(raised.value)) is told


@pytest.mark.parametrize("url", [None, 5, b"redis://host", Path("/run/redis.sock"), object()])
def test_what_is_no_text_is_no_url(url: Any) -> None:
    with pytest.raises(StoreUnavailable, match="is no URL of an online store"):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host"),
        ("redis://user:pw@host:6380/3?client_name=x", "redis://host:6380/3"),
        ("redis://:p%40ss@host/", "redis://host"),
        ("redis://a:b:c@host/0", "redis://host/0"),
        ("rediss://[::1]:6379/0?ssl_certfile=/a", "rediss://[::1]:6379/0"),
        ("redis:///1", "redis:///1"),
        ("unix:///run/a%20b.sock?db=1&password=pw", "unix:///run/a%20b.sock"),
        ("unix://user:pw@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_that_is_right_is_shown_without_its_login(url: str, shown: str) -> None:
    check_url(url)
    parse_url(url)  # what we let through, redis-py reads
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url", ["redis://u:{}@host", "unix:///s?password={}", "rediss://host?ssl_password={}"]
)
def test_what_others_say_of_a_url_loses_its_password(url: str) -> None:
    made = url.format(quote("p@ss/word", safe=""))
    for form in ("p@ss/word", "p%40ss%2Fword", "p%40ss/word"):
        assert without_secrets(f"it refuses {form} of u", made) == "it refuses … of u"
    assert without_secrets("see redis://a:b@c and x@y", made) == "see redis://…@c and x@y"


@pytest.mark.parametrize("scheme", OPTIONS)
def test_every_option_that_is_known_opens_a_connection(scheme: str) -> None:
    """Another one is a TypeError in redis-py, at the first command."""
    values = {"a text": "x", "a whole number": "3", "a number of seconds": "1.5", "yes or no": "1"}
    for name, kind in OPTIONS[scheme].items():
        value = "none" if name == "ssl_cert_reqs" else values[kind]
        place = "/nowhere/redis.sock" if scheme == "unix" else "127.0.0.1:1/0"
        store = open_store(f"{scheme}://{place}?{name}={value}")
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            store.read([b"k"])
        store.close()


SETTINGS = [
    "project: p\nonline_store: {}\n",
    "project: p\nonline_store:\n  type: redis\n  connection_string: [{}]\n",
    "project: p\nonline_store:\n  type: redis\n  connection_string: h:1,passwd={}\n",
    "project: p\nonline_store:\n  type: redis\n  connection_string: h:1,password=a,{}\n",
    "project: p\nonline_store:\n  type: redis\n  connection_string: h:1,{}\n",
    "project: p\nonline_store:\n  type: redis\n  connection_string: h:1,{}=a,ssl=true\n",
    "project: p\nonline_store:\n  type: redis\n  connection_string: redis://u:{}@h\n",
    "project: p\nfeaturekit:\n  redis_url: {{x: {}}}\n",
    "project: p\nfeaturekit:\n  redis_url: redis://u:{}: @h\n",
    "project: p\nfeaturekit:\n  redis_url: 'redis://u:{}@h\n",
    "project: redis://u:{}@h\n",
    "project: p\nfeaturekit:\n  serving_log: redis://u:{}@h\n",
    "project: p\nfeaturekit:\n  registry: mysql://u:{}@h/db\n",
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_no_error_of_the_settings_shows_a_password(settings: str, tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(settings.format("hunter2"), encoding="utf-8")
    with pytest.raises((ConfigError, StoreUnavailable)) as caught:
        FeatureStore(tmp_path).online.read([b"k"])
    assert "hunter2" not in str(caught.value)


def test_no_door_shows_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: p\n", encoding="utf-8")
    url = "redis://user:hunter2@ho.invalid:port/0"
    given = FeatureStore(tmp_path, redis_url=url)
    assert "hunter2" not in said(lambda: given.online)
    assert "hunter2" not in said(lambda: OnlineService.connect(url, "p", "s"))
    monkeypatch.setenv("FEATUREKIT_REDIS_URL", url)
    assert "hunter2" not in said(lambda: FeatureStore(tmp_path).online)
    for words in (["versions", "s", "--redis-url", url], ["versions", "s", url], ["x", url]):
        assert main(["--repo", str(tmp_path), *words]) in (2, 64)
    found = capsys.readouterr()
    assert "hunter2" not in found.out + found.err
    assert "bug" not in found.err
    assert "hunter2" not in repr(FeatureStore(tmp_path).config)
