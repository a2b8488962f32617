"""One view in two roles: the same states by two keys, on every path; join keys and the instant as
inputs of request-time transforms."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from feature_repos import MakeRepo
from rules.asking import Answer, ask_all, present

from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature
from featurekit.define.compile_service import compile_service
from featurekit.define.published import plan_bytes
from featurekit.errors import DefinitionError, EntityFrameError
from featurekit.online.store.protocol import OnlineStore

NOON = dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)

MODULE = """
import datetime as dt
from featurekit import Entity, EventSource, FeatureService, FeatureView, feature
from featurekit.aggregates import Count, Last, Sum

station = Entity("station", {"station_id": int})
trip = Entity("trip", {"trip_id": str})
docks = EventSource(
    "docks", path="data/docks.parquet", timestamp_field="at", created_timestamp_column="arrived",
    schema={"station_id": int, "bikes": int, "seen": dt.datetime},
)
trips = EventSource(
    "trips", path="data/trips.parquet", timestamp_field="at",
    schema={"trip_id": str, "origin_id": int, "fare": float},
)

@feature
def idle(as_of: dt.datetime, seen: dt.datetime, bikes: int) -> float:
    return (as_of - seen).total_seconds() / bikes

stations = FeatureView("stations", entities=[station], source=docks, features={
    "bikes": "bikes", "seen": "seen", "idle": idle,
}, history="30d")
traffic = FeatureView("traffic", entities=[station], source=docks, features={
    "moves": Count(window="1d"), "total": Sum("bikes", window="1d"),
}, history="30d")
fares = FeatureView("fares", entities=[trip], source=trips, history="30d",
                    features={"fare": "fare"})

ORIGIN = {"station_id": "origin_id"}
GOAL = {"station_id": "goal_id"}

@feature
def difference(origin__bikes: int | None, goal__bikes: int | None) -> int | None:
    if origin__bikes is None or goal__bikes is None:
        return None
    return origin__bikes - goal__bikes

@feature
def round_trip(origin_id: int | None, goal_id: int | None) -> bool:
    return origin_id is not None and goal_id is not None and origin_id == goal_id

@feature
def age(as_of: dt.datetime, origin__seen: dt.datetime | None) -> float | None:
    return None if origin__seen is None else (as_of - origin__seen).total_seconds()

@feature
def hour(as_of: dt.datetime) -> int:
    return as_of.hour

service = FeatureService("journey", features=[
    stations.as_("origin", join_keys=ORIGIN),
    stations.as_("goal", join_keys=GOAL)[["bikes", "idle"]],
    traffic.as_("out", join_keys=ORIGIN),
    traffic.as_("back", join_keys=GOAL),
    fares, difference, round_trip, age, hour,
])
plain = FeatureService("plain", features=[stations, traffic])
from_here = FeatureService("from_here", features=[stations.as_("origin", join_keys=ORIGIN)])
oldest = FeatureService("oldest", features=[traffic, fares])
"""


def row(station: int, bikes: int, minute: int, late: int = 0) -> dict[str, Any]:
    at = NOON + dt.timedelta(minutes=minute)
    return {
        "station_id": station,
        "bikes": bikes,
        "seen": at - dt.timedelta(seconds=bikes),
        "at": at,
        "arrived": at + dt.timedelta(minutes=late),
    }


DOCKS = [
    *(row(1 + n % 5, n, n - 50, n % 3) for n in range(50)),
    row(1, 100, 1),
    row(2, 200, 2),
]
TABLES = {
    "docks": pa.Table.from_pylist(DOCKS),
    "trips": pa.table(
        {
            "trip_id": ["a", "b"],
            "origin_id": [1, 2],
            "fare": [2.5, 3.5],
            "at": pa.array([NOON, NOON], pa.timestamp("us", tz="UTC")),
        }
    ),
}


@pytest.fixture
def store(make_repo: MakeRepo, redis_url: str, redis_store: OnlineStore) -> Iterator[FeatureStore]:
    with FeatureStore(make_repo(MODULE, TABLES), redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        yield opened


def asked(origin: int | None, goal: int | None, trip: str | None = "a") -> dict[str, Any]:
    return {"origin_id": origin, "goal_id": goal, "trip_id": trip}


def test_two_roles_read_one_view_by_two_keys(store: FeatureStore) -> None:
    as_of = NOON + dt.timedelta(minutes=10)
    found = ask_all(store, "journey", [asked(1, 2), asked(2, 1), asked(1, 1)], as_of)
    both = [(one["origin__bikes"], one["goal__bikes"], one["difference"]) for one in found]
    assert both == [
        (present(100), present(200), present(-100)),
        (present(200), present(100), present(100)),
        (present(100), present(100), present(0)),
    ]
    assert [one["round_trip"] for one in found] == [present(x) for x in (False, False, True)]


def test_the_instant_is_that_of_the_request_on_both_paths(store: FeatureStore) -> None:
    as_of = NOON + dt.timedelta(minutes=10, microseconds=7)
    (found,) = ask_all(store, "journey", [asked(1, 2)], as_of)
    assert found["age"] == present(9 * 60 + 100.000007)
    assert found["hour"] == present(12)


def test_a_null_key_of_one_role_leaves_the_other(store: FeatureStore) -> None:
    (found,) = ask_all(store, "journey", [asked(1, None)], NOON + dt.timedelta(minutes=10))
    assert found["origin__bikes"] == present(100)
    assert found["goal__bikes"][1] == "NOT_FOUND"
    assert found["round_trip"] == present(False)


def test_roles_share_their_states(store: FeatureStore) -> None:
    """A service that reads the views plainly needs no states of its own."""
    prefixes = {bytes(k).split(b":{")[0] for k in store.online.keys(b"fk:tests:state:")}
    assert len(prefixes) == 3
    (found,) = ask_all(store, "plain", [{"station_id": 2}], NOON + dt.timedelta(minutes=10))
    assert found["bikes"] == present(200)


def test_a_push_reaches_each_role_once(store: FeatureStore) -> None:
    as_of = NOON + dt.timedelta(hours=1)
    before = ask_all(store, "journey", [asked(3, 3)], as_of)[0]
    store.push("docks", [row(3, 7, 20)])
    (found,) = ask_all(store, "journey", [asked(3, 3)], as_of)
    assert found["out__moves"] == found["back__moves"] == plus_one(before["out__moves"])
    assert found["origin__bikes"] == found["goal__bikes"] == present(7)


def plus_one(answer: Answer) -> Answer:
    return present(answer[0][1] + 1)


def test_many_rows_take_one_round_trip(store: FeatureStore) -> None:
    rows = [asked(n % 5 + 1, (n + 1) % 5 + 1) for n in range(40)]
    found = ask_all(store, "journey", rows, NOON + dt.timedelta(minutes=10))
    assert found[0]["goal__bikes"] == found[1]["origin__bikes"]


@pytest.mark.parametrize("mode", ["history", "sample", "fuzz"])
def test_parity_holds_in_every_mode(store: FeatureStore, mode: str) -> None:
    report = store.check_parity("journey", mode=mode, values=1_500, workers=1)  # type: ignore[arg-type]
    assert report.ok, [d.to_dict() for d in report.differences]
    assert report.features["difference"].statuses["PRESENT"] > 10
    assert report.features["goal__bikes"].statuses["PRESENT"] > 10
    assert report.features["goal__idle"].statuses["PRESENT"] > 10


def test_what_was_served_is_replayed(make_repo: MakeRepo, redis_url: str, redis_store: Any) -> None:
    config = (
        "project: tests\nprovider: local\nonline_store:\n  type: redis\n"
        "featurekit:\n  serving_log:\n    to: parquet\n"
    )
    with FeatureStore(make_repo(MODULE, TABLES, config), redis_url=redis_url) as opened:
        opened.apply()
        opened.materialize()
        for n in range(10):
            opened.get_online_features("journey", [asked(n % 5 + 1, 2), asked(1, None)])
        opened.close()
        report = opened.check_parity("journey", mode="replay")
        assert report.ok, [d.to_dict() for d in report.differences]
        assert report.rows == 20


def test_a_training_set_of_one_role_is_made_of_every_known_entity(store: FeatureStore) -> None:
    """Without a frame, each known entity is asked about: by the field of the role."""
    as_of = NOON + dt.timedelta(minutes=10)
    made = store.get_historical_features(service="from_here", at=[as_of]).to_arrow()
    assert made["origin_id"].to_pylist() == [1, 2, 3, 4, 5]
    assert made["origin__bikes"].to_pylist()[:2] == [100, 200]
    with pytest.raises(EntityFrameError, match="origin by origin_id; goal by goal_id"):
        store.get_historical_features(service="journey", at=[as_of])


def test_a_value_of_a_role_is_explained(store: FeatureStore) -> None:
    as_of = NOON + dt.timedelta(minutes=10)
    for name in ("goal__bikes", "goal__idle", "back__moves", "round_trip", "age"):
        shown = store.explain("journey", name, asked(1, 2), as_of=as_of)
        assert shown.online == shown.offline, name
        assert shown.online is not None
        assert shown.online[1] == "PRESENT"
    shown = store.explain("journey", "goal__idle", asked(1, 2), as_of=as_of)
    assert [e.row["station_id"] for e in shown.events if e.counts] == [2]
    assert any("total_seconds" in node.text for node in shown.nodes)


def test_a_skew_in_one_role_is_found_and_diagnosed(store: FeatureStore) -> None:
    """The state of station 2 is lost: only the rows that ask for it differ."""
    (lost,) = [
        key for key in store.online.keys(b"fk:tests:state:stations:") if key.endswith(b"{2:i2}")
    ]
    store.online.delete([lost])
    report = store.check_parity("journey", mode="sample", values=3_000, workers=1)
    parted = {name for name, found in report.features.items() if found.differing}
    assert {"goal__bikes", "difference"} <= parted
    assert not parted & {"out__moves", "back__moves", "fare", "round_trip", "hour"}
    first = next(d for d in report.differences if d.feature == "goal__bikes")
    assert first.row["goal_id"] == 2
    assert any(d.diagnosis is not None for d in report.differences)


def test_other_plans_stay_as_they_were(store: FeatureStore) -> None:
    """A plan without roles is of the format that older readers read; one with roles is not."""
    formats = {
        name: json.loads(plan_bytes(service))["format"]
        for name, service in store.repo.compiled_services.items()
    }
    assert formats == {"journey": 2, "from_here": 2, "plain": 2, "oldest": 1}


def test_a_role_that_reads_another_field_is_another_version_of_the_service_alone() -> None:
    one, other = (
        compile_service(
            FeatureService("s", features=[stations.as_("origin", join_keys={"station_id": field})])
        )
        for field in ("origin_id", "goal_id")
    )
    assert one.views[0].fingerprint == other.views[0].fingerprint
    assert one.fingerprint != other.fingerprint


# --- what is refused ------------------------------------------------------------------------------

station = Entity("station", {"station_id": int})
shelf = Entity("shelf", {"station_id": int, "level": str})
source = EventSource(
    "docks", path="d.parquet", timestamp_field="at",
    schema={"station_id": int, "level": str, "bikes": int},
)  # fmt: skip
stations = FeatureView("stations", entities=[station], source=source, features={"bikes": "bikes"})
shelves = FeatureView("shelves", entities=[shelf], source=source, features={"held": "bikes"})
origin = stations.as_("origin", join_keys={"station_id": "origin_id"})


@pytest.mark.parametrize(
    ("role", "join_keys", "said"),
    [
        ("or__igin", {}, "is not a name"),
        ("", {}, "is not a name"),
        (3, {}, "is not a name"),
        ("origin", {"id": "origin_id"}, "'id' is no join key of it; it has station_id"),
        ("origin", {"station_id": ""}, "'' is not a column's name"),
        ("origin", {"station_id": 3}, "3 is not a column's name"),
        ("origin", {"station_id": "__rid"}, "'__rid' begins with __"),
        ("origin", {"station_id": "as_of"}, "names the instant that is asked for"),
        ("origin", {"station_id": "event_timestamp"}, "names the instant of an entity frame"),
    ],
)
def test_a_role_that_cannot_be_is_refused(role: Any, join_keys: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(said)):
        stations.as_(role, join_keys=join_keys)


def test_two_keys_of_one_field_are_refused() -> None:
    with pytest.raises(DefinitionError, match="two join keys are to be read from 'level'"):
        shelves.as_("top", join_keys={"station_id": "level"})


@pytest.mark.parametrize(
    ("features", "request_", "said"),
    [
        ([origin, stations.as_("origin")], {}, "'origin' names two things"),
        ([origin, shelves.as_("origin")], {}, "'origin' names two things"),
        ([stations, shelves.as_("stations")], {}, "'stations' names two things"),
        (
            [origin, shelves.as_("top", join_keys={"level": "origin_id"})],
            {},
            "the join key 'origin_id' is int in view 'origin' and str in view 'top'",
        ),
        ([origin], {"origin_id": int}, "is both a join key and a request field"),
        ([origin], {"origin__bikes": int}, "is both a feature and a key or request field"),
    ],
)
def test_a_service_whose_names_clash_is_refused(features: Any, request_: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=re.escape(said)):
        compile_service(FeatureService("s", features=features, request=request_))


def test_a_feature_of_a_role_has_its_qualified_name_alone() -> None:
    @feature
    def doubled(bikes: int | None) -> int | None:
        return None if bikes is None else bikes * 2

    with pytest.raises(DefinitionError, match="it has origin_id, origin__bikes"):
        compile_service(FeatureService("s", features=[origin, doubled]))
    assert [o.name for o in compile_service(FeatureService("s", features=[origin])).outputs] == [
        "origin__bikes"
    ]


def test_a_join_key_may_be_none_for_a_transform() -> None:
    @feature
    def far(origin_id: int) -> bool:
        return origin_id > 100

    with pytest.raises(DefinitionError, match="the join key may be None"):
        compile_service(FeatureService("s", features=[origin, far]))


def test_the_same_role_may_be_named_twice_for_more_of_its_features() -> None:
    features = [origin[["bikes"]], origin]
    assert len(compile_service(FeatureService("s", features=features)).views) == 1


def test_a_view_that_takes_the_instant_is_no_source_of_another() -> None:
    @feature
    def hour(as_of: dt.datetime) -> int:
        return as_of.hour

    view = FeatureView("asking", entities=[station], source=source, features={"hour": hour})
    above = FeatureView("above", entities=[station], source=view, features={"h": "hour"})
    with pytest.raises(DefinitionError, match="it is no column of a row"):
        compile_service(FeatureService("s", features=[above]))
