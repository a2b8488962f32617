"""Operators and sensors of Airflow 3 that run one verb of featurekit each.

A verb runs as a process of its own, so that a worker loads neither DuckDB nor Redis's client, and
its exit code decides. What is asked for has the end of the data interval in it, so that a try, a
re-run and a backfill of an interval ask for the same again.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.errors import ConfigError

try:
    from airflow.sdk import BaseOperator, BaseSensorOperator
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError as error:
    raise ConfigError(
        f"featurekit.plugins.airflow: Airflow 3 cannot be imported ({error}); install "
        "featurekit[airflow]"
    ) from None

__all__ = [
    "DeployCheckOperator",
    "DeployableSensor",
    "DriftOperator",
    "FeaturekitOperator",
    "MaterializeOperator",
    "MaterializedSensor",
    "ParityOperator",
    "TrainingSetOperator",
    "ValidSensor",
    "ValidateOperator",
]

INTERVAL_END = "{{ (dag_run.data_interval_end or dag_run.run_after).isoformat() }}"
"""The end of the data interval, or the instant of a run that has none; every try has the same."""
_SHOWN = 2_000
_PATIENCE_S = 60.0


class FeaturekitOperator(BaseOperator):  # type: ignore[misc]
    """Runs a command in a feature repo, such as a verb of featurekit with its options.

    `words` are the program and its arguments, in which Jinja is read, and `repo` is the folder in
    which it runs. `env` is added to the environment of the worker. The task succeeds with the exit
    code 0 and those of `go_on`. After those of `final` it fails for good, and after any other it
    may be tried again: featurekit's 1 (what was compared differs), 3 (a contract does not hold) and
    64 (the command is not understood) would be the same. Where Airflow ends the task, the command
    gets SIGTERM, and ends without anything half written.

    Its XCom is the `exit_code`, and the `document` that a verb prints with --json, or None.
    """

    template_fields: Sequence[str] = ("words", "repo", "env")

    def __init__(
        self,
        *,
        words: Sequence[str],
        repo: str = ".",
        env: Mapping[str, str] | None = None,
        go_on: Sequence[int] = (),
        final: Sequence[int] = (1, 3, 64),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.words = list(words)
        self.repo = repo
        self.env = dict(env or {})
        self.go_on = tuple(go_on)
        self.final = tuple(final)
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Run the command. AirflowFailException after an exit code of `final`, AirflowException
        after another one that is neither 0 nor of `go_on`."""
        code, out = self._ran()
        if code not in (0, *self.go_on):
            kind = AirflowFailException if code in self.final else AirflowException
            raise kind(f"exit code {code}: {shlex.join(self.words)}")
        return {"exit_code": code, "document": self.told(_document(out))}

    def told(self, document: Any) -> Any:
        """What of the document becomes the XCom."""
        return document

    def _ran(self) -> tuple[int, str]:
        """The exit code of the command, and its standard output."""
        self.log.info("in %s: %s", self.repo, shlex.join(self.words))
        self._process = subprocess.Popen(
            self.words,
            cwd=self.repo,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            out, err = self._process.communicate()
        except BaseException:  # the task took too long
            self.on_kill()
            raise
        for text in (out, err):
            if text.strip():
                self.log.info("%s", text.strip()[-_SHOWN:])
        return self._process.returncode, out

    def on_kill(self) -> None:
        """End the command."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()


class _Verb(FeaturekitOperator):
    """An operator of one verb, whose options are arguments."""

    def __init__(
        self, *, verb: Sequence[str], command: Sequence[str] = ("featurekit",), **kwargs: Any
    ) -> None:
        super().__init__(words=[*command, "--json", *verb], **kwargs)


class ValidateOperator(_Verb):
    """Judges sources by their contracts (`featurekit validate`): all of them, or `sources`. A rule
    of severity "fail" that is broken fails the task for good. Reads only."""

    def __init__(self, *, sources: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(verb=["validate", *sources], **kwargs)

    def told(self, document: Any) -> Any:
        """Each source with its rows, and whether its rules hold."""
        return {
            one["source"]: {"rows": one["rows"], "ok": one["ok"]} for one in document["sources"]
        }


class MaterializeOperator(_Verb):
    """Fills the online states up to `end` (`featurekit materialize`), of all views or of `views`.

    `end` is by default the end of the data interval. A run of an interval that was filled already,
    or that is older than what the states hold, changes none of them; two at once wait for one
    another. With `incremental` only what has arrived since the last run is read.
    """

    def __init__(
        self,
        *,
        end: str = INTERVAL_END,
        views: Sequence[str] = (),
        incremental: bool = True,
        **kwargs: Any,
    ) -> None:
        words = ["materialize", "--end", end, *(["--incremental"] if incremental else [])]
        for view in views:
            words += ["--view", view]
        super().__init__(verb=words, **kwargs)


class ParityOperator(_Verb):
    """Compares what is served with what training sees (`featurekit parity`), for all services or
    for `services`: `mode` is sample, history, replay or fuzz, and `budget` values or a time. A
    difference fails the task for good. Reads only."""

    def __init__(
        self,
        *,
        services: Sequence[str] = (),
        mode: str = "sample",
        budget: str = "10000",
        **kwargs: Any,
    ) -> None:
        super().__init__(verb=["parity", mode, *services, "--budget", budget], **kwargs)

    def told(self, document: Any) -> Any:
        """How many values were compared, and how many differ, by service."""
        figures = ("compared", "differing")
        return {one["service"]: {f: one[f] for f in figures} for one in document["services"]}


class DriftOperator(_Verb):
    """Compares what was served in the `window` before `end` with a `reference` (`featurekit monitor
    drift`): a feature contract, a manifest, or a time. `end` is by default the end of the data
    interval. Drift fails the task for good; with `go_on=(1,)` it does not. Reads only."""

    def __init__(
        self,
        *,
        service: str,
        reference: str,
        window: str = "1d",
        end: str = INTERVAL_END,
        **kwargs: Any,
    ) -> None:
        words = ["monitor", "drift", service, "--reference", reference, "--window", window]
        super().__init__(verb=[*words, "--end", end], **kwargs)

    def told(self, document: Any) -> Any:
        """The features that drift, and of how many rows."""
        return {name: document[name] for name in ("drifting", "rows", "reference_rows")}


class TrainingSetOperator(_Verb):
    """Writes a training set to `output` (`featurekit get-historical`), with its manifest and, where
    `contract` names a file, with its feature contract.

    Its rows are those of `frame`, a file, or every known entity at instants from `start` on, a step
    of `every` apart and up to the end of the data interval. What had arrived by `known_at` counts,
    by default the end of the data interval, so that a later run of it writes the same rows.
    `labels` are those that look ahead.
    """

    def __init__(
        self,
        *,
        service: str,
        output: str,
        frame: str | None = None,
        start: str | None = None,
        every: str | None = None,
        labels: Sequence[str] = (),
        contract: str | None = None,
        known_at: str = INTERVAL_END,
        **kwargs: Any,
    ) -> None:
        words = ["get-historical", service, *([frame] if frame is not None else [])]
        if start is not None:
            words += ["--start", start, "--end", INTERVAL_END]
        if every is not None:
            words += ["--every", every]
        for label in labels:
            words += ["--labels", label]
        if contract is not None:
            words += ["--contract", contract]
        super().__init__(verb=[*words, "--known-at", known_at, "-o", output], **kwargs)

    def told(self, document: Any) -> Any:
        """Where the rows are, how many, and their content hash (F2)."""
        manifest = document["manifest"]
        told = {name: manifest[name] for name in ("rows", "content_hash", "known_at")}
        return {"output": document["output"], **told}


class DeployCheckOperator(_Verb):
    """Says whether a model can be served now (`featurekit deploy check`): `model` in MLflow, as
    models:/churn/3, or its `contract` in a file. It fails for good where a check does not hold.
    Reads only."""

    def __init__(self, **kwargs: Any) -> None:
        verb, rest = _deploy_check(kwargs)
        super().__init__(verb=verb, **rest)


class _Sensor(BaseSensorOperator):  # type: ignore[misc]
    """Asks a verb again and again, until it holds. What it is told is that of the operator."""

    template_fields: Sequence[str] = ("words", "repo", "env")

    def __init__(
        self,
        *,
        verb: Sequence[str],
        command: Sequence[str] = ("featurekit",),
        repo: str = ".",
        env: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.words = [*command, "--json", *verb]
        self.repo = repo
        self.env = dict(env or {})

    def poke(self, context: Any) -> bool:
        """Whether it holds now. AirflowException where that cannot be told."""
        done = subprocess.run(
            self.words,
            cwd=self.repo,
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 3):
            said = done.stderr.strip()[-_SHOWN:]
            raise AirflowException(f"exit code {done.returncode}: {shlex.join(self.words)}\n{said}")
        return done.returncode == 0 and self.holds(_document(done.stdout))

    def holds(self, document: Any) -> bool:
        """Whether what the verb prints is what is waited for."""
        return True


class ValidSensor(_Sensor):
    """Waits until no rule of severity "fail" of the `sources` is broken, by default of any."""

    def __init__(self, *, sources: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(verb=["validate", *sources], **kwargs)


class MaterializedSensor(_Sensor):
    """Waits until the `views`, by default every one, are filled up to `end`, by default the end of
    the data interval."""

    template_fields: Sequence[str] = (*_Sensor.template_fields, "end")

    def __init__(
        self, *, views: Sequence[str] = (), end: str = INTERVAL_END, **kwargs: Any
    ) -> None:
        super().__init__(verb=["list", "views"], **kwargs)
        self.views = tuple(views)
        self.end = end

    def holds(self, document: Any) -> bool:
        """Whether each view is filled up to the end. AirflowException for a view that is none."""
        import datetime as dt

        found = {one["name"]: one["fresh_until"] for one in document["views"]}
        lacking = sorted({*self.views} - found.keys())
        if lacking:
            raise AirflowException(f"no view {lacking[0]!r}; there are {', '.join(sorted(found))}")
        end = dt.datetime.fromisoformat(self.end)
        until = [found[name] for name in self.views or found]
        return all(one is not None and dt.datetime.fromisoformat(one) >= end for one in until)


class DeployableSensor(_Sensor):
    """Waits until a model can be served; it is told what `DeployCheckOperator` is."""

    def __init__(self, **kwargs: Any) -> None:
        verb, rest = _deploy_check(kwargs)
        super().__init__(verb=verb, **rest)


def _deploy_check(given: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The words of `deploy check` from the arguments of an operator, and what is left of them."""
    rest = dict(given)
    model, contract = rest.pop("model", None), rest.pop("contract", None)
    max_age, budget = rest.pop("max_age", None), rest.pop("budget", None)
    words = ["deploy", "check", *([model] if model is not None else [])]
    told = (("--contract", contract), ("--max-age", max_age), ("--budget", budget))
    for option, value in told:
        if value is not None:
            words += [option, value]
    return words, rest


def _document(out: str) -> Any:
    """What a verb printed with --json; None where that is no JSON."""
    try:
        return json.loads(out)
    except ValueError:
        return None
