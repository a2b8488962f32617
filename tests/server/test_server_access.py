"""Who may ask a real server: each route and scope, revocation in all workers, limits, origins, and
that no secret comes out anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pushing
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm
from serving import Served, serving

from featurekit.cli import main
from featurekit.client import Client
from featurekit.core.waiting import until
from featurekit.errors import RequestRefused
from featurekit.online.store.open import open_store
from featurekit.online.store.server import scratch_redis
from featurekit.project.api_keys import create_api_key, revoke_api_key
from featurekit.server.known_keys import FRESH_S

OWN, FEAST, LISTED = "/v1/services/plain/features", "/get-online-features", "/v1/features"
ROW = {"rows": [{"key": 1}]}
ASKED = {"feature_service": "plain", "entities": {"key": [1]}}
FEATURES = {"features": ["numbers:i_last"], **ROW}
FEAST_LIST = {"features": ["numbers:i_last"], "entities": {"key": [1]}}
ISSUER = ed25519.Ed25519PrivateKey.generate()
PAGE = "https://shop.example"
LIMITED = {"HEAD", "GET", "POST"}


class Guarded:
    """A server that asks who asks, over a repo whose keys the test makes."""

    def __init__(self, served: Served, url: str, folder: Path) -> None:
        self.served, self.folder = served, folder
        self.store = open_store(url)

    def key(self, *scopes: str, rate: float | None = None) -> str:
        """A new key with these scopes."""
        name = f"k{secrets.token_hex(6)}"
        return create_api_key(self.store, "tests", name, scopes, rate=rate)[1]

    def ask(
        self, token: str | None, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, bytes]:
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return self.served.ask(method, path, body, headers)

    def status(self, token: str | None, path: str = OWN, body: Any = ROW) -> int:
        return self.ask(token, "GET" if body is None else "POST", path, body)[0]


@pytest.fixture(scope="module")
def guarded(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("issuer")
    public = json.loads(OKPAlgorithm.to_jwk(ISSUER.public_key()))
    (folder / "jwks.json").write_text(json.dumps({"keys": [{**public, "kid": "e"}]}))
    words = ("--auth", "keys,jwt", "--jwks", str(folder / "jwks.json"), "--issuer", "id")
    words += ("--audience", "featurekit", "--cors", PAGE, "--workers", "2")
    store = ("--project", "tests", "--redis-url", world.url)
    with serving(*store, *words) as served:
        made = Guarded(served, world.url, world.folder)
        yield made
        made.store.close()


# --- routes and scopes ----------------------------------------------------------------------------

ROUTES: list[tuple[str, str, Any, str]] = [
    ("POST", OWN, ROW, "read:plain"),
    ("POST", FEAST, ASKED, "read:plain"),
    ("POST", LISTED, FEATURES, "list:features"),
    ("POST", FEAST, FEAST_LIST, "list:features"),
    ("GET", "/metrics", None, "metrics"),
    ("HEAD", "/metrics", None, "metrics"),
    ("GET", "/v1/services/plain", None, "read:plain"),
]
ALL = ("read:plain", "list:features", "metrics", "push:orders")


@pytest.mark.parametrize(("method", "path", "body", "scope"), ROUTES)
def test_a_route_wants_its_scope(
    guarded: Guarded, method: str, path: str, body: Any, scope: str
) -> None:
    status, headers, data = guarded.ask(None, method, path, body)
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="featurekit"')
    if method != "HEAD":
        assert json.loads(data)["error"]["where"] == "authorization"
    others = [one for one in ALL if one != scope]
    status, headers, data = guarded.ask(guarded.key(*others), method, path, body)
    assert status == 403
    assert headers["www-authenticate"].endswith(f'error="insufficient_scope", scope="{scope}"')
    if method != "HEAD":
        assert scope in json.loads(data)["error"]["what"]
    assert guarded.ask(guarded.key(scope), method, path, body)[0] == 200


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_who_watches_needs_no_key(guarded: Guarded, path: str) -> None:
    assert guarded.ask(None, "GET", path)[0] == 200
    assert guarded.ask("nonsense", "GET", path)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/openapi.json", "/v1/services", "/nothing", "/health/", "//health", "/Health",
     "/metrics/", "/v1/services/plain/features/", "/v1/services/../metrics", "/health%2f..%2fx"],
)  # fmt: skip
def test_nothing_else_is_open(guarded: Guarded, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "PUT"):
        assert guarded.ask(None, method, path)[0] == 401, method


@pytest.mark.parametrize("scope", ["read:plain", "admin", "push:orders"])
def test_a_caller_is_told_of_what_it_may_read(guarded: Guarded, scope: str) -> None:
    token = guarded.key(scope)
    seen = {"read:plain": {"plain"}, "admin": {"plain", "every"}, "push:orders": set()}[scope]
    status, _, data = guarded.ask(token, "GET", "/v1/services")
    assert (status, {one["name"] for one in json.loads(data)}) == (200, seen)
    for name in ("plain", "every"):
        assert guarded.status(token, f"/v1/services/{name}", None) == (200 if name in seen else 403)
    # whether there is one that it may not read, it is not told
    assert guarded.status(token, "/v1/services/nothing", None) == (404 if scope == "admin" else 403)
    for path in ("/openapi.json", "/docs"):
        status, _, data = guarded.ask(token, "GET", path)
        assert status == 200
        assert (b'"basket"' in data or b"&quot;basket&quot;" in data) == ("every" in seen), path
    document = json.loads(guarded.ask(token, "GET", "/openapi.json")[2])
    assert document["security"] == [{"bearer": []}]
    assert document["paths"]["/health"]["get"]["security"] == []


def test_services_are_told_apart_by_their_whole_name(guarded: Guarded) -> None:
    token = guarded.key("read:plai", "read:every")
    assert guarded.status(token) == 403
    assert guarded.status(token, FEAST, ASKED) == 403
    for path in ("/v1/services/*/features", "/v1/services/pla%69n%00/features",
                 "/v1/services/every%2F..%2Fplain/features"):  # fmt: skip
        assert guarded.status(token, path) == 403
    assert guarded.status(token, FEAST, {**ASKED, "feature_service": "*"}) == 403
    # a version is one of its service, however it is named
    version = guarded.ask(guarded.key("read:plain"), "POST", OWN, ROW)[1]["featurekit-version"]
    of_plain = "/v1/services/plain%40" + version[:8] + "/features"
    assert guarded.status(token, of_plain) == 403
    assert guarded.status(token, FEAST, {**ASKED, "feature_service": f"plain@{version}"}) == 403
    assert guarded.status(guarded.key("read:plain"), of_plain) == 200
    # the name as it is after its codes were read
    assert guarded.status(guarded.key("read:plain"), "/v1/services/pla%69n/features") == 200
    assert guarded.status(guarded.key("read:*")) == 200


def test_a_name_in_a_body_never_stands_in_a_header(guarded: Guarded) -> None:
    for name in ('x", realm="evil', "x\r\nset-cookie: a=b", "é\u2028", "x" * 3000):
        asked = {**ASKED, "feature_service": name}
        status, headers, _ = guarded.ask(guarded.key("read:plain"), "POST", FEAST, asked)
        assert status == 403
        assert headers["www-authenticate"].endswith('error="insufficient_scope"')
        assert "set-cookie" not in headers


def test_a_token_of_the_issuer_opens_its_scopes(guarded: Guarded) -> None:
    claims = {"iss": "id", "aud": "featurekit", "exp": int(time.time()) + 60, "sub": "job"}
    good = jwt.encode({**claims, "scope": "read:plain"}, ISSUER, "EdDSA", {"kid": "e"})
    assert guarded.status(good) == 200
    assert guarded.status(good, LISTED, FEATURES) == 403
    for wrong in ({**claims, "aud": "other"}, {**claims, "exp": 1}):
        assert guarded.status(jwt.encode(wrong, ISSUER, "EdDSA", {"kid": "e"})) == 401


@pytest.mark.parametrize(
    "head",
    [
        b"authorization: Bearer GOOD\r\nauthorization: Bearer GOOD\r\n",
        b"authorization: Bearer GOOD\r\nAuthorization: Basic eDp5\r\n",
        b"authorization: Bearer GOODGOOD\r\n",
        b"authorization: Bearer GOOD, Bearer GOOD\r\n",
        b"authorization: Bearer \xff\xfe\xff\r\n",
        b"authorization: GOOD\r\n",
        b"x-authorization: Bearer GOOD\r\n",
        b"cookie: authorization=GOOD\r\n",
        b"authorization: Bearer " + b"A" * 60_000 + b"\r\n",
        b"authorization: Bearer GO\x00OD\r\n",
        b"authorization : Bearer GOOD\r\n",
        b"authorization: Bearer\r\n GOOD\r\n",
    ],
    ids=lambda head: repr(head[:48]),
)
def test_headers_that_nobody_writes_open_nothing(guarded: Guarded, head: bytes) -> None:
    good = guarded.key("read:plain").encode()
    body = json.dumps(ROW).encode()
    connection = guarded.served.connect()
    connection.connect()
    assert connection.sock is not None
    sent = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n%b\r\n%b" % (
        OWN.encode(), len(body), head.replace(b"GOOD", good), body,
    )  # fmt: skip
    connection.sock.sendall(sent)
    found = b""
    try:
        while piece := connection.sock.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    connection.close()
    status = found.split(b" ", 2)[1:2]
    assert status in ([b"401"], [b"400"], [b"431"], []), found[:100]
    assert guarded.status(good.decode()) == 200


# --- time -----------------------------------------------------------------------------------------


def test_a_revocation_reaches_every_worker_and_no_worker_restarts(guarded: Guarded) -> None:
    token = guarded.key("read:plain")
    name = open_name(guarded, token)
    for _ in range(20):  # connections of their own, so that both workers know the key
        assert guarded.status(token) == 200
    revoke_api_key(guarded.store, "tests", name)
    revoked, last, row = time.monotonic(), 0.0, 0

    def refused() -> int:
        nonlocal last, row
        sent = time.monotonic()
        if guarded.status(token) == 200:
            last, row = sent, 0
        else:
            row += 1
        return row

    until(refused, holds=lambda row: row >= 20, within_s=20, every_s=0.02)
    # Where this machine is slow, a worker may go on for the moment that it waits for Redis.
    assert last - revoked < FRESH_S + 3
    assert guarded.served.process.poll() is None


def open_name(guarded: Guarded, token: str) -> str:
    return token.split("-")[2]


def test_a_caller_that_asks_too_often_is_told_for_how_long(guarded: Guarded) -> None:
    token = guarded.key("read:plain", rate=0.05)
    found = [guarded.ask(token, "POST", OWN, ROW) for _ in range(6)]
    refused = [headers for status, headers, _ in found if status == 429]
    assert len(refused) >= 4  # each of two workers lets one through
    assert all(0 < int(headers["retry-after"]) <= 20 for headers in refused)


@pytest.mark.parametrize("loop", [False, True])
def test_the_client_waits_within_its_time(guarded: Guarded, loop: bool) -> None:
    token, slow = guarded.key("read:plain", rate=1.0), guarded.key("read:plain", rate=0.01)

    async def by_loop(token: str) -> int:
        async with Client(guarded.served.url, token, timeout_s=20, retries=3) as client:
            for _ in range(4):
                await client.get_online_features_async("plain", [{"key": 1}])
        return 4

    def by_thread(token: str) -> int:
        with Client(guarded.served.url, token, timeout_s=20, retries=3) as client:
            for _ in range(4):
                client.get_online_features("plain", [{"key": 1}])
        return 4

    began = time.monotonic()
    if loop:
        assert asyncio.run(by_loop(token)) == 4
    else:
        assert by_thread(token) == 4
    # four requests on one connection, to one worker, of which three had to wait
    assert time.monotonic() - began > 1.5
    with pytest.raises(RequestRefused) as refused:
        asyncio.run(by_loop(slow)) if loop else by_thread(slow)
    # its turn is a hundred seconds away, so it does not wait at all
    assert refused.value.status == 429


# --- the client -----------------------------------------------------------------------------------


def test_the_client_s_token_is_that_of_the_environment(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATUREKIT_TOKEN", guarded.key("read:plain"))
    with Client(guarded.served.url, timeout_s=20) as client:
        assert len(client.get_online_features("plain", [{"key": 1}])) == 1
        with pytest.raises(RequestRefused, match="list:features") as refused:
            client.get_online_features(["numbers:i_last"], [{"key": 1}])
        assert refused.value.status == 403
    with (
        Client(guarded.served.url, "wrong", timeout_s=20) as client,
        pytest.raises(RequestRefused) as refused,
    ):
        client.get_online_features("plain", [{"key": 1}])
    assert (refused.value.status, refused.value.where) == (401, "authorization")


# --- pages of other origins -----------------------------------------------------------------------


def test_a_page_of_a_named_origin_may_ask(guarded: Guarded) -> None:
    asks = {"origin": PAGE, "access-control-request-method": "POST"}
    status, headers, data = guarded.served.ask("OPTIONS", OWN, None, asks)
    assert (status, data, headers["access-control-allow-origin"]) == (204, b"", PAGE)
    assert "authorization" in headers["access-control-allow-headers"]
    token = guarded.key("read:plain")
    for path, body, of in ((OWN, ROW, token), ("/v1/services", None, token), (OWN, ROW, None)):
        method = "GET" if body is None else "POST"
        status, headers, _ = guarded.ask(of, method, path, body, origin=PAGE)
        assert status == (401 if of is None else 200)
        assert headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://shop.example.evil", "http://shop.example", "null",
               "https://SHOP.example", "https://shop.example/", ""],
)  # fmt: skip
def test_a_page_of_another_origin_may_not(guarded: Guarded, origin: str) -> None:
    asks = {"origin": origin, "access-control-request-method": "POST"}
    _, headers, _ = guarded.served.ask("OPTIONS", OWN, None, asks)
    assert not [name for name in headers if name.startswith("access-control")]
    _, headers, _ = guarded.ask(guarded.key("read:plain"), "POST", OWN, ROW, origin=origin)
    assert not [name for name in headers if name.startswith("access-control")]
    assert headers["vary"] == "origin"


def test_without_cors_no_answer_speaks_of_it(server: Served) -> None:
    asks = {"origin": PAGE, "access-control-request-method": "POST"}
    for method in ("OPTIONS", "POST"):
        _, headers, _ = server.ask(method, OWN, json.dumps(ROW), asks)
        assert not [n for n in headers if n.startswith("access-control") or n == "vary"]


# --- before it starts -----------------------------------------------------------------------------

STORE = ("--project", "tests", "--redis-url", "redis://127.0.0.1:1/0")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.1.2.3", "features.internal"])
def test_it_lets_nobody_in_before_it_is_said_who_may(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--host", host, "--port", "0", *STORE]) == 2
    assert "--auth keys" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--auth", "jwt"), "--jwks, --issuer, --audience"),
        (("--auth", "jwt", "--jwks", "x.json", "--issuer", "i"), "--audience"),
        (
            ("--auth", "jwt", "--jwks", "http://id/x", "--issuer", "i", "--audience", "a"),
            "https://",
        ),
        (("--auth", "jwt", "--jwks", "/no", "--issuer", "i", "--audience", "a"), "cannot be read"),
    ],
)
def test_what_tokens_need_is_asked_for_at_the_start(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port", "0", *words, *STORE]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [("--auth", "maybe"), ("--rate", "fast"), ("--rate", "0/s"), ("--cors", "shop.example"),
     ("--cors", "https://shop.example/page")],
)  # fmt: skip
def test_words_that_mean_nothing_are_no_command(words: tuple[str, ...]) -> None:
    assert main(["serve", "--port", "0", *words, *STORE]) == 64


# --- the verbs ------------------------------------------------------------------------------------


def test_a_key_s_life_by_the_verbs(guarded: Guarded, capsys: pytest.CaptureFixture[str]) -> None:
    repo = ("--repo", str(guarded.folder), "--json")

    def told(*words: str) -> Any:
        assert main([*repo, "keys", *words]) == 0
        return json.loads(capsys.readouterr().out)

    made = told("create", "by-verb", "--scope", "read:plain", "--expires", "90d", "--rate", "600/m")
    assert made["unknown"] == []
    assert guarded.status(made["key"]) == 200
    assert guarded.status(made["key"], LISTED, FEATURES) == 403
    (listed,) = [one for one in told("list")["keys"] if one["id"] == made["id"]]
    assert (listed["state"], listed["scopes"], listed["rate"]) == ("open", ["read:plain"], 10.0)
    assert "key" not in listed
    assert main([*repo, "keys", "create", "by-verb", "--scope", "read:plain"]) == 2
    assert "is there" in capsys.readouterr().err
    assert main([*repo, "keys", "create", "x", "--scope", "read:pla*"]) == 2
    assert "read:SERVICE" in capsys.readouterr().err
    assert told("revoke", "by-verb")["id"] == made["id"]
    until(
        lambda: [guarded.status(made["key"]) for _ in range(6)],
        holds=lambda found: set(found) == {401},
        within_s=20,
        every_s=0.05,
    )
    # a scope may be given before there is what it opens; a slip of the pen is told of
    scopes = ("read:plan", "push:evnts", "read:*", "predict:churn", "read:plain", "push:events")
    slip = told("create", "slip", *(word for scope in scopes for word in ("--scope", scope)))
    assert slip["unknown"] == ["push:evnts", "read:plan"]
    assert told("revoke", "slip")["id"] == slip["id"]
    # a shell that still has the key itself names it so
    again = told("create", "by-verb-2", "--scope", "metrics")
    assert told("revoke", again["key"])["id"] == again["id"]
    assert main(["--repo", str(guarded.folder), "keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert "by-verb" in shown
    assert "revoked" in shown
    assert main(["--repo", str(guarded.folder), "audit", "list", "--verb", "keys", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    kinds = [(e["about"].get("action"), e["step"]) for e in entries]
    assert kinds.count(("create", "begun")) == 4  # one of them failed
    assert kinds.count(("revoke", "begun")) == 3
    assert {"id": made["id"], "name": "by-verb"}.items() <= entries[-3]["about"].items() or any(
        e["about"].get("id") == made["id"] for e in entries
    )
    assert main([*repo, "audit", "verify"]) == 0


@pytest.mark.parametrize("keys", [True, False])
def test_in_an_outage_a_caller_with_a_key_reads_no_address(tmp_path: Path, keys: bool) -> None:
    """Without keys it is the developer who asks, and reads what to do. The log has it always."""
    errors = tmp_path / "stderr"
    with scratch_redis() as url, errors.open("wb") as said, redirected(said):
        pushing.write(tmp_path, url)
        store = open_store(url)
        token = create_api_key(store, "tests", "web", ("read:*", "push:*"))[1]
        store.close()
        headers = {"authorization": f"Bearer {token}"} if keys else {}
        auth = ("--auth", "keys" if keys else "none")
        with pushing.taking(tmp_path, *auth, env={"TOKEN": token} if keys else {}) as served:
            assert served.ask("POST", OWN, ROW, headers)[0] == 200
            with redis.Redis.from_url(url) as client:
                client.shutdown(nosave=True)
            events = "/v1/sources/clicks/events", {"rows": [pushing.row(1)]}
            for path, body in ((OWN, ROW), events):
                status, named, data = served.ask("POST", path, body, headers)
                error = json.loads(data)["error"]
                assert (status, error["type"]) == (503, "StoreUnavailable"), data
                address = url.removeprefix("unix://").partition("?")[0]
                for place in (address, "feature_store.yaml"):
                    assert (place in data.decode()) == (not keys), (place, data)
                assert address in errors.read_text()
                assert named["x-request-id"] in errors.read_text()


# --- nothing comes out ----------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_secret_comes_out_anywhere(world: Any, tmp_path: Path) -> None:
    """A key, tokens that are none, and a password are planted; then everything is looked through
    that the project writes: what the processes say, what they are called by, what they answer and
    count, what the store and the state folder hold."""
    repo = ("--repo", str(world.folder))
    command = [sys.executable, "-m", "featurekit.cli", *repo, "--json", "keys", "create", "canary"]
    command += ["--scope", "read:plain", "--scope", "metrics"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    token = json.loads(done.stdout)["key"]
    secret = token.rsplit("-", 1)[1]
    forged = f"fk-api-{token.split('-')[2]}-{'5ec7e7' * 10}c0de"
    shapeless = "canary.word.that-is-no-token"
    claims = base64.urlsafe_b64encode(b'{"sub":"canary-subject"}').decode().rstrip("=")
    unsigned = f"eyJhbGciOiJub25lIn0.{claims}."
    basic = "canary-basic-password"
    planted = [secret, forged[-30:], shapeless, claims, basic]
    written: list[bytes] = [done.stderr.encode()]
    errors = tmp_path / "stderr"
    with (
        errors.open("wb") as said,
        redirected(said),
        serving(*repo, "--auth", "keys", "--workers", "2") as served,
    ):
        for sent in (token, forged, shapeless, unsigned, forged + "\udcff", token + "x"):
            for method, path, body in (
                ("POST", OWN, ROW), ("POST", FEAST, {"a": 1}), ("POST", LISTED, FEATURES),
                ("GET", "/metrics", None), ("GET", "/docs", None), ("GET", "/v1/services", None),
                ("GET", f"/nothing?token={shapeless[:0]}", None), ("DELETE", OWN, None),
            ):  # fmt: skip
                header = f"Bearer {sent}".encode("utf-8", "surrogateescape").decode("latin-1")
                _, named, data = served.ask(method, path, body, {"authorization": header})
                written += [data, repr(dict(named)).encode()]
        _, named, data = served.ask("POST", OWN, ROW, {"authorization": f"Basic {basic}"})
        written += [data, repr(dict(named)).encode()]
        for process in Path("/proc").glob("[0-9]*"):
            if str(process.name) in tree(served.process.pid):
                written.append((process / "cmdline").read_bytes())
                written.append((process / "environ").read_bytes())
        with redis.Redis.from_url(world.url) as server:
            for key in server.scan_iter(count=1000):
                written += [key, server.dump(key) or b""]
            found = server.get("fk:tests:apikeys")
            assert found is not None
            assert b'"canary"' in found
    written.append(errors.read_bytes())
    shown = subprocess.run(
        [sys.executable, "-m", "featurekit.cli", *repo, "keys", "list"], capture_output=True
    )
    written += [shown.stdout, shown.stderr]
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert any(path.name == "audit.log" for path in files)
    written += [path.read_bytes() for path in files]
    assert b"canary" in b"".join(written)  # the key's name is told
    for word in planted:
        for place in written:
            assert word.encode() not in place, (word, place[:300])


class redirected:
    """What processes that are started say on their standard error goes into a file."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> None:
        import os

        sys.stderr.flush()
        self.kept = os.dup(2)
        os.dup2(self.file.fileno(), 2)

    def __exit__(self, *_: object) -> None:
        import os

        sys.stderr.flush()
        os.dup2(self.kept, 2)
        os.close(self.kept)


def tree(pid: int) -> set[str]:
    """A process and those below it."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {str(pid)}.union(*(tree(int(one)) for one in listed))
