"""The media type of an answer is the one that the caller would rather have (RFC 9110, 12.5.1)."""

from __future__ import annotations

import pytest

from featurekit.errors import RequestRefused
from featurekit.server.accept import ARROW, JSON, MSGPACK, WRITTEN, WRITTEN_OF_PUSHES, accepted

CHOSEN = [
    (None, JSON),
    ("*/*", JSON),
    ("application/json", JSON),
    ("Application/JSON; charset=utf-8", JSON),
    ("application/x-msgpack", MSGPACK),
    ("application/vnd.msgpack;q=0.2", MSGPACK),
    ("application/vnd.apache.arrow.stream, application/json", ARROW),
    ("application/json, application/msgpack", JSON),
    ("application/msgpack, application/json", MSGPACK),
    ("application/json;q=0.4, application/msgpack;q=0.5", MSGPACK),
    ("application/json;q=0.5,application/vnd.apache.arrow.stream;q=0.501", ARROW),
    ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
    ("text/csv, application/*;q=0.1", JSON),
    ("application/json;q=0, */*", MSGPACK),
    ("application/json;q=0, application/msgpack; q=0.000, */*;q=0.1", ARROW),
    ("application/*;q=0, application/msgpack", MSGPACK),
    ("*/*;q=0.9, application/vnd.apache.arrow.stream", ARROW),
    ("application/json;q=0.1, */*;q=0.9", MSGPACK),
    ("application/msgpack ; Q=1.000 , application/json ; q=1.", MSGPACK),
]


@pytest.mark.parametrize(("header", "wanted"), CHOSEN)
def test_the_type_that_weighs_most_is_written(header: str | None, wanted: bytes) -> None:
    assert accepted(None if header is None else header.encode()) == wanted


def test_a_type_that_a_route_does_not_write_is_not_chosen() -> None:
    header = b"application/vnd.apache.arrow.stream, application/msgpack;q=0.1"
    assert accepted(header, WRITTEN) == ARROW
    assert accepted(header, WRITTEN_OF_PUSHES) == MSGPACK


@pytest.mark.parametrize(
    "header", ["", "text/csv", "application/json;q=0", "*/*;q=0", "application/*;q=0.0, text/*"]
)
def test_where_nothing_is_left_it_is_a_406(header: str) -> None:
    with pytest.raises(RequestRefused, match="write one of application/json") as caught:
        accepted(header.encode())
    assert caught.value.status == 406


@pytest.mark.parametrize("weight", ["2", "-1", "1.1", "0.1234", "", "a", "1e-1", "nan", ".5"])
def test_a_weight_that_is_none_is_told(weight: str) -> None:
    with pytest.raises(RequestRefused, match="0 to 1") as caught:
        accepted(f"application/json;q={weight}".encode())
    assert (caught.value.status, caught.value.where) == (400, "accept")
