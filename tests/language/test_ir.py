"""Walks and the wire form go by the fields of a node's class: a new node needs no case there."""

from __future__ import annotations

import ast
import datetime as dt
import math
from dataclasses import dataclass, field, fields, is_dataclass

import pytest

from featurekit.core.types import FLOAT, INT, Type
from featurekit.language import ir, walk, wire
from featurekit.language.ir import Assign, Call, Const, Function, Name, Param, Return
from featurekit.language.parse.handlers import EXPRESSIONS, handles


@dataclass(frozen=True, slots=True)
class Fold:
    """A node that the language does not have: `body` over what it binds, with plain values."""

    names: tuple[str, ...] = field(metadata=ir.names("body"))
    over: ir.Expr
    body: ir.Expr
    table: tuple[tuple[object, object], ...] = field(metadata=ir.DATA)
    type: Type


def fold(a: str, b: str, over: str, other: str) -> Fold:
    body = Call("+(int,int)", (Name(b, INT), Name(other, INT)), INT)
    return Fold((a, b), Name(over, INT), body, ((1, 2),), INT)


def test_a_new_node_is_looked_into_but_for_plain_values():
    node = fold("a", "b", "n", "m")
    assert walk.children(node) == [node.over, node.body]
    assert list(walk.nodes(node)) == [
        *(node, node.body, Name("m", INT), Name("b", INT), node.over)
    ]  # fmt: skip
    assert walk.depth(node) == 3


def test_what_a_new_node_binds_is_free_only_where_it_does_not_hold():
    assert walk.free(fold("a", "b", "n", "m")) == {"n": INT, "m": INT}
    assert walk.free(fold("a", "b", "b", "a")) == {"b": INT}


def test_names_of_a_new_node_are_taken_out_after_what_they_do_not_hold_in():
    body = (Assign("n", Const(1, INT)), Return(fold("x", "y", "n", "x")))
    function = Function("f", (Param("p", INT),), body, INT)
    assert walk.rename(function).body == (
        Assign("_1", Const(1, INT)),
        Return(fold("_2", "_3", "_1", "_2")),
    )


def test_every_node_goes_over_the_wire_under_the_name_of_its_class_but_one():
    kinds = [k for k in vars(ir).values() if isinstance(k, type) and is_dataclass(k)]
    names = {
        kind.__name__: wire.to_json(kind(**{f.name: None for f in fields(kind)}))["c"]
        for kind in kinds
    }
    assert len(names) == 29
    # What was published before the class had its name is read for good.
    assert {k: v for k, v in names.items() if k != v} == {"Unrolled": "Rows"}
    rows = ir.Unrolled(((Const(2.0, FLOAT),),))
    assert wire.to_json(rows)["c"] == "Rows"
    assert wire.from_json(wire.to_json(rows)) == rows


def test_a_whole_function_goes_there_and_back():
    function = Function("", (Param("x", FLOAT),), (Return(Name("x", FLOAT)),), FLOAT)
    assert wire.from_json(wire.to_json(function)) == function


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (1.0, {"f": "0x1p0"}),
        (1.0, {"f": " 0x1.0000000000000p+0"}),
        (math.inf, {"f": "infinity"}),
        (b"\xab\xcd", {"b": "ABCD"}),
        (b"\xab\xcd", {"b": "ab cd"}),
        (dt.date(2026, 1, 2), {"date": "20260102"}),
        (dt.timedelta(microseconds=1), {"d": True}),
        (dt.timedelta(microseconds=1), {"d": 1.0}),
        (dt.datetime(1970, 1, 1, 0, 0, 0, 1, dt.UTC), {"t": 1.0}),
    ],
)
def test_a_value_has_one_text_and_no_other_is_read(value: object, other: object) -> None:
    assert wire.from_json(wire.to_json(value)) == value
    with pytest.raises(wire.Malformed):
        wire.from_json(other)


def test_a_class_of_syntax_has_one_handler():
    with pytest.raises(ValueError, match="two handlers"):
        handles(EXPRESSIONS, ast.Name)(lambda *_: None)
