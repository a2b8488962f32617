"""The causes by which Feast's two paths differ, and what each means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from featurekit.parity.compare import Stated, shown, ulps

CAUSES = {
    "ttl": "the row is older than the ttl of its view: offline leaves it out, and online does not",
    "correction lost": "the source has a row of the same instant that was created later, which "
    "online did not take",
    "late row": "a row came into an interval that had been materialised before, and online still "
    "has an older row",
    "older run": "an older interval was materialised after a newer one, and overwrote its rows",
    "not materialised": "the row lies in no interval that was materialised",
    "tie": "rows of one instant have no created timestamp that orders them, and each path took "
    "another one",
    "transformation not run": "online has what the view's transformation gives, and offline the "
    "columns of the source",
    "input differs": "a feature that the on-demand view reads differs already",
    "on-demand types widened": "the function of the on-demand view was given other types online "
    "than offline, and computes otherwise with them",
    "singleton on-demand view": "the function takes one row, and a path calls it with columns",
    "float32 rounding": "the view declares Float32 over doubles, which online alone rounds",
    "int as a double": "an int beyond 2^53 went through a double on its way online, as pandas has "
    "ints beside nulls",
    "cut to an int": "the view declares an int over numbers with a fraction: online cuts it off",
    "text of a number": "the view declares a String over numbers: online has a text, and offline "
    "the number",
    "cut to seconds": "online keeps whole seconds of an instant",
    "NaN as null": "online has no value where the source has a NaN",
    "join key type": "views declare the join key in several types, and the request looks one of "
    "them up by another one's",
    "aliased join key": "the view is asked under another name of its join key, and the request has "
    "the key's own name, too: online looks the view up by that",
    "hash collision": "the names of two features have one 32-bit hash, by which Redis holds them: "
    "one overwrites the other",
    "missing entity": "the source has no row of the entity, and online says PRESENT",
    "source changed": "the row that online has is in the source with other values: it was changed "
    "after it was materialised",
    "written online": "the source has no such row: it was pushed online, or taken out of the "
    "source after it was materialised",
    "future row": "online has a row that is still to happen at the instant asked about",
    "row not online": "the row lies in an interval that was materialised, and online has no row of "
    "its entity",
    "raised": "one path raised an error, and the other gave values",
    "unknown": "no check of the source and of the online store explains it",
}
"""Each cause is told only where a check of the data has shown it."""

LAG = "not online yet"
"""A difference that is none: the row came after the last materialisation."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why one value differs, and what was seen that shows it."""

    name: str
    evidence: tuple[str, ...] = ()


UNKNOWN = Cause("unknown")


@dataclass(frozen=True, slots=True)
class FeastDiagnosis:
    """A difference with its cause, in the form of the reports of parity. There is no `case`: the
    rows of the source are shown instead."""

    feature: str
    row: dict[str, Any]
    as_of: str
    offline: Stated
    online: Stated
    found: Cause
    where: str
    rows: tuple[dict[str, str], ...] = ()

    case = ""

    @property
    def cause(self) -> str:
        """The name of the cause, one of `CAUSES`."""
        return self.found.name

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "feature": self.feature,
            "entity": {k: repr(v) for k, v in self.row.items()},
            "as_of": self.as_of,
            "offline": {"value": shown(self.offline[0]), "status": self.offline[1]},
            "online": {"value": shown(self.online[0]), "status": self.online[1]},
            "ulps": ulps(self.offline[0], self.online[0]),
            "cause": self.cause,
            "meaning": CAUSES[self.cause],
            "where": self.where,
            "evidence": list(self.found.evidence),
            "events": list(self.rows),
            "case": self.case,
        }

    def text(self) -> str:
        """For people: some lines."""
        entity = ", ".join(f"{k}={v!r}" for k, v in self.row.items())
        lines = [
            f"{self.feature} differs as of {self.as_of} for {entity}",
            f"  offline  {shown(self.offline[0])}  {self.offline[1]}",
            f"  online   {shown(self.online[0])}  {self.online[1]}",
            f"  cause    {self.cause}: {CAUSES[self.cause]}",
            f"  where    {self.where}",
            *(f"           {one}" for one in self.found.evidence),
        ]
        if self.rows:
            lines.append("  source   the latest rows of the entity:")
            lines += [
                "           " + ", ".join(f"{k} {v}" for k, v in r.items()) for r in self.rows
            ]
        return "\n".join(lines)
