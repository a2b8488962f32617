"""What callers from outside read of an error: nothing of where the server keeps what it has."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from featurekit import errors
from featurekit.errors import FeaturekitError, StoreUnavailable
from featurekit.server import failures
from featurekit.server.logs import Sparing

PLACE = "Redis at 10.0.0.7:6379 and /var/lib/features"


def kinds(of: type[FeaturekitError] = FeaturekitError) -> Iterator[type[FeaturekitError]]:
    yield of
    for one in of.__subclasses__():
        if one.__module__.startswith("featurekit."):  # other tests have some of their own
            yield from kinds(one)


OPEN = {errors.DamagedState, errors.DamagedView, errors.DamagedNote, errors.PlanRefused,
        errors.FingerprintMismatch, errors.LeaseLost, failures.Told, failures.Overdue}  # fmt: skip
"""503s whose texts name views, entities and what the project calls its notes, but no place."""


@pytest.mark.parametrize(
    "kind",
    sorted(
        set(kinds()) - {errors.CompileError, errors.DefinitionErrors},
        key=lambda kind: kind.__name__,
    ),
)
def test_every_503_is_one_that_names_no_place_or_is_told_in_other_words(
    kind: type[FeaturekitError],
) -> None:
    error = kind(PLACE)
    document = failures.document(error, "route", "id")
    hidden = failures.status_of(error) == 503 and kind not in OPEN
    assert (PLACE in str(document)) != (hidden or failures.status_of(error) == 500), document
    assert document["error"]["type"] == failures.kind_of(error)
    if failures.status_of(error) != 500:
        assert PLACE in str(failures.document(error, "route", "id", near=True))


def test_a_caller_is_told_that_lookups_pause() -> None:
    error = StoreUnavailable(PLACE, retry_after_s=2.5)
    assert "Retry-After" in failures.document(error, "route", "id")["error"]["write"]
    assert failures.headers_of(error) == [(b"retry-after", b"3")]


def test_an_outage_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    spare = Sparing(logging.getLogger("test_outside"), every_s=0.0)
    spare.warning("first")
    spare._every_s = 3600.0
    spare.warning("second")
    for _ in range(41):
        spare.warning("left out")
    spare._next = 0.0
    spare.warning("last")
    assert [record.getMessage() for record in caplog.records] == [
        "first", "second", "last (41 more since the last such line)",
    ]  # fmt: skip
