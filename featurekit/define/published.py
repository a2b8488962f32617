"""Turns a service into a plan's bytes and back, and finds what this platform computes differently
(R6)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from featurekit.core.version import VERSION
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.plan import Service
from featurekit.errors import FingerprintMismatch, OnlineError
from featurekit.language.wire import from_json, to_json


def plan_bytes(service: Service) -> bytes:
    """The plan of a service: what a serving process needs, with the numeric fingerprint (R6)."""
    plan = {
        "format": 1,
        "featurekit": VERSION,
        "service": to_json(service),
        "numerics": numeric_fingerprint(service),
    }
    return json.dumps(plan, separators=(",", ":")).encode()


def numerics_of(plan: bytes) -> Any:
    """The numeric fingerprint that a plan was published with (R6)."""
    return json.loads(plan)["numerics"]


def read_plan(data: bytes, *, on_mismatch: str = "refuse") -> Service:
    """The service in a plan's bytes. FingerprintMismatch if this platform computes other floats
    (R6), unless `on_mismatch` is "warn", or "accept" for what computes none."""
    service, _ = _decoded(data)
    others = [] if on_mismatch == "accept" else differing(data)
    if others:
        message = (
            f"service {service.name!r} was published on a platform that differs in "
            f"{', '.join(others)}; values here would not be the same bits: use the same "
            "libraries here, or publish from here (`featurekit apply`, `featurekit materialize`)"
        )
        if on_mismatch != "warn":
            raise FingerprintMismatch(message)
        import warnings

        warnings.warn(message, stacklevel=2)
    return service


def differing(data: bytes) -> list[str]:
    """The facts in which this platform differs from the one that published the plan (R6)."""
    service, there = _decoded(data)
    here = numeric_fingerprint(service)
    return sorted(k for k in {*here, *there} if here.get(k) != there.get(k))


@functools.lru_cache(maxsize=64)
def _decoded(data: bytes) -> tuple[Service, Mapping[str, str]]:
    """The service in a plan, and the numeric fingerprint of the platform that published it. Cached,
    because every push reads the plans that it feeds."""
    plan = json.loads(data)
    if plan.get("format") != 1:
        raise OnlineError(f"a plan of format {plan.get('format')!r}; this featurekit reads 1")
    service = from_json(plan["service"])
    assert isinstance(service, Service)
    return service, plan["numerics"]
