"""Experiments on rows that DuckDB reads from files otherwise than a push reads them."""

from __future__ import annotations

from featurekit.core.tables import Row
from featurekit.core.types import instant
from featurekit.parity.compare import bits, shown
from featurekit.parity.diagnose.causes import of_values
from featurekit.parity.diagnose.trial import Told, Trial
from featurekit.parity.diagnose.windows import QUARTER
from featurekit.parity.scenario import partners

_DAY = 86_400_000_000
_TIMES = {"__ts": "the event's instant", "__created": "its arrival"}


def of_reading(trial: Trial) -> Told:
    """The files' rows are not those that a push reads."""
    files, pushed = trial.scenario.files or (), trial.scenario.deliveries
    of_files = partners(trial.scenario)
    for partner, of_push in zip(of_files, pushed, strict=True):
        if partner is not None:
            told = _of_rows(files[partner].row, of_push.row)
            if told is not None:
                return told
    where = f"the files give {len(files)} rows, pushes {len(pushed)}"
    if None in of_files or len(files) < len(pushed):
        return "missing event", where
    if len(files) > len(pushed):
        return "duplicate event", where
    return "unknown", "the rows of the files stand in another order"


def _of_rows(of_file: Row, of_push: Row) -> Told | None:
    """How one row is read otherwise; None where it is not."""
    names = [n for n in of_push if bits(of_file.get(n)) != bits(of_push[n])]
    if not names:
        return None
    name = next((n for n in _TIMES if n in names), names[0])
    one, other = of_file.get(name), of_push[name]
    if name in _TIMES and isinstance(one, int) and isinstance(other, int):
        where = (
            f"reading {_TIMES[name]}: the file's row says {instant(one).isoformat()}, the pushed "
            f"one {instant(other).isoformat()}"
        )
        apart = abs(one - other)
        if apart % QUARTER == 0 and apart <= _DAY:
            return "time zone", where
        return ("precision" if apart < 1_000_000 else "column"), where
    crossed = [
        n for n in names if n != name and bits(of_file.get(n)) == bits(other)
        and bits(of_push[n]) == bits(one)
    ]  # fmt: skip
    where = f"reading {name}: {shown(one)} from files, {shown(other)} from pushes"
    if crossed:
        return "column", f"{where}, and {crossed[0]} the other way round"
    return of_values(one, other, "column"), where
