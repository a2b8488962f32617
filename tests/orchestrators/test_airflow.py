"""The operators and sensors of `featurekit.plugins.airflow`, in a real Airflow: what is asked for
has the data interval in it, so that a re-run, a backfill and two at once change nothing twice."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from featurekit import FeatureStore
from featurekit.log.served.block import ServedBlock, ServedHead, encode
from featurekit.log.served.parquet import written
from tests.orchestrators.described import GOOD, break_contract, repo_for, trace
from tests.orchestrators.environments import program

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "airflow_dag.py"
_PATIENCE_S = 900


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Airflow whose tables are made."""
    found = tmp_path_factory.mktemp("airflow")
    env = {**os.environ, **settings(found, found)}
    command = [program("airflow", "airflow"), "db", "migrate"]
    subprocess.run(command, env=env, check=True, capture_output=True)
    return found


def settings(home: Path, dags: Path) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "PYTHONPATH": str(ROOT),
    }


class Running:
    """A repo with the example DAG."""

    def __init__(self, folder: Path, home: Path, redis_url: str) -> None:
        self.repo, env = repo_for(folder, GOOD, redis_url)
        dags = folder / "dags"
        dags.mkdir()
        (dags / EXAMPLE.name).write_bytes(EXAMPLE.read_bytes())
        airflow = program("airflow", "airflow")
        env["PATH"] += f":{Path(airflow).parent}"
        self.airflow = airflow
        self.env = {**env, **settings(home, dags)}
        self.redis = redis.Redis.from_url(redis_url)

    def test(self, at: dt.datetime) -> bool:
        """Run the DAG for a data interval that ends at an instant."""
        command = [self.airflow, "dags", "test", "features", at.isoformat(timespec="seconds")]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True,
                              timeout=_PATIENCE_S, check=False)  # fmt: skip
        print(done.stdout[-20_000:], done.stderr[-5_000:])
        return done.returncode == 0

    def featurekit(self, *words: str) -> Any:
        env = {**self.env, "TRACE": os.devnull}
        command = [sys.executable, "-m", "featurekit.cli", "--json", *words]
        done = subprocess.run(command, cwd=self.repo, env=env, capture_output=True, check=True)
        return json.loads(done.stdout)

    def states(self) -> dict[bytes, bytes]:
        """The bytes of all that Redis keeps, without the clock, the note of when a view was last
        filled, and the leases of who works."""
        found = {}
        for key in self.redis.scan_iter():
            if not any(part in key for part in (b":clock", b":filled", b"lease")):
                found[key] = self.redis.dump(key)
        return found

    def training(self) -> bytes:
        return (self.repo / "train.parquet").read_bytes()


@pytest.fixture
def running(tmp_path: Path, home: Path, redis_url: str) -> Iterator[Running]:
    made = Running(tmp_path, home, redis_url)
    made.featurekit("apply")
    yield made
    made.redis.close()


def test_a_rerun_a_backfill_and_two_at_once_change_nothing_twice(running: Running) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    assert running.test(now)
    verbs = [words[1] for words in trace(running.env)]
    end = re.search(r"materialize --end (\S+) --incremental", "\n".join(verbs))[1]  # type: ignore[index]
    assert now - dt.timedelta(days=2) < dt.datetime.fromisoformat(end) <= now
    assert any(f"--known-at {end}" in verb for verb in verbs)
    before, rows = running.states(), running.training()
    assert sum(b":state:customer_orders:" in key for key in before) == 3
    # Again, and for an interval of long ago.
    assert running.test(now)
    assert {words[1] for words in trace(running.env)} == {*verbs}
    assert (running.states(), running.training()) == (before, rows)
    assert running.test(now - dt.timedelta(days=3))
    assert running.states() == before
    assert f"--end {end}" not in trace(running.env)[-1][1]
    # Two at once: what they do is what the operator does.
    words = ["materialize", "--end", end, "--incremental"]
    command = [sys.executable, "-m", "featurekit.cli", *words]
    env = {**running.env, "TRACE": os.devnull}
    both = [subprocess.Popen(command, cwd=running.repo, env=env) for _ in range(2)]
    assert [one.wait(_PATIENCE_S) for one in both] == [0, 0]
    assert running.states() == before


def test_a_broken_contract_fails_for_good_and_stops_the_rest(running: Running) -> None:
    break_contract(running.repo)
    assert not running.test(dt.datetime.now(dt.UTC))
    verbs = [words[1].split()[1] for words in trace(running.env)]
    assert verbs == ["validate"]


CODE = """
import datetime as dt, json, sys
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from featurekit.plugins.airflow import *
told = json.loads(sys.argv[1])
def one(kind, name="t", **given):
    return globals()[kind](task_id=name, repo=told["repo"], **given)
def ended(call):
    try:
        return call()
    except AirflowFailException as error:
        return f"failed for good: {error}"
    except AirflowException as error:
        return f"failed: {error}"
print(json.dumps([ended(lambda: eval(text, globals())) for text in told["asked"]], default=str))
"""


def asked(running: Running, *texts: str) -> list[Any]:
    """What expressions over operators and sensors give, in Airflow's own Python."""
    command = [program("airflow", "python"), "-W", "ignore", "-c", CODE]
    told = json.dumps({"repo": str(running.repo), "asked": texts})
    done = subprocess.run([*command, told], env=running.env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_sensors_wait_until_it_holds(running: Running) -> None:
    end = dt.datetime.now(dt.UTC).isoformat()
    materialized = f"one('MaterializedSensor', end={end!r}).poke({{}})"
    deployable = "one('DeployableSensor', contract='c.json', budget='100').poke({})"
    valid = "one('ValidSensor').poke({})"
    running.featurekit("get-historical", "checkout", "labels.csv", "-o", "t.parquet",
                       "--contract", "c.json")  # fmt: skip
    assert asked(running, materialized, deployable, valid) == [False, False, True]
    running.featurekit("materialize", "--end", "2026-01-01")
    assert asked(running, materialized) == [False]
    running.featurekit("materialize")
    later = f"one('MaterializedSensor', end={dt.datetime.now(dt.UTC).isoformat()!r}).poke({{}})"
    assert asked(running, materialized, deployable, later) == [True, True, False]
    break_contract(running.repo)
    assert asked(running, valid) == [False]
    (said,) = asked(running, "one('MaterializedSensor', end='2026-01-01', views=['vew']).poke({})")
    assert said.startswith("failed: no view 'vew'; there are customer_orders")


def test_an_exit_code_decides(running: Running) -> None:
    def ends(code: int, more: str = "") -> str:
        return f"one('FeaturekitOperator', words=['sh', '-c', 'exit {code}']{more}).execute({{}})"

    found = asked(running, ends(0), ends(1), ends(3), ends(64), ends(2), ends(1, ", go_on=[1]"),
                  ends(7, ", final=[7]"))  # fmt: skip
    good = {"exit_code": 0, "document": None}
    assert found[0] == good
    assert [text.split(":")[0] for text in found[1:5]] == [*["failed for good"] * 3, "failed"]
    assert found[5] == {**good, "exit_code": 1}
    assert found[6].startswith("failed for good: exit code 7: sh -c 'exit 7'")


def test_operators_tell_little_of_what_a_verb_says(running: Running) -> None:
    running.featurekit("materialize")
    found = asked(
        running,
        "one('ValidateOperator').execute({})",
        "one('ParityOperator', budget='100').execute({})",
        "one('TrainingSetOperator', service='checkout', frame='labels.csv', output='t.parquet', "
        "known_at='2030-01-01').execute({})",
    )
    documents = [one["document"] for one in found]
    assert documents[0] == {"orders": {"rows": 10, "ok": True}}
    assert documents[1]["checkout"]["differing"] == 0
    assert documents[2].keys() == {"output", "rows", "content_hash", "known_at"}
    assert documents[2]["rows"] == 3


def test_the_instant_of_an_exported_dag_is_that_of_the_operators() -> None:
    from featurekit.plugins.pipelines import airflow as exporter

    text = (ROOT / "featurekit" / "plugins" / "airflow.py").read_text(encoding="utf-8")
    assert exporter._END in text


def serve_days(repo: Path, *centres: float) -> dt.datetime:
    """A serving log of days one after another, whose spending lies about these; the end of the last
    one comes back."""
    end = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    first = end - dt.timedelta(days=len(centres))
    with FeatureStore(repo) as store:
        service = store.parts.repo.compiled_services["checkout"]
    head = ServedHead.of("shop", service, {})
    rng = random.Random(20)
    n = 2_000
    for day, centre in enumerate(centres):
        at = int((first + dt.timedelta(days=day, hours=9)).timestamp() * 1e6)
        columns = {"int": [rng.randrange(9) for _ in range(n)],
                   "float": [rng.gauss(centre, 1.0) for _ in range(n)]}  # fmt: skip
        block = ServedBlock(
            head,
            served_at=[at] * n,
            as_of=[at] * n,
            request=list(range(n)),
            arrivals=[[at - 1] * n for _ in head.views],
            keys=[list(range(n)) for _ in head.keys],
            fields=[[1.0] * n for _ in head.request],
            values=[columns.get(type_.name, [None] * n) for type_ in head.outputs.values()],
            statuses=[["PRESENT"] * n for _ in head.outputs],
            until=[None for _ in head.views],
        )
        made = written(head, [b"".join(encode(block))], [{**block.about(), "rows": n}])
        folder = repo / ".featurekit" / "served"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{day:020d}.parquet").write_bytes(made)
    return end


def test_drift_fails_for_good_unless_it_may_go_on(running: Running) -> None:
    """The window ends with the data interval, so a re-run says the same, whatever was served
    since."""
    end = serve_days(running.repo, 0.0, 0.0, 3.0)
    words = "one('DriftOperator', service='checkout', reference='1d', end={!r}{}).execute({{}})"
    days = [(end - dt.timedelta(days=n)).isoformat() for n in (1, 0)]
    asks = [words.format(days[0], ""), words.format(days[1], ""),
            words.format(days[1], ", go_on=(1,)"), words.format(days[0], ""),
            words.format(days[0], ", window='1h'"),
            words.format(days[0], ", command=['featurekit'], window='often'")]  # fmt: skip
    log = running.repo / "feature_store.yaml"
    config = yaml.safe_load(log.read_text())
    config["featurekit"]["serving_log"] = {"to": "parquet"}
    log.write_text(yaml.safe_dump(config))
    before = running.states()
    steady, failed, drifted, again, empty, odd = asked(running, *asks)
    assert steady["exit_code"] == 0
    assert steady["document"] == {"drifting": [], "rows": 2_000, "reference_rows": 2_000}
    assert again == steady
    assert failed.startswith("failed for good: exit code 1: featurekit --json monitor drift check")
    assert drifted["exit_code"] == 1
    assert drifted["document"]["drifting"]
    assert empty.startswith("failed: exit code 2")
    assert odd.startswith("failed for good: exit code 64")
    assert running.states() == before
