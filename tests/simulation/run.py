"""Replays the days of a plan, and notes what was found and what fired on each."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore
from tests.simulation import learn
from tests.simulation.clock import Clock
from tests.simulation.plan import HISTORY_DAYS, KNOWN_AFTER, LEARNT_DAYS, Plan
from tests.simulation.shop import LINES, Shop, micros, running
from tests.simulation.world import World, asked_at, judged_at, known_on, labels

REFERENCES = {LINES: "lines.contract.json", learn.SERVICE: learn.REFERENCE}
_COMPARED = "1d"


@dataclass
class Seen:
    """What was seen: by service and day the features that drifted, the days on which predictions
    were worse than they may be, and the firings of triggers with their day."""

    drift: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    figures: list[tuple[int, str, float | None]] = field(default_factory=list)
    fired: list[tuple[int, str, str]] = field(default_factory=list)
    promoted: list[tuple[int, str]] = field(default_factory=list)
    rows: int = 0


class Replay:
    """A run of a plan in a folder."""

    def __init__(self, world: World, clock: Clock, place: Path, tell: Callable[[int], None]) -> None:
        self.world, self.clock, self.place, self.tell = world, clock, place, tell
        self.plan: Plan = world.plan
        self.seen = Seen(drift={name: {} for name in REFERENCES})

    def run(self, *, model: bool, watch: bool) -> Seen:
        """Every day; what was seen."""
        self.clock.move_to(judged_at(-1))
        (self.place / "data").mkdir(parents=True)
        past = pa.concat_tables([self.world.lines(day) for day in range(-HISTORY_DAYS, 0)])
        pq.write_table(past, self.place / "data" / "order_lines.parquet")
        learn.write_labels(self.place, labels(self.world, range(-LEARNT_DAYS, -KNOWN_AFTER)))
        with running(self.place) as shop, FeatureStore(self.place) as store:
            store.apply()
            store.materialize()
            self._references(store)
            champion = learn.first_model(store, self.place) if model else None
            shop.serve([champion] if champion else [])
            if watch:
                shop.watch()
            for day in range(self.plan.days):
                self._day(day, shop, store)
                self.tell(day + 1)
        return self.seen

    def _references(self, store: FeatureStore) -> None:
        """The profiles that drift is told from: of what is asked for in the days before."""
        rows = labels(self.world, range(-LEARNT_DAYS, 0))
        frame = pa.table({name: rows[name] for name in ("customer_id", "event_timestamp")})
        for service, file in REFERENCES.items():
            store.get_historical_features(frame, service).contract().save(self.place / file)

    def _day(self, day: int, shop: Shop, store: FeatureStore) -> None:
        self.clock.move_to(asked_at(day))
        begun = micros()
        sent = self.world.sent(day)
        if sent is not None:
            shop.push(sent)
        visitors = self.world.visitors(day)
        shop.ask(visitors)
        self.seen.rows += len(visitors)
        shop.logged(len(visitors), begun)
        self.clock.move_to(judged_at(day))
        if shop.route:
            self._outcomes(known_on(day), store)
        judged = time.time()
        for service, file in REFERENCES.items():
            found = store.drift(service, str(self.place / file), window=_COMPARED)
            self.seen.drift[service][day] = found.drifting
        del judged

    def _outcomes(self, day: int, store: FeatureStore) -> None:
        """Tell what became of the visitors of a day, and keep it as labels."""
        if day < 0:
            return
        rows = labels(self.world, range(day, day + 1))
        learn.write_labels(self.place, rows)
        at = asked_at(day) + dt.timedelta(hours=1)
        told = zip(rows["customer_id"], rows["churned"], strict=True)
        outcomes = [{"customer_id": c, "at": at, "outcome": gone} for c, gone in told]
        store.push_outcomes(learn.SERVICE, outcomes)


