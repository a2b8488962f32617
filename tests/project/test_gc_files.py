"""What the state folder keeps of a file goes when no source has a file of that content, and all
else stays (S4)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from feature_repos import MakeRepo

from featurekit import FeatureStore
from featurekit.sources import csv, identity
from featurekit.sources.identity import note_name

MODULE = """
from featurekit import Entity, EventSource, FeatureService, FeatureView

user = Entity("user", {"k": int})

def view(name, path, **options):
    schema = {"k": int, "n": int}
    source = EventSource(name, path=path, schema=schema, timestamp_field="at", **options)
    return FeatureView(f"of_{name}", entities=[user], source=source, features={"n": "n"})

views = [view("one", "data/one.csv"), view("many", "data/many/*.csv", delimiter=";")]
service = FeatureService("service", features=views)
"""
ONE = "k,n,at\n1,{n},2024-01-01T00:00:00\n"


@pytest.fixture
def store(
    make_repo: MakeRepo, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FeatureStore]:
    monkeypatch.setattr(identity, "_SETTLED_S", 0.0)  # hashes are kept of new files, too
    folder = make_repo(MODULE, {})
    (folder / "data" / "many").mkdir(parents=True)
    (folder / "data" / "one.csv").write_text(ONE.format(n=1))
    for n in range(3):
        text = ONE.format(n=n).replace(",", ";")
        (folder / "data" / "many" / f"{n}.csv").write_text(text)
    with FeatureStore(folder, redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def kept(store: FeatureStore) -> set[str]:
    return {path.name for path in (store.state_dir / "verdicts").iterdir()}


def gone(store: FeatureStore, *, dry_run: bool = False) -> set[str]:
    return {file.path.name for file in store.gc(dry_run=dry_run).files}


def test_what_sources_need_stays(store: FeatureStore) -> None:
    before = kept(store)
    assert sum(name.endswith(".parquet") for name in before) == 4
    assert {"source.one.json", "source.many.json"} < before
    assert gone(store) == set()
    assert kept(store) == before


def test_of_a_file_that_is_gone_everything_goes(store: FeatureStore) -> None:
    before, path = kept(store), store.path / "data" / "many" / "2.csv"
    path.unlink()
    mine = {name for name in before if name.startswith(note_name(str(path)).removesuffix(".json"))}
    assert any(name.endswith(".parquet") for name in mine)
    planned = store.gc(dry_run=True)
    assert kept(store) == before
    done = store.gc()
    assert done.files == planned.files
    assert {file.path.name for file in done.files} == mine
    assert done.file_bytes == sum(file.bytes for file in done.files) > 0
    assert kept(store) == before - mine


def test_a_copy_of_another_content_goes(store: FeatureStore) -> None:
    before = kept(store)
    (store.path / "data" / "one.csv").write_text(ONE.format(n=2))
    removed = gone(store)
    assert {name.rpartition(".")[2] for name in removed} == {"parquet", "sum"}
    assert kept(store) == before - removed
    store.materialize()
    assert gone(store) == set()
    assert store.get_online_features("service", [{"k": 1}]).columns["of_one__n"] == [2]


def test_what_was_kept_of_a_source_that_is_gone_or_reads_otherwise_goes(
    store: FeatureStore,
) -> None:
    path = store.path / "definitions.py"
    path.write_text(MODULE.replace('delimiter=";"', 'delimiter=";", null_values=["x"]'))
    before = kept(store)
    with FeatureStore(store.path, redis_url=store.online.url) as changed:  # type: ignore[attr-defined]
        frame = {"k": [1], "event_timestamp": [dt.datetime(2024, 1, 2, tzinfo=dt.UTC)]}
        changed.get_historical_features(frame, ["of_many:n"]).to_arrow()
        assert kept(changed) > before
        assert gone(changed) == {n for n in before if n.endswith((".parquet", ".sum"))} - of_one(
            changed
        )
        path.write_text(MODULE.replace('view("one", "data/one.csv"), ', ""))
        changed.reload()
        assert "source.one.json" in gone(changed, dry_run=True)
        assert of_one(changed) <= gone(changed)
    assert "source.one.json" not in kept(store)


def of_one(store: FeatureStore) -> set[str]:
    """The copies of the file of `one`, and their checksums."""
    begins = note_name(str(store.path / "data" / "one.csv")).removesuffix(".json")
    return {name for name in kept(store) if name.startswith(f"{begins}-")}


def test_what_another_process_keeps_meanwhile_stays(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = store.path / "data" / "one.csv", csv.kept

    def meanwhile(*given: object) -> object:
        """A file changes, and is read by another process, once gc has seen what there is."""
        monkeypatch.setattr(csv, "kept", asked)
        found = asked(*given)  # type: ignore[arg-type]
        path.write_text(ONE.format(n=3))
        with FeatureStore(store.path, redis_url=store.online.url) as other:  # type: ignore[attr-defined]
            other.materialize()
        return found

    monkeypatch.setattr(csv, "kept", meanwhile)
    before = of_one(store)
    assert gone(store) <= before
    assert len(of_one(store)) == 2
    assert not of_one(store) & before


def test_what_is_being_written_stays(store: FeatureStore) -> None:
    folder = store.state_dir / "verdicts"
    begun = folder / ".x.parquet.0.writing"
    begun.write_bytes(b"")
    (folder / "source.other.json").write_text("{}")
    assert gone(store) == {"source.other.json"}
    assert begun.exists()


def test_where_versions_are_named_no_file_is_looked_at(store: FeatureStore) -> None:
    unused = store.repo.compiled_views["of_one"].fingerprint
    for days in (1, 2):
        path = store.path / "definitions.py"
        path.write_text(MODULE.replace("features={", f'ttl="{days}d", features={{'))
        store.reload()
        store.apply()
        store.materialize()
    before = kept(store)
    (store.path / "data" / "one.csv").unlink()
    done = store.gc([f"of_one:{unused}"])
    assert (done.files, done.keys > 0) == ((), True)
    assert kept(store) == before
