"""A few of the mangled inputs of which `python -m tests.mangling` tries millions."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pyarrow as pa
import pytest

from featurekit.errors import OnlineError
from featurekit.online.wire import arrow
from tests.mangling import targets

INPUTS = {"states": 150, "packed": 1_000, "replies": 1_000, "blocks": 1_000}


@pytest.mark.parametrize("name", INPUTS)
def test_no_mangled_bytes_are_a_value_or_a_raw_error(name: str) -> None:
    rng = random.Random(name)
    one = getattr(targets, name)()
    assert len({one(rng) for _ in range(INPUTS[name])}) > 1  # some are read, some are refused


def test_no_mangled_answer_is_a_raw_error_of_the_client(world: Any) -> None:
    rng = random.Random(1)
    one = targets.answers(world.store)
    assert {one(rng) for _ in range(3_000)} == {"read", "refused"}


def test_no_mangled_body_is_a_fault_of_the_server(world: Any) -> None:
    rng = random.Random(1)
    with targets.bodies(world.url) as one:
        assert {"200", "400", "422"} <= {one(rng) for _ in range(1_500)}


def test_no_mangled_push_is_a_raw_error_or_other_rows(world: Any) -> None:
    rng = random.Random(1)
    with targets.pushes(world.store.parts.source("events")) as one:
        found = {one(rng) for _ in range(1_000)}
    kinds = ("json", "msgpack", "arrow", "parquet")
    assert found == {f"{kind} {what}" for kind in kinds for what in ("read", "refused")}


AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_an_offset_that_leads_out_of_an_answer_is_not_followed(world: Any) -> None:
    """Without a check Arrow reads memory wherever an offset leads."""
    result = world.store.get_online_features(["latest:s"], [{"key": 1}])
    data = bytearray(arrow.stream(result, "s", "v"))
    size = int.from_bytes(data[4:8], "little") + 8
    batch = arrow.read(bytes(data), AT)[0].to_arrow().to_batches()[0]
    offsets = next(c for c in batch.columns if pa.types.is_string(c.type)).buffers()[1].to_pybytes()
    at = data.index(offsets, size)
    data[at : at + 8] = (-5).to_bytes(4, "little", signed=True) + (2**31 - 1).to_bytes(4, "little")
    with pytest.raises(ValueError, match="no stream of an online result"):
        arrow.read(bytes(data), AT)


def test_a_value_that_python_does_not_have_is_an_error_of_ours(world: Any) -> None:
    result = world.store.get_online_features(["latest:d"], [{"key": 1}])
    data = arrow.stream(result, "s", "v")
    last = dt.date.max.toordinal() - dt.date(1970, 1, 1).toordinal()
    days = last.to_bytes(4, "little")
    assert data.count(days) == 1
    beyond = data.replace(days, (last + 1).to_bytes(4, "little"))
    with pytest.raises(OnlineError, match="a value that its type does not have"):
        arrow.read(beyond, AT)[0].to_pylist()


def test_statuses_of_other_rows_are_no_answer(world: Any) -> None:
    result = world.store.get_online_features("plain", [{"key": 1}, {"key": 99}])
    data = arrow.stream(result, "s", "v")
    one = data.replace(b'["PRESENT", "NOT_FOUND"]', b'["PRESENT"             ]')
    one = (
        one if one != data else data.replace(b'["PRESENT","NOT_FOUND"]', b'["PRESENT"            ]')
    )
    assert one != data
    with pytest.raises(ValueError, match="statuses are none of its rows"):
        arrow.read(one, AT)
