"""`featurekit versions`: lists the versions of a service."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.core.screen import Screen


@verb(
    "Who applied each and when, and whether it is live, next (it waits for materialize), "
    "retained (it was live and is still fed), pinned (it is fed for what needs it) or unfed.",
    argument("service", metavar="SERVICE", help="the service's name"),
)
def versions(arguments: Namespace, screen: Screen) -> None:
    """List a service's versions."""
    with open_store(arguments) as store:
        found = store.versions(arguments.service)
    screen.document(
        {
            "service": arguments.service,
            "versions": [
                {
                    "fingerprint": v.fingerprint,
                    "applied_at": v.applied_at,
                    "applied_by": v.applied_by,
                    "state": v.state,
                    "materialized_until": v.materialized_until,
                    "pinned_by": list(v.pinned_by),
                }
                for v in found
            ],
        }
    )
    screen.table(
        ("fingerprint", "applied at", "by", "state", "materialised up to", "pinned by"),
        [
            (
                short(v.fingerprint),
                dt.datetime.fromisoformat(v.applied_at).replace(microsecond=0),
                v.applied_by,
                v.state,
                v.materialized_until,
                ", ".join(v.pinned_by),
            )
            for v in found
        ],
    )
