"""Turns what a server has to say into lines on standard error, for people or as JSON for programs.

A line never has what a caller wrote beside an id of a request, and no value, key or secret.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

FORMATS = ("text", "json")
ACCESS = logging.getLogger("featurekit.server.observed")
"""Where requests are told of."""

_FIELDS = "featurekit_fields"
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_NONE, _REFUSED = (b"0" * 32, b"0" * 16), b"ff-"


def set_up(form: str) -> None:
    """Send what this process logs, warnings among it, to standard error in one of `FORMATS`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    ACCESS.setLevel(logging.INFO)
    logging.captureWarnings(True)


def told(logger: logging.Logger, level: int, text: str, fields: Mapping[str, Any]) -> None:
    """Log a line with fields; those that are None or "" are left out."""
    kept = {name: value for name, value in fields.items() if value is not None and value != ""}
    logger.log(level, text, extra={_FIELDS: kept})


class Sparing:
    """Warns at most once in `every_s` seconds, and then says how many warnings it left out."""

    def __init__(self, logger: logging.Logger, every_s: float = 1.0) -> None:
        self._log, self._every_s = logger, every_s
        self._next, self._left_out = float("-inf"), 0

    def warning(self, text: str) -> None:
        """Log a warning, or count it."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        more = f" ({self._left_out} more since the last such line)" if self._left_out else ""
        self._next, self._left_out = now + self._every_s, 0
        self._log.warning("%s%s", text, more)


def trace_of(traceparent: bytes | None) -> tuple[str, str] | None:
    """The ids of the trace and of the span above in a header of W3C's Trace Context; None for
    another text, which that specification says to ignore."""
    found = _TRACEPARENT.fullmatch(traceparent or b"")
    if found is None or found[0].startswith(_REFUSED):
        return None
    if found[0].startswith(b"00-") and found[3] is not None:
        return None  # the first version has four parts
    ids = found[1], found[2]
    if ids[0] == _NONE[0] or ids[1] == _NONE[1]:
        return None
    return ids[0].decode(), ids[1].decode()


class _Json(logging.Formatter):
    """One object of JSON for each line."""

    def format(self, record: logging.LogRecord) -> str:
        made: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            made["exception"] = self.formatException(record.exc_info)
        return json.dumps(made, ensure_ascii=False)


class _Text(logging.Formatter):
    """A line for people, with the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Any] = getattr(record, _FIELDS, {})
        said = "".join(f" {name}={_shown(value)}" for name, value in fields.items())
        text = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}{said}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


def _time(record: logging.LogRecord) -> str:
    made = dt.datetime.fromtimestamp(record.created, dt.UTC)
    return made.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or '"' in text or not text else text
