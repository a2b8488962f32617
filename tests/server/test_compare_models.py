"""Two models beside one another: a real server that forwards to a real model server, by a route
with a canary and with a shadow, and what its log says of them afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forwarding
import pytest
import serving
from forwarding import predict
from serving import fill, write

from featurekit import FeatureStore
from featurekit.cli import main
from featurekit.errors import ArgumentError, DataError
from featurekit.monitor.compare import _quantile
from featurekit.online.store.server import scratch_redis

ROWS = [{"key": k} for k in (0, 1, *range(100, 158))]


@dataclass(frozen=True, slots=True)
class Asked:
    """The repo, the folder of its log, and for each row who answered it, and what."""

    folder: Path
    log: Path
    told: list[tuple[str, float]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder, log = tmp_path_factory.mktemp("compare"), tmp_path_factory.mktemp("log")
    with scratch_redis() as url, forwarding.model_server() as model:
        write(folder, url)
        fill(folder)

        def target(name: str, version: int) -> str:
            return f"{forwarding.target(model, name)},model=churn,model_version={version}"

        with serving.serving(
            "--repo", str(folder), "--serving-log", str(log),
            "--forward", target("churn@3", 1), "--forward", target("churn@4", 1),
            "--forward", target("churn@5", 2),
            "--route", "churn@3=50,churn@5=50", "--shadow", "churn@4",
        ) as server:  # fmt: skip
            told = []
            for begin in range(0, len(ROWS), 20):
                status, answer = predict(server, ROWS[begin : begin + 20])
                assert status == 200, answer
                told += zip(answer["target"], answer["predictions"], strict=True)
            assert server.stop() == 0
        yield Asked(folder, log, told)


def compared(asked: Asked, one: str, other: str, **options: Any) -> Any:
    with FeatureStore(asked.folder) as store:
        return store.compare(one, other, log=asked.log, **options)


def test_a_shadow_is_compared_row_by_row(asked: Asked) -> None:
    own = [value for target, value in asked.told if target == "churn@3"]
    assert 10 < len(own) < 50
    found = compared(asked, "churn@3", "churn@4")
    assert (found.both, found.agreeing, found.furthest) == (len(own), len(own), 0.0)
    assert (found.one.rows, found.one.answered, found.one.failed) == (len(own), len(own), 0)
    assert (found.other.rows, found.other.answered) == (len(ROWS), 0)
    assert found.one.requests == found.other.requests == 3
    assert found.one.mean == math.fsum(own) / len(own)
    assert 0 < found.one.p50_ms <= found.one.p99_ms


def test_rows_that_two_models_predict_otherwise_are_counted_with_how_far(asked: Asked) -> None:
    found = compared(asked, "churn@5", "churn@4")
    values = [value for target, value in asked.told if target == "churn@5"]
    assert (found.both, found.agreeing) == (len(values), 0)
    assert found.furthest is not None
    assert found.furthest > 0
    assert found.one.mean != found.other.mean
    assert {"psi", "jensen_shannon", "ks", "null_share"} & {f.measure for f in found.figures}


def test_a_canary_shares_no_row_and_is_compared_as_a_whole(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "churn@3", "churn@5", "--repo", str(asked.folder), "--log", str(asked.log)]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["both"], said["agreeing"], said["furthest"]) == (0, 0, None)
    assert said["one"]["rows"] + said["other"]["rows"] == len(ROWS)
    assert said["figures"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "No row was predicted by both" in out
    assert "churn@5" in out


def test_what_cannot_be_compared_is_told(asked: Asked) -> None:
    with pytest.raises(DataError, match=r"no prediction of 'churn@9' .* churn@3, churn@4, churn@5"):
        compared(asked, "churn@3", "churn@9")
    with pytest.raises(DataError, match=r"no prediction of 'churn@3' from 1970.*it has none"):
        compared(asked, "churn@3", "churn@4", end="1970-01-09")
    with pytest.raises(ArgumentError, match="named twice"):
        compared(asked, "churn@3", "churn@3")


def test_a_quantile_is_the_least_that_so_many_reach() -> None:
    took = [1000 * k for k in range(1, 101)]
    assert (_quantile(took, 0.5), _quantile(took, 0.99)) == (50.0, 99.0)
    assert (_quantile([7000], 0.99), _quantile([], 0.5)) == (7.0, None)
