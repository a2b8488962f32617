"""A view of every aggregate over a large state, and what it answers in blocks and whole."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from oracle import bits
from paths import in_small_blocks, service_of

from featurekit.aggregates import (
    All,
    ApproxCountDistinct,
    ApproxQuantile,
    BitAnd,
    BitOr,
    Correlation,
    Count,
    CountDistinct,
    Covariance,
    Distinct,
    Entropy,
    ExponentialDecay,
    First,
    FirstN,
    GeometricMean,
    Histogram,
    Kurtosis,
    Lag,
    LargestN,
    Last,
    LastN,
    LinearTrend,
    Max,
    Mean,
    Min,
    Mode,
    Quantile,
    Rate,
    Ratio,
    Skew,
    SmallestN,
    StdDev,
    Sum,
    SumOfSquares,
    TimeSince,
    TopK,
    ValueCounts,
    Variance,
)
from featurekit.aggregates import Any as AnyOf
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import Entity, EventSource, FeatureView
from featurekit.define.plan import Slot, View
from featurekit.errors import AsOfTooOld
from featurekit.language.to_python import to_python
from featurekit.language.transform import feature
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.state.blocks import is_head
from featurekit.online.state.seal import opened
from featurekit.online.state.state import Event
from featurekit.online.state.update import add_events
from featurekit.online.store.memory import MemoryStore
from featurekit.online.store.protocol import OnlineStore

SOURCE = EventSource(
    "events",
    path="events.parquet",
    schema={"key": int, "x": float | None, "n": int, "kind": str, "good": bool | None},
    timestamp_field="at",
    created_timestamp_column="arrived",
)
S = 1_000_000
FLOATS = [0.1, -0.0, 0.0, 25.5, 1e308, -1e308, 5e-324, -1e-308, 3.0, math.nan, math.inf, -math.inf]


@feature
def inverse(n: int) -> float:
    return 1 / n


@feature
def beyond(n: int) -> int:
    return n + 4


def view(*, lifetime: bool = True, **options: Any) -> FeatureView:
    entity = Entity("key", {"key": int})
    features: dict[str, Any] = {}
    for name, window in (("short", "30s"), ("long", "400s"), ("ever", "lifetime")):
        features |= {
            f"count_{name}": Count(window=window),
            f"counted_{name}": Count("x", window=window, where="good"),
            f"sum_{name}": Sum("x", window=window),
            f"whole_{name}": Sum("n", window=window, where="good"),
            f"mean_{name}": Mean("x", window=window, where="good"),
            f"variance_{name}": Variance("n", window=window),
            f"stddev_{name}": StdDev("x", window=window, ddof=0),
            f"min_{name}": Min("x", window=window),
            f"max_{name}": Max("x", window=window, where="good"),
            f"first_{name}": First("kind", window=window),
            f"last_{name}": Last("x", window=window),
            f"erring_{name}": Sum(inverse, window=window, default=-1.0),
            f"distinct_{name}": CountDistinct("kind", window=window),
            f"median_{name}": Quantile("n", q=0.5, window=window),
        }
    for name, window in (("short", "30s"), ("long", "400s"), ("ever", "lifetime")):
        features |= {
            f"some_{name}": AnyOf("good", window=window),
            f"every_{name}": All("good", window=window, where="good"),
            f"since_{name}": TimeSince("x", window=window, where="good"),
            f"since_first_{name}": TimeSince(window=window, since="first"),
            f"first_few_{name}": FirstN("x", n=3, window=window, where="good"),
            f"last_few_{name}": LastN("kind", n=9, window=window),
        }
    features["week_before"] = Sum("x", window="100s", offset="50s")
    features["tiles"] = Sum("n", window="100s", hop="20s")
    if not lifetime:
        features = {n: f for n, f in features.items() if not n.endswith("_ever")}
    return FeatureView("view", entities=[entity], source=SOURCE, features=features, **options)


def tallied() -> FeatureView:
    """A view of what groups of blocks hold tallies for."""
    entity = Entity("key", {"key": int})
    features: dict[str, Any] = {}
    for name, window in (("short", "30s"), ("long", "400s"), ("ever", "lifetime")):
        features |= {
            f"kinds_{name}": CountDistinct("kind", window=window),
            f"xs_{name}": CountDistinct("x", window=window, where="good"),
            f"about_{name}": ApproxCountDistinct("n", window=window),
            f"near_{name}": ApproxQuantile("x", q=0.9, window=window),
            f"median_{name}": Quantile("x", q=0.5, window=window),
            f"top_{name}": TopK("n", k=3, window=window),
            f"tally_{name}": ValueCounts("kind", window=window, where="good"),
        }
    return FeatureView("view", entities=[entity], source=SOURCE, features=features)


def listed() -> FeatureView:
    """A view of lists, and of inputs among which None is."""
    entity = Entity("key", {"key": int})
    features: dict[str, Any] = {}
    for name, window in (("short", "30s"), ("long", "400s"), ("ever", "lifetime")):
        features |= {
            f"before_{name}": Lag("x", n=2, window=window),
            f"by_kind_{name}": Mean("x", window=window, by="kind", top=3, where="good"),
            f"last_by_n_{name}": Last("x", window=window, by="n", top=5),
            f"rows_by_kind_{name}": Count(window=window, by="kind"),
            f"before_or_none_{name}": Lag("x", n=2, window=window, keep_none=True),
            f"lasts_{name}": LastN("x", n=3, window=window, keep_none=True),
            f"lasts_without_{name}": LastN("x", n=3, window=window),
            f"firsts_{name}": FirstN(inverse, n=4, window=window, keep_none=True, where="good"),
            f"kinds_{name}": LastN("kind", n=3, window=window, distinct=True),
            f"largest_{name}": LargestN("x", n=5, window=window, where="good"),
            f"smallest_{name}": SmallestN("kind", n=5, window=window),
            f"xs_{name}": Distinct("x", top=3, window=window, where="good"),
            f"mode_{name}": Mode("kind", window=window),
            f"bins_{name}": Histogram("x", edges=[0, 1.0, 50], window=window),
            f"first_xs_{name}": FirstN("x", n=3, window=window, distinct=True, keep_none=True),
        }
    return FeatureView("view", entities=[entity], source=SOURCE, features=features)


def exact() -> FeatureView:
    """A view of exact aggregates: of sums of powers and logarithms, of chosen bits, of tallies, and
    of those that read their blocks."""
    entity = Entity("key", {"key": int})
    features: dict[str, Any] = {}
    for name, window in (("short", "30s"), ("long", "400s"), ("ever", "lifetime")):
        features |= {
            f"squares_{name}": SumOfSquares("x", window=window),
            f"whole_squares_{name}": SumOfSquares("n", window=window, where="good"),
            f"skew_{name}": Skew("x", window=window),
            f"kurtosis_{name}": Kurtosis("n", window=window, where="good"),
            f"geometric_{name}": GeometricMean("x", window=window, where="good"),
            f"geometric_n_{name}": GeometricMean(beyond, window=window),
            f"entropy_{name}": Entropy("kind", window=window),
            f"entropy_x_{name}": Entropy("x", window=window, where="good"),
            f"common_{name}": BitAnd("n", window=window),
            f"bits_{name}": BitOr("n", window=window, where="good"),
            f"covariance_{name}": Covariance("x", "n", window=window),
            f"correlation_{name}": Correlation("n", "good", window=window),
            f"ratio_{name}": Ratio("x", "n", window=window),
            f"ratio_of_n_{name}": Ratio("n", "x", window=window),
            f"rate_{name}": Rate("good", window=window),
            f"trend_{name}": LinearTrend("n", window=window),
            f"decay_{name}": ExponentialDecay("x", window=window, half_life="40s"),
        }
    return FeatureView("view", entities=[entity], source=SOURCE, features=features)


def framed() -> FeatureView:
    """A view of windows of which more than their length says which events count (T10)."""
    entity = Entity("key", {"key": int})
    ends: dict[str, Any] = {"hop": "20s", "ends": "hop"}
    day: dict[str, Any] = {"calendar": "day", "timezone": "Asia/Tokyo", "running": True}
    features: dict[str, Any] = {
        "before": Sum("x", window="30s", exclude="instant"),
        "before_ever": CountDistinct("kind", window="lifetime", exclude="instant"),
        "hopped": Mean("n", window="100s", **ends),
        "hopped_kinds": TopK("n", k=2, window="30s", **ends),
        "today": StdDev("x", **day),
        "today_last": LastN("kind", n=3, **day),
        "yesterday": Count(calendar="day", timezone="UTC"),
        "rows": Sum("n", rows=5),
        "rows_kinds": CountDistinct("kind", rows=40, exclude="instant"),
        "rows_good": Quantile("x", q=0.5, rows=7, where="good"),
        "rows_within": LastN("x", n=9, window="30s", rows=12),
        "rows_erring": Sum(inverse, rows=3, default=-1.0),
        "rows_first": TimeSince(window="400s", rows=2, since="first"),
        "session": Count(window="400s", session="2s"),
        "session_good": Max("x", window="100s", session="5s", where="good"),
        "session_since": TimeSince("x", window="400s", session="9s", since="first"),
        "session_ago": ValueCounts("kind", window="100s", session="3s", offset="20s"),
    }
    return FeatureView("view", entities=[entity], source=SOURCE, features=features, history="100s")


VIEWS = {
    "lifetime": view(),
    "windows": view(lifetime=False),
    "history": view(history="200s"),
    "ttl": view(lifetime=False, ttl="20s", history="30s"),
    "tallied": tallied(),
    "listed": listed(),
    "exact": exact(),
    "framed": framed(),
}


def plan_of(definition: FeatureView) -> Evaluator:
    return Evaluator("tests", compile_service(service_of(definition)))


def key_of(plan: Evaluator) -> bytes:
    (((key,),)) = plan.state_keys({"key": [1]}, 1)
    assert key is not None
    return key


def events_of(plan: View, chance: random.Random, n: int, *, mild: bool) -> list[Event]:
    """Events half a second apart, some at one instant, some late, in the order of their arrival."""
    made = []
    for i in range(n):
        ts = (i + chance.choice((0, 0, 1))) * S // 2
        whole = chance.randrange(-3, 1000)
        x = round(chance.uniform(0, 100), 2) if mild else chance.choice(FLOATS)
        row = {
            "x": None if chance.random() < 0.1 else x,
            "n": whole,
            "kind": chance.choice(["a", "b", "", "é"]),
            "good": chance.choice((True, False, None)),
        }
        slots = tuple(row[s.column] if s.column else made_of(s, row) for s in plan.slots)
        made.append((ts, ts + chance.choice((0, 0, 0, 1, 40, 500)) * S, slots))
    return sorted(made, key=lambda event: event[1])


def made_of(slot: Slot, row: dict[str, Any]) -> Any:
    """What a transform makes of a row; ERROR where it errs."""
    assert slot.transform is not None
    return to_python(slot.transform)(*[row[p.name] for p in slot.transform.params])


def asked(plan: Evaluator, store: OnlineStore, t: int) -> list[Any]:
    """What a lookup gives as of `t`, in bits, or that it is too late to ask."""
    key = key_of(plan)
    try:
        found = {key: store.read([key])[0]}
        ((values, statuses),) = plan.evaluate([[key]], found, [{}], [t], store.read)
    except AsOfTooOld:
        return ["too old"]
    return [*map(bits, values), *statuses]


@dataclass(frozen=True, slots=True)
class Step:
    """What is there after a push, and what the same events would be otherwise."""

    keys: dict[bytes, bytes]
    keys_at_once: dict[bytes, bytes]
    """Those of one push of all events."""
    answers: list[list[Any]]
    of_whole: list[list[Any]]
    """The answers of a state that is not in blocks."""
    in_blocks: bool

    @property
    def differ(self) -> bool:
        """Whether blocks show in a byte or in an answer."""
        return self.keys != self.keys_at_once or self.answers != self.of_whole


def steps(
    definition: FeatureView,
    seed: int,
    *,
    mild: bool,
    plant: Callable[[pytest.MonkeyPatch], None] | None = None,
) -> Iterator[Step]:
    """Push events few by few to a state that lies in small blocks, and ask after each push, at the
    instants of windows' ends too. `plant` changes whatever has to do with blocks."""
    plan = plan_of(definition)
    compiled, key = plan.service.views[0], key_of(plan)
    chance = random.Random(seed)
    events = events_of(compiled, chance, 260, mild=mild)
    store, arrived = MemoryStore(), []
    while events:
        n = chance.choice((1, 1, 2, 30))
        coming, events = events[:n], events[n:]
        chance.shuffle(coming)
        arrived += coming
        with pytest.MonkeyPatch.context() as patch:
            in_small_blocks(patch, split=8, size=6)
            if plant is not None:
                plant(patch)
            add_events(store, [(compiled, key, coming)])
            once = MemoryStore()
            add_events(once, [(compiled, key, arrived)])
            split = is_head(opened(key, store.values[key]))
            newest = max(e[1] for e in arrived)
            at = [newest, chance.choice(arrived)[1], chance.choice(arrived)[0] + 30 * S]
            at += [newest - 30 * S + chance.randrange(60 * S), newest + 399 * S]
            answers = [asked(plan, store, t) for t in at]
        whole = MemoryStore()
        add_events(whole, [(compiled, key, arrived)])
        assert not is_head(opened(key, whole.values[key]))
        of_whole = [asked(plan, whole, t) for t in at]
        yield Step({**store.values}, {**once.values}, answers, of_whole, split)
