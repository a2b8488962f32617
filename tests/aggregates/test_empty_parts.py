"""What an aggregate's SQL makes of no parts at all is what an empty window has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paths import connect

from featurekit.aggregates import BY_NAME, Aggregate
from featurekit.aggregates.exact import FloatColumn
from featurekit.aggregates.sql import InputColumn
from featurekit.core.sql import quote
from featurekit.core.types import FLOAT, Type
from featurekit.define.proven import SAMPLES
from featurekit.errors import DefinitionError
from featurekit.language.ops.table import EDGES

COLUMNS = (
    FloatColumn(10, (), True, True, 32),
    FloatColumn(10, half_bits=32, short=True),
    FloatColumn(None, (1, 2), True),
    FloatColumn(None, tuple(range(9))),
)


def each() -> Iterator[Any]:
    for name, kind in BY_NAME.items():
        for params in SAMPLES.get(name, ({},)):
            one = kind("x", window="1d", **params)
            for type_ in EDGES:
                try:
                    one.result(type_)
                except DefinitionError:
                    continue
                for column in COLUMNS if type_ == FLOAT else (None,):
                    yield one, type_, column


def test_no_parts_give_the_value_of_an_empty_window() -> None:
    seen = set()
    with connect() as con:
        for one, type_, column in each():
            sql = one.sql(InputColumn("e.x", type_, "e.__o", column), "TRUE")
            names = [f"p{i}" for i in range(len(sql.parts))]
            parts = ", ".join(f"{p} AS {n}" for p, n in zip(sql.parts, names, strict=True))
            helpers = "".join(f", {made} AS {quote(name)}" for name, made in sql.helpers)
            events = (
                f"(SELECT *{helpers} FROM (SELECT NULL::{type_.duckdb} AS x, 0::BIGINT AS __o, "
                "0::BIGINT AS __ts) WHERE FALSE)"
            )
            shown = [sql.value, *([] if sql.error is None else [sql.error])]
            found = con.execute(
                f"SELECT {', '.join(s.format(*names) for s in shown)} FROM (SELECT 0::BIGINT AS "
                f"__t) l LEFT JOIN (SELECT l.__t, {parts} FROM (SELECT 0::BIGINT AS __t) l, "
                f"{events} e GROUP BY ALL) g ON TRUE"
            ).fetchall()
            assert found[0][0] == empty(one, type_), (one, type_, column)
            assert found[0][1:] in ((), (False,)), (one, type_, column)
            seen.add(type(one).__name__)
    assert seen == set(BY_NAME)


def empty(one: Aggregate, type_: Type) -> Any:
    return one.as_of(one.over([], type_), 0)
