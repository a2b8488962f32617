"""`featurekit history`: shows how a feature, view or service came to be what it is."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.core.screen import Screen


@verb(
    "Who added, changed, rolled back or removed it, when, and what that changed. Of a feature only "
    "the changes that changed its own meaning are told.",
    argument("name", metavar="NAME", help="view:feature, a view or a service"),
)
def history(arguments: Namespace, screen: Screen) -> None:
    """Show what was in force under a name, one after another."""
    with open_store(arguments) as store:
        found = store.history(arguments.name.replace("__", ":"))
    screen.document(
        {
            "name": arguments.name,
            "history": [
                {
                    "kind": r.kind,
                    "action": r.action,
                    "at": r.at,
                    "by": r.by,
                    "fingerprint": r.fingerprint,
                    "reasons": list(r.reasons),
                }
                for r in found
            ],
        }
    )
    rows: list[tuple[object, ...]] = []
    for revision in found:
        at = dt.datetime.fromisoformat(revision.at).replace(microsecond=0)
        version = "" if revision.fingerprint is None else short(revision.fingerprint)
        first, *more = revision.reasons or ("",)
        rows.append((at, revision.by, revision.action, version, first))
        rows += [("", "", "", "", line) for line in more]
    screen.table(("at", "by", "action", "version", "what"), rows)
