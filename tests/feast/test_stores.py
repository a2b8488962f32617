"""A Feast repo on featurekit's stores: apply, materialise, and both paths say the same bits."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("feast.feature_store", reason="needs Feast (the extra featurekit[feast])")

from feast_repos import DAY, NOW, exact

pytestmark = pytest.mark.filterwarnings("ignore")


def test_both_paths_say_the_same_bits(make_repo: Any) -> None:
    from feast.types import Float64, Int64, String

    repo = make_repo()
    rows = pa.table({
        "key": [1, 1, 2, 3],
        "at": [NOW - 3 * DAY, NOW - 2 * DAY, NOW - 2 * DAY, NOW - DAY],
        "i": [1, 9007199254740993, None, 3],
        "f": [0.1, float("nan"), -0.0, None],
        "s": ["a", "b", "", None],
    })  # fmt: skip
    repo.view("v", rows, {"i": Int64, "f": Float64, "s": String})
    repo.materialize()
    refs = ["v:i", "v:f", "v:s"]
    offline, online = repo.offline(refs, [1, 2, 3, 4]), repo.online(refs, [1, 2, 3, 4])
    assert offline["i"] == [9007199254740993, None, 3, None]
    assert offline["s"] == ["b", "", None, None]
    assert exact(online) == exact(offline)
