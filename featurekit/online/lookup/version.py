"""Answers by one version of a service, whichever is live, for as long as it is filled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.core.keys import project_key
from featurekit.errors import NotServed
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.service import OnlineService
from featurekit.online.lookup.steps import Steps
from featurekit.online.store.marks import version_of
from featurekit.online.store.notes import numbers, read_object
from featurekit.online.store.protocol import OnlineStore

SIGN = "@"
"""What stands between a service's name and the version that is meant."""


def named_version(name: str) -> tuple[str, str | None]:
    """A service's name and the version that stands behind it, as in "churn@3f2a"; None where none
    does."""
    service, sign, version = name.partition(SIGN)
    return service, version if sign else None


class ServiceVersion(OnlineService):
    """A version of a service in an online store: live, pinned, or otherwise still fed.

    Each lookup reads, beside the states, which versions of views are filled, so a version that is
    no longer fed is refused from the next request on: NotServed.
    """

    def __init__(
        self,
        store: OnlineStore,
        project: str,
        name: str,
        fingerprint: str,
        *,
        until_key: bytes,
        **options: Any,
    ) -> None:
        """`fingerprint` is a whole one. `until_key` is the key of what is filled. The options are
        those of `OnlineService`."""
        super().__init__(store, project, name, **options)
        self.fingerprint = fingerprint
        self._follow(until_key)

    def _told(self, values: Sequence[bytes | None]) -> bytes | None:
        return values[0] or b""

    def _load(self, live: bytes | None) -> Steps[tuple[bytes, Evaluator]]:
        plan_key = project_key(self.project, "plan", self.name, self.fingerprint)
        until, plan = yield [*self._followed, plan_key]
        if plan is None:
            raise self._unfed("it has no plan there")
        served = self._served
        evaluator = (
            Evaluator(self.project, self._believed(plan, self.fingerprint))
            if served is None
            else served[1]
        )
        filled = read_object("until", until, numbers)
        for view in evaluator.service.fed:
            if version_of(view) not in filled:
                raise self._unfed(f"its view {view.name!r} is not filled")
        self._served = until or b"", evaluator
        return self._served

    def _unfed(self, why: str) -> NotServed:
        short = self.fingerprint[:12]
        return NotServed(
            f"version {short} of service {self.name!r} cannot be asked in project "
            f"{self.project!r}: {why}. `featurekit pin {self.name}{SIGN}{short} --by …` feeds it "
            "from now on, and `featurekit materialize` fills it"
        )
