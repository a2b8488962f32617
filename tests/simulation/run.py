"""Replays the days of a plan, and notes what was found and what fired on each."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from featurekit import FeatureStore
from featurekit.core.files import write_whole
from tests.simulation import learn
from tests.simulation.clock import Clock
from tests.simulation.plan import HISTORY_DAYS, KNOWN_AFTER, LEARNT_DAYS, Plan
from tests.simulation.shop import LINES, Shop, running
from tests.simulation.world import World, asked_at, day_of, judged_at, known_on, labels

REFERENCES = {LINES: "lines.contract.json", learn.SERVICE: learn.REFERENCE}
_COMPARED = "1d"
_TRIGGERS = ("prices", "countries", "feed", "predictions")


_KEPT_DAYS = 20
"""For how many days the serving log is kept, until there is a new model to compare."""


@dataclass
class Firing:
    """A firing of a trigger: on which day, why, and how its action ended."""

    trigger: str
    day: int
    reason: str
    ended: str


@dataclass
class Compared:
    """How an old and a new model did on the same `rows`, with their outcomes: by measure the value
    and its interval."""

    rows: int
    old: dict[str, tuple[float, float, float]]
    new: dict[str, tuple[float, float, float]]


@dataclass
class Seen:
    """What was seen: by service and day the features that drifted, the firings of triggers, by day
    the version that was promoted, and what came of the last one."""

    drift: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    firings: list[Firing] = field(default_factory=list)
    promoted: dict[int, str] = field(default_factory=dict)
    compared: Compared | None = None
    asked: int = 0
    lines: int = 0


class Replay:
    """A run of a plan in a folder."""

    def __init__(
        self, world: World, clock: Clock, place: Path, tell: Callable[[int], None]
    ) -> None:
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
                shop.looked(list(_TRIGGERS), 1.0)  # the first looks are over
            for day in range(self.plan.days):
                self._day(day, shop, store)
                self.tell(day + 1)
                write_whole(self.place / "seen.json", json.dumps(asdict(self.seen)).encode())
            self.seen.firings = self._firings() if watch else []
            self.seen.compared = self._compared(shop, store)
        return self.seen

    def _references(self, store: FeatureStore) -> None:
        """The profiles that drift is told from: of what is asked for in the days before."""
        rows = labels(self.world, range(-LEARNT_DAYS, 0))
        frame = pa.table({name: rows[name] for name in ("customer_id", "event_timestamp")})
        for service, file in REFERENCES.items():
            store.get_historical_features(frame, service).contract().save(self.place / file)

    def _day(self, day: int, shop: Shop, store: FeatureStore) -> None:
        self.clock.move_to(asked_at(day))
        begun = time.time_ns() // 1000
        sent = self.world.sent(day)
        if sent is not None:
            self.seen.lines += shop.push(sent)
        visitors = self.world.visitors(day)
        shop.ask(visitors)
        self.seen.asked += len(visitors)
        shop.logged(len(visitors), begun)
        self._outcomes(known_on(day), store)
        over = judged_at(day)  # from then on all triggers are looked at
        self.clock.move_to(over)
        for service, file in REFERENCES.items():
            found = store.drift(service, str(self.place / file), window=_COMPARED)
            self.seen.drift[service][day] = found.drifting
        shop.looked(list(_TRIGGERS), over.timestamp())
        self._roll_out(day, shop)
        if not self.seen.promoted:
            self._prune(judged_at(day - _KEPT_DAYS))

    def _roll_out(self, day: int, shop: Shop) -> None:
        """Serve the champion where it is another one, with the one before it as a shadow."""
        champion = learn.registry(self.place).champion() if shop.route else None
        if champion is not None and champion != shop.route[0]:
            self.seen.promoted[day] = champion
            shop.serve([champion, shop.route[0]])

    def _prune(self, before: dt.datetime) -> None:
        """Remove old files of the serving log, as anybody may."""
        for path in (self.place / ".featurekit" / "served").glob("*.parquet"):
            if int(path.name.split("-")[0]) < before.timestamp() * 1e6:
                path.unlink()

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

    def _firings(self) -> list[Firing]:
        """What `featurekit triggers log` has."""
        words = ["--json", "triggers", "log", "--repo", str(self.place)]
        command = [sys.executable, "-m", "featurekit.cli", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, Firing] = {}
        for one in json.loads(done.stdout)["entries"]:
            name, at = one["occasion"], dt.datetime.fromisoformat(one["at"])
            first = found.setdefault(name, Firing(one["trigger"], day_of(at), one["reason"], ""))
            first.ended = one["step"]
        return list(found.values())

    def _compared(self, shop: Shop, store: FeatureStore) -> Compared | None:
        """The model that was promoted last beside the one before it, on all that both were asked
        and whose outcome is known."""
        if not self.seen.promoted:
            return None
        since = judged_at(max(self.seen.promoted))
        window, scores = judged_at(self.plan.days - 1) - since, []
        for version in reversed(shop.route):
            target = f"{learn.MODEL}@{version}"
            found = store.performance(learn.SERVICE, target=target, window=window)
            known = {
                one.measure: (one.value, one.low, one.high)
                for one in found.scores
                if one.measure in _MEASURES
            }
            scores.append((found.judged, known))
        (rows, old), (same, new) = scores
        assert rows == same, f"the models were asked for other rows: {rows} and {same}"
        return Compared(rows, old, new)


_MEASURES = ("auc", "brier", "log_loss")
