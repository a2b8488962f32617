"""Says what is tried on every history: the forms of windows, of latest rows and of sources, the
types of values, and every aggregate that takes such a form.

A form times a type is a `Space`, with a service of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

from featurekit.aggregates import BY_NAME, Aggregate
from featurekit.core.types import INT_MAX
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import Entity, EventSource, FeatureService, FeatureView
from featurekit.define.plan import Feature, Service, View
from featurekit.define.proven import SAMPLES
from featurekit.errors import DefinitionError
from featurekit.parity.modes.exhaust.histories import ARRIVALS, INSTANTS, SECOND, Histories

_DAY = 86_400 * SECOND
_KEPT = (None, True, True, False, True)
"""What the column `kept` of a row holds, by the place of its value."""


@dataclass(frozen=True, slots=True)
class Form:
    """A way in which events count. `window` are parameters of each aggregate, or None for a view of
    latest rows, which may have a `where`. `values` is how many of the values of a type it is tried
    with; with `ids` events share so many ids, and with `ops` they also correct and delete one
    another (T7). `gaps` are lengths of time after which an event has another effect, beside those
    that the bounds of the windows tell."""

    name: str
    window: Mapping[str, Any] | None
    ttl: str | None = None
    where: str | None = None
    values: int = 5
    ids: int = 0
    ops: tuple[str, ...] = ()
    gaps: tuple[int, ...] = ()


FORMS: tuple[Form, ...] = (
    Form("window", {"window": "5s"}),
    Form("window where", {"window": "9s", "where": "kept"}),
    Form("hop", {"window": "7s", "hop": "4s"}),
    Form("offset", {"window": "5s", "offset": "3s"}),
    Form("lifetime", {"window": "lifetime"}),
    Form("without the instant", {"window": "9s", "exclude": "instant"}),
    Form("ends at a hop", {"window": "7s", "hop": "4s", "ends": "hop"}),
    Form("last full day", {"calendar": "day", "timezone": "UTC"}),
    Form("running day", {"calendar": "day", "timezone": "UTC", "running": True}),
    Form("rows", {"rows": 2}),
    Form("rows in a window where", {"window": "9s", "rows": 2, "where": "kept"}),
    Form("session", {"window": "20s", "session": "4s"}, gaps=(4 * SECOND,)),
    Form("window in a ttl", {"window": "9s"}, ttl="3s"),
    Form("by category", {"window": "9s", "by": "kept", "top": 1}),
    Form("ids", {"window": "9s"}, values=3, ids=2),
    Form("corrections", {"window": "9s"}, values=2, ids=2, ops=("upsert", "delete")),
    Form("latest row", None),
    Form("latest row in a ttl", None, ttl="3s"),
    Form("latest row where", None, where="kept"),
    Form("latest row of corrections", None, values=2, ids=2, ops=("upsert", "delete")),
)

VALUES: dict[Any, tuple[Any, ...]] = {
    float: (None, -0.0, math.nan, 1e308, 0.1),
    int: (None, -1, 2**53 + 1, INT_MAX, 0),
    bool: (None, True, False),
    str: (None, "", "a\x00b", "é", "\U0001f600"),
}
"""Hostile values of each type, in the order in which a form takes the first few of them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an event may be: the place of its instant, its value, its id and its correction."""

    instant: int
    value: Any
    kept: bool | None
    id: int | None = None
    op: str | None = None


@dataclass(frozen=True)
class Space:
    """A form over one type of values: what all histories of it are asked."""

    form: Form
    hint: Any
    most: int
    only: str = field(default="", kw_only=True)

    @property
    def name(self) -> str:
        """As reports name it."""
        return f"{self.form.name}, {self.hint.__name__}"

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """What an event may be."""
        values = VALUES[self.hint][: self.form.values]
        ids = range(self.form.ids) if self.form.ids else (None,)
        ops = self.form.ops or (None,)
        return tuple(
            Kind(i, value, _KEPT[v], id, op)
            for i, (v, value), id, op in product(range(len(INSTANTS)), enumerate(values), ids, ops)
        )

    @property
    def histories(self) -> Histories:
        """All histories of it."""
        return Histories(len(self.kinds), self.most)

    @cached_property
    def service(self) -> Service | None:
        """Every feature that takes this form; None where there is none."""
        features = dict(self._features())
        if not features:
            return None
        return compile_service(self._asking(features))

    def _asking(self, features: Mapping[str, Any]) -> FeatureService:
        view = FeatureView(
            "v",
            entities=[Entity("e", {"k": int})],
            source=self.source,
            features=features,
            ttl=self.form.ttl,
            where=self.form.where,
        )
        return FeatureService("s", features=[view])

    @cached_property
    def source(self) -> EventSource:
        """Where its events would come from."""
        schema: dict[str, Any] = {"k": int, "x": self.hint | None, "kept": bool | None}
        given: dict[str, Any] = {}
        if self.form.ids:
            schema["id"] = int
            given |= {"event_id": "id", "dedupe_within": "1d"}
        if self.form.ops:
            schema["op"] = str
            given["op"] = "op"
        return EventSource(
            "events",
            path="events.parquet",
            schema=schema,
            timestamp_field="at",
            created_timestamp_column="came",
            **given,
        )

    def _features(self) -> Iterator[tuple[str, Any]]:
        if self.form.window is None:
            yield from ((name, name) for name in ("x", "kept") if self._named(name))
            return
        for name, kind in BY_NAME.items():
            for params in SAMPLES.get(name, ({},)):
                told = "_".join(re.findall("[^\\W_]+", f"{name} {[*params.values()]}"))
                one = self._aggregate(kind, params) if self._named(told) else None
                if one is not None:
                    yield told, one

    def _named(self, feature: str) -> bool:
        return self.only in f"{self.name}: {feature}"

    def _aggregate(self, kind: type[Aggregate], params: Mapping[str, Any]) -> Aggregate | None:
        """The aggregate in this form; None where it takes no such values, or no such window."""
        assert self.form.window is not None
        try:
            given = ("x", "kept") if kind.paired else "x"
            one = kind(given, **{**self.form.window, **params})
            compile_service(self._asking({"one": one}))
        except DefinitionError:
            return None
        return one

    @cached_property
    def edges(self) -> tuple[int, ...]:
        """Every instant at which another event may count, and the microseconds beside it."""
        assert self.service is not None
        (view,) = self.service.views
        found = {*INSTANTS, *ARRIVALS}
        for at in INSTANTS:
            found |= {at + gap for gap in self._gaps(view)}
            for feature in view.features:
                if feature.aggregate is not None:
                    found |= {*_turns(feature, at)}
        return tuple(sorted({at + by for at in found for by in (-1, 0, 1)}))

    def _gaps(self, view: View) -> Iterator[int]:
        yield from self.form.gaps
        if view.ttl_us is not None:
            yield view.ttl_us

    def with_history(self) -> Service:
        """The service whose states answer any earlier instant (T8)."""
        assert self.service is not None
        (view,) = self.service.views
        return replace(self.service, views=(replace(view, history_us=3600 * SECOND),))


def _turns(feature: Feature, at: int) -> Iterator[int]:
    """The first instants at which an event of `at` lies before the end of the feature's window, and
    at which it lies before its beginning. Both ends move with the instant, and never back."""
    for end in (0, 1):
        low, high = at - 3 * _DAY, at + 3 * _DAY
        if feature.bounds(high)[end] < at or feature.bounds(low)[end] >= at:
            continue  # a lifetime has no beginning
        while high - low > 1:
            middle = (low + high) // 2
            if feature.bounds(middle)[end] >= at:
                high = middle
            else:
                low = middle
        yield high


def spaces(most: int, *, only: str = "") -> list[Space]:
    """Every form over every type, with the features whose full name contains `only`, as "hop,
    float: Sum" does."""
    every = (Space(form, hint, most, only=only) for form, hint in product(FORMS, VALUES))
    return [space for space in every if space.service is not None]
