"""`featurekit parity fuzz` and the catalogue of planted skews: what it draws, finds and says."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from featurekit.cli import main
from featurekit.core.status import DAMAGED, DEFAULT, STATUSES
from featurekit.define.definitions import EventSource
from featurekit.define.plan import Feature
from featurekit.define.repo import Repo, load_repo
from featurekit.errors import DefinitionError
from featurekit.feed import events as push
from featurekit.online.store.memory import MemoryStore
from featurekit.parity import processes
from featurekit.parity.budget import Budget, parse_budget
from featurekit.parity.modes.fuzz import fuzz as fuzz_module
from featurekit.parity.modes.fuzz.fuzz import Fuzzer, fuzz
from featurekit.parity.modes.fuzz.world import constants
from featurekit.parity.modes.operators import check_operators
from featurekit.store import FeatureStore
from tests.planted.catch import REPO, catch, repo
from tests.planted.skews import SKEWS, everywhere

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "feature_repo"


@pytest.fixture(scope="module", params=[SHOP, REPO], ids=["shop", "everything"])
def whole(request: pytest.FixtureRequest) -> Repo:
    return load_repo(request.param)


def test_the_paths_agree_on_invented_histories(whole: Repo) -> None:
    seen: Counter[str] = Counter()
    for service in whole.compiled_services.values():
        fuzzer = Fuzzer(service, whole.sources, 7)
        for world in range(3):
            found = fuzzer.play(world, MemoryStore(), questions=400)
            assert [d.to_dict() for d in found.differences] == []
            assert sum(found.compared.values()) > 200 * len(service.outputs)
            for statuses in found.statuses.values():
                seen += statuses
    # Errors are few in the shop, no history damages a state, and no store is away.
    assert {"ERROR"} | {*seen} == {*STATUSES} - {DAMAGED, DEFAULT}


def test_a_world_of_few_questions_may_have_a_source_without_rows(
    whole: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, read, canonical = set[int](), list[int](), fuzz_module._canonical

    def noted(*args: Any) -> Any:
        table = canonical(*args)
        read.append(table.num_rows)
        return table

    monkeypatch.setattr(fuzz_module, "_canonical", noted)
    for service in whole.compiled_services.values():
        fuzzer = Fuzzer(service, whole.sources, 7)
        seen.update(read)
        del read[:]
        for world in range(6):
            found = fuzzer.play(world, MemoryStore(), questions=1)
            assert [d.to_dict() for d in found.differences] == []
            if 0 in read:  # more worlds of this service would show no more
                break
    assert 0 in seen.union(read)


@dataclasses.dataclass
class Played:
    """Which worlds this process played, and which it sent to other processes, by their pipes."""

    here: list[int] = dataclasses.field(default_factory=list)
    sent: dict[Any, list[int]] = dataclasses.field(default_factory=lambda: defaultdict(list))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Small worlds, which processes are given however few there are; who plays which is noted."""
    monkeypatch.setattr(fuzz_module, "_ALONE", 0)
    monkeypatch.setattr(fuzz_module, "_QUESTIONS", 1_000)
    monkeypatch.setattr(fuzz_module, "_FIRST_QUESTIONS", 300)
    noted, play, send = Played(), Fuzzer.play, processes._send

    def noted_play(fuzzer: Fuzzer, world: int, *args: Any, **options: Any) -> Any:
        noted.here.append(world)
        return play(fuzzer, world, *args, **options)

    def noted_send(pipe: Any, message: Any) -> None:
        if isinstance(message[0], int):  # a world, and its questions behind it
            noted.sent[pipe].append(message[0])
        send(pipe, message)

    monkeypatch.setattr(Fuzzer, "play", noted_play)
    monkeypatch.setattr(processes, "_send", noted_send)
    return noted


def test_the_same_seed_plays_the_same_whoever_plays_it(played: Played) -> None:
    service, budget = repo().compiled_services["instants"], Budget(values=3_600)
    one = fuzz(service, repo().sources, budget=budget, seed=3, workers=1)
    worlds = played.here.copy()
    assert (worlds, played.sent) == ([*range(len(worlds))], {})
    played.here.clear()
    two = fuzz(service, repo().sources, budget=budget, seed=3, workers=2)
    assert played.here == [0]  # the one that goes through Redis
    assert len(played.sent) == 2
    assert sorted(w for sent in played.sent.values() for w in sent) == worlds[1:]
    assert two.ok
    assert one.to_dict() | {"seconds": 0} == two.to_dict() | {"seconds": 0}
    assert one.compared >= 3_600
    other = fuzz(service, repo().sources, budget=Budget(values=900), seed=4, workers=1)
    assert other.to_dict()["features"] != one.to_dict()["features"]


def test_a_budget_of_time_ends() -> None:
    service = repo().compiled_services["instants"]
    report = fuzz(service, repo().sources, budget=Budget(seconds=0.01), seed=0, workers=1)
    assert report.ok
    assert report.compared > 0


def test_literals_of_transforms_are_drawn() -> None:
    shop = load_repo(SHOP)
    found = constants(shop.compiled_services["offer_v1"])
    assert {"POST", "BANK CHARGES"} <= {*found["str"]}
    assert {1.0, 5.0, 20.0} <= {*found["float"]}


def test_every_instant_near_an_edge_is_asked() -> None:
    """Of a window of a day: events that are just in it, just out of it, just there, and not yet."""
    from featurekit.parity.modes.fuzz.world import Course

    service = repo().compiled_services["sums"]
    fuzzer = Fuzzer(service, repo().sources, 0)
    rng = random.Random(0)
    draft = fuzzer.drafts.draw(40, rng)
    keys = draft.tables["payments"].column("customer_id").to_pylist()
    at = draft.tables["payments"].column("known_at").cast("timestamp[us]").cast("int64").to_pylist()
    rows = [{"customer_id": k, "__ts": t, "__created": t} for k, t in zip(keys, at, strict=True)]
    placed = list(enumerate(rows))
    course = Course(fuzzer.drafts, draft, {"payments": placed}, questions=20_000, turns=1, rng=rng)
    asked = [q for step in course.steps for _, q in step.questions]
    by_key: dict[Any, list[int]] = {}
    for row in rows:
        by_key.setdefault(row["customer_id"], []).append(row["__ts"])
    day = 86_400_000_000
    apart = Counter(
        q.at - ts for q in asked for ts in by_key.get(q.row["customer_id"], ()) if q.at >= ts - 1
    )
    for edge in (0, day, 7 * day, 30 * day, 2 * day):
        for beside in (-1, 0, 1):
            assert apart[edge + beside] > 0, (edge, beside)


@pytest.fixture
def undiagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Differences as they are: shrinking takes a while, and has tests of its own."""
    monkeypatch.setattr("featurekit.parity.modes.fuzz.fuzz.diagnose_report", lambda *_: None)


@pytest.mark.usefixtures("undiagnosed")
def test_a_path_that_raises_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise TypeError("unhashable type: 'list'")

    monkeypatch.setattr(push.ViewWriter, "event", broken)
    service = repo().compiled_services["instants"]
    report = fuzz(service, repo().sources, budget=Budget(values=3_000), seed=0, workers=1)
    assert not report.ok
    shown = report.differences[0].to_dict()
    assert shown["feature"] == "instants: online"
    assert "TypeError: unhashable type" in shown["online"]["status"]


@pytest.mark.usefixtures("undiagnosed")
def test_a_row_that_is_read_otherwise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    SKEWS["a_naive_time_zone_in_pushes"].plant(monkeypatch)
    service = repo().compiled_services["sums"]
    report = fuzz(service, repo().sources, budget=Budget(values=60_000), seed=0, workers=1)
    named = [d.feature for d in report.differences]
    assert {*named} & {"payments: reading at", "payments: reading known_at"}
    found = next(d.scenario for d in report.differences if d.scenario is not None)
    assert found.files is not None
    assert len(found.files) >= len({id(d.row) for d in found.deliveries})
    assert any(row not in found.deliveries for row in found.files)


@pytest.mark.usefixtures("undiagnosed")
def test_a_difference_brings_its_few_events(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = Feature.bounds
    monkeypatch.setattr(Feature, "bounds", lambda f, t: (bounds(f, t)[0] - 1, bounds(f, t)[1]))
    service = repo().compiled_services["sums"]
    report = fuzz(service, repo().sources, budget=Budget(values=40_000), seed=0, workers=1)
    for difference in report.differences:
        found = difference.scenario
        assert found is not None
        assert found.row == difference.row
        assert all(d.row["__created"] <= found.at for d in found.deliveries)
        assert 0 < len(found.deliveries) < 300


def test_a_difference_is_diagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    service = repo().compiled_services["instants"]
    SKEWS["a_zone_of_a_transform_taken_for_utc_online"].plant(monkeypatch)
    report = fuzz(service, repo().sources, budget=Budget(values=3_000), seed=0, workers=1)
    made = [d.diagnosis.feature for d in report.differences if d.diagnosis is not None]
    assert made == ["reading__local_hour"]


@pytest.mark.parametrize(
    "columns",
    [{"key": bool, "x": float}, {"key": int, "x": list[int | None] | None, "y": bytes | None}],
)
def test_keys_of_few_values_and_columns_of_odd_types(
    columns: dict[str, Any], tmp_path: Path
) -> None:
    from featurekit import Entity, FeatureService, FeatureView
    from featurekit.aggregates import Count
    from featurekit.define.compile_service import compile_service

    source = EventSource("s", path="s.csv", schema=columns, timestamp_field="at")
    entity = Entity("e", {"key": columns["key"]})
    rows = FeatureView("rows", entities=[entity], source=source, features={"x": "x"})
    counts = FeatureView(
        "counts", entities=[entity], source=source, features={"n": Count(window="lifetime")}
    )
    service = compile_service(FeatureService("service", features=[rows, counts]))
    report = fuzz(service, {"s": source}, budget=Budget(values=4_000), seed=1, workers=1)
    assert report.ok


def test_a_view_that_fails_as_a_whole_is_asked_about_its_errors() -> None:
    service = repo().compiled_services["rows"]
    strict = tuple(dataclasses.replace(v, on_error="fail") for v in service.views)
    report = fuzz(
        dataclasses.replace(service, views=strict),
        repo().sources,
        budget=Budget(values=30_000),
        seed=0,
        workers=1,
    )
    assert report.ok
    assert report.features["latest__share"].statuses["ERROR"] > 0


# --- the catalogue --------------------------------------------------------------------------------

QUICK = (
    "a_window_s_open_end_closed_offline", "an_offset_ignored_online", "a_ttl_s_end_closed_online",
    "the_second_of_two_equal_hours_in_pushes", "a_late_event_counted_by_a_backfill",
    "copies_of_an_id_counted_offline", "a_deletion_ignored_online", "ties_broken_by_arrival_online",
    "plain_sum_offline", "another_hash_of_a_sketch_online", "floats_of_32_bits_in_states",
    "ints_made_floats_online", "another_libm_for_exp_online", "a_default_for_errors_online",
    "only_ascii_made_lower_online", "keys_stripped_in_pushes",
    "a_version_before_with_another_function_online",
    "another_column_of_the_second_source_offline",
    "one_id_of_two_sources_taken_for_one_event_in_pushes",
    "the_last_element_lost_in_pushes", "events_at_the_instant_counted_online",
    "only_the_beginning_of_a_window_hops_offline", "the_later_of_two_midnights_offline",
    "rows_counted_before_the_condition_offline", "a_gap_as_long_as_the_session_s_ends_it_online",
)  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_skew_is_found(name: str) -> None:
    # `python -m tests.planted` plants them all.
    assert catch(SKEWS[name]).values > 0


def test_the_catalogue_stands_in_the_docs() -> None:
    page = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    missing = [s.about for s in SKEWS.values() if f"| {s.about} |" not in page]
    assert missing == []
    assert "missed" not in page.partition("planted: begin")[2]
    assert len(SKEWS) >= 40


# --- operators ------------------------------------------------------------------------------------


def test_operators_mean_one_thing_and_a_lie_of_the_table_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    few = Budget(values=2_000)
    assert check_operators(budget=few, only="//(").ok
    SKEWS["floor_division_truncates_offline"].plant(monkeypatch)
    report = check_operators(budget=few, only="//(")
    assert not report.ok
    shown = report.to_dict()["differences"][0]
    assert shown["operator"] == "//(int,int)"
    assert shown["python"] != shown["offline"]


def test_operators_go_on_with_other_values_for_as_long_as_they_are_given() -> None:
    once = check_operators(budget=Budget(values=10), only="+(int,int)")
    long = check_operators(budget=Budget(seconds=0.5), only="+(int,int)")
    assert long.ok
    assert long.compared > once.compared


# --- the command line -----------------------------------------------------------------------------


def test_fuzz_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--repo", str(REPO), "parity", "fuzz", "rows", "--budget", "9000", "--json"]
    assert main(argv) == 0
    (report,) = json.loads(capsys.readouterr().out)["services"]
    assert (report["mode"], report["differing"]) == ("fuzz", 0)
    assert report["compared"] >= 8_000


@pytest.mark.usefixtures("undiagnosed")
def test_fuzz_exits_with_1_where_something_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    everywhere(monkeypatch, push.prepare, lambda prepare, p, v, rows: prepare(p, v, rows[1:]))
    assert main(["--repo", str(REPO), "parity", "fuzz", "instants", "--budget", "9000"]) == 1
    assert "First difference" in capsys.readouterr().out


def test_operators_need_no_repo(tmp_path: Path) -> None:
    argv = ["parity", "operators", "--only", "str.lower", "--inputs", "50", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "featurekit.cli", *argv],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [*json.loads(done.stdout)["operators"]] == ["str.lower(str)"]


def test_an_operator_that_there_is_not_is_an_error() -> None:
    assert main(["parity", "operators", "--only", "no such operator"]) == 2


@pytest.mark.parametrize("text", ["0", "-5", "ten", "5 minutes", "1.5", "0s", ""])
def test_a_budget_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError, match="budget"):
        parse_budget(text)
    assert main(["parity", "fuzz", f"--budget={text}"]) == 64


def test_budgets() -> None:
    assert parse_budget("100_000") == Budget(values=100_000)
    assert parse_budget("5m") == Budget(seconds=300.0)
    assert parse_budget("1500ms") == Budget(seconds=1.5)


def test_a_store_checks_in_either_mode() -> None:
    with FeatureStore(REPO) as store:
        assert store.check_parity("instants", mode="fuzz", budget=3_000).ok
        with pytest.raises(DefinitionError, match=r"not .fuss."):
            store.check_parity("instants", mode="fuss")
        with pytest.raises(DefinitionError, match="not both"):
            store.check_parity("instants", budget="3s", values=5)
