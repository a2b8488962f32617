"""Turns rows that say what became of served ones into outcomes, which are kept beside the serving
log."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.calls import found, near
from featurekit.core.coerce import Misfit, asked, is_null
from featurekit.core.frames import collected, is_frame, is_pandas
from featurekit.core.types import Type, as_instant, instant, micros
from featurekit.define.plan import Service
from featurekit.errors import ArgumentError, DataError, DefinitionError
from featurekit.log.outcomes import Outcome, OutcomeHead, add, held, in_force, read_outcomes
from featurekit.project.project import Project

COLUMNS = ("request_id", "row", "at", "known_at", "outcome", "prediction")
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class PushedOutcomes(Named):
    """What became of outcomes that were pushed: `rows` were given, `taken` are new, `corrected` of
    these replace one that was known before, and `repeated` say what is known already. The others
    of `taken` are kept beside one that was known later."""

    rows: int
    taken: int
    corrected: int
    repeated: int


def push_outcomes(project: Project, name: str, given: Any) -> PushedOutcomes:
    """Keep the outcomes of rows of a service; see `FeatureStore.push_outcomes`."""
    service = _service(project, name)
    now = time.time_ns() // 1000
    read = _Reader(service, now, now + project.tolerance_us)
    outcomes = [read.row(number, row) for number, row in enumerate(_rows(given))]
    head = OutcomeHead(name, service.fingerprint, dict(service.join_keys))
    with held(project.state_dir) as folder:
        before = [one for f in read_outcomes(project.state_dir, name) for one in f.outcomes]
        current = in_force(before)
        known = {(one.name, one.known_at, one.said) for one in before}
        new: list[Outcome] = []
        corrected = 0
        for one, dated in outcomes:
            place = one.name, one.known_at, one.said
            last = current.get(one.name)
            # Without an instant of knowing, saying the same again says nothing new.
            if place in known or (not dated and last is not None and last.said == one.said):
                continue
            new.append(one)
            known.add(place)
            if last is None or (last.known_at, last.said) < (one.known_at, one.said):
                current[one.name] = one
                corrected += last is not None
        if new:
            add(folder, head, new)
    return PushedOutcomes(len(outcomes), len(new), corrected, len(outcomes) - len(new))


def _service(project: Project, name: str) -> Service:
    services = project.repo.compiled_services
    if name not in services:
        raise DefinitionError(f"no service {name!r}; {near(name, services, listed='there are')}")
    service = services[name]
    for key in service.join_keys:
        if key in COLUMNS:
            raise DefinitionError(
                f"service {name!r} has a join key {key!r}, which is the name of a column of "
                "outcomes; name its key otherwise to push outcomes"
            )
    return service


def _rows(given: Any) -> list[Mapping[str, Any]]:
    """The rows of a dict, of a list of dicts, or of a frame."""
    if isinstance(given, Mapping):
        return [given]
    if is_frame(given):
        return _rows_of_frame(collected(given, refuse=lambda why: DataError(f"outcomes: {why}")))
    if isinstance(given, list) and all(isinstance(row, Mapping) for row in given):
        return given
    raise ArgumentError(
        f"outcomes are a dict, a list of dicts or a frame, found {found(given)}; write "
        '[{"request_id": "…", "outcome": True}]'
    )


def _rows_of_frame(frame: Any) -> list[Mapping[str, Any]]:
    import pyarrow as pa

    try:
        made = pa.Table.from_pandas(frame, preserve_index=False) if is_pandas(frame) else frame
        rows: list[Mapping[str, Any]] = pa.table(made).to_pylist()
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"outcomes: the frame cannot be read ({error}); write one type in each column"
        ) from None
    return rows


class _Reader:
    """Reads rows of a service's outcomes. `now` is when those were known that do not say it, and
    `latest` the last instant that may be told of."""

    def __init__(self, service: Service, now: int, latest: int) -> None:
        self.service, self.now, self.latest = service, now, latest
        self.keys: Mapping[str, Type] = service.join_keys

    def row(self, number: int, row: Mapping[str, Any]) -> tuple[Outcome, bool]:
        """The outcome that a row tells of, and whether it says when that was known. DataError where
        it cannot be taken."""
        try:
            return self._row({name: v for name, v in row.items() if not is_null(v)})
        except (Misfit, ArgumentError) as error:
            raise DataError(f"outcomes, row {number}: {error}; nothing was kept") from None

    def _row(self, row: Mapping[str, Any]) -> tuple[Outcome, bool]:
        for name in row:
            if name not in COLUMNS and name not in self.keys:
                listed = near(name, [*COLUMNS, *self.keys], listed="there are")
                raise Misfit(f"there is no column {name!r}; {listed}")
        request, at = row.get("request_id"), row.get("at")
        if request is not None and not (isinstance(request, str) and request):
            raise Misfit(f"request_id is a text, found {found(request)}")
        keys = self._keys(row)
        if request is None and (not keys or at is None):
            raise Misfit(
                "it says not what it is the outcome of; write request_id, or "
                f"{', '.join(self.keys)} and at"
            )
        place = row.get("row")
        if place is not None and request is None:
            raise Misfit("row is the place in a request; write request_id, too")
        if "outcome" not in row:
            raise Misfit("it has no outcome; write true or false, a number or a text")
        known = row.get("known_at")
        made = Outcome(
            request,
            0 if place is None else _place(place),
            keys,
            None if at is None else self._instant(at, "at"),
            _told(row["outcome"], "outcome"),
            None if row.get("prediction") is None else _told(row["prediction"], "prediction"),
            self.now if known is None else self._instant(known, "known_at"),
            self.now,
        )
        return made, known is not None

    def _keys(self, row: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """The join keys of a row; none where it has none."""
        lacking = [name for name in self.keys if name not in row]
        if len(lacking) == len(self.keys):
            return ()
        if lacking:
            raise Misfit(f"it lacks the join key {lacking[0]!r}; write all of them, or none")
        pairs = []
        for name in sorted(self.keys):
            try:
                pairs.append((name, asked(row[name], self.keys[name])))
            except Misfit as reason:
                raise Misfit(f"{name}: {reason}") from None
        return tuple(pairs)

    def _instant(self, given: Any, what: str) -> int:
        us = micros(as_instant(given, what=what))
        if us > self.latest:
            raise Misfit(
                f"{what} is {instant(us).isoformat()}, and it is "
                f"{instant(self.now).isoformat()} now; push it when it has come"
            )
        return us


def _place(given: Any) -> int:
    """The place of a row in its request. A frame with nulls has ints as floats."""
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not math.isfinite(given) or given != int(given) or given < 0:
        raise Misfit(f"row is a whole number from 0 on, found {found(given)}")
    return int(given)


def _told(given: Any, what: str) -> str:
    """A value as JSON. Numbers are floats, so that 1 and 1.0 are one."""
    value = given.item() if hasattr(given, "item") else given
    if isinstance(value, bool | str):
        return json.dumps(value)
    exact = isinstance(value, float) or (isinstance(value, int) and abs(value) <= _EXACT)
    if exact and math.isfinite(value):
        return json.dumps(float(value))
    raise Misfit(
        f"{what} is true or false, a finite number (an int up to 2**53) or a text, found "
        f"{found(given)}"
    )
