"""A plan is data (F0): nothing that stands in one is run before it was verified."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forged_plans import SERVICE, SMALL, forged, fuzz, hostile, stamped, tried, used

from featurekit import FeatureService, feature
from featurekit.define.compile_service import compile_service
from featurekit.define.identity import stale_fingerprint
from featurekit.define.plan import Service
from featurekit.define.published import MOST_BYTES, OWN, Trust, opened, plan_bytes, read_plan
from featurekit.errors import PlanRefused
from featurekit.language import ir
from featurekit.language.walk import nodes
from featurekit.language.wire import from_json, to_json

EXAMPLES = int(os.environ.get("FEATUREKIT_EXAMPLES", "1"))


@feature(on_unsupported="python")
def as_python(value: float) -> float:
    return complex(value).real * 2  # nothing that the language has


PYTHON = compile_service(FeatureService("service", features=[as_python], request={"value": float}))


def parts(value: Any, kind: str) -> list[dict[str, Any]]:
    """Every node of a kind in a plan's JSON."""
    found = []
    if isinstance(value, dict):
        found += [value] if value.get("c") == kind else []
        value = list(value.values())
    if isinstance(value, list):
        found += [one for part in value for one in parts(part, kind)]
    return found


def test_a_plan_comes_back_as_it_was_published() -> None:
    for service in (SERVICE, *SMALL):
        assert read_plan(plan_bytes(service)) == service
        assert stale_fingerprint(service) is None
        assert stamped(service) == service
        used(service)


NAMES = [
    ("Assign", "name"),
    ("For", "names"),
    ("Bind", "name"),
    ("Name", "name"),
    ("Each", "names"),
    ("Each", "kind"),
    ("Zip", "start"),
    ("Call", "op"),
    ("Function", "params"),
    ("Param", "name"),
    ("Type", "name"),
    ("Feature", "aggregate"),
    ("Feature", "slot"),
    ("Feature", "window_us"),
    ("Feature", "params"),
    ("Input", "kind"),
    ("Input", "name"),
    ("Input", "view"),
    ("Input", "index"),
    ("Output", "name"),
    ("Output", "view"),
    ("Output", "index"),
    ("Source", "timezone"),
    ("Slot", "column"),
    ("View", "order"),
    ("View", "kind"),
    ("View", "name"),
]


@pytest.mark.parametrize(("kind", "field"), NAMES, ids=[f"{k}.{f}" for k, f in NAMES])
def test_no_name_index_or_constant_of_a_plan_runs(kind: str, field: str, tmp_path: Path) -> None:
    """Every hostile value, in every field that Python text or a key is made of."""
    canary = tmp_path / "canary"
    whole = json.loads(plan_bytes(SERVICE))
    found = parts(whole, kind)
    assert found, "the service has no such node"
    # Inputs are of several kinds, and what may be None is tried where it is something, too.
    for node in {(one.get("kind"), one[field] is None): one for one in found}.values():
        kept = node[field]
        for value in hostile(canary):
            node[field] = [value, *kept[1:]] if isinstance(kept, list) else value
            if json.dumps(node[field]) != json.dumps(kept):
                assert tried(json.dumps(whole).encode()) == "PlanRefused", value
                if isinstance(value, str) and "(" in value:  # with fingerprints to match
                    assert tried(forged(whole)) == "PlanRefused", value
                assert not canary.exists(), value
        node[field] = kept
    assert tried(json.dumps(whole).encode()) == "read"


BINDERS = {"Assign", "Bind", "Let", "Name", "For", "Each"}


def renaming(function: Any, names: dict[str, str]) -> Any:
    """A function's JSON with locals renamed, where they are bound and where they are read."""
    if isinstance(function, list):
        return [renaming(part, names) for part in function]
    if not isinstance(function, dict):
        return function
    made = {key: renaming(part, names) for key, part in function.items()}
    if made.get("c") in BINDERS:
        for key in {"name", "names"} & made.keys():
            held = made[key]
            listed = [names.get(one, one) for one in ([held] if isinstance(held, str) else held)]
            made[key] = listed[0] if isinstance(held, str) else listed
    return made


def test_no_name_of_a_local_runs_though_all_of_the_plan_fits_it(tmp_path: Path) -> None:
    """Whoever writes a plan renames a local wherever it stands, and makes fingerprints to match."""
    canary, read = tmp_path / "canary", 0
    whole = json.loads(plan_bytes(SERVICE))
    functions = parts(whole, "Function")
    bound = {
        (i, name)
        for i, function in enumerate(functions)
        for kind in BINDERS - {"Name"}
        for node in parts(function["body"], kind)
        for name in ([node["name"]] if "name" in node else node["names"])
    }
    assert len(bound) > 5
    for i, old in sorted(bound):
        kept = functions[i]["body"]
        for new in ("renamed", *(v for v in hostile(canary) if isinstance(v, str) and "(" in v)):
            functions[i]["body"] = renaming(kept, {old: new})
            service = stamped(from_json(whole["service"], Service))
            found = tried(plan_bytes(service))
            assert not canary.exists(), (old, new)
            assert found == ("read" if new == "renamed" else "PlanRefused"), (old, new)
            read += found == "read"
        functions[i]["body"] = kept
    assert read == len(bound), "a plan that fits its new name was refused, so this shows nothing"


def renamed(service: Service, change: Callable[[Any], Any]) -> Service:
    """The service with the functions of its views changed, and fingerprints to match."""
    views = [
        replace(view, slots=tuple(
            replace(s, transform=s.transform and change(s.transform)) for s in view.slots
        ))
        for view in service.views
    ]  # fmt: skip
    return stamped(replace(service, views=tuple(views)))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: replace(s, outputs=tuple(
            replace(o, name=n.name) for o, n in zip(s.outputs, s.outputs[::-1], strict=True))),
         "called otherwise"),
        (lambda s: replace(s, outputs=tuple(
            replace(o, full_name=n.full_name)
            for o, n in zip(s.outputs, s.outputs[::-1], strict=True))),
         "called otherwise"),
        (lambda s: replace(s, outputs=s.outputs[::-1]), "of its content"),
        (lambda s: replace(s, outputs=(*s.outputs[:-1], s.outputs[0])), "of one name"),
        (lambda s: replace(s, fingerprint="0" * 32), "the service has a fingerprint"),
        (lambda s: replace(s, views=(replace(s.views[0], ttl_us=5), *s.views[1:])), "of its cont"),
        (lambda s: replace(s, views=(replace(s.views[0], order=(0,)), *s.views[1:])), "its order"),
        (lambda s: replace(s, outputs=(replace(s.outputs[0], index=99),)), "nothing that the"),
        (lambda s: replace(s, outputs=(replace(s.outputs[0], view=-2),)), "nothing that the"),
        (lambda s: replace(s, request=(*s.request, s.views[0].join_keys[0])), "join key"),
        (lambda s: replace(s, transforms=s.transforms[::-1]), "."),
    ],
    ids=["swapped names", "swapped full names", "order", "one name", "fingerprint", "ttl",
         "slots", "index", "view", "request", "transforms"],
)  # fmt: skip
def test_a_plan_that_was_changed_is_refused(change: Any, told: str) -> None:
    assert change(SERVICE) != SERVICE
    with pytest.raises(PlanRefused, match=told):
        read_plan(plan_bytes(change(SERVICE)))


def test_what_no_fingerprint_covers_is_read_as_it_stands() -> None:
    """As docs/security.md says: on_error, the names of functions, the numerics. Signatures cover
    them (test_signing)."""
    whole = json.loads(plan_bytes(SERVICE))
    for view in parts(whole["service"], "View"):
        view["on_error"] = "fail"
    for function in parts(whole["service"], "Function"):
        function["name"] = "other"
    found = read_plan(json.dumps(whole).encode())
    assert {v.on_error for v in found.views} == {"fail"}
    assert {f.name for v in found.views for f in v.functions} == {"other"}
    assert [o.name for o in found.outputs] == [o.name for o in SERVICE.outputs]
    assert found.fingerprint == SERVICE.fingerprint


def test_a_function_that_no_compiler_made_is_refused() -> None:
    def unbound(function: ir.Function) -> ir.Function:
        value = ir.Name("nothing", function.returns)
        return replace(function, body=(ir.Return(value),))

    def untyped(function: ir.Function) -> ir.Function:
        return replace(function, body=(ir.Return(ir.Const("text", function.returns)),))

    def outside(function: ir.Function) -> ir.Function:
        return replace(function, body=(ir.Break(), *function.body))

    def deep(function: ir.Function) -> ir.Function:
        value: ir.Expr = ir.Const(0.0, function.returns)
        for _ in range(200):
            value = ir.Call("abs(float)", (value,), function.returns)
        return replace(function, body=(ir.Return(value),))

    for change, told in (
        (unbound, "bound to nothing"),
        (untyped, "a str for a float"),
        (outside, "outside a loop"),
        (deep, "deep"),
    ):
        with pytest.raises(PlanRefused, match=told):
            read_plan(plan_bytes(renamed(SERVICE, change)))


def test_none_where_no_none_may_be_is_an_error_of_the_plan() -> None:
    """What may be None is not followed through a plan: where it matters, the call says so."""
    (transform,) = SMALL[1].transforms
    value = transform.function.params[0]
    bare = ir.Name(value.name, value.type.base)
    body = (ir.Return(ir.Call("abs(int)", (bare,), value.type.base)),)
    changed = replace(transform, function=replace(transform.function, body=body))
    service = stamped(replace(SMALL[1], transforms=(changed,)))
    with pytest.raises(PlanRefused, match=r"raised TypeError.*publish it again"):
        used(read_plan(plan_bytes(service)))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"{}", b'{"format":1}', b'{"format":true}', b'{"format":"1"}', b"\xff",
        b'{"format":1,"service":' + b"[" * 100_000, b'{"format":1,"service":1e999}',
        b'{"format":1,"service":NaN}', b'{"format":1,"service":' + b"9" * 10_000 + b"}",
    ],
    ids=range(12),
)  # fmt: skip
def test_bytes_that_are_no_plan_are_refused(data: bytes) -> None:
    with pytest.raises(PlanRefused):
        read_plan(data)


def test_a_plan_beyond_all_size_is_not_read() -> None:
    with pytest.raises(PlanRefused, match="the largest that is read"):
        opened(b" " * (MOST_BYTES + 1))


def test_another_plan_than_the_key_says_is_refused() -> None:
    data = plan_bytes(SERVICE)
    assert read_plan(data, place=("service", SERVICE.fingerprint)) == SERVICE
    for place in (("other", SERVICE.fingerprint), ("service", "0" * 32)):
        with pytest.raises(PlanRefused, match="is that of 'service'"):
            read_plan(data, place=place)


# --- functions that run as their author's Python --------------------------------------------------


def test_a_function_of_python_runs_only_for_who_lets_it() -> None:
    data = plan_bytes(PYTHON)
    with pytest.raises(PlanRefused, match=r"as_python.*FEATUREKIT_RUN_PYTHON"):
        read_plan(data)
    with pytest.raises(PlanRefused, match="as_python"):
        read_plan(data, trust=Trust("p", recorded=lambda name, fingerprint: False))
    known = ("service", PYTHON.fingerprint)
    for trust in (
        OWN,
        Trust("p", python=True),
        Trust("p", recorded=lambda *version: version == known),
    ):
        assert read_plan(data, trust=trust) == PYTHON


def test_a_function_of_python_put_into_a_plan_is_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    text = f"def f(*a):\n    return 1.0\n__import__('pathlib').Path({str(canary)!r}).touch()\n"
    body = (ir.Verbatim("f", "", (text,), (), ()),)
    for planted in (
        renamed(SERVICE, lambda f: replace(f, body=body)),
        stamped(replace(SERVICE, transforms=tuple(
            replace(t, function=replace(t.function, body=body)) for t in SERVICE.transforms
        ))),
    ):  # fmt: skip
        with pytest.raises(PlanRefused, match="their author's Python"):
            used(read_plan(plan_bytes(planted)))
        assert not canary.exists()
    used(read_plan(plan_bytes(planted), trust=OWN))
    assert canary.exists(), "the canary is never made, so this test shows nothing"


def test_the_parts_of_a_function_of_python_are_verified() -> None:
    def with_body(**changes: Any) -> bytes:
        (transform,) = PYTHON.transforms
        (body,) = transform.function.body
        function = replace(transform.function, body=(replace(body, **changes),))
        changed = replace(transform, function=function)
        return plan_bytes(stamped(replace(PYTHON, transforms=(changed,))))

    for changes in (
        {"entry": "f()"},
        {"imports": (("os", "os;x", ""),)},
        {"imports": (("a b", "os", ""),)},
        {"constants": (("A", ("object", 1)),)},
        {"constants": (("A-B", ("value", 1)),)},
        {"field": "x.y"},
    ):
        with pytest.raises(PlanRefused, match="not what featurekit publishes"):
            read_plan(with_body(**changes), trust=OWN)


# --- mutations ------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_mutated_plans_run_nothing_and_are_refused_by_name(tmp_path: Path) -> None:
    found = fuzz(2_000 * EXAMPLES, 7, tmp_path / "canary")
    assert found["PlanRefused"] > 1_000 * EXAMPLES
    assert found["read"] > 10 * EXAMPLES, "no mutation was ever read, so nothing of one was run"


def test_every_node_of_the_service_is_of_use_here() -> None:
    """The mutated services have what text is made of: names that are bound in each way, loops,
    tables, comprehensions."""
    functions = [s.transform for v in SERVICE.views for s in v.slots if s.transform]
    functions += [t.function for t in SERVICE.transforms]
    kinds = {type(node).__name__ for node in nodes(tuple(f.body for f in functions))}
    assert {"Assign", "Bind", "For", "Zip", "Each", "Lookup", "Call", "Choose"} <= kinds
    assert to_json(SERVICE)
