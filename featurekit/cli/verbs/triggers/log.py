"""`featurekit triggers log`: shows what triggers did, and whether the log is as it was written."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from collections import deque

from featurekit.cli.arguments import argument, positive, verb
from featurekit.cli.audit import fault_documents, show_faults
from featurekit.cli.repo import open_store
from featurekit.cli.served import at_second
from featurekit.core.screen import Screen
from featurekit.log.audit import Entry, Fault


@verb(
    "The entries are of triggers.log in the state folder of this machine; each has the hash of the "
    "one before it. Exits with 1 where the log is not as it was written.",
    argument("--trigger", metavar="TRIGGER", help="the entries of this trigger only"),
    argument("--last", type=positive, metavar="N", help="the last entries only (default: all)"),
)
def log(arguments: Namespace, screen: Screen) -> bool:
    """Show the log of triggers."""
    from featurekit.monitor.triggers.record import Record

    with open_store(arguments) as store:
        found_log = Record(store.state_dir).log
    entries: deque[Entry] = deque(maxlen=arguments.last)
    faults: list[Fault] = []
    for found in found_log.entries():
        if isinstance(found, Fault):
            faults.append(found)
        elif arguments.trigger in (None, found.about.get("trigger")):
            entries.append(found)
    shown = [
        {"number": e.number, "at": e.at, "who": e.who, "host": e.host, "pid": e.pid,
         "step": e.step, **e.about}
        for e in entries
    ]  # fmt: skip
    screen.document({"entries": shown, "faults": fault_documents(faults)})
    if entries:
        screen.table(
            ("entry", "at", "who", "process", "occasion", "step", "reason", "said"),
            [
                (
                    e.number, at_second(dt.datetime.fromisoformat(e.at)), e.who,
                    f"{e.host}:{e.pid}", e.about.get("occasion"), e.step, e.about.get("reason"),
                    e.about.get("said"),
                )
                for e in entries
            ],
        )  # fmt: skip
    else:
        screen.line("No entries.")
    show_faults(screen, found_log, faults)
    return not faults
