"""Plans as an attacker writes them: any part replaced, and the fingerprints made anew.

`python -m tests.forged_plans 100000` mutates a plan so often, and says what became of it.
"""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, LastN, Quantile, Sum, TopK
from featurekit.define.compile_service import compile_service
from featurekit.define.identity import (
    ViewIdentity,
    input_identity,
    service_fingerprint,
    transform_fingerprint,
)
from featurekit.define.plan import Output, Service
from featurekit.define.published import plan_bytes, read_plan
from featurekit.define.verify import verify_service
from featurekit.errors import FeaturekitError
from featurekit.feed.events import ViewWriter
from featurekit.language.verify import Unsound
from featurekit.language.wire import Malformed, from_json, to_json
from featurekit.online.lookup.answer import unknown
from featurekit.online.lookup.evaluator import Evaluator

RATES = {"a": 1.5, "b": -0.0}


@feature
def doubled(n: int | None) -> int | None:
    return None if n is None else n * 2


@feature
def score(n: int, tags: list[str], code: str | None, at: dt.datetime) -> float:
    total = 0.0
    for i, tag in enumerate(tags, 3):
        if (cut := tag.strip()) and cut.startswith("x"):
            total += RATES.get(cut, 0.25) * i
        elif i > 7:
            break
    lengths = [len(t) for t in tags if t != ""]
    return total + sum(lengths) + (len(code) if code else at.hour) + n % 7


@feature
def basket(value: float, total: float | None, last: str | None) -> float | None:
    if total is None or total == 0.0:
        return None
    return math.sqrt(abs(value / total)) + (1.0 if last is not None and last == "a" else 0.0)


@feature
def twice(basket: float | None) -> float:
    return 0.0 if basket is None else basket * 2.0


@feature
def asked_for(key: int | None, as_of: dt.datetime) -> int:
    return as_of.year + (key or 0)


user = Entity("user", {"key": int, "shop": str})
events = EventSource(
    "events",
    path="events.parquet",
    schema={
        "key": int,
        "shop": str,
        "n": int,
        "x": float,
        "code": str | None,
        "tags": list[str],
        "at": dt.datetime,
    },
    timestamp_field="at",
    timezone="Europe/London",
)
window = FeatureView(
    "window",
    entities=[user],
    source=events,
    features={
        "number": Count(window="7d"),
        "total": Sum("x", window="1d", hop="1h", offset="2h"),
        "scored": Sum(score, window="lifetime", default=0.0),
        "median": Quantile("x", q=0.5, window="1d"),
        "top": TopK("code", k=2, window="1d"),
        "last": Last("code", window="1d"),
        "lasts": LastN("n", n=3, window="1d"),
    },
)
latest = FeatureView(
    "latest",
    entities=[user],
    source=events,
    ttl="30d",
    features={"n": "n", "code": "code"},
)
SERVICE = compile_service(
    FeatureService(
        "service",
        features=[window, latest, doubled, asked_for, basket, twice],
        request={"value": float},
    )
)
SMALL = [
    compile_service(FeatureService("service", features=[*items], request=request))
    for items, request in (
        ([window[["number", "total"]]], {}),
        ([latest, doubled], {}),
        ([window[["last", "total"]], basket, twice], {"value": float}),
    )
]
"""Services whose plans are small, so that many of them are tried in a second."""
ROW = {
    "key": 1,
    "shop": "s",
    "n": 3,
    "x": 0.5,
    "code": "a",
    "tags": ["x", "b ", ""],
    "at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "__ts": 0,
    "__created": 0,
}


def stamped(service: Service) -> Service:
    """The service with the fingerprints of its content, as an attacker makes them."""
    views = []
    for view in service.views:
        made = ViewIdentity(view)
        own = tuple(replace(f, fingerprint=made.feature(f)) for f in view.features)
        view = replace(view, features=own)
        views.append(replace(view, fingerprint=ViewIdentity(view).whole()))
    request = {p.name: p.type for p in service.request}
    transforms: list[Any] = []
    for one in service.transforms:
        given = [input_identity(i, views, transforms, request) for i in one.inputs]
        transforms.append(replace(one, fingerprint=transform_fingerprint(one.function, given)))

    def output(one: Output) -> Output:
        of = transforms if one.view < 0 else views[one.view].features
        return replace(one, fingerprint=of[one.index].fingerprint)

    service = replace(
        service,
        views=tuple(views),
        transforms=tuple(transforms),
        outputs=tuple(map(output, service.outputs)),
    )
    return replace(service, fingerprint=service_fingerprint(service))


def used(service: Service) -> None:
    """Everything that is made of a plan once it is read: the code of its lookups and of its
    pushes, each run for a row."""
    plan = Evaluator("project", service)
    answers = [tuple(zip(*unknown(view), strict=True)) for view in service.views]
    given = {p.name: 2.5 for p in service.request} | {"key": 1, "shop": "s"}
    plan.outputs([(list(v), list(s)) for v, s in answers], given, 0, 0)
    row = ROW | {p.name: None for view in service.views for p in view.source.schema} | ROW
    for view in service.views:
        ViewWriter("project", view).event(row)


# --- mutations ------------------------------------------------------------------------------------


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value: what holds it, and its key there."""
    found = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in found:
        yield value, key
        if isinstance(part, (dict, list)):
            yield from places(part)


def shape(value: Any) -> Any:
    """What a part of a plan may be taken for: its class on the wire, or its type."""
    return value.get("c", "dict") if isinstance(value, dict) else type(value).__name__


def hostile(canary: Path) -> list[Any]:
    """Values that an attacker puts into a plan. Where one is run as Python, the canary is there."""
    code = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    texts = [
        code,
        f"x={code}",
        f"x = {code}; y",
        f"0), {code}, (0",
        f"({code})",
        f"{{{code}}}",
        f"a\n    {code}\n    b",
        f"a\r{code}\r",
        f"v; {code} #",
        f"x:={code}",
        f"x'] or {code} or request['x",
        "__import__",
        "__builtins__",
        ".",
        "..",
        ".x y",
        "\x00",
        "ﬁ",
        "{0.__class__}",
        "../../../etc/passwd",
        "getattr",
        "Aggregate",
        "__all__",
        "list",
        "",
        "a" * 5000,
    ]
    verbatim = {
        "c": "Verbatim",
        "entry": "f",
        "field": "",
        "sources": [f"def f(*a, **k):\n    {code}\n    return 1.0\n{code}\n"],
        "imports": [["os", "os", "system"]],
        "constants": [],
    }
    numbers = [True, False, -1, 0, 1, 2, 7, 99, 2**63 - 1, 2**63, -(2**70), 1.5, None]
    made: list[Any] = [*texts, *numbers, [], {}, [[]], verbatim, [verbatim]]
    return [*made, {"f": "nan"}, {"f": code}, {"t": 2**62}, {"d": 1}, {"b": "zz"}, {"m": [[1]]}]


def mutated(plan: dict[str, Any], rng: random.Random, values: list[Any]) -> dict[str, Any]:
    """A plan with one to three of its parts replaced, by something hostile or by another part."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        every = list(places(plan))
        holder, key = rng.choice(every)
        match rng.randrange(8):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(rng.choice(values))
            case 3 | 4 | 5:
                alike = [v for h, k in every if shape(v := h[k]) == shape(holder[key])]
                holder[key] = copy.deepcopy(rng.choice(alike))
            case 6:
                del holder[key]
            case _ if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case _:
                holder[rng.choice(["c", "name", "type", "more"])] = copy.deepcopy(holder[key])
    return plan


def bent(data: bytes, rng: random.Random) -> bytes:
    """A plan's bytes with a few of them changed, lost or doubled."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(made))
        match rng.randrange(4):
            case 0:
                made[at] = rng.randrange(256)
            case 1:
                del made[at : at + rng.randint(1, 50)]
            case 2:
                made[at:at] = made[at : at + rng.randint(1, 50)]
            case _:
                made[at] ^= 1 << rng.randrange(8)
    return bytes(made)


def tried(data: bytes) -> str:
    """What becomes of a plan: why it is refused, or that it was read and run."""
    try:
        with warnings.catch_warnings():  # of another platform, where a mutation names one
            warnings.filterwarnings("ignore", "service .* published on a platform that differs")
            service = read_plan(data, on_mismatch="warn")
    except FeaturekitError as error:
        return type(error).__name__
    try:
        used(service)
    except FeaturekitError as error:
        return f"read, {type(error).__name__}"
    return "read"


def forged(plan: dict[str, Any]) -> bytes:
    """A plan's bytes, with fingerprints of its content where it has a content at all."""
    try:
        service = from_json(plan["service"], Service)
        verify_service(service)
        plan = {**plan, "service": to_json(stamped(service))}
    except (Malformed, Unsound, KeyError, TypeError):
        pass
    return json.dumps(plan).encode()


def fuzz(number: int, seed: int, canary: Path) -> Counter[str]:
    """What became of so many mutated plans. Anything but a FeaturekitError is raised."""
    rng = random.Random(seed)
    values, found = hostile(canary), Counter[str]()
    every = [plan_bytes(service) for service in (SERVICE, *SMALL)]
    for i in range(number):
        data = every[0] if i % 50 == 0 else rng.choice(every[1:])
        made = bent(data, rng) if i % 4 == 0 else forged(mutated(json.loads(data), rng, values))
        found[tried(made)] += 1
        assert not canary.exists(), f"a mutated plan ran code: {made!r}"
    return found


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for what, count in fuzz(int(sys.argv[1]), 1, Path(folder) / "canary").most_common():
            print(f"{count:8,}  {what}")
