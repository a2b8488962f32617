"""A forgotten entity is gone from every path, alike on all of them, and is no one's to be found."""

import datetime as dt
import json
import sqlite3
import stat
import textwrap
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from paths import in_small_blocks
from slow import slow_unless

from featurekit import FeatureStore
from featurekit.core.gone import Gone
from featurekit.core.keys import state_prefix
from featurekit.core.types import Type
from featurekit.errors import DefinitionError, EntityFrameError, RegistryError, SourceError
from featurekit.feed.forget import Forgot
from featurekit.feed.repair import Repair
from featurekit.log import tombstones
from featurekit.log.compaction import compact
from featurekit.log.segments import read_segment, segments
from featurekit.log.tombstones import Forgotten, Secret, Tombstone
from featurekit.online.state.seal import opened
from featurekit.online.state.state import newest_arrival
from featurekit.online.store.server import scratch_redis
from featurekit.project.deployment import fed_views
from featurekit.sources import FileInfo, parquet
from featurekit.sources.events import numbered_rows
from featurekit.sources.rewrite import remove_rows

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView
from featurekit.aggregates import Count, Last, Sum

customer = Entity("customer", join_keys={"customer_id": int})
product = Entity("product", join_keys={"product_id": str})
lines = EventSource(
    "lines", path="data/lines*.FORMAT", timestamp_field="ts", created_timestamp_column="arrived",
    schema={"customer_id": int | None, "product_id": str, "price": float},
)
customers = FeatureView(
    "customers", entities=[customer], source=lines, history="90000d",
    features={"spend": Sum("price", window="WINDOW"), "last": Last("product_id", window="90000d")},
)
newest = FeatureView("newest", entities=[customer], source=lines, features={"price": "price"},
    history="90000d")
pairs = FeatureView(
    "pairs", entities=[product, customer], source=lines, history="90000d",
    features={"bought": Count(window="90000d")},
)
products = FeatureView(
    "products", entities=[product], source=lines, history="90000d",
    features={"sold": Count(window="90000d"), "revenue": Sum("price", window="90000d")},
)
latest_sale = FeatureView("latest_sale", entities=[product], source=lines,
    features={"sale": "price"})
service = FeatureService("service", features=[customers, newest, pairs, products, latest_sale])
"""
SETTINGS = "project: forget\nprovider: local\nonline_store:\n  type: redis\n"
NAMES = ("spend", "last", "price", "bought", "sold", "revenue", "sale")
CUSTOMERS, PRODUCTS = (17850, 2, 3), ("a", "b", "c")


def at(second: int) -> dt.datetime:
    return dt.datetime(2024, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=second)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


ROWS = [
    (17850, "a", 1.25, 10), (2, "a", 2.5, 20), (3, "b", 0.1, 30), (17850, "b", 0.2, 40),
    (2, "b", 1e300, 50), (17850, "a", -1e300, 60), (3, "c", 7.0, 70), (17850, "c", 8.0, 80),
    (None, "a", 5.0, 85),
]  # fmt: skip


class Repo:
    def __init__(self, folder: Path, url: str, *, format_: str = "parquet") -> None:
        self.folder, self.url, self.format = folder, url, format_
        (folder / "data").mkdir()
        (folder / "feature_store.yaml").write_text(SETTINGS)
        self.define()
        self.write("lines_1", ROWS[:5])
        self.write("lines_2", ROWS[5:])

    def define(self, window: str = "90000d") -> None:
        text = MODULE.replace("FORMAT", self.format).replace("WINDOW", window)
        (self.folder / "definitions.py").write_text(textwrap.dedent(text))

    def write(self, name: str, rows: Any) -> None:
        times = pa.array([at(r[3]) for r in rows], type=pa.timestamp("us", tz="UTC"))
        table = pa.table(
            {
                "customer_id": pa.array([r[0] for r in rows], type=pa.int64()),
                "product_id": [r[1] for r in rows],
                "price": [r[2] for r in rows],
                "note": [f'said "{i}",\nand left' for i, _ in enumerate(rows)],
                "ts": times,
                "arrived": times,
            }
        )
        path = self.folder / "data" / f"{name}.{self.format}"
        if self.format == "parquet":
            pq.write_table(table, path, row_group_size=2, compression="zstd")
        else:
            con = duckdb.connect()
            con.register("t", table)
            con.execute("SET TimeZone = 'UTC'")
            moments = "strftime({0} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ') AS {0}"
            con.execute(
                f"COPY (SELECT * REPLACE ({moments.format('ts')}, {moments.format('arrived')}) "
                f"FROM t) TO '{path}' (FORMAT csv, HEADER)"
            )

    def store(self) -> FeatureStore:
        return FeatureStore(self.folder, redis_url=self.url)

    def deploy(self) -> None:
        with self.store() as store:
            store.apply()
            store.materialize()

    def push(self, *rows: dict[str, Any]) -> Any:
        with self.store() as store:
            return store.push("lines", list(rows))

    def forget(self, **options: Any) -> Forgot:
        with self.store() as store:
            return store.forget("customer", {"customer_id": 17850}, **options)

    def answers(self) -> dict[str, dict[tuple[int, str], list[Any]]]:
        """All features of all pairs as of now, values and statuses, offline and online."""
        when = now()
        asked = [{"customer_id": c, "product_id": p} for c in CUSTOMERS for p in PRODUCTS]
        with self.store() as store:
            frame = [{**row, "event_timestamp": when} for row in asked]
            made = store.get_historical_features(frame, "service", statuses=True)
            offline = made.to_arrow().to_pylist()
            online = store.get_online_features("service", asked, as_of=when)
        keys = [(row["customer_id"], row["product_id"]) for row in asked]
        return {
            "offline": {
                k: [bits((r[n], r[f"{n}__status"])) for n in NAMES]
                for k, r in zip(keys, offline, strict=True)
            },
            "online": {
                k: [bits((online.columns[n][i], online.status[n][i])) for n in NAMES]
                for i, k in enumerate(keys)
            },
        }

    def same(self) -> dict[tuple[int, str], dict[str, Any]]:
        """The answers, which both paths give alike to the bit."""
        found = self.answers()
        assert found["online"] == found["offline"]
        return {k: dict(zip(NAMES, v, strict=True)) for k, v in found["online"].items()}


def bits(pair: tuple[Any, str]) -> tuple[Any, str]:
    value, status = pair
    return (value.hex() if isinstance(value, float) else value), status


def event(customer: int | None, product: str, price: float, **more: Any) -> dict[str, Any]:
    return {"customer_id": customer, "product_id": product, "price": price, "ts": now(), **more}


@pytest.fixture
def repo(tmp_path: Path) -> Any:
    with scratch_redis() as url:
        yield Repo(tmp_path, url)


def without(rows: list[Any]) -> list[Any]:
    return [row for row in rows if row[0] != 17850]


def test_nothing_of_the_entity_is_found_and_others_are_as_if_it_never_was(
    repo: Repo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repo.deploy()
    repo.push(event(17850, "c", 4.0), event(2, "c", 3.5))
    before = repo.same()
    assert before[17850, "a"]["bought"] == (2, "PRESENT")
    done = repo.forget()
    after = repo.same()
    for product in PRODUCTS:
        assert {after[17850, product][n] for n in ("spend", "last", "price")} == {
            (None, "NOT_FOUND")
        }
        assert after[17850, product]["bought"] == (0, "NOT_FOUND")
    # What a store says to which the events never came.
    with scratch_redis() as url:
        other = Repo(tmp_path_factory.mktemp("other"), url)
        other.write("lines_1", without(ROWS[:5]))
        other.write("lines_2", without(ROWS[5:]))
        other.deploy()
        other.push(event(2, "c", 3.5))
        expected = other.same()
    assert after == expected
    assert after != before
    assert (sum(done.states.values()), sum(done.repaired.values()), done.log_rows) == (5, 6, 1)


def test_the_parity_check_sees_no_difference_and_no_forgotten_event(repo: Repo) -> None:
    repo.deploy()
    repo.push(event(17850, "c", 4.0), event(2, "c", 3.5))
    repo.forget()
    repo.push(event(17850, "a", 9.0))
    with repo.store() as store:
        report = store.check_parity("service", values=3000)
    assert report.ok
    assert report.compared > 1000


def test_the_parity_check_would_see_a_path_that_reads_forgotten_events(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.deploy()
    repo.forget()
    monkeypatch.setattr(Forgotten, "kept", lambda self, row: row)
    with repo.store() as store:
        assert not store.check_parity("service", values=3000).ok


@pytest.mark.parametrize("incremental", [False, True])
def test_materialising_again_brings_nothing_back(repo: Repo, incremental: bool) -> None:
    repo.deploy()
    repo.forget()
    before = repo.same()
    with repo.store() as store:
        (store.materialize_incremental if incremental else store.materialize)()
    assert repo.same() == before


def test_a_file_that_brings_the_rows_again_brings_nothing_back(repo: Repo) -> None:
    repo.deploy()
    repo.forget(rewrite_files=True)
    before = repo.same()
    repo.write("lines_3", [ROWS[0]])
    with repo.store() as store:
        store.materialize()
    assert repo.same() == before


def test_what_arrives_afterwards_is_a_new_start(repo: Repo) -> None:
    repo.deploy()
    repo.forget()
    repo.push(event(17850, "a", 9.0))
    found = repo.same()[17850, "a"]
    assert found["spend"] == ((9.0).hex(), "PRESENT")
    assert found["bought"] == (1, "PRESENT")
    repo.forget()
    assert repo.same()[17850, "a"]["spend"] == (None, "NOT_FOUND")


@pytest.mark.parametrize("later", [0, 1])
def test_a_state_that_knows_nothing_of_later_goes_whole(repo: Repo, later: int) -> None:
    from featurekit.feed import forget as module

    repo.deploy()
    with repo.store() as store:
        (view,) = (v for v in fed_views(store.online, "forget") if v.name == "customers")
        (key,) = (k for k in store.online.keys(state_prefix("forget", view)) if b"i17850}" in k)
        newest = newest_arrival(opened(key, store.online.read([key])[0] or b"") or b"")
        repair = Repair(store.online, "forget", 0)
        module._remove_state(store.online, view, key, newest - later, repair)
        assert (store.online.read([key]) == [None]) is (later == 0)


def test_a_replay_of_what_arrived_before_is_left_out_and_counted(repo: Repo) -> None:
    repo.deploy()
    repo.forget()
    before = repo.same()
    done = repo.push(event(17850, "a", 9.0, arrived=at(5)), event(2, "c", 0.0, arrived=at(5)))
    assert (done.rows, done.forgotten) == (1, 1)
    assert repo.same() != before
    assert repo.same()[17850, "a"]["spend"] == (None, "NOT_FOUND")
    assert rows_in_log(repo, 17850) == 0


def rows_in_log(repo: Repo, customer: int) -> int:
    files = (repo.folder / ".featurekit" / "log" / "lines").glob("[!.]*")
    tables = [table for f in files if (table := read_segment(f)) is not None]
    return sum(table["customer_id"].to_pylist().count(customer) for table in tables)


def test_states_of_every_version_go(repo: Repo) -> None:
    for window in ("90000d", "80000d", "70000d"):  # unfed, retained, live
        repo.define(window)
        repo.deploy()
    repo.define("60000d")
    with repo.store() as store:
        store.apply()
        store.push("lines", event(17850, "a", 9.0))  # so that the next version has a state too
        keys = list(store.online.keys(b"fk:forget:state:"))
    assert sum(b"i17850}" in k for k in keys) == 4 + 1 + 3
    assert sum(repo.forget().states.values()) == 8
    with repo.store() as store:
        left = list(store.online.keys(b"fk:forget:"))
    assert [k for k in left if b"17850" in k] == []
    assert {k for k in keys if b"17850" not in k} <= set(left)


def test_states_in_blocks_go_whole(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_blocks(monkeypatch)
    for window in ("90000d", "80000d", "70000d"):  # unfed, retained, live
        repo.define(window)
        repo.deploy()
    with repo.store() as store:
        keys = list(store.online.keys(b"fk:forget:block:"))
    assert {b"i17850}" in k for k in keys} == {True, False}
    repo.forget()
    repo.same()
    with repo.store() as store:
        left = list(store.online.keys(b"fk:forget:"))
    assert [k for k in left if b"17850" in k] == []


def test_blocks_go_whose_state_was_removed_alone(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one is told to, where an eviction has taken others of its blocks."""
    in_small_blocks(monkeypatch)
    repo.deploy()
    with repo.store() as store:
        keys = list(store.online.keys(b"fk:forget:"))
        store.online.delete([k for k in keys if b":state:" in k and b"i17850}" in k])
    repo.forget()
    with repo.store() as store:
        left = list(store.online.keys(b"fk:forget:"))
    assert [k for k in left if b"17850" in k] == []
    blocks = {k for k in keys if b":block:customers:" in k or b":block:pairs:" in k}
    blocks = {k for k in blocks if b"i17850}" not in k}  # of other customers
    assert blocks
    assert blocks <= set(left)


def test_by_default_the_source_s_files_are_listed_and_left(repo: Repo) -> None:
    repo.deploy()
    files = {p: p.read_bytes() for p in (repo.folder / "data").iterdir()}
    done = repo.forget()
    assert {p: p.read_bytes() for p in (repo.folder / "data").iterdir()} == files
    assert [(Path(f.path).name, f.rows, f.rewritten) for f in done.files] == [
        ("lines_1.parquet", 2, False),
        ("lines_2.parquet", 2, False),
    ]


def test_rewritten_files_hold_all_other_rows_as_they_were(repo: Repo) -> None:
    repo.deploy()
    path = repo.folder / "data" / "lines_1.parquet"
    path.chmod(0o640)
    old, form = pq.read_table(path), pq.ParquetFile(path).metadata
    done = repo.forget(rewrite_files=True)
    assert [f.rewritten for f in done.files] == [True, True]
    assert pq.read_table(path).equals(old.take([1, 2, 4]), check_metadata=True)
    new = pq.ParquetFile(path).metadata
    assert new.row_group(0).column(0).compression == form.row_group(0).column(0).compression
    assert [new.row_group(i).num_rows for i in range(new.num_row_groups)] == [1, 1, 1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert repo.forget().files == ()
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    repo.same()


def test_files_of_any_form_are_rewritten(repo: Repo) -> None:
    """Lists, instants of 96 bits, columns that nobody declared, and a file with no other rows."""
    data = repo.folder / "data"
    rows = pq.read_table(data / "lines_1.parquet")
    more = rows.append_column("tags", pa.array([["a", None], [], None, ["b"], ["c"]]))
    more = more.append_column("deep", pa.array([{"x": [i], "y": None} for i in range(5)]))
    pq.write_table(
        more,
        data / "lines_1.parquet",
        use_deprecated_int96_timestamps=True,
        compression={"price": "gzip", "tags.list.element": "none"},
    )
    naive = pq.read_table(data / "lines_1.parquet").schema.field("ts").type
    pq.write_table(rows.take([0, 3]), data / "lines_2.parquet")
    repo.deploy()
    before = pq.read_table(data / "lines_1.parquet")
    done = repo.forget(rewrite_files=True)
    assert [f.rows for f in done.files] == [2, 2]
    assert pq.read_table(data / "lines_1.parquet").equals(before.take([1, 2, 4]))
    assert pq.read_schema(data / "lines_1.parquet").field("ts").type == naive
    assert pq.read_table(data / "lines_2.parquet").num_rows == 0
    repo.same()


def test_csv_files_keep_every_other_line(tmp_path: Path) -> None:
    with scratch_redis() as url:
        repo = Repo(tmp_path, url, format_="csv")
        repo.deploy()
        before = repo.same()
        path = repo.folder / "data" / "lines_1.csv"
        lines = path.read_bytes().split(b"\n")
        done = repo.forget(rewrite_files=True)
        assert [(Path(f.path).name, f.rows) for f in done.files] == [
            ("lines_1.csv", 2),
            ("lines_2.csv", 2),
        ]
        # A header, and records of two lines each: the first and the fourth went.
        assert path.read_bytes().split(b"\n") == [lines[0], *lines[3:7], *lines[9:]]
        assert repo.same() != before


def test_a_format_without_rewriting_is_refused_before_anything_is_forgotten(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.deploy()
    before, path = repo.same(), repo.folder / "data" / "lines_1.parquet"
    data = path.read_bytes()
    monkeypatch.setattr(parquet, "rewrite", None)
    with pytest.raises(SourceError, match="'lines': files of format 'parquet' are not rewritten"):
        repo.forget(rewrite_files=True)
    assert repo.same() == before
    assert [file.rewritten for file in repo.forget().files] == [False, False]
    assert repo.same() != before
    assert path.read_bytes() == data


def test_a_file_that_would_read_otherwise_is_left_as_it_is(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = repo.folder / "data" / "lines_1.parquet"
    before = path.read_bytes()
    with repo.store() as store:
        con, source = store.parts.connect(), store.parts.source("lines")
        numbered_rows(con, source, FileInfo(str(path), 0, 0), None)
        monkeypatch.setattr(
            "featurekit.sources.parquet.rewrite",
            lambda source, path, target, rows: pq.write_table(pq.read_table(path).slice(1), target),
        )
        with pytest.raises(SourceError, match="it is as it was, take them out"):
            remove_rows(con, source, FileInfo(str(path), 0, 0), Gone([1]))
        remove_rows(con, source, FileInfo(str(path), 0, 0), Gone([0]))
    assert path.read_bytes() != before
    assert len(list(path.parent.iterdir())) == 2


def test_the_record_holds_no_key_and_says_who_when_and_how_much(repo: Repo) -> None:
    repo.deploy()
    repo.push(event(17850, "c", 4.0))
    done = repo.forget()
    with repo.store() as store:
        (record,) = store.registry.tombstones()
        registry = store.registry.kept.path
    assert (record.entity, record.keys) == ("customer", (("customer_id", Type("int")),))
    assert record.removed == {
        "states": 5, "repaired": 6, "log_rows": 1, "file_rows": 0, "served_rows": 0, "outcomes": 0,
    }  # fmt: skip
    assert record.applied_by
    assert dt.datetime.fromisoformat(record.applied_at) - done.until < dt.timedelta(minutes=1)
    with closing(sqlite3.connect(registry)) as opened:
        text = "\n".join(opened.iterdump())
    assert "17850" not in text
    secret = registry.parent / "forget.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text() not in text


def test_without_its_secret_nothing_is_read(repo: Repo) -> None:
    repo.deploy()
    repo.forget()
    secret = repo.folder / ".featurekit" / "forget.key"
    kept = secret.read_text()
    secret.unlink()
    with repo.store() as store, pytest.raises(RegistryError, match=r"forget.key is missing"):
        store.materialize()
    secret.write_text("00" * 32)
    with pytest.raises(RegistryError, match="is not the one under which 1 forgotten"):
        repo.answers()
    secret.write_text(kept)
    repo.same()


@pytest.mark.parametrize("bad", [b"\xb0", b"g", b"\xff\xff", b""])
def test_a_secret_that_is_none_is_told_by_its_file(repo: Repo, bad: bytes) -> None:
    repo.deploy()
    repo.forget()
    secret = repo.folder / ".featurekit" / "forget.key"
    kept = secret.read_bytes()
    secret.write_bytes(bad + kept[1:])
    for verb in (repo.answers, repo.forget):
        with pytest.raises(RegistryError, match=r"forget.key is damaged: .* from a copy"):
            verb()
    secret.write_bytes(kept)
    repo.same()


def test_what_cannot_be_forgotten_is_explained(repo: Repo) -> None:
    repo.deploy()
    with repo.store() as store:
        with pytest.raises(DefinitionError, match="no view is of an entity 'cust'"):
            store.forget("cust", {"customer_id": 1})
        with pytest.raises(EntityFrameError, match="is named by customer_id, found id"):
            store.forget("customer", {"id": 1})
        with pytest.raises(EntityFrameError, match="'customer_id': expected int, found str"):
            store.forget("customer", {"customer_id": "17850"})
        assert store.registry.tombstones() == []


def test_a_push_that_is_under_way_is_waited_for(repo: Repo) -> None:
    """Its rows are stamped before the forgetting, and reach the states after it began."""
    repo.deploy()
    begun, go_on = threading.Event(), threading.Event()

    def push() -> None:
        with repo.store() as store:
            real = store.online.open_update

            def slow(keys: Any, change: Any, **options: Any) -> Any:
                if any(b":state:" in k for k in keys):
                    begun.set()
                    assert go_on.wait(30)
                return real(keys, change, **options)

            store.online.open_update = slow  # type: ignore[method-assign]
            store.push("lines", event(17850, "a", 9.0))

    pushing = threading.Thread(target=push)
    pushing.start()
    assert begun.wait(30)
    forgetting = threading.Thread(target=repo.forget)
    forgetting.start()
    forgetting.join(1)
    waits = forgetting.is_alive()
    go_on.set()
    pushing.join()
    forgetting.join()
    assert waits
    found = repo.same()[17850, "a"]
    assert found["spend"] == (None, "NOT_FOUND")
    assert rows_in_log(repo, 17850) == 0


def test_what_arrives_while_the_rest_is_removed_stays(
    repo: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from featurekit.feed import forget as module

    repo.deploy()
    settle = module._settle

    def push_then(*arguments: Any) -> None:
        settle(*arguments)
        repo.push(event(17850, "a", 9.0))

    monkeypatch.setattr(module, "_settle", push_then)
    repo.forget()
    found = repo.same()[17850, "a"]
    assert (found["spend"], found["bought"]) == (((9.0).hex(), "PRESENT"), (1, "PRESENT"))


def test_of_two_entities_with_one_key_only_the_named_one_is_forgotten(repo: Repo) -> None:
    path = repo.folder / "definitions.py"
    text = path.read_text().replace(
        "service = ",
        'seller = Entity("seller", join_keys={"customer_id": int})\n'
        'sales = EventSource("sales", path="data/lines*.parquet", timestamp_field="ts",\n'
        '    schema={"customer_id": int | None, "price": float})\n'
        'sellers = FeatureView("sellers", entities=[seller], source=sales,\n'
        '    features={"sales": Count(window="90000d")})\n'
        "service = ",
    )
    path.write_text(text.replace("latest_sale])", "latest_sale, sellers])"))
    repo.deploy()
    repo.forget()
    with repo.store() as store:
        asked = [{"customer_id": 17850, "product_id": "a"}]
        online = store.get_online_features("service", asked)
        frame = [{**asked[0], "event_timestamp": online.as_of}]
        (offline,) = store.get_historical_features(frame, "service").to_arrow().to_pylist()
    assert (online.columns["sales"], online.columns["spend"]) == ([4], [None])
    assert (offline["sales"], offline["spend"]) == (4, None)


def test_files_set_aside_that_may_hold_rows_are_listed(repo: Repo) -> None:
    path = repo.folder / "definitions.py"
    path.write_text(
        path.read_text().replace('"lines", path', '"lines", on_bad_row="quarantine", path')
    )
    repo.deploy()
    repo.push({**event(17850, "a", 1.0), "price": "many"})
    done = repo.forget()
    (found,) = done.set_aside
    assert (Path(found.path).suffix, found.rows) == (".jsonl", 1)
    assert json.loads(Path(found.path).read_text())["values"]["customer_id"] == 17850


KEYS = {
    "int": [-(2**63), -1, 0, 17850, 2**63 - 1],
    "str": ["", "a", "é😀", "i1", "o'clock", "a\nb"],
    "bool": [True, False],
    "bytes": [b"", b"\x00\xff", b"abc"],
    "datetime": [at(0), dt.datetime(1, 1, 1, tzinfo=dt.UTC), at(1) + dt.timedelta(microseconds=7)],
    "date": [dt.date(1, 1, 1), dt.date(2024, 2, 29), dt.date(9999, 12, 31)],
}


@pytest.mark.parametrize("type_", KEYS)
def test_a_key_has_one_hash_in_python_and_in_sql(type_: str) -> None:
    secret, key = Secret(b"\x01\xfe" * 16), Type(type_)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    values = KEYS[type_]
    table = pa.table({"k": pa.array(values, type=key.arrow), "n": range(len(values))})
    con.register("t", table)
    sql, parameters = secret.digest_sql("it's", {"n": Type("int"), "k": key})
    found = con.execute(
        f"SELECT {sql} FROM (SELECT k::{key.duckdb} AS k, n::BIGINT AS n FROM t) ORDER BY n",
        parameters,
    ).fetchall()
    expected = [
        secret.digest("it's", {"k": (key, value), "n": (Type("int"), n)})
        for n, value in enumerate(values)
    ]
    assert [digest for (digest,) in found] == expected
    assert len(set(expected)) == len(values)


def test_rows_are_judged_alike_in_python_and_in_sql() -> None:
    secret, keys = Secret(b"x" * 32), (("k", Type("int")),)
    marks = [
        Tombstone("e", keys, secret.digest("e", {"k": (Type("int"), k)}), secret.name, until)
        for k, until in ((1, 100), (1, 50), (2, 10))
    ]
    forgotten = Forgotten(marks, secret)
    rows = [{"k": k, "__created": c} for k in (1, 2, 3, None) for c in (9, 10, 11, 100, 101)]
    con = duckdb.connect()
    con.register("t", pa.Table.from_pylist(rows))
    left = con.sql(f"SELECT * FROM {forgotten.relation(con, 't')}").to_arrow_table().to_pylist()
    kept = [row for row in rows if forgotten.kept(row) is not None]
    assert sorted(map(str, left)) == sorted(map(str, kept))
    assert forgotten.left(rows) == kept
    assert [row for row in rows if forgotten.left([row])] == kept
    assert {(r["k"], r["__created"]) for r in kept} == {
        *((1, c) for c in (101,)),
        *((2, c) for c in (11, 100, 101)),
        *((k, c) for k in (3, None) for c in (9, 10, 11, 100, 101)),
    }


def test_segments_that_were_joined_hold_nothing_either(repo: Repo) -> None:
    repo.deploy()
    repo.push(event(17850, "a", 4.0))
    repo.push(event(2, "c", 3.5))
    assert compact(repo.folder / ".featurekit", "lines", fan=2) == 2
    repo.push(event(17850, "b", 5.0))
    log = repo.folder / ".featurekit" / "log" / "lines"
    assert len(list(log.glob("[!.]*"))) == 4  # two stay for readers that began before
    before = segments(repo.folder / ".featurekit", "lines")
    assert repo.forget().log_rows == 2
    assert rows_in_log(repo, 17850) == 0
    assert segments(repo.folder / ".featurekit", "lines") == before
    assert repo.same()[2, "c"]["price"] == ((3.5).hex(), "PRESENT")


def test_a_view_of_a_view_is_forgotten_with_its_source(repo: Repo) -> None:
    path = repo.folder / "definitions.py"
    text = path.read_text().replace(
        "service = ",
        'above = FeatureView("above", entities=[customer], source=newest,\n'
        '    features={"total": Sum("price", window="90000d")})\n'
        "service = ",
    )
    path.write_text(text.replace("latest_sale])", "latest_sale, above])"))
    repo.deploy()
    repo.forget()
    with repo.store() as store:
        asked = [{"customer_id": c, "product_id": "a"} for c in (17850, 2)]
        online = store.get_online_features("service", asked)
        frame = [{**row, "event_timestamp": online.as_of} for row in asked]
        offline = store.get_historical_features(frame, "service").to_arrow()
    assert online.columns["total"] == offline["total"].to_pylist() == [None, 2.5 + 1e300]


def with_ids(repo: Repo, *, op: bool) -> None:
    """The same repo, its source with ids, and `op` where it is asked for."""
    path = repo.folder / "definitions.py"
    extra = ', "op": str' if op else ""
    text = path.read_text().replace(
        '"price": float}', f'"price": float, "id": str{extra}}}, event_id="id"'
    )
    text = text.replace('event_id="id"', 'event_id="id", dedupe_within="90000d"')
    path.write_text(text.replace('event_id="id"', 'event_id="id", op="op"') if op else text)
    for name in ("lines_1", "lines_2"):
        file = repo.folder / "data" / f"{name}.parquet"
        table = pq.read_table(file)
        ids = pa.array([f"{name}-{i // 2}" for i in range(table.num_rows)])  # pairs share an id
        table = table.append_column("id", ids)
        if op:
            table = table.append_column("op", pa.array(["upsert"] * table.num_rows))
        pq.write_table(table, file)


@pytest.mark.parametrize("op", slow_unless(lambda op: op, [False, True]))
def test_what_is_remembered_of_ids_is_forgotten_too(
    repo: Repo, tmp_path_factory: pytest.TempPathFactory, op: bool
) -> None:
    """Events that copies or corrections of the entity's took away count as if these never came."""
    more = {"op": "upsert"} if op else {}
    with_ids(repo, op=op)
    first = repo.folder / "definitions.py"
    for window in ("80000d", "70000d", "90000d"):  # memories of unfed and retained versions too
        text = first.read_text()
        first.write_text(text.replace('window="90000d")', f'window="{window}")'))
        repo.deploy()
        first.write_text(text)
    pushed = [
        event(17850, "c", 4.0, id="p1", **more),
        event(2, "c", 3.5, id="p1", **more),
        event(3, "a", 2.0, id="p2", **more),
        event(17850, "a", 1.0, id="p2", **more),
    ]
    for row in pushed:
        repo.push(row)
    before = repo.same()
    repo.forget(rewrite_files=True)
    after = repo.same()
    assert after != before
    with repo.store() as store:
        keys = store.online.keys(b"fk:forget:ids:")
        memories = [blob or b"" for blob in store.online.read(keys)]
        assert memories
        assert [m for m in memories if (17850).to_bytes(8, "little") in m] == []
        assert store.check_parity("service", values=2000).ok
    with scratch_redis() as url:
        other = Repo(tmp_path_factory.mktemp("other"), url)
        with_ids(other, op=op)
        for name in ("lines_1", "lines_2"):
            file = other.folder / "data" / f"{name}.parquet"
            table = pq.read_table(file)
            kept = [c != 17850 for c in table["customer_id"].to_pylist()]
            pq.write_table(table.filter(kept), file)
        other.deploy()
        for row in pushed:
            if row["customer_id"] != 17850:
                other.push(row)
        expected = other.same()
    assert after == expected
    repo.push(event(17850, "c", 9.0, id="p1", **more))
    repo.same()


def test_gc_removes_what_unused_versions_remember_of_ids(repo: Repo) -> None:
    with_ids(repo, op=False)
    for window in ("90000d", "80000d", "70000d"):
        text = (repo.folder / "definitions.py").read_text()
        spend = text.index('"spend": Sum("price", window=')
        end = text.index(")", spend)
        changed = f'{text[:spend]}"spend": Sum("price", window="{window}"{text[end:]}'
        (repo.folder / "definitions.py").write_text(changed)
        repo.deploy()
    with repo.store() as store:
        fed = {v.fingerprint.encode() for v in fed_views(store.online, store.project)}
        assert held(store) > fed
        store.gc()
        assert held(store) == fed
    repo.same()


def held(store: FeatureStore) -> set[bytes]:
    """The fingerprints of the views that states, memories and floors are there of."""
    kinds = (b"ids", b"floor", b"state")
    keys = [key for kind in kinds for key in store.online.keys(b"fk:forget:" + kind)]
    return {key.split(b":")[4] for key in keys}


def test_of_two_that_make_a_secret_at_once_one_s_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = tombstones.write_whole

    def after_another(path: Path, data: bytes, **options: Any) -> None:
        path.write_text("00" * 32)
        write(path, data, **options)

    monkeypatch.setattr(tombstones, "write_whole", after_another)
    assert tombstones.make_secret(tmp_path).value == bytes(32)


FLIPS = [
    ("digest", "substr(digest, 1, 5) || char(unicode(substr(digest, 6)) + 1) || substr(digest, 7)"),
    ("entity", "'dustomer'"),
    ("until", "until - 4294967296"),
    ("keys", "'[' || substr(keys, 2)"),
    ("secret", "'0' || secret"),
]


@pytest.mark.parametrize(("column", "flipped"), FLIPS, ids=[column for column, _ in FLIPS])
def test_a_record_that_is_not_as_it_was_written_brings_nobody_back(
    repo: Repo, column: str, flipped: str
) -> None:
    """As by one flipped bit. The copy in the online store has it."""
    repo.deploy()
    repo.push(event(17850, "c", 4.0), event(2, "c", 3.5))
    repo.forget()
    expected = repo.same()
    path = repo.folder / ".featurekit" / "registry.db"
    with closing(sqlite3.connect(path)) as con, con:
        con.execute(f"UPDATE forgotten SET {column} = {flipped}")
    with repo.store() as store, pytest.raises(RegistryError, match="featurekit adopt"):
        store.materialize()
    with pytest.raises(RegistryError, match="record 1 of who was forgotten"):
        repo.answers()
    path.rename(path.with_suffix(".damaged"))
    with repo.store() as store:
        store.adopt()
        store.materialize()
    assert repo.same() == expected


def test_a_record_of_an_older_release_has_no_checksum_and_is_believed(repo: Repo) -> None:
    repo.deploy()
    repo.forget()
    expected = repo.same()
    path = repo.folder / ".featurekit" / "registry.db"
    with closing(sqlite3.connect(path)) as con, con:
        con.execute("DROP TABLE forgotten_sums")
    assert repo.same() == expected
    with repo.store() as store:
        store.forget("customer", {"customer_id": 2})
    with closing(sqlite3.connect(path)) as con:
        assert con.execute("SELECT id FROM forgotten_sums ORDER BY id").fetchall() == [(1,), (2,)]


def frame() -> list[dict[str, Any]]:
    return [{"customer_id": 17850, "product_id": "a", "event_timestamp": now()}]


@pytest.mark.parametrize("here", ["an old copy", "nothing"])
def test_no_training_set_is_made_where_the_store_knows_of_more_who_were_forgotten(
    repo: Repo, here: str
) -> None:
    repo.deploy()
    path, key = (repo.folder / ".featurekit" / name for name in ("registry.db", "forget.key"))
    old = path.read_bytes()
    repo.forget()
    secret = key.read_bytes()
    path.unlink()
    key.unlink()
    if here == "an old copy":
        path.write_bytes(old)
    more = r"1 forgotten.*featurekit adopt"
    with repo.store() as store, pytest.raises(RegistryError, match=more):
        store.get_historical_features(frame(), "service")
    with repo.store() as store:
        store.adopt()
        with pytest.raises(RegistryError, match=r"forget\.key is missing"):
            store.get_historical_features(frame(), "service").to_arrow()
    key.write_bytes(secret)
    with repo.store() as store:
        made = store.get_historical_features(frame(), "service", statuses=True).to_arrow()
    assert made["price__status"].to_pylist() == ["NOT_FOUND"]


def test_without_a_store_a_training_set_is_made_of_what_the_registry_here_knows(repo: Repo) -> None:
    repo.deploy()
    repo.forget()
    with FeatureStore(repo.folder, redis_url="redis://localhost:1") as store:
        made = store.get_historical_features(frame(), "service", statuses=True).to_arrow()
    assert made["price__status"].to_pylist() == ["NOT_FOUND"]
