"""The life of a store, step by step in any order, against the naive oracle: pushes early, late and
again, files that grow, materialising in full and in part, crashes, versions that take over or come
back or are rolled back to, joined segments, lookups and training sets. No bit may differ after any
step (F1, T3, T6–T8).

`FEATUREKIT_STEPS=100000 pytest tests/feed/test_life.py` is the full run, and counts its steps as it
goes. Two processes share it where each has a seed of its own:

    FEATUREKIT_STEPS=50000 FEATUREKIT_SEED=1 pytest tests/feed/test_life.py &
    FEATUREKIT_STEPS=50000 FEATUREKIT_SEED=2 pytest tests/feed/test_life.py
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from paths import connect, in_small_blocks

from featurekit import FeatureStore
from featurekit.core.keys import project_key
from featurekit.core.types import instant, micros
from featurekit.errors import StoreUnavailable
from featurekit.feed import entity_events, materialise, remember, settle
from featurekit.log import compaction
from featurekit.log.segments import read_segment, segments
from featurekit.online.store import redis as redis_store
from featurekit.online.store.redis import RedisStore
from featurekit.online.store.server import scratch_redis
from featurekit.project import deployment
from featurekit.project.project import Project

STEPS = int(os.environ.get("FEATUREKIT_STEPS", "300"))
SEED = os.environ.get("FEATUREKIT_SEED")
PER_LIFE = 60  # at most; some 45 are usual
PER_REPORT = 1_000
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # for files, where there is one
HOUR = 3_600_000_000
MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, CountDistinct, Last, LastN, Max, Mean, Sum, ValueCounts

user = Entity("user", join_keys={"k": int})
place = Entity("place", join_keys={"k": int, "p": str})
clicks = EventSource(
    "clicks", path="clicks/*.parquet",
    schema={"k": int | None, "p": str, "x": float, "n": int},
    timestamp_field="at", created_timestamp_column="arrived",
)
orders = EventSource(
    "orders", path="orders/*.parquet",
    schema={"k": int | None, "p": str, "x": float, "n": int, "id": str, "op": str},
    timestamp_field="at", created_timestamp_column="arrived",
    event_id="id", dedupe_within="400d", op="op",
)

@feature
def ratio(x: float, n: int) -> float:
    return x / n

@feature
def large(x: float) -> bool:
    return x > FACTOR

windows = FeatureView(
    "windows", entities=[user], source=clicks, history="HISTORY",
    features={
        "sum": Sum("x", windows=["1h", "SPAN", "LONGEST"], default=0.0),
        "count": Count(window="SPAN", hop="2h"), "most": Max(ratio, window="SPAN"),
        "last": LastN("n", n=3, window="SPAN"), "mean": Mean("x", where=large, window="SPAN"),
        "before": Sum("n", window="3h", offset="2h"), "places": ValueCounts("p", window="SPAN"),
    },
)
latest = FeatureView(
    "latest", entities=[place], source=clicks, history="HISTORY", ttl="SPAN",
    features={"x": "x", "ratio": ratio, "n": "n"},
)
bought = FeatureView(
    "bought", entities=[user], source=orders, history="HISTORY",
    features={"orders": Count(window="SPAN"), "spent": Sum("x", window="LONGEST"),
              "kinds": CountDistinct("p", window="SPAN"), "last_order": Last("id", window="SPAN")},
)
service = FeatureService("service", features=[windows, latest, bought])
"""
SPANS = ("5h", "9h", "30d")
# A life either answers every instant of its past, or lets go of what has left its windows.
HISTORIES = {"900d": "lifetime", "1h": "30h"}
SETTINGS = "project: life\nprovider: local\nonline_store:\n  type: redis\n"
INSTANTS = pa.timestamp("us", tz="UTC")
TYPES = {"k": pa.int64(), "p": pa.string(), "x": pa.float64(), "n": pa.int64(), "id": pa.string(),
         "op": pa.string(), "at": INSTANTS, "arrived": INSTANTS}  # fmt: skip
VIEWS = {"clicks": ("windows", "latest"), "orders": ("bought",)}

numbers = st.sampled_from((0.1, 0.2, -0.3, 1e16, -1e16, 1.5, 0.0, -0.0, 1e-300, 7.25))
keys = st.sampled_from((1, 1, 2, 3, None))
# Of hours before now, on the edges of windows and hops and beside them.
ages = st.sampled_from((0, 0, 1, 1, 2, 5, 5, 9, 29.5, 29.5, 30, 800)).flatmap(
    lambda h: st.sampled_from((-1, 0, 1, 1000)).map(lambda us: int(h * HOUR) + us)
)
rows = st.fixed_dictionaries(
    {"k": keys, "p": st.sampled_from("ab"), "x": numbers, "n": st.sampled_from((0, 1, -2, 7)),
     "age": ages}
)  # fmt: skip
orders = st.fixed_dictionaries(
    {"row": rows, "id": st.sampled_from(("o1", "o2", "o3", "o4")),
     "op": st.sampled_from(("upsert", "upsert", "upsert", "delete"))}
)  # fmt: skip


class Dying:
    """An online store that is lost before it has changed so many keys' chunks."""

    def __init__(self, store: RedisStore) -> None:
        self.store, self.left = store, -1

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def open_update(self, *args: Any, **options: Any) -> Any:
        self.live()
        return self.store.open_update(*args, **options)

    def update(self, *args: Any, **options: Any) -> None:
        self.open_update(*args, **options).result()

    def create(self, *args: Any) -> Any:
        self.live()
        return self.store.create(*args)

    def live(self) -> None:
        if self.left == 0:
            raise StoreUnavailable("lost")
        self.left -= 1


def spaced(step: str) -> Any:
    """A step that takes a hundred times as long as others is taken when three others were, and at
    once where something is to be put right: half of a run would be spent on repeating it."""
    return precondition(lambda self: self.torn or step not in self.last)


class Kept:
    """The one DuckDB of all pieces of work, empty after each as a new one is: to make and prepare a
    new one takes longer than most steps."""

    def __init__(self) -> None:
        self.spill = tempfile.mkdtemp(prefix="life-spill-", dir=MEMORY)
        self.begin()

    def begin(self) -> None:
        self.con = connect()
        self.con.execute(f"SET temp_directory = '{self.spill}'")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.con, name)

    def opened(self) -> Kept:
        try:
            self.con.execute("SELECT 1").fetchall()
        except duckdb.ResourceInUseException:  # what died has left a result half read
            self.con.close()
            self.begin()
        return self

    def close(self) -> None:
        with suppress(duckdb.ResourceInUseException):
            self.empty()

    def empty(self) -> None:
        for kind in ("view", "table"):
            names = f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE NOT internal"
            for (name,) in self.con.execute(names).fetchall():
                self.con.execute(f'DROP {kind} "{name}"')

    def end(self) -> None:
        self.con.close()
        shutil.rmtree(self.spill, ignore_errors=True)


class Expected:
    """What the oracle says of a view over some events, each question answered once."""

    def __init__(self, view: Any, events: list[dict[str, Any]]) -> None:
        self.view, self.events = view, events
        self.said: dict[Any, tuple[Any, str]] = {}

    def __call__(self, feature: str, row: dict[str, Any], at: int) -> tuple[Any, str]:
        key = {n: row[n] for n in self.view.join_keys}
        question = feature, tuple(key.values()), at
        if question not in self.said:
            value, status = oracle.value(self.view, feature, self.events, key, at)
            self.said[question] = oracle.bits(value), status
        return self.said[question]


taken: Counter[str] = Counter()


class Life(RuleBasedStateMachine):
    """A store, and what an oracle needs to know of it."""

    url = ""
    report: Callable[[], None] = staticmethod(lambda: None)

    def took(self, step: str) -> None:
        taken[step] += 1
        self.last = [*self.last[-2:], step]
        if taken.total() % PER_REPORT == 0:
            self.report()

    @initialize(history=st.sampled_from(sorted(HISTORIES)), in_blocks=st.booleans())
    def begin(self, history: str, in_blocks: bool) -> None:
        self.history = history
        self.patch = pytest.MonkeyPatch()
        if in_blocks:
            in_small_blocks(self.patch)
        self.folder = Path(tempfile.mkdtemp(prefix="life-", dir=MEMORY))
        (self.folder / "feature_store.yaml").write_text(SETTINGS)
        self.logged: dict[str, list[dict[str, Any]]] = {"clicks": [], "orders": []}
        self.filed: dict[str, list[dict[str, Any]]] = {"clicks": [], "orders": []}
        self.seen: dict[str, int] = {"clicks": 0, "orders": 0}  # of the files' rows, online
        self.unsure: dict[str, list[dict[str, Any]]] = {"clicks": [], "orders": []}
        self.read: dict[str, int] = {}
        self.files = itertools.count()
        self.torn = self.unjoined = False
        self.last: list[str] = []  # the last three steps
        self.waiting: list[tuple[list[int], int | None]] = []  # instants and buckets of training
        self.versions: dict[str, dict[str, Any]] = {}  # the views of each version, by fingerprint
        for source in self.filed:
            (self.folder / source).mkdir()
            self.write(source, [])
        self.define("9h", 0.15)
        self.open()
        self.store.online.client.flushall()  # type: ignore[attr-defined]
        self.apply()
        self.materialise()

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()
        if not hasattr(self, "store"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.compare_training_sets()
        finally:
            self.store.close()
            shutil.rmtree(self.folder)

    # --- what there is ----------------------------------------------------------------------------

    def define(self, span: str, factor: float) -> None:
        text = textwrap.dedent(MODULE).replace("SPAN", span).replace("FACTOR", repr(factor))
        text = text.replace("HISTORY", self.history).replace("LONGEST", HISTORIES[self.history])
        (self.folder / "definitions.py").write_text(text)
        space: dict[str, Any] = {"__name__": "life"}
        path = self.folder / "definitions.py"
        exec(compile(text, str(path), "exec"), space)
        self.defined = {n: space[n] for n in ("windows", "latest", "bought")}

    def open(self) -> None:
        self.store = FeatureStore(self.folder, redis_url=self.url)
        self.dying = Dying(self.store.online)  # type: ignore[arg-type]
        self.store.parts._online = self.dying  # type: ignore[assignment]

    def apply(self) -> None:
        self.store.apply(allow_breaking=True)
        self.wanted = self.store.repo.compiled_services["service"].fingerprint
        self.versions[self.wanted] = self.defined

    def pointers(self) -> dict[str, str]:
        """The fingerprints of the live, the waiting and the retained version."""
        return deployment.pointers(self.dying, "life", "service")

    @property
    def live(self) -> dict[str, Any]:
        """The views that lookups are answered from."""
        return self.versions[self.pointers()["live"]]

    def write(self, source: str, new: list[dict[str, Any]]) -> None:
        names = [n for n in TYPES if source == "orders" or n not in ("id", "op")]
        columns = {n: pa.array([r[n] for r in new], TYPES[n]) for n in names}
        pq.write_table(pa.table(columns), self.folder / source / f"{next(self.files)}.parquet")

    def row(self, given: dict[str, Any], now: int) -> dict[str, Any]:
        return {**{n: given[n] for n in "kpxn"}, "at": instant(now - given["age"])}

    def logged_now(self, source: str) -> list[dict[str, Any]]:
        """The rows that the log has come to hold, with the arrivals that they were given."""
        found = []
        for path in segments(self.store.state_dir, source):
            if "-L" in path.name:
                continue
            table, seen = read_segment(path), self.read.get(path.name, 0)
            if table is not None and table.num_rows > seen:
                found += table.slice(seen).to_pylist()
                self.unjoined = True
                self.read[path.name] = table.num_rows
        return found

    def known(self, source: str) -> list[dict[str, Any]]:
        """What lookups must know of."""
        return self.logged[source] + self.filed[source][: self.seen[source]]

    # --- steps ------------------------------------------------------------------------------------

    def push_rows(self, source: str, new: list[dict[str, Any]]) -> None:
        self.store.push(source, new)
        found = self.logged_now(source)
        assert len(found) == len(new)
        for row, kept in zip(new, found, strict=True):
            assert kept["__ts"] == micros(row["at"])
        self.logged[source] += found

    @rule(new=st.lists(rows, min_size=1, max_size=4))
    def push(self, new: list[dict[str, Any]]) -> None:
        self.took("push")
        now = self.store.online.now_us()
        self.push_rows("clicks", [self.row(r, now) for r in new])

    @rule(
        new=st.lists(rows, min_size=1, max_size=3),
        ago=st.sampled_from((0, 1, HOUR, HOUR, 9 * HOUR)),
    )
    def push_arrived(self, new: list[dict[str, Any]], ago: int) -> None:
        """Rows that bring an arrival of their own, before others that are known."""
        self.took("push with arrivals")
        now = self.store.online.now_us() - ago
        self.push_rows("clicks", [{**self.row(r, now), "arrived": instant(now)} for r in new])

    @rule(new=st.lists(orders, min_size=1, max_size=4, unique_by=lambda o: o["id"]))
    def push_orders(self, new: list[dict[str, Any]]) -> None:
        self.took("push with ids")
        now = self.store.online.now_us()
        made = [{**self.row(o["row"], now), "id": o["id"], "op": o["op"]} for o in new]
        self.push_rows("orders", made)

    @precondition(lambda self: self.logged["orders"])
    @rule(data=st.data())
    def push_again(self, data: Any) -> None:
        self.took("push again")
        old = data.draw(st.sampled_from(self.logged["orders"][-6:]))
        again = {n: old[n] for n in ("k", "p", "x", "n", "id", "op")}
        self.push_rows("orders", [{**again, "at": instant(old["__ts"])}])

    @precondition(lambda self: not self.torn)
    @rule(
        new=st.lists(rows, min_size=1, max_size=3),
        after=st.integers(0, 3),
        ago=st.sampled_from((None, None, HOUR, 9 * HOUR)),
    )
    def push_that_dies(self, new: list[dict[str, Any]], after: int, ago: int | None) -> None:
        """Rows that arrive now, or that bring an arrival before others that are known."""
        self.took("push that dies")
        now = self.store.online.now_us() - (ago or 0)
        own = {} if ago is None else {"arrived": instant(now)}
        self.dying.left = after
        try:
            self.store.push("clicks", [{**self.row(r, now), **own} for r in new])
        except StoreUnavailable:
            self.torn = True
        finally:
            self.dying.left = -1
            self.dying.delete([project_key("life", "lock", "clicks")])  # it ends by itself, later
        kept = self.logged_now("clicks")
        if self.torn:
            self.unsure["clicks"] += kept
        else:
            self.logged["clicks"] += kept

    @precondition(lambda self: not self.torn)
    @rule(new=st.lists(rows, min_size=1, max_size=3), named=st.lists(orders, max_size=2))
    def files_grow(self, new: list[dict[str, Any]], named: list[dict[str, Any]]) -> None:
        self.took("files grow")
        now = self.store.online.now_us()
        arrived = {"arrived": instant(now)}
        clicks = [{**self.row(r, now), **arrived} for r in new]
        made = [{**self.row(o["row"], now), "id": o["id"], "op": o["op"], **arrived} for o in named]
        for source, found in (("clicks", clicks), ("orders", made)):
            if found:
                self.write(source, found)
                self.filed[source] += [
                    {**r, "__ts": micros(r["at"]), "__created": now} for r in found
                ]

    def materialise(self, *, incremental: bool = False) -> None:
        run = self.store.materialize_incremental if incremental else self.store.materialize
        run()
        for source in self.filed:
            self.seen[source] = len(self.filed[source])
            self.logged[source] += self.unsure[source]
            self.unsure[source] = []
        self.torn = False
        assert self.pointers()["live"] == self.wanted

    @spaced("materialise")
    @rule(incremental=st.booleans())
    def materialise_all(self, incremental: bool) -> None:
        self.took("materialise")
        self.materialise(incremental=incremental)

    @spaced("materialise that dies")
    @precondition(lambda self: not self.torn)
    @rule(after=st.integers(0, 3), incremental=st.booleans())
    def materialise_that_dies(self, after: int, incremental: bool) -> None:
        self.took("materialise that dies")
        self.dying.left = after
        try:
            self.materialise(incremental=incremental)
        except StoreUnavailable:
            self.torn = True
        finally:
            self.dying.left = -1
            for source in self.filed:  # a lease whose holder died ends by itself, later
                self.dying.delete([project_key("life", "lock", source)])

    @spaced("new version")
    @precondition(lambda self: not self.torn)
    @rule(span=st.sampled_from(SPANS), factor=st.sampled_from((0.15, 1.0)))
    def change(self, span: str, factor: float) -> None:
        self.took("new version")
        self.compare_training_sets()
        before = self.pointers()
        self.define(span, factor)
        self.store.close()
        self.open()
        self.apply()
        fed = self.wanted in (before["live"], before.get("retained"))
        filled = deployment.materialized_until  # views that other versions share may all be filled
        views = self.store.repo.compiled_services["service"].views
        fed = fed or all(filled(self.dying, "life", view) is not None for view in views)
        assert (self.pointers()["live"] == self.wanted) == fed

    @precondition(lambda self: len(self.versions) > 1)
    @rule(data=st.data())
    def roll_back(self, data: Any) -> None:
        self.took("rollback")
        found = self.pointers()
        choices: list[str | None] = [None] if "retained" in found else []
        withdraws = found["next"] != found["live"]
        choices += [f for f in self.versions if f != found["live"] or withdraws]
        to = data.draw(st.sampled_from(choices))
        done = self.store.rollback("service", to)
        assert done.fingerprint == (to or found["retained"])
        if done.fingerprint in (found["live"], found.get("retained")):
            assert done.live  # it was fed all along
        self.wanted = done.fingerprint
        after = self.pointers()["live"]
        assert after == (self.wanted if done.live else found["live"])

    @precondition(lambda self: self.unjoined)
    @rule()
    def join_segments(self) -> None:
        self.took("join segments")
        self.compare_training_sets()
        self.unjoined = False
        for source in self.logged:
            compaction.compact(self.store.state_dir, source, fan=3, grace_s=0.0)
            self.logged_now(source)

    @precondition(lambda self: self.last[-1:] != ["lookup"])
    @rule()
    def look_up(self) -> None:
        self.took("lookup")
        self.compare_lookups(self.store.online.now_us())

    @precondition(lambda self: any(self.known(source) for source in self.logged))
    @rule(data=st.data(), edge=st.sampled_from((None, None, 0, HOUR, 5 * HOUR, -HOUR)))
    def look_back(self, data: Any, edge: int | None) -> None:
        self.took("lookup of the past")
        at, now = self.horizon(), self.store.online.now_us()
        if edge is not None:
            pivot = data.draw(st.sampled_from([r for s in self.logged for r in self.known(s)]))
            at = max(at, min(max(pivot["__created"], pivot["__ts"] + edge), now))
        self.compare_lookups(at)

    def compare_lookups(self, at: int) -> None:
        asked = [{"k": k, "p": p} for k in (1, 2, 3, 4) for p in "ab"]
        result = self.store.get_online_features("service", asked, as_of=instant(at))
        live = self.live
        for source, views in VIEWS.items():
            with_unsure = self.may_be_known(source) if self.torn else [self.known(source)]
            for name in views:
                opinions = [Expected(live[name], events) for events in with_unsure]
                for i, row in enumerate(asked):
                    self.check(result, i, row, opinions, at)

    def horizon(self) -> int:
        """The oldest instant that every state can answer (T8)."""
        arrivals = [r["__created"] for s in self.logged for r in (*self.known(s), *self.unsure[s])]
        if HISTORIES[self.history] == "lifetime":
            return min(arrivals)
        # A run that died may have reached some entities with rows that no whole run has read.
        reached = [r["__created"] for s in self.logged for r in self.filed[s] if self.torn]
        return max(*arrivals, *reached, arrivals[0]) - HOUR

    def may_be_known(self, source: str) -> list[list[dict[str, Any]]]:
        """What lookups may know of after a crash: some entities were reached, and some not."""
        base, more = self.known(source), self.filed[source][self.seen[source] :]
        unsure = self.unsure[source]
        return [base, base + unsure, base + more, base + more + unsure]

    def check(
        self, result: Any, i: int, row: dict[str, Any], opinions: list[Expected], at: int
    ) -> None:
        view = opinions[0].view
        for feature in view.features:
            shown = feature if feature in result.columns else f"{view.name}__{feature}"
            found = oracle.bits(result.columns[shown][i]), result.status[shown][i]
            wanted = [opinion(feature, row, at) for opinion in opinions]
            assert found in wanted, (view.name, feature, row, at, result.columns[shown][i], wanted)

    @rule(data=st.data())
    def train(self, data: Any) -> None:
        """Ask for a training set. What arrives later changes nothing of it (T3), so it waits until
        the definitions or the segments are about to change, and is made with others."""
        self.took("training set")
        now = self.store.online.now_us()
        everything = [r for s in self.logged for r in self.logged[s] + self.filed[s]]
        pivots = [r["__created"] for r in everything] or [now]
        at = [now, data.draw(st.sampled_from(pivots)), now - 5 * HOUR]
        self.waiting.append((at, data.draw(st.sampled_from((None, None, 2, 7)))))

    def compare_training_sets(self) -> None:
        """Make what was asked for as one frame, and compare each value with the oracle's."""
        if not self.waiting:
            return
        everything = {s: self.logged[s] + self.filed[s] + self.unsure[s] for s in self.logged}
        users = [{"k": k, "p": p} for k in (1, 2, 4) for p in "ab"]
        instants = dict.fromkeys(t for at, _ in self.waiting for t in at)
        frame = [{**user, "event_timestamp": instant(t)} for user in users for t in instants]
        buckets = max((n or 0 for _, n in self.waiting), default=0) or None
        self.waiting = []
        table = self.store.get_historical_features(
            frame, "service", statuses=True, buckets=buckets
        ).to_arrow()
        columns = {n: table[n].to_pylist() for n in table.column_names}
        for source, views in VIEWS.items():
            for name in views:
                expected = Expected(self.defined[name], everything[source])
                for i, row in enumerate(frame):
                    for feature in expected.view.features:
                        shown = feature if feature in columns else f"{name}__{feature}"
                        value, status = columns[shown][i], columns[f"{shown}__status"][i]
                        if feature == "places":  # a map comes as its pairs
                            value = dict(value or ())
                        wanted = expected(feature, row, micros(row["event_timestamp"]))
                        assert (oracle.bits(value), status) == wanted, (name, feature, row, value)


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no life would reach otherwise: sizes from which work and states are split. This is the
    one place for them."""
    monkeypatch.setattr(settle, "_CHUNK", 2)
    monkeypatch.setattr(materialise, "_CHUNK", 2)
    monkeypatch.setattr(entity_events, "_FIRST", 1)
    monkeypatch.setattr(entity_events, "_BATCH", 2)
    monkeypatch.setattr(redis_store, "_GROUP", 2)
    monkeypatch.setattr(remember, "_CHUNK", 2)


@pytest.fixture
def kept_duckdb(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept = Kept()
    monkeypatch.setattr(Project, "connect", lambda project: kept.opened())
    yield
    kept.end()


@pytest.mark.thorough
@pytest.mark.usefixtures("small_limits", "kept_duckdb")
def test_any_life_of_a_store_agrees_with_the_oracle(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # no power fails here
    taken.clear()
    begun = time.monotonic()

    def report() -> None:
        steps, took_s = taken.total(), time.monotonic() - begun
        each = ", ".join(f"{n:,} × {name}" for name, n in taken.most_common())
        with capsys.disabled():
            print(f"\n{steps:,} steps in {took_s:,.0f} s: {each}", end="", flush=True)

    monkeypatch.setattr(Life, "report", staticmethod(report if STEPS > 1000 else lambda: None))
    with scratch_redis() as url:
        monkeypatch.setattr(Life, "url", url)
        run_state_machine_as_test(
            Life if SEED is None else seed(SEED)(Life),
            settings=settings(
                max_examples=max(STEPS // 45, 1),
                stateful_step_count=PER_LIFE,
                deadline=None,
                derandomize=STEPS <= 1000 and SEED is None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
    assert taken.total() > 0
    Life.report()
