"""Tokens of an issuer: real keys, a real server that has the set of them, and what forgers try."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from featurekit.errors import ConfigError, RequestRefused, StoreUnavailable
from featurekit.online.store.memory import MemoryStore
from featurekit.server.access import Access
from featurekit.server.callers import Caller
from featurekit.server.jwts import AGAIN_S, FRESH_S, LEEWAY_S, OUTAGE_S, keys_of, read_jwks
from featurekit.server.settings import AccessSettings

ISSUER, AUDIENCE = "https://id.example", "featurekit"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
SMALL_RSA = rsa.generate_private_key(65537, 1024)
P256, P384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """The public half as a set has it."""
    of = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    algorithm: Any = next((a for kind, a in of.items() if isinstance(key, kind)), OKPAlgorithm)
    found = json.loads(algorithm.to_jwk(key.public_key()))
    return {**found, **({} if kid is None else {"kid": kid}), **more}


SET: list[Any] = [public(RSA, "r"), public(P256, "p"), public(P384, "q"), public(ED, "e")]


def claims(**more: Any) -> dict[str, Any]:
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "scope": "read:checkout",
            "exp": int(time.time()) + 86_400}  # fmt: skip
    return {k: v for k, v in {**made, **more}.items() if v is not None}


def token(key: Any = RSA, algorithm: str = "RS256", kid: str | None = "r", **more: Any) -> str:
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode(claims(**more), key, algorithm, headers)


def b64(data: bytes | str) -> str:
    data = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(head: dict[str, Any], body: str, sign: Callable[[bytes], bytes]) -> str:
    """A token whose parts a library would not write."""
    message = f"{b64(json.dumps(head))}.{b64(body)}"
    return f"{message}.{b64(sign(message.encode()))}"


class World:
    """A worker's access, with a clock that the test sets."""

    def __init__(self, place: str, **more: Any) -> None:
        self.at = 1000.0
        settings = AccessSettings(("jwt",), place, ISSUER, AUDIENCE, **more)
        self.access = Access(settings, MemoryStore(), "shop", clock=lambda: self.at, now=time.time)

    async def ask(self, text: str) -> Caller:
        found, rate = await self.access.caller([(b"authorization", b"Bearer " + text.encode())])
        self.access.count(found, rate)
        return found

    async def status(self, text: str) -> int:
        try:
            await self.ask(text)
        except RequestRefused as error:
            return error.status
        except StoreUnavailable:
            return 503
        return 200


def run(place: str | Path, work: Callable[[World], Any], **more: Any) -> None:
    async def inside() -> None:
        world = World(str(place), **more)
        try:
            await work(world)
        finally:
            await world.access.close()

    asyncio.run(inside())


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": SET}))
    return path


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"),
    [(RSA, "RS256", "r"), (RSA, "RS512", "r"), (RSA, "PS256", "r"), (P256, "ES256", "p"),
     (P384, "ES384", "q"), (ED, "EdDSA", "e")],
)  # fmt: skip
def test_a_token_of_the_issuer_is_its_caller(jwks: Path, key: Any, algorithm: str, kid: str):
    async def work(world: World) -> None:
        caller = await world.ask(token(key, algorithm, kid))
        assert (caller.kind, caller.name, caller.who) == ("token", "shop", "token shop")
        caller.need("read:checkout")
        with pytest.raises(RequestRefused):
            caller.need("read:check")

    run(jwks, work)


@pytest.mark.parametrize(
    ("more", "scopes"),
    [
        ({"scope": "read:a  push:b openid"}, {"read:a", "push:b"}),
        ({"scope": None, "scp": ["read:a", "metrics", 5, None, "profile"]}, {"read:a", "metrics"}),
        ({"scope": None, "scp": "read:a admin"}, {"read:a", "admin"}),
        ({"scope": ["read:*"], "scp": ["list:features"]}, {"read:*", "list:features"}),
        ({"scope": {"read:a": 1}}, set()),
        ({"scope": None}, set()),
        ({"scope": "read:a\tread:b"}, set()),
        ({"scope": "read:é READ:a read:a* *"}, set()),
        ({"roles": ["read:a"], "scope": ""}, set()),
    ],
)
def test_scopes_are_those_of_scope_and_scp(jwks: Path, more: dict[str, Any], scopes: set[str]):
    async def work(world: World) -> None:
        assert (await world.ask(token(**more))).scopes == scopes

    run(jwks, work)


def pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    made: bytes = key.public_key().public_bytes(serialization.Encoding.PEM, form)
    return made


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.new(secret, message, hashlib.sha256).digest()


def rs256(message: bytes) -> bytes:
    return bytes(jwt.algorithms.get_default_algorithms()["RS256"].sign(message, RSA))


def forged() -> Iterator[tuple[str, str]]:
    """Tokens that do not count, each with why."""
    good, body = token(), json.dumps(claims())
    head, middle, signature = good.split(".")
    modulus = RSA.public_key().public_numbers().n.to_bytes(256, "big")
    yield "another key's signature", token(OTHER_RSA)
    yield "a name that no key has", token(kid="nobody")
    yield "no name where there are several keys", token(kid=None)
    yield (
        "the signature of another message",
        f"{head}.{b64(json.dumps(claims(sub='x')))}.{signature}",
    )
    yield "no signature", f"{head}.{middle}."
    yield "a signature that was cut off", good[:-8]
    yield "alg none", by_hand({"alg": "none", "kid": "r"}, body, lambda _: b"")
    yield "alg None", by_hand({"alg": "None", "kid": "r"}, body, lambda _: b"")
    yield "no alg", by_hand({"kid": "r"}, body, rs256)
    for name, secret in (("PEM", pem(RSA)), ("modulus", modulus), ("nothing", b"")):
        for kid in ("r", "p", "e"):
            made = by_hand({"alg": "HS256", "kid": kid}, body, hs256(secret))
            yield f"HS256 with the public key's {name}, {kid}", made
    yield "an algorithm of another kind of key", by_hand({"alg": "ES256", "kid": "r"}, body, rs256)
    yield "a curve that the algorithm has not", token(P384, "ES384", "p")
    yield (
        "a key of its own",
        by_hand({"alg": "RS256", "kid": "x", "jwk": public(OTHER_RSA, "x")}, body, rs256),
    )
    yield "critical", by_hand({"alg": "RS256", "kid": "r", "crit": ["exp"]}, body, rs256)
    yield "unencoded", by_hand({"alg": "RS256", "kid": "r", "b64": False}, body, rs256)
    yield "a number as its key's name", by_hand({"alg": "RS256", "kid": 1}, body, rs256)
    yield "a list as its algorithm", by_hand({"alg": ["RS256"], "kid": "r"}, body, rs256)
    now = int(time.time())
    yield "expired", token(exp=now - int(LEEWAY_S) - 5)
    yield "without an end", token(exp=None)
    yield "not yet", token(nbf=now + 86_400)  # made long before it is tried
    yield "another audience", token(aud="bank")
    yield "an audience that begins so", token(aud="featurekit-admin")
    yield "a part of the audience", token(aud="feature")
    yield "no audience", token(aud=None)
    yield "another issuer", token(iss="https://id.example.evil")
    yield "a part of the issuer", token(iss="https://id")
    yield "no issuer", token(iss=None)
    for exp in ('"soon"', "null", "[]", "{}", "Infinity", "-Infinity", "NaN", '"inf"', "1e400"):
        text = json.dumps(claims(exp="EXP")).replace('"EXP"', exp)
        yield f"exp {exp}", by_hand({"alg": "RS256", "kid": "r"}, text, rs256)
    for text in ("[]", "1", "", "{", '"x"', "[" * 100_000, '{"exp": ' + "9" * 5000 + "}"):
        yield f"claims {text[:9]}", by_hand({"alg": "RS256", "kid": "r"}, text, rs256)
    for text in ("", ".", "..", "...", "a.b.c", "é.é.é", f"{good}.x", f"{good}.x.y", good + "\n"):
        yield f"no form {text[:9]!r}", text or "x"
    yield "too long", token(more="x" * 9000)


@pytest.mark.parametrize("case", list(forged()), ids=lambda case: case[0])
def test_a_forged_token_does_not_count(jwks: Path, case: tuple[str, str]):
    async def work(world: World) -> None:
        assert await world.status(token()) == 200  # the good one does
        with pytest.raises(RequestRefused) as refused:
            await world.ask(case[1])
        assert refused.value.status == 401
        assert case[1][-12:] not in str(refused.value) or len(case[1]) < 13

    run(jwks, work)


def test_a_token_within_the_leeway_counts_and_none_longer(jwks: Path):
    async def work(world: World) -> None:
        now = time.time()
        assert await world.status(token(exp=int(now) - int(LEEWAY_S) + 10)) == 200
        assert await world.status(token(nbf=int(now) + int(LEEWAY_S) - 10)) == 200

    run(jwks, work)


def test_a_token_that_was_read_ends_with_its_time(jwks: Path):
    """What was verified once is kept, and not beyond the end of it."""

    async def inside() -> None:
        at = [time.time()]
        settings = AccessSettings(("jwt",), str(jwks), ISSUER, AUDIENCE)
        access = Access(settings, MemoryStore(), "shop", now=lambda: at[0])
        header = [(b"authorization", b"Bearer " + token(exp=int(at[0]) - 20).encode())]
        assert (await access.caller(header))[0].name == "shop"
        assert (await access.caller(header))[0].name == "shop"
        at[0] += 11
        kept = [(g, c) for g, _, c in access._tokens._read.values()]  # type: ignore[union-attr]
        assert len(kept) == 1
        # By the test's clock it has ended; by the library's it has not, so it is verified anew.
        reads = access._tokens._key_of  # type: ignore[union-attr]
        called: list[int] = []

        async def counted(token: bytes) -> Any:
            called.append(1)
            return await reads(token)

        access._tokens._key_of = counted  # type: ignore[union-attr, method-assign, assignment]
        await access.caller(header)
        assert called == [1]
        await access.close()

    asyncio.run(inside())


@pytest.mark.parametrize(
    ("sub", "name"),
    [("x\r\ny", "x\\r\\ny"), ("é", "\\xe9"), ("x" * 500, "x" * 100), (None, "without a subject")],
)
def test_a_subject_may_stand_in_a_log(jwks: Path, sub: str | None, name: str):
    async def work(world: World) -> None:
        caller = await world.ask(token(sub=sub))
        assert caller.name == name
        assert caller.who.isprintable()

    run(jwks, work)


def test_callers_of_tokens_have_the_server_s_rate(jwks: Path):
    async def work(world: World) -> None:
        first, second, other = token(), token(jti="2"), token(sub="other")
        assert [await world.status(t) for t in (first, second, first, other)] == [200] * 2 + [
            429,
            200,
        ]

    run(jwks, work, rate=2.0)


# --- the set of keys ------------------------------------------------------------------------------


class Issuer:
    """A server with a set of keys, which counts who asks; `answer` is a status and a body."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: tuple[int, bytes] = (200, json.dumps({"keys": SET}).encode())
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                status, body = issuer.answer
                if self.path == "/elsewhere":
                    status, body = 200, json.dumps({"keys": SET}).encode()
                self.send_response(status)
                if status in (301, 302):
                    self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"

    def has(self, *keys: Any) -> None:
        self.answer = 200, json.dumps({"keys": list(keys)}).encode()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


async def settled(world: World) -> None:
    """Until what is being read has been."""
    reading = world.access._tokens._keys._reading  # type: ignore[union-attr]
    if reading is not None:
        await asyncio.wait({reading})


def test_the_set_is_read_once_for_many(issuer: Issuer):
    async def work(world: World) -> None:
        found = await asyncio.gather(*(world.status(token(jti=str(i))) for i in range(30)))
        assert (set(found), issuer.asked) == ({200}, 1)

    run(issuer.url, work)


def test_a_new_key_is_found_at_once_and_unknown_names_ask_seldom(issuer: Issuer):
    async def work(world: World) -> None:
        issuer.has(public(OTHER_RSA, "old"))
        assert await world.status(token(OTHER_RSA, kid="old")) == 200
        issuer.has(public(RSA, "r"))
        world.at += AGAIN_S + 1
        assert await world.status(token()) == 200
        assert issuer.asked == 2
        for i in range(50):
            assert await world.status(token(OTHER_RSA, kid=f"k{i}")) == 401
        assert issuer.asked == 2
        world.at += AGAIN_S + 1
        for i in range(50):
            assert await world.status(token(OTHER_RSA, kid=f"k{i}")) == 401
        assert issuer.asked == 3

    run(issuer.url, work)


def test_a_key_that_was_taken_away_counts_no_more_after_the_next_reading(issuer: Issuer):
    async def work(world: World) -> None:
        text = token()
        assert await world.status(text) == 200
        issuer.has(public(OTHER_RSA, "new"))
        world.at += FRESH_S + 1
        await world.status(text)  # begins to read
        await settled(world)
        assert await world.status(text) == 401

    run(issuer.url, work)


@pytest.mark.parametrize(
    "answer",
    [(500, b""), (302, b""), (200, b"{}"), (200, b"<html>"), (200, b"[" * 100_000),
     (200, b'{"keys": []}'), (200, b'{"keys": [1, null, {}]}'), (200, b" " * (1 << 21))],
    ids=lambda answer: f"{answer[0]} {answer[1][:12]!r}",
)  # fmt: skip
def test_while_the_set_cannot_be_read_known_keys_go_on_for_a_while(
    issuer: Issuer, answer: tuple[int, bytes], caplog: pytest.LogCaptureFixture
):
    async def work(world: World) -> None:
        assert await world.status(token()) == 200
        issuer.answer = answer
        world.at += FRESH_S + 1
        assert await world.status(token()) == 200
        await settled(world)
        assert await world.status(token(OTHER_RSA, kid="new")) == 503
        world.at += OUTAGE_S
        assert await world.status(token()) == 503
        issuer.has(*SET)
        world.at += AGAIN_S + 1
        assert await world.status(token()) == 200

    run(issuer.url, work)
    assert "--jwks" in caplog.text


def test_a_file_is_read_again_within_seconds(jwks: Path):
    async def work(world: World) -> None:
        assert await world.status(token()) == 200
        jwks.write_text(json.dumps({"keys": [public(OTHER_RSA, "n")]}))
        world.at += 6
        assert await world.status(token()) == 401
        assert await world.status(token(OTHER_RSA, kid="n")) == 200

    run(jwks, work)


def test_a_set_of_one_key_needs_no_name(tmp_path: Path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"keys": [public(P256, None)]}))

    async def work(world: World) -> None:
        assert await world.status(token(P256, "ES256", None)) == 200
        assert await world.status(token(P384, "ES384", None)) == 401
        assert await world.status(token(P256, "ES256", "named")) == 401

    run(path, work)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ({"kty": "oct", "k": b64(b"x" * 32), "kid": "s"}, "a shared secret"),
        (public(RSA, "r", use="enc"), "for another use"),
        (public(RSA, "r", key_ops=["encrypt"]), "for other work"),
        (public(RSA, "r", alg="HS256"), "an algorithm that it has not"),
        (public(SMALL_RSA, "r"), "too small"),
        (public(RSA, 5), "a number as its name"),  # type: ignore[arg-type]
        ({**public(P256, "p"), "crv": "secp256k1"}, "another curve"),
        ({**public(P256, "p"), "x": "AA"}, "no point of its curve"),
        ({**json.loads(RSAAlgorithm.to_jwk(RSA)), "kid": "r", "key_ops": ["verify"]}, "private"),
    ],
    ids=lambda case: case if isinstance(case, str) else "",
)
def test_a_key_of_no_use_is_left_out(key: dict[str, Any], why: str):
    with pytest.raises(ConfigError, match="no public key that signs"):
        keys_of(json.dumps({"keys": [key]}).encode(), "set")
    assert list(keys_of(json.dumps({"keys": [key, public(ED, "e")]}).encode(), "set")) == ["e"]


def test_a_token_is_signed_as_its_key_says(tmp_path: Path):
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"keys": [public(RSA, "r", alg="PS256"), public(ED, "e")]}))

    async def work(world: World) -> None:
        assert await world.status(token(algorithm="PS256")) == 200
        with pytest.raises(RequestRefused, match="in another way than its key signs"):
            await world.ask(token(algorithm="RS256"))

    run(path, work)


def test_a_key_that_says_its_algorithm_signs_by_no_other():
    (key,) = keys_of(json.dumps({"keys": [public(RSA, "r", alg="PS256")]}).encode(), "set").values()
    assert key.algorithms == ("PS256",)


@pytest.mark.parametrize(
    "place",
    ["http://id.example/jwks", "ftp://id.example/jwks", "file:///etc/passwd",
     "https://user:secret-word@id.example/jwks", "http://[/", "http://127.0.0.1:1/jwks",
     "/nowhere/jwks.json", "/"],
)  # fmt: skip
def test_a_place_that_has_no_set_is_named_without_its_login(place: str):
    with pytest.raises(ConfigError) as told:
        read_jwks(place)
    assert "secret-word" not in str(told.value)
    assert "--jwks" in str(told.value)
