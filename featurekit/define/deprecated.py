"""Says of a feature, view or service that it is to be given up: after which day, and what takes its
place. It changes no value and no fingerprint."""

from __future__ import annotations

import datetime as dt
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.calls import found, near
from featurekit.core.written import Defined, Place
from featurekit.errors import DefinitionError, DeprecatedFeature
from featurekit.language.transform import check_name

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LONGEST = 500
WHOLE = ""
"""What stands in the place of a feature's name where all of a view or service is deprecated."""


@dataclass(frozen=True, slots=True)
class Deprecated(metaclass=Defined):
    """A feature, view or service is to be given up.

    `after` is the last day, in UTC, on which it is meant to be used, as a date or as "2027-03-01".
    `use` names what takes its place: "view:feature" (or "service:feature", for one at request time)
    for a feature, the name of a view for a view, that of a service for a service; None where
    nothing does. `why` is for readers. Until that day and afterwards the values are the same, and
    nothing stops by the date alone.
    """

    after: dt.date | str
    use: str | None = None
    why: str = ""
    place: Place | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "after", _day(self.after))
        if self.use is not None:
            if not isinstance(self.use, str) or self.use.count(":") > 1:
                raise DefinitionError(
                    f"Deprecated: use is the name of a successor, found {found(self.use)}; write "
                    'use="orders_v2:spend_7d", or the name of a view or service'
                )
            for part in self.use.split(":"):
                check_name(part, what="Deprecated, use")
        if not isinstance(self.why, str) or len(self.why) > _LONGEST:
            raise DefinitionError(
                f"Deprecated: why is a text of at most {_LONGEST} letters, found "
                f'{found(self.why)}; write why="it counts returns twice"'
            )

    @property
    def day(self) -> dt.date:
        """The last day on which it is meant to be used."""
        assert isinstance(self.after, dt.date)
        return self.after

    @property
    def sunset(self) -> dt.datetime:
        """The instant at which that day ends."""
        return dt.datetime.combine(self.day, dt.time(), dt.UTC) + dt.timedelta(days=1)

    @property
    def about(self) -> dict[str, str]:
        """It in texts, as registries and stores keep it."""
        made = {"after": self.day.isoformat(), "use": self.use or "", "why": self.why}
        return {name: text for name, text in made.items() if text}

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Deprecated:
        """What `about` gave. DefinitionError or KeyError where it is something else."""
        return cls(about["after"], about.get("use"), about.get("why", ""))

    def in_words(self, today: dt.date) -> str:
        """Until when it is kept, and what to use."""
        over = today > self.day
        said = f"kept until {self.day}" + (", which is over" if over else "")
        said += f"; use {self.use}" if self.use else ""
        return f"{said} ({self.why})" if self.why else said


def _day(given: Any) -> dt.date:
    if isinstance(given, dt.date) and not isinstance(given, dt.datetime):
        day = given
    elif isinstance(given, str) and _DAY.fullmatch(given):
        try:
            day = dt.date.fromisoformat(given)
        except ValueError as error:
            raise DefinitionError(
                f"Deprecated: after is {given!r}, which is no day ({error}); write one of the "
                'calendar, as in after="2027-03-01"'
            ) from None
    else:
        raise DefinitionError(
            f"Deprecated: after is a day, found {found(given)}; write a date or a text of year, "
            'month and day, as in after="2027-03-01"'
        )
    if day >= dt.date.max:
        raise DefinitionError(
            f"Deprecated: after is {day}, the last day of the calendar; leave deprecated= out, or "
            'write an earlier one, as in after="2027-03-01"'
        )
    return day


Given = Deprecated | Mapping[str, Deprecated]
"""What `deprecated=` takes: all of a view or service, or features of it by their names."""


def checked_deprecated(given: Any, features: Mapping[str, Any], *, what: str) -> Any:
    """`deprecated=` as it is kept. DefinitionError where it is none, or names a feature that is not
    there."""
    if given is None or isinstance(given, Deprecated):
        return given
    if not isinstance(given, Mapping) or not given:
        raise DefinitionError(
            f'{what}: deprecated is Deprecated(…) or, for some features, {{"name": Deprecated(…)}},'
            f' found {found(given)}; write deprecated=Deprecated(after="2027-03-01")'
        )
    for name, said in given.items():
        if name not in features:
            raise DefinitionError(
                f"{what}, deprecated: it has no feature {name!r} of its own; {near(name, features)}"
            )
        if not isinstance(said, Deprecated):
            raise DefinitionError(
                f"{what}, deprecated, {name!r}: found {_given(said)}; write "
                f'deprecated={{"{name}": Deprecated(after="2027-03-01")}}'
            )
    return dict(given)


def _given(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else found(value)


def each_of(given: Given | None) -> dict[str, Deprecated]:
    """What is deprecated of a view or service, by the names of features, or by WHOLE."""
    if given is None:
        return {}
    return {WHOLE: given} if isinstance(given, Deprecated) else dict(given)


@dataclass(frozen=True, slots=True)
class Deprecation(Named):
    """What is deprecated, and what its author says of it. `kind` is "feature", "view" or
    "service"; a feature's `name` is "view:feature", or "service:feature" for one at request time.
    `since` is when this was first applied; None where it was not, or is not known."""

    kind: str
    name: str
    said: Deprecated
    since: dt.datetime | None = None

    def overdue(self, today: dt.date | None = None) -> bool:
        """Whether its last day is over."""
        return (today or _today()) > self.said.day

    @property
    def text(self) -> str:
        """It as a sentence."""
        return f"{self.kind} {self.name} is deprecated: {self.said.in_words(_today())}"

    def to_dict(self) -> dict[str, Any]:
        """It as JSON has it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "after": self.said.day.isoformat(),
            "use": self.said.use,
            "why": self.said.why,
            "overdue": self.overdue(),
        }


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()


def deprecations_of(kind: str, name: str, given: Given | None) -> Iterator[Deprecation]:
    """What is deprecated of a view or service of this name."""
    for feature, said in each_of(given).items():
        if feature == WHOLE:
            yield Deprecation(kind, name, said)
        else:
            yield Deprecation("feature", f"{name}:{feature}", said)


# --- warnings -------------------------------------------------------------------------------------

_warned: set[str] = set()


def warn(found: Iterable[Deprecation]) -> None:
    """DeprecatedFeature, a warning, for each of these. Each is given once by a process, at the line
    outside featurekit that asked."""
    for one in found:
        if one.text not in _warned:
            _warned.add(one.text)
            warnings.warn(one.text, DeprecatedFeature, stacklevel=_outside())


def _outside() -> int:
    """How far above `warn` the first line is that is none of featurekit's."""
    frame, level = sys._getframe(2), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        frame, level = frame.f_back, level + 1
    return level


def _is_ours(module: object) -> bool:
    return str(module).partition(".")[0] == "featurekit"
