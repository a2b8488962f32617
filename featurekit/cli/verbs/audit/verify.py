"""`featurekit audit verify`: says whether the audit log is as it was written, and where not."""

from __future__ import annotations

import argparse
from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.audit import audit_log, fault_documents, show_faults
from featurekit.core.screen import Screen
from featurekit.log.audit import NOTHING, Fault, Head


def head(text: str) -> Head:
    """A head, as `verify` shows it."""
    try:
        return Head.read(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no head; write what `featurekit audit verify` showed, NUMBER:HASH"
        ) from None


@verb(
    "Each entry has the hash of the one before it. audit.head, beside the log, says how far it had "
    "come. Who can write to both can write another log: keep the head that is shown here in a "
    "place of your own, and name it with --holds. Exits with 1 where the log is another one.",
    argument(
        "--holds",
        type=head,
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="a head that an earlier run showed, which the log must still hold; may be given "
        "several times",
    ),
)
def verify(arguments: Namespace, screen: Screen) -> bool:
    """Verify the chain of the audit log."""
    log, faults = audit_log(arguments), list[Fault]()
    entries, last = 0, Head(0, NOTHING)
    for found in log.entries(arguments.holds):
        if isinstance(found, Fault):
            faults.append(found)
        else:
            entries, last = entries + 1, found.head
    screen.document(
        {
            "entries": entries,
            "head": str(last),
            "whole": not faults,
            "faults": fault_documents(faults),
        }
    )
    if faults:
        show_faults(screen, log, faults)
    else:
        screen.line(f"{entries} entries, all as they were written. Head:")
        screen.line(str(last))
    return not faults
