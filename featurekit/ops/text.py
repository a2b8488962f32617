"""Operators on str. Python's Unicode tables decide; DuckDB is used where it cannot differ (R4)."""

from __future__ import annotations

from featurekit.ops.table import Op, register
from featurekit.types import BOOL, INT, STR

register(
    Op("+", (STR, STR), STR, "{0} + {1}", "({0} || {1})"),
    Op("len", (STR,), INT, "len({0})", "length({0})"),
    Op("bool", (STR,), BOOL, "{0} != ''", "({0} <> '')"),
    Op("str", (STR,), STR, "{0}", "{0}"),
    Op("in", (STR, STR), BOOL, "{0} in {1}", "contains({1}, {0})"),
    Op("str.startswith", (STR, STR), BOOL, "{0}.startswith({1})", "starts_with({0}, {1})"),
    Op("str.endswith", (STR, STR), BOOL, "{0}.endswith({1})", "ends_with({0}, {1})"),
    Op("str.strip", (STR,), STR, "{0}.strip()", None),
)
