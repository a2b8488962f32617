"""Turns a service into a plan's bytes and back, as far as whoever reads them may believe them.

A plan is data that anybody who can write to the store may have written (F0). Before anything is
made of it, it is read by the declared types of its fields, every part of it is verified, and its
fingerprints are made anew. A `Trust` says what more a reader asks for: a signature, and where
functions may come from that run as their author's Python. What this platform computes differently
(R6) is found here, too.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.signing import PrivateKey, PublicKey
from featurekit.core.version import VERSION
from featurekit.define.identity import stale_fingerprint
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.plan import Service, View
from featurekit.define.verify import verify_service
from featurekit.errors import ConfigError, FingerprintMismatch, PlanRefused
from featurekit.language.ir import Function, Verbatim
from featurekit.language.wire import from_json, to_json

MOST_BYTES = 64 * 1024 * 1024
"""The size of the largest plan that is read."""
KEYS_VARIABLE, PYTHON_VARIABLE = "FEATUREKIT_PUBLIC_KEYS", "FEATUREKIT_RUN_PYTHON"
_FORMATS = (1, 2, 3, 4, 5)
_SIGNED = b"featurekit plan 1\n"
_AGAIN = "publish it again (`featurekit apply`), and see who else can write to this store"


@dataclass(frozen=True, slots=True)
class Signature:
    """Who signed a plan, and the number by which a later one is told from an earlier one."""

    key: str
    sequence: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Signer:
    """What signs the plans of a project; `sequence` is above that of every plan before."""

    project: str
    key: PrivateKey
    sequence: int


@dataclass(frozen=True, slots=True)
class Trust:
    """What a reader of a project's plans believes (F0).

    With `keys`, a plan must be signed by one of them. A function that runs as its author's Python
    (on_unsupported="python") comes from a plan so signed; or `python` lets it run, whoever
    published it; or `recorded` knows the version, by the service's name and fingerprint, as one
    that was applied from here. `own` is for plans that this process itself has made.
    """

    project: str = ""
    keys: tuple[PublicKey, ...] = ()
    python: bool = False
    recorded: Callable[[str, str], bool] | None = None
    own: bool = False

    @classmethod
    def held(
        cls,
        project: str,
        keys: Sequence[str] | None = None,
        python: bool | None = None,
        *,
        recorded: Callable[[str, str], bool] | None = None,
    ) -> Trust:
        """The trust that a process is told of: the public keys given, or those of the variable
        FEATUREKIT_PUBLIC_KEYS; and whether functions of Python run, or what FEATUREKIT_RUN_PYTHON
        says. ConfigError for a key that is none."""
        where = "public_keys"
        if keys is None:
            where, keys = KEYS_VARIABLE, os.environ.get(KEYS_VARIABLE, "").replace(",", " ").split()
        if python is None:
            python = os.environ.get(PYTHON_VARIABLE, "").lower() in ("1", "true", "yes")
        read = tuple(PublicKey.read(key, where=where) for key in keys)
        return cls(project, read, python, recorded)


OWN = Trust(python=True, own=True)
"""The trust in a plan that this process has made, whose fingerprints are not compared: a check of
parity asks about services that are parts of others."""


_NO_TRUST = Trust()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a plan's bytes hold: a verified service, the numeric fingerprint of the platform that
    published it, and who signed it.

    `stale` names what has a fingerprint that is not that of its content. `signed` is what a
    signature is of, but for the project and the sequence number.
    """

    service: Service
    numerics: Mapping[str, str]
    signature: Signature | None
    stale: str | None
    python: tuple[str, ...]
    signed: bytes


def plan_bytes(service: Service, *, signer: Signer | None = None) -> bytes:
    """The plan of a service: what a serving process needs, with the numeric fingerprint (R6), and
    signed where a `signer` is given (F0)."""
    content = {"service": to_json(service), "numerics": numeric_fingerprint(service)}
    plan = {"format": _format(service), "featurekit": VERSION, **content}
    if signer is not None:
        signed = _message(signer.project, signer.sequence, service, _text(content))
        plan["signature"] = {
            "key": signer.key.public.text,
            "sequence": signer.sequence,
            "ed25519": signer.key.sign(signed).hex(),
        }
    return json.dumps(plan, separators=(",", ":")).encode()


def _is_new(view: View) -> bool:
    several = view.source.parts is not None
    said = any(source.aside or source.arrives for source in view.source.sources)
    return several or not view.each_row_an_event or said


def _format(service: Service) -> int:
    """The lowest format that says all of the service: 2 has roles of views, and transforms that
    take a join key or the instant (T9), which readers of 1 would read as something else; 3 is
    answered in an outage (A4), of which readers of 2 know nothing; 4 has unions (T11), events that
    are elements of lists, rules that set rows aside (S5), and what says when rows arrive (T3); 5
    has rows that take features from other views (T11)."""
    if any(view.source.joins for view in service.views):
        return 5
    if any(_is_new(view) for view in service.views):
        return 4
    if service.on_outage is not None:
        return 3
    roles = any(view.role is not None for view in service.views)
    asked = any(f.asked is not None for view in service.views for f in view.features)
    return 2 if roles or asked or service.reads("key") or service.reads("instant") else 1


def _text(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _message(project: str, sequence: int, service: Service, content: bytes) -> bytes:
    """What is signed: the place of a plan, its number and all of its content."""
    place = [project, service.name, service.fingerprint, sequence]
    return _SIGNED + json.dumps(place).encode() + b"\n" + content


def numerics_of(plan: bytes) -> Mapping[str, str]:
    """The numeric fingerprint that a plan was published with (R6)."""
    return opened(plan).numerics


def look_at(data: bytes) -> Service:
    """The service in a plan's bytes, for whoever only wants to know what it is called and what it
    uses, and runs nothing of it. PlanRefused where it is no plan, or was changed."""
    plan = opened(data)
    _refuse_stale(plan)
    return plan.service


def read_plan(
    data: bytes,
    *,
    trust: Trust = _NO_TRUST,
    place: tuple[str, str] | None = None,
    on_mismatch: str = "refuse",
) -> Service:
    """The service in a plan's bytes, to be run.

    `place` is the service's name and fingerprint, where the store says which plan this is.
    PlanRefused where it is no plan, was changed, is another one, or is not one that `trust`
    believes (F0). FingerprintMismatch if this platform computes other floats (R6), unless
    `on_mismatch` is "warn".
    """
    plan = opened(data)
    service = plan.service
    if not trust.own:
        _refuse_stale(plan)
        if place is not None and place != (service.name, service.fingerprint):
            raise PlanRefused(
                f"the plan of service {place[0]!r}, version {place[1][:12]}, is that of "
                f"{service.name!r}, version {service.fingerprint[:12]}; {_AGAIN}"
            )
        _believe(plan, trust)
    message = mismatch(data)
    if message is not None:
        if on_mismatch != "warn":
            raise FingerprintMismatch(message)
        import warnings

        warnings.warn(message, stacklevel=2)
    return service


def mismatch(data: bytes) -> str | None:
    """What differs between this platform and the one that published the plan, as a sentence; None
    where nothing does (R6)."""
    others = differing(data)
    if not others:
        return None
    return (
        f"service {opened(data).service.name!r} was published on a platform that differs in "
        f"{', '.join(others)}; values here would not be the same bits: use the same libraries "
        "here, or publish from here (`featurekit apply`, `featurekit materialize`)"
    )


def differing(data: bytes) -> list[str]:
    """The facts in which this platform differs from the one that published the plan (R6)."""
    plan = opened(data)
    here = numeric_fingerprint(plan.service)
    return sorted(k for k in {*here, *plan.numerics} if here.get(k) != plan.numerics.get(k))


def broken(what: str, error: Exception) -> PlanRefused:
    """The error for a function of a plan that raised what no compiled function raises. The checks
    of a plan do not follow what may be None (R2), which its compiler did."""
    return PlanRefused(
        f"{what}: a function of its plan raised {type(error).__name__}: {error}, which no function "
        f"that featurekit compiled does; {_AGAIN}"
    )


def _refuse_stale(plan: Plan) -> None:
    if plan.stale is not None:
        raise PlanRefused(
            f"the plan of service {plan.service.name!r} was changed after it was published: "
            f"{plan.stale} has a fingerprint that is not that of its content; {_AGAIN}"
        )


def _believe(plan: Plan, trust: Trust) -> None:
    """PlanRefused where the plan is not signed as the trust wants it, or has functions of Python
    that nobody here vouches for."""
    service, signature = plan.service, plan.signature
    what = f"the plan of service {service.name!r}, version {service.fingerprint[:12]},"
    if trust.keys:
        if signature is None:
            raise PlanRefused(
                f"{what} is not signed, and this reader holds a public key; run `featurekit apply` "
                "where the private key is (FEATUREKIT_SIGNING_KEY, or signing_key_file)"
            )
        key = next((k for k in trust.keys if k.text == signature.key), None)
        message = _message(trust.project, signature.sequence, service, plan.signed)
        if key is None or not key.holds(signature.value, message):
            held = ", ".join(k.name for k in trust.keys)
            raise PlanRefused(
                f"{what} has a signature that none of the keys held here made ({held}) for this "
                "project and this content; apply it with the right private key, or hold the "
                "public key of whoever did"
            )
        return
    if not plan.python or trust.python:
        return
    if trust.recorded is None or not trust.recorded(service.name, service.fingerprint):
        raise PlanRefused(
            f"{what} runs functions as their author's Python ({', '.join(plan.python)}), and "
            "whoever can write to the store could have put them there; hold the public key of "
            "whoever signs the plans (FEATUREKIT_PUBLIC_KEYS), or let such functions run: "
            'run_python=True, FEATUREKIT_RUN_PYTHON=1, or "run_python: true" in the settings'
        )


@functools.lru_cache(maxsize=1024)
def opened(data: bytes) -> Plan:
    """What a plan's bytes hold. PlanRefused where they are no plan. Cached, because every push
    reads the plans that it feeds."""
    if len(data) > MOST_BYTES:
        raise PlanRefused(
            f"a plan of {len(data):,} bytes; the largest that is read has {MOST_BYTES:,}"
        )
    try:
        plan = json.loads(data, parse_float=_no_number, parse_constant=_no_number)
        if not isinstance(plan, dict):
            raise ValueError("no object")
        found = plan.get("format")
        if type(found) is not int:
            raise ValueError("no format")
        if found not in _FORMATS:
            raise PlanRefused(f"a plan of format {found}; this featurekit reads 1 to 5")
        return _opened(plan)
    except (PlanRefused, ConfigError):
        raise
    except Exception as error:  # whatever data can do to what only reads and compares
        reason = str(error)[:300] or type(error).__name__
        raise PlanRefused(
            f"a plan in the online store is not what featurekit publishes: {reason}; {_AGAIN}"
        ) from None


def _no_number(text: str) -> Any:
    raise ValueError(f"a number {text[:20]!r}")


def _opened(plan: Mapping[str, Any]) -> Plan:
    service = from_json(plan["service"], Service)
    verify_service(service)
    numerics = plan["numerics"]
    if not isinstance(numerics, dict) or not all(isinstance(v, str) for v in numerics.values()):
        raise ValueError("numerics are texts by name")
    if plan["format"] != _format(service):
        raise ValueError("a format that is not that of its content")
    content = {"service": plan["service"], "numerics": numerics}
    return Plan(
        service=service,
        numerics=numerics,
        signature=_signature(plan.get("signature")),
        stale=stale_fingerprint(service),
        python=python_functions(service),
        signed=_text(content),
    )


def _signature(found: Any) -> Signature | None:
    if found is None:
        return None
    match found:
        case {"key": str(key), "sequence": int(sequence), "ed25519": str(value)}:
            return Signature(key, sequence, bytes.fromhex(value))
        case _:
            raise ValueError("a signature has a key, a sequence number and its bytes")


def python_functions(service: Service) -> tuple[str, ...]:
    """The names of the functions that run as their author's Python."""
    functions: list[Function] = [f for v in service.views for f in v.functions]
    functions += [t.function for t in service.transforms]
    return tuple(f.name for f in functions if any(isinstance(part, Verbatim) for part in f.body))
