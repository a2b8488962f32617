"""Feeds states that exist: increments, pushes to ten views of a source, a stream's consumer.

*Increments*: each entity has one row more since the last run, in a source that says when its rows
arrived; a view of the latest row of ten floats, and one of three windows. Peer: MSETs of the very
same keys and values, made beforehand, over a socket. It reads no file and no old state, watches
nothing and checks nothing, so it is the most that the server takes. The states after the increments
are compared with those of a run that fills an empty Redis.

*Kafka* is the client's own cluster, in this process, and its peer the client alone, which reads the
same messages in the same batches and writes the offsets. Both are timed from their first batch on.

*Pushes* and the *consumer* have the round trips and the log's record of such a push as their peer,
sent anew with their bytes made beforehand, as in `online_writes`.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import OURS, Result
from benchmarks.online_writes import (
    FLOATS,
    LATEST,
    TRIPS,
    WINDOWS,
    Pushing,
    in_parts,
    memory,
    parts,
    send,
)
from featurekit.feed.consume import Consumer
from featurekit.online.store.replies import command
from featurekit.online.store.server import scratch_redis
from featurekit.store import FeatureStore

ROWS = {"smoke": 10_000, "medium": 100_000, "full": 500_000}
PUSHES = {"smoke": 4, "medium": 20, "full": 60}
RAW = "the same MSETs, prebuilt"
VIEWS, HOUR_US = 10, 3_600_000_000
PLAIN = LATEST.replace(
    'timestamp_field="event_timestamp",',
    'timestamp_field="event_timestamp", created_timestamp_column="arrived",',
)
THREE = PLAIN.replace(
    "features={f: f for f in floats}",
    'features={"sum": Sum("f0", window="7d"), "rows": Count(window="1d"), '
    '"most": Max("f1", window="7d")}',
).replace(
    "from featurekit", "from featurekit.aggregates import Count, Max, Sum\nfrom featurekit", 1
)
MANY = (
    WINDOWS.replace('view = FeatureView("view",', 'views = [FeatureView(f"view{{i}}",')
    .replace("window=w)))}})", "window=w)))}}) for i in range(10)]")
    .replace("features=[view]", "features=views")
)


def results(size: str, runs: int) -> Iterator[Result]:
    """Increments of both kinds; pushes with and without ids; consuming."""
    for what, module in (("the latest row of ten floats", PLAIN), ("three windows", THREE)):
        yield incremented(what, module, ROWS[size], max(runs, 2))
    for with_ids in (False, True):
        of = "with an event_id" if with_ids else "without ids"
        with Pushing(with_ids=with_ids, module=MANY) as pushing:
            for n in (1, 100):
                pushes = PUSHES[size] * (10 if n == 1 else 1)
                yield Result(
                    f"push {n} to {VIEWS} views of a source, {of}", f"{pushes} pushes", "1/s",
                    pushing.rates(n, pushes), TRIPS, note="the log is in memory",
                )  # fmt: skip
    yield consumed(PUSHES[size])
    if importlib.util.find_spec("confluent_kafka") is not None:
        yield streamed(PUSHES[size])


# --- increments -----------------------------------------------------------------------------------


def incremented(what: str, module: str, rows: int, runs: int) -> Result:
    """Rows a second of runs that find a row more for each entity, by turns with the peer."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory())))
        url = stack.enter_context(scratch_redis())
        (folder / "feature_store.yaml").write_text("project: bench\n")
        (folder / "definitions.py").write_text(module)
        began = int(time.time() * 1e6) - (runs + 3) * HOUR_US
        add_rows(folder, rows, began, 0)
        store = stack.enter_context(FeatureStore(folder, redis_url=url))
        client: Any = store.online.client  # type: ignore[attr-defined]
        store.apply()
        store.materialize(_instant(began))
        ours, raw, cpu = [], [], []
        for run in range(1, runs + 1):
            add_rows(folder, rows, began + run * HOUR_US, run)
            at, used = time.perf_counter(), time.process_time()
            done = store.materialize_incremental(_instant(began + run * HOUR_US))
            cpu.append(time.process_time() - used)
            ours.append(time.perf_counter() - at)
            assert (done.views[0].entities, done.views[0].events) == (rows, rows)
            raw.append(resent(url, client))
        found = states(client)
        client.flushdb()
        store.apply()
        store.materialize(_instant(began + runs * HOUR_US))
        assert found == states(client)
    each = rows / statistics.median(cpu)
    return Result(
        f"an increment of {what}", f"{rows:,} rows, {rows:,} entities", "1/s",
        {OURS: rows / statistics.median(ours), RAW: rows / statistics.median(raw)}, RAW,
        note=f"{each:,.0f} rows a second of the client's CPU",
    )  # fmt: skip


def add_rows(folder: Path, rows: int, until: int, seed: int) -> None:
    """A row more for each entity, all of which arrive in the hour before `until`."""
    rng, path = np.random.default_rng(seed), folder / "rows.parquet"
    at = pa.array(until - rng.integers(0, HOUR_US, rows)).cast(pa.timestamp("us", "UTC"))
    table = pa.table({
        "key": rng.permutation(rows).astype(np.int64), "event_timestamp": at, "arrived": at,
        **{name: rng.normal(size=rows) for name in FLOATS},
    })  # fmt: skip
    pq.write_table(pa.concat_tables([pq.read_table(path), table]) if seed else table, path)


def states(client: Any) -> dict[bytes, bytes]:
    """Every state, by its key."""
    names = sorted(client.scan_iter(match="fk:bench:state:*", count=5_000))
    return dict(zip(names, in_parts(names, client.mget), strict=True))


def resent(url: str, client: Any) -> float:
    """Seconds that the states take as MSETs of 250."""
    groups = list(parts([*states(client).items()], 250))
    stream = b"".join(command(b"MSET", *(x for pair in some for x in pair)) for some in groups)
    began = time.perf_counter()
    send(url, stream, len(b"+OK\r\n") * len(groups))
    return time.perf_counter() - began


def _instant(us: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(us / 1e6, dt.UTC)


# --- consuming ------------------------------------------------------------------------------------


def consumed(batches: int) -> Result:
    """Entries a second of a consumer, in batches of 500, beside a push's trips of as many."""
    n = 500
    with Pushing(with_ids=True, module=MANY) as pushing:
        client: Any = pushing.store.online.client  # type: ignore[attr-defined]

        def filled(entries: int) -> Consumer:
            pipe = client.pipeline(transaction=False)
            for row in pushing.batch(entries):
                shown = {**row, "event_timestamp": row["event_timestamp"].isoformat()}
                pipe.xadd("orders", {"json": json.dumps(shown)})
            pipe.execute()
            return Consumer(pushing.store.parts, "orders", batch=n)

        filled(n).run(until_empty=True)
        sent, ours, raw, cpu = pushing.watched(n), [], [], 0.0
        for _ in range(batches):
            consumer = filled(n)
            began, used = time.perf_counter(), time.process_time()
            assert consumer.run(until_empty=True).entries == n
            cpu += time.process_time() - used
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            pushing.again(sent)
            raw.append(time.perf_counter() - began)
    return Result(
        f"consume a stream into {VIEWS} views", f"{n * batches:,} entries", "1/s",
        {OURS: n * batches / sum(ours), TRIPS: n * batches / sum(raw)}, TRIPS,
        note=f"{n * batches / cpu:,.0f} entries a second of the client's CPU; the trips are those "
        f"of a push of {n}",
    )  # fmt: skip


# --- Kafka ----------------------------------------------------------------------------------------

CLIENT = "confluent-kafka alone"
GOAL = 30_000


def streamed(batches: int) -> Result:
    """Messages a second of a consumer of Kafka, with ids and nine windows, in batches of 2,000."""
    import confluent_kafka as kafka

    n = 2_000
    quiet = {"log_level": 0}
    held = kafka.Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, **quiet})
    (broker,) = held.list_topics(timeout=10).brokers.values()
    servers = {"bootstrap.servers": f"{broker.host}:{broker.port}", **quiet}
    with Pushing(with_ids=True) as pushing:
        producer = kafka.Producer(servers)
        for row in pushing.batch(n * (batches + 1)):
            shown = {**row, "event_timestamp": row["event_timestamp"].isoformat()}
            producer.produce("orders", json.dumps(shown))
            producer.poll(0)
        assert producer.flush(30) == 0
        url = f"kafka://{servers['bootstrap.servers']}/orders"
        consumer = Consumer(pushing.store.parts, "orders", url=url, batch=n)
        ours = _paced(
            lambda tell: consumer.run(until_empty=True, progress=lambda d: tell(d.entries))
        )
        raw = _paced(lambda tell: _read_alone(kafka, servers, n, batches + 1, tell))
    rate, cpu = ours
    return Result(
        "consume a topic of Kafka into nine windows, with an event_id", f"{n * batches:,} messages",
        "1/s", {OURS: rate, CLIENT: raw[0]}, CLIENT,
        note=f"batches of {n:,}; {cpu:,.0f} messages a second of the process's CPU, with the "
        f"cluster's; {rate / GOAL:.0%} of {GOAL:,}",
    )  # fmt: skip


def _paced(work: Callable[[Callable[[int], None]], Any]) -> tuple[float, float]:
    """Messages a second, and a second of CPU, from the first batch on that is told to the last."""
    told: list[tuple[float, float, int]] = []
    work(lambda done: told.append((time.perf_counter(), time.process_time(), done)))
    (began, used, first), (ended, used_then, last) = told[0], told[-1]
    return (last - first) / (ended - began), (last - first) / (used_then - used)


def _read_alone(
    kafka: Any, servers: dict[str, Any], n: int, batches: int, tell: Callable[[int], None]
) -> None:
    client = kafka.Consumer({
        **servers, "group.id": "raw", "auto.offset.reset": "earliest", "enable.auto.commit": False,
    })  # fmt: skip
    client.subscribe(["orders"])
    done = 0
    while done < n * batches:
        found = client.consume(n, 0.5)
        if not found:
            continue
        assert all(message.error() is None for message in found)
        ends = {message.partition(): message.offset() + 1 for message in found}
        client.commit(
            offsets=[kafka.TopicPartition("orders", *one) for one in ends.items()],
            asynchronous=False,
        )
        done += len(found)
        tell(done)
    client.close()
