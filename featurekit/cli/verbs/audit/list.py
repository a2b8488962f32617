"""`featurekit audit list`: shows who did what to a project, and when."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from collections import deque
from typing import Any

from featurekit.cli.arguments import argument, instant, positive, verb
from featurekit.cli.audit import about, audit_log, fault_documents, show_faults
from featurekit.core.screen import Screen
from featurekit.log.audit import Entry, Fault


@verb(
    "A verb has an entry when it begins and one when it is done or has failed. Of pushes each "
    "process has one when it begins with a source, and counts every ten minutes and at its end. "
    "Instants are those of the machine that wrote them. Exits with 1 where the log is not as it "
    "was written.",
    argument("--verb", dest="of", metavar="VERB", help="the entries of this verb only"),
    argument("--since", type=instant, metavar="T", help="the entries from this instant on"),
    argument("--last", type=positive, metavar="N", help="the last entries only (default: all)"),
)
def list(arguments: Namespace, screen: Screen) -> bool:
    """List the entries of the audit log."""
    entries: deque[Entry] = deque(maxlen=arguments.last)
    log, faults = audit_log(arguments), []
    for found in log.entries():
        if isinstance(found, Fault):
            faults.append(found)
        elif _is_asked(found, arguments.of, arguments.since):
            entries.append(found)
    screen.document({"entries": [_document(e) for e in entries], "faults": fault_documents(faults)})
    columns = ("entry", "at", "who", "process", "verb", "", "about")
    if entries:
        screen.table(columns, [_row(entry) for entry in entries])
    else:
        screen.line("No entries.")
    show_faults(screen, log, faults)
    return not faults


def _is_asked(entry: Entry, verb: str | None, since: dt.datetime | None) -> bool:
    if verb is not None and entry.verb != verb:
        return False
    return since is None or dt.datetime.fromisoformat(entry.at) >= since


def _document(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__slots__ if name != "before"}


def _row(entry: Entry) -> tuple[Any, ...]:
    at = dt.datetime.fromisoformat(entry.at).replace(microsecond=0)
    process = f"{entry.host}:{entry.pid}"
    return entry.number, at, entry.who, process, entry.verb, entry.step, about(entry)
