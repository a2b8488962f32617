"""Turns a caller's question about the past, once it is checked, into a lazy training set."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from featurekit.core.durations import Duration, duration_us
from featurekit.core.timezones import zone
from featurekit.core.types import Instant, as_instant, as_written, micros
from featurekit.define.labels import Labelled
from featurekit.define.plan import Service
from featurekit.errors import ConfigError, DataError, DefinitionError, EntityFrameError
from featurekit.offline.buckets import MOST_BUCKETS
from featurekit.offline.engines.spread import Elsewhere
from featurekit.offline.fixed import FixedFrame, fixed
from featurekit.offline.home import Home
from featurekit.offline.known_entities import known_entities
from featurekit.offline.training_set import Connect, TakeSnapshot, TrainingSet


@dataclass(frozen=True, slots=True)
class Grid:
    """The instants at which every known entity is asked about, if there is no entity frame; see
    `FeatureStore.get_historical_features`."""

    at: Sequence[Instant] | None = None
    start: Instant | None = None
    end: Instant | None = None
    every: Duration | None = None
    entities: str | None = None

    @property
    def instants(self) -> list[dt.datetime] | None:
        """The instants of `at`, naive where they are written so."""
        return None if self.at is None else [as_written(one, what="at") for one in self.at]

    def edge(self, name: str) -> dt.datetime | None:
        """The instant of "start" or "end", naive where it is written so."""
        given = getattr(self, name)
        return None if given is None else as_written(given, what=name)


def historical_features(
    asked: Labelled,
    frame: Any,
    grid: Grid,
    *,
    connect: Connect,
    snapshot: TakeSnapshot,
    now: Callable[[], int],
    full_names: bool,
    statuses: bool,
    timezone: str,
    known_at: Instant | None,
    buckets: int | None,
    elsewhere: Elsewhere | None,
    home: Callable[[Service], Home],
    judge: Callable[[Service, Any], object] = lambda service, con: None,
) -> TrainingSet:
    """The features of a service and its labels for each row of the frame; without a frame, for
    every entity that is known at each instant of the grid. `now` says the store's clock, and is
    asked where there is no `known_at`. See `FeatureStore.get_historical_features`."""
    service = asked.features
    try:
        zone(timezone)  # a misspelt zone is an error even if no instant is naive
    except DefinitionError as error:
        raise DefinitionError(f"timezone: {error}") from None
    if grid.every is not None:
        duration_us(grid.every, what="every")
    if known_at is not None:
        _check_arrivals(asked.whole)
    if buckets is not None and not 1 <= buckets <= MOST_BUCKETS:
        raise ConfigError(f"buckets is a number from 1 to {MOST_BUCKETS:,}, found {buckets!r}")
    given = _rows(service, frame, grid, timezone)
    made = TrainingSet(
        service,
        given.frame,
        unchanged=given.check,
        judge=partial(judge, asked.whole),
        connect=connect,
        snapshot=snapshot,
        full_names=full_names,
        statuses=statuses,
        timezone=timezone,
        known_at=now() if known_at is None else micros(as_instant(known_at, what="known_at")),
        at_clock=known_at is None,
        buckets=buckets,
        elsewhere=elsewhere,
        labelled=asked,
    )
    made.home = home(asked.whole)
    return made


def _rows(service: Service, frame: Any, grid: Grid, timezone: str) -> FixedFrame:
    """The rows to answer for, as they are now."""
    if frame is not None:
        _check_no_grid(grid)
        return fixed(frame)
    known = known_entities(
        service,
        at=grid.instants,
        start=grid.edge("start"),
        end=grid.edge("end"),
        every=grid.every,
        view=grid.entities,
        timezone=timezone,
    )
    return FixedFrame(known)


def _check_no_grid(grid: Grid) -> None:
    names = ("at", "start", "end", "every", "entities")
    given = [f"{name}=" for name in names if getattr(grid, name) is not None]
    if given:
        raise EntityFrameError(
            "entity frame: it already says which entities and instants to ask about; leave out "
            f"{', '.join(given)}"
        )


def _check_arrivals(service: Service) -> None:
    for view in service.views:
        if not view.arrival_known:
            raise DataError(
                f"known_at: view {view.name!r} reads source {view.source.title!r}, whose files do "
                "not say when each row arrived, so what was known at an instant cannot be told; "
                "name the column that says it with created_timestamp_column=… at the source, say "
                'arrives=Delay("6h"), or leave known_at out'
            )
