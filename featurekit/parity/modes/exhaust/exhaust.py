"""Compares every history of up to four events, in every order of arrival: a proof for small scope.

A space is a form of windows, latest rows or corrections over one type of values (`forms`). Its
histories are counted by a closed form, dealt out to shards and played (`play`). Shards that agree
can be kept in a file, so that a run of hours goes on where it was stopped.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.screen import Advance
from featurekit.define.numerics import numeric_fingerprint
from featurekit.define.proven import library_versions
from featurekit.errors import ConfigError, FeaturekitError
from featurekit.parity.diagnose.diagnose import diagnose_report
from featurekit.parity.modes.exhaust.forms import Space, spaces
from featurekit.parity.modes.exhaust.histories import MOST
from featurekit.parity.modes.exhaust.play import Found, play
from featurekit.parity.processes import Processes, Work, processors
from featurekit.parity.report import Report

AT_ONCE = 250
"""A shard has about so many histories: its fixed costs are then small, and what is lost where a run
is stopped, too."""


@dataclass(slots=True)
class SpaceReport(Named):
    """What the histories of one space showed: how many were played, of how many that there are by
    the closed form."""

    name: str
    kinds: int
    total: int
    formula: str
    histories: int = 0
    questions: int = 0
    report: Report = field(default_factory=lambda: Report("", 0, mode="exhaust"))

    @property
    def whole(self) -> bool:
        """Whether every history was played."""
        return self.histories == self.total

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "space": self.name,
            "kinds_of_events": self.kinds,
            "histories": self.histories,
            "all_histories": self.total,
            "closed_form": self.formula,
            "whole": self.whole,
            "questions": self.questions,
            "compared": self.report.compared,
            "differing": self.report.differing,
            "features": {name: f.compared for name, f in self.report.features.items()},
            "differences": [d.to_dict() for d in self.report.differences],
        }


def exhaust(
    *,
    events: int = MOST,
    only: str = "",
    part: tuple[int, int] = (1, 1),
    workers: int | None = None,
    resume: Path | None = None,
    progress: Advance | None = None,
) -> list[SpaceReport]:
    """Play the histories of up to `events` events in every space that `only` names; with
    `part=(i, n)` the i-th of n equal parts of their shards.

    Shards that agree are kept in the file `resume`, and those that are kept there are not played
    again. FeaturekitError where nothing has such a name; ConfigError for a file that is none.
    """
    found = spaces(events, only=only)
    if not found:
        raise FeaturekitError(f"no form and no aggregate has a name that contains {only!r}")
    reports = [_begun(space) for space in found]
    kept = _Kept(resume, only)
    tasks = _tasks(found)[part[0] - 1 :: part[1]]
    began = time.monotonic()
    played = _played(found, tasks, events, only, workers, kept)
    for done, (s, one) in enumerate(played, 1):
        _add(reports[s], one)
        if progress is not None:
            progress(done, len(tasks))
    for of_space in reports:
        if part[1] == 1 and not of_space.whole:
            raise AssertionError(
                f"{of_space.name}: {of_space.histories} histories were played, and there are "
                f"{of_space.total}"
            )
        of_space.report.seconds = time.monotonic() - began
        if of_space.report.differing:
            diagnose_report(of_space.report, lambda difference: difference.scenario)
    return reports


def _shards(space: Space) -> int:
    return -(-space.histories.number // AT_ONCE)


def _tasks(found: Sequence[Space]) -> list[tuple[int, int]]:
    """The number of a space and that of a shard of it, for all; spaces take turns, so that an early
    part of all has something of each."""
    each = [_shards(space) for space in found]
    every = ((s, shard) for s, shards in enumerate(each) for shard in range(shards))
    return sorted(every, key=lambda task: (task[1] / each[task[0]], task[0]))


def _begun(space: Space) -> SpaceReport:
    histories = space.histories
    return SpaceReport(
        space.name,
        histories.kinds,
        histories.closed_form,
        histories.formula,
        report=Report(space.name, 0, mode="exhaust"),
    )


def _played(
    found: Sequence[Space],
    tasks: Sequence[tuple[int, int]],
    events: int,
    only: str,
    workers: int | None,
    kept: _Kept,
) -> Iterator[tuple[int, Found]]:
    """Each task's space, by number, and what its shard showed."""
    left = []
    for s, shard in tasks:
        known = kept.known(found[s], shard)
        if known is None:
            left.append((s, shard))
        else:
            yield s, known
    number = min(workers or processors(), len(left))
    if number <= 1:
        for s, shard in left:
            one = play(found[s], shard, _shards(found[s]))
            kept.keep(found[s], one)
            yield s, one
        return
    with Processes(number, _player, events, only) as pool:
        for s, one in pool.as_done(left):
            kept.keep(found[s], one)
            yield s, one


def _player(events: int, only: str) -> Work:
    """What a process does: it plays the shard that it is told, of the space of a number."""
    found = spaces(events, only=only)

    def played(task: tuple[int, int]) -> tuple[int, Found]:
        s, shard = task
        return s, play(found[s], shard, _shards(found[s]))

    return played


def _add(of_space: SpaceReport, one: Found) -> None:
    report = of_space.report
    of_space.histories += one.histories
    of_space.questions += one.questions
    report.rows += one.questions
    for feature, compared in one.compared.items():
        report.count(
            feature,
            compared=compared,
            differing=one.differing[feature],
            statuses=one.statuses.get(feature, {}),
        )
    for difference in one.differences:
        report.keep(difference)


class _Kept:
    """The shards that agreed, a line for each in a file, by what decides their answers: the plan of
    their service, every module of featurekit, the libraries and the platform's numbers."""

    def __init__(self, path: Path | None, only: str) -> None:
        self.path, self.only = path, only
        self.found: dict[str, Found] = {}
        if path is not None and path.exists():
            written = path.read_bytes()
            whole = written[: written.rfind(b"\n") + 1]
            for number, line in enumerate(whole.splitlines(), 1):
                self._read(number, line)
            if len(whole) < len(written):
                os.truncate(path, len(whole))  # a run that was killed had begun a line

    def _read(self, number: int, line: bytes) -> None:
        try:
            kept = json.loads(line)
            one = Found(kept["space"], kept["shard"], kept["histories"], kept["questions"])
            one.compared.update(kept["compared"])
            one.statuses = {name: Counter(each) for name, each in kept["statuses"].items()}
            self.found[kept["key"]] = one
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                f"{self.path}, line {number}: this is no shard that `parity exhaust` has kept; "
                "name a file of its own"
            ) from None

    def _key(self, space: Space, shard: int) -> str:
        assert space.service is not None
        decides = {
            "space": space.name,
            "only": self.only,
            "shard": [shard, _shards(space), space.most],
            "plan": space.service.fingerprint,
            "program": _program(),
            "libraries": library_versions(),
            "numbers": numeric_fingerprint(space.service),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def known(self, space: Space, shard: int) -> Found | None:
        """What a shard showed, where that is kept."""
        return self.found.get(self._key(space, shard)) if self.path is not None else None

    def keep(self, space: Space, one: Found) -> None:
        """Keep a shard that agrees."""
        if self.path is None or any(one.differing.values()):
            return
        line = {
            "key": self._key(space, one.shard),
            "space": one.space,
            "shard": one.shard,
            "histories": one.histories,
            "questions": one.questions,
            "compared": one.compared,
            "statuses": one.statuses,
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@functools.cache
def _program() -> str:
    """A digest of the text of every module of featurekit."""
    root = Path(__file__).parents[3]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
