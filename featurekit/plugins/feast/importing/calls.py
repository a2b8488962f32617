"""Tables: what a call of NumPy or pandas on a column is on one value."""

from __future__ import annotations

MATH = {
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "arctan2": "atan2",
    "cbrt": "cbrt",
    "cos": "cos",
    "deg2rad": "radians",
    "degrees": "degrees",
    "exp": "exp",
    "expm1": "expm1",
    "hypot": "hypot",
    "isfinite": "isfinite",
    "isinf": "isinf",
    "isnan": "isnan",
    "log": "log",
    "log10": "log10",
    "log1p": "log1p",
    "log2": "log2",
    "rad2deg": "degrees",
    "radians": "radians",
    "sin": "sin",
    "sqrt": "sqrt",
    "tan": "tan",
    "tanh": "tanh",
}
"""Functions of NumPy, and those of `math`."""

ROUNDED = {"floor": "floor", "ceil": "ceil", "trunc": "trunc"}
"""Functions of NumPy that give a float, where those of `math` give an int."""

BUILT_IN = {
    "abs": "abs",
    "absolute": "abs",
    "fabs": "abs",
    "maximum": "max",
    "minimum": "min",
    "round": "round",
    "float32": "float",
    "float64": "float",
    "int32": "int",
    "int64": "int",
}
"""Functions of NumPy, and those that are built into Python."""

CASTS = {
    "float": "float",
    "float32": "float",
    "float64": "float",
    "int": "int",
    "int32": "int",
    "int64": "int",
    "Int64": "int",
    "str": "str",
    "string": "str",
    "bool": "bool",
    "boolean": "bool",
}
"""Types of `astype`, by their names."""

OPERATORS = {
    "add": "+",
    "sub": "-",
    "subtract": "-",
    "mul": "*",
    "multiply": "*",
    "div": "/",
    "divide": "/",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "pow": "**",
    "power": "**",
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
}
"""Methods of a series, and functions of NumPy, that are operators."""

SAME = {"values", "to_numpy", "tolist", "to_list", "copy", "to_frame", "squeeze", "flatten"}
"""What gives a column as it is."""

TEXT = {
    *("lower", "upper", "strip", "lstrip", "rstrip", "title", "capitalize", "casefold"),
    *("swapcase", "startswith", "endswith", "zfill", "count", "find", "isdigit", "isalpha"),
}
"""Methods of `.str` that are those of a text."""

INSTANT = {
    "year": "year",
    "month": "month",
    "day": "day",
    "hour": "hour",
    "minute": "minute",
    "second": "second",
    "microsecond": "microsecond",
    "days": "days",
    "date": "date()",
    "dayofweek": "weekday()",
    "weekday": "weekday()",
    "total_seconds": "total_seconds()",
}
"""Fields of `.dt`, and what they are of one instant."""

OF_MANY_ROWS = {
    *("mean", "sum", "std", "var", "median", "quantile", "cumsum", "cumprod", "cummax", "rank"),
    *("rolling", "expanding", "ewm", "shift", "diff", "pct_change", "groupby", "merge", "join"),
    *("sort_values", "drop_duplicates", "value_counts", "nunique", "unique", "resample", "mode"),
    *("max", "min", "count", "iloc", "head", "tail", "sample", "cut", "qcut", "get_dummies"),
}
"""What looks at other rows than its own."""
