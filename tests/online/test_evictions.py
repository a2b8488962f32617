"""What a mark of a fill tells of the keys that the server has evicted since."""

from __future__ import annotations

import pytest

from featurekit.online.store.marks import Filled
from featurekit.online.store.protocol import Health

FILL = Filled(number=1, run="one", evicted=5, policy="allkeys-lru")


@pytest.mark.parametrize(
    ("run", "evicted", "gone"),
    [
        ("one", 5, 0),
        ("one", 7, 2),
        ("one", 3, 3),  # the server's numbers were set back
        ("other", 0, 0),
        ("other", 3, 3),
        ("other", 5, 5),  # as many as the run of the fill had
        ("other", 7, 7),
    ],
)
def test_evictions_are_counted_from_the_fill_in_its_run_and_from_zero_in_another(
    run: str, evicted: int, gone: int
) -> None:
    found = FILL.lost(Health(run, evicted, "allkeys-lru"))
    assert found == (f"Redis has evicted {gone} keys since it was filled" if gone else None)
