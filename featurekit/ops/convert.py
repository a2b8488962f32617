"""`bool`, `int`, `float` and `str` of a value, by Python's parsing and printing rules."""

from __future__ import annotations

from featurekit.ops.table import Op, register
from featurekit.types import BOOL, FLOAT, INT

register(
    Op("bool", (BOOL,), BOOL, "{0}", "{0}"),
    Op("bool", (INT,), BOOL, "{0} != 0", "({0} <> 0)"),
    Op("bool", (FLOAT,), BOOL, "{0} != 0.0", "({0} <> 0)"),  # NaN is true in both
    Op("int", (BOOL,), INT, "int({0})", "{0}::BIGINT"),
    Op("int", (INT,), INT, "{0}", "{0}"),
    Op("float", (BOOL,), FLOAT, "float({0})", "{0}::BIGINT::DOUBLE"),
    Op("float", (INT,), FLOAT, "float({0})", "{0}::DOUBLE"),
    Op("float", (FLOAT,), FLOAT, "{0}", "{0}"),
)
