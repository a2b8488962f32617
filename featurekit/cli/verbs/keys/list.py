"""`featurekit keys list`: shows the API keys of a project, and never a secret."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from featurekit.cli.arguments import verb
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen
from featurekit.core.types import EPOCH


@verb("Those that were revoked or have expired are listed for 90 days more.")
def list(arguments: Namespace, screen: Screen) -> None:
    """List the API keys."""
    from featurekit.project.api_keys import api_keys

    with open_store(arguments) as store:
        found = api_keys(store.online, store.project)
        now = store.online.now_us()
    documents: Sequence[dict[str, Any]] = [
        {
            "id": one.id,
            "name": one.name,
            "state": one.why_void(now) or "open",
            "scopes": sorted(one.scopes),
            "created": _instant(one.created),
            "expires": _instant(one.expires),
            "revoked": _instant(one.revoked),
            "rate": one.rate,
        }
        for one in found
    ]
    screen.document({"keys": documents})
    columns = ("id", "name", "", "scopes", "created", "expires", "a second")
    rows = [
        (
            one["id"],
            one["name"],
            one["state"],
            " ".join(one["scopes"]),
            _short(one["created"]),
            _short(one["expires"]),
            one["rate"],
        )
        for one in documents
    ]
    if rows:
        screen.table(columns, rows)
    else:
        screen.line("No API keys.")


def _instant(us: int | None) -> dt.datetime | None:
    return None if us is None else EPOCH + dt.timedelta(microseconds=us)


def _short(at: dt.datetime | None) -> dt.datetime | None:
    return None if at is None else at.replace(microsecond=0)
