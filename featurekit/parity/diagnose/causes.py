"""Every cause of a difference, and what pairs of values and the families of operators say of it."""

from __future__ import annotations

import struct
from typing import Any

from featurekit.core.status import ERROR_STATUS, OUTSIDE_MAX_AGE
from featurekit.core.values import ERROR
from featurekit.language.trace import Step
from featurekit.parity.compare import Stated, bits

CAUSES = {
    "time zone": "one path reads or reckons a local time in another zone, or with other rules",
    "window edge": "an event on an edge of the window counts on one path only",
    "hop": "the beginning of the window is aligned to its hop on one path only, or otherwise",
    "frame": "a window of rows or periods, or that ends at a hop, has other events on one path",
    "ttl": "the age at which a row is too old differs",
    "tie": "events of one instant are taken in another order",
    "late event": "an event counts before it has arrived, or not after",
    "missing event": "an event is known to one path only",
    "duplicate event": "a copy of an event counts once more on one path",
    "deletion ignored": "a deletion takes effect on one path only",
    "correction ignored": "a corrected version counts beside or in place of its correction",
    "condition": "the condition of the window keeps an event on one path only",
    "null fill": "None is a value on one path",
    "default": "the default stands for None on one path only",
    "error": "an error is a value or None on one path",
    "NaN": "NaN is skipped, or taken for None or another value, on one path",
    "-0.0": "-0.0 and 0.0 are told apart on one path only",
    "float order": "floats are added in another order or with another rounding between",
    "rounding": "a result is rounded otherwise",
    "division": "// or % floors on one path and truncates on the other",
    "float32": "a float has passed through a float32",
    "precision": "an int has passed through a float, or an instant through whole seconds",
    "quantile": "a quantile is taken at another rank, or interpolated otherwise",
    "hash": "a sketch hashes values otherwise",
    "overflow": "an int outside int64 is an error on one path only",
    "date": "a calendar field is reckoned otherwise",
    "unit": "a duration is in another unit, or cut to whole ones",
    "type": "the value is of another type, as of an int made a float",
    "Unicode": "text is folded, stripped, split or compared by other rules",
    "numerics": "a function of the platform's mathematical library gives other bits",
    "key": "a value of a join key finds another entity, or none",
    "column": "one path reads another column",
    "join": "a row takes features of another row of the other view on one path",
    "stale version": "the paths compute different versions of the feature",
    "stale state": "the online state is not what the events make of it",
    "operator": "one operator gives another value",
    "aggregate": "the aggregate gives another value for the same inputs",
    "exception": "one path raises an exception",
    "unknown": "no experiment tells",
}
"""Every cause that a diagnosis names, and what it means."""


def raw(stated: Stated) -> Any:
    return ERROR if stated[1] == ERROR_STATUS else stated[0]


def of_stated(one: Stated, other: Stated, otherwise: str) -> str:
    if one[1] != other[1] and OUTSIDE_MAX_AGE in (one[1], other[1]):
        return "ttl"
    return of_values(raw(one), raw(other), otherwise)


def of_values(one: Any, other: Any, otherwise: str) -> str:
    """What a pair of values looks like; `otherwise` where it looks like nothing known."""
    if ERROR in (one, other) and one is not other:
        return "error"
    if (is_nan(one) or is_nan(other)) and bits(one) != bits(other):
        return "NaN"
    if (one is None) != (other is None):
        return "null fill"
    if type(one) is not type(other):
        return "type"
    if isinstance(one, float) and isinstance(other, float):
        if one == 0.0 == other:
            return "-0.0"
        for a, b in ((one, other), (other, one)):
            if _single(a) == b or _single(b) == a:
                return "float32"
        return otherwise
    if isinstance(one, int) and isinstance(other, int) and not isinstance(one, bool):
        return "precision" if int(float(one)) == other or int(float(other)) == one else otherwise
    if isinstance(one, str) and isinstance(other, str):
        return "Unicode"
    if isinstance(one, list) and isinstance(other, list):
        if len(one) == len(other):
            for a, b in zip(one, other, strict=True):
                if bits(a) != bits(b):
                    return of_values(a, b, otherwise)
        return otherwise
    return otherwise


def _single(x: float) -> float | None:
    try:
        (found,) = struct.unpack("<f", struct.pack("<f", x))
    except (OverflowError, struct.error):
        return None
    return float(found)


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


OF_VALUES = ("column", "Unicode", "float32", "precision", "operator")
_TEXT = ("str", "re", "in", "ord", "chr", "bytes", "format", "len", "hashlib")
_ZONES = ("zoned", "datetime", "date", "timedelta")


def of_node(step: Step, offline: Any) -> str:
    """The cause that an operator's family speaks for."""
    key = getattr(step.node, "op", "")
    name, types = key.partition("(")[0], key.partition("(")[2]
    family = name.partition(".")[0]
    simple = of_values(offline, step.value, "")
    if simple == "error" and name in _INT_ARITHMETIC and types.startswith("int"):
        return "overflow"
    if simple in ("error", "-0.0", "type"):
        return simple
    if _ratio(offline, step.value):
        return "unit"
    if family == "zoned" or "zoned" in types:
        return "time zone"
    if name in ("//", "%"):
        return "division"
    if simple in ("NaN", "null fill"):
        return simple
    if family in _TEXT or types.startswith("str"):
        return "Unicode"
    if family in _ZONES or types.startswith(("datetime", "date")):
        return "date"
    if name in ("round", "int", "math.floor", "math.ceil", "math.trunc", "float"):
        return "precision" if simple == "precision" and name == "float" else "rounding"
    if family == "math" or name == "**":
        return "numerics"
    if name in ("sum", "math.fsum"):
        return "float order"
    return simple or "operator"


_INT_ARITHMETIC = ("+", "-", "*", "**", "<<", "negative", "abs", "sum", "math.prod")


def _ratio(one: Any, other: Any) -> bool:
    """Whether one is a thousand, a million … times the other."""
    numbers = isinstance(one, (int, float)) and isinstance(other, (int, float))
    if not numbers or not one or not other or one != one or other != other:
        return False
    return any(abs(one / other / k - 1) < 1e-9 for k in (1e3, 1e6, 1e9, 1e-3, 1e-6, 1e-9))


def exception_of(*pair: Stated) -> str | None:
    """The exception that stands in the place of a status."""
    return next((status for _, status in pair if ": " in status), None)


def of_exception(said: str) -> str:
    if said.startswith("FingerprintMismatch"):
        return "numerics"
    if said.startswith("TransformError"):
        return "error"
    return "exception"
