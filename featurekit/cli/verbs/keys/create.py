"""`featurekit keys create`: makes an API key, by which a caller may ask `featurekit serve`."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from collections.abc import Collection
from typing import TYPE_CHECKING

from featurekit.cli.access import rate
from featurekit.cli.arguments import argument, duration, verb
from featurekit.cli.repo import open_store
from featurekit.core.durations import duration_us
from featurekit.core.screen import Screen
from featurekit.core.types import EPOCH

if TYPE_CHECKING:
    from featurekit.define.repo import Repo


@verb(
    "Shown once: what is kept, in the online store, is its hash. Servers know it within seconds. "
    "Scopes are read:SERVICE, read:*, list:features (any features, by a list), push:SOURCE, "
    "push:*, metrics and admin (metrics, and what every service takes and gives).",
    argument("name", metavar="NAME", help="what it is called: who has it, and for what"),
    argument(
        "--scope",
        action="append",
        required=True,
        metavar="SCOPE",
        help="what it opens, as in read:checkout; several times for several",
    ),
    argument(
        "--expires",
        type=duration,
        metavar="DURATION",
        help="how long it opens anything, as in 90d (default: until it is revoked)",
    ),
    argument(
        "--rate",
        type=rate,
        metavar="N/s",
        help="how often it may ask, in each worker (default: as `featurekit serve --rate` says)",
    ),
)
def create(arguments: Namespace, screen: Screen) -> None:
    """Make an API key."""
    from featurekit.project.api_keys import check_key, create_api_key

    check_key(arguments.name, arguments.scope)
    lifetime = arguments.expires
    with open_store(arguments) as store:
        store.parts.claim()
        about = {"action": "create", "name": arguments.name, "scopes": sorted(arguments.scope)}
        with store.parts.audit.doing("keys", about) as found:
            made, token = create_api_key(
                store.online,
                store.project,
                arguments.name,
                arguments.scope,
                lifetime_us=None if lifetime is None else duration_us(lifetime, what="--expires"),
                rate=arguments.rate,
            )
            expires = None if made.expires is None else instant_of(made.expires)
            unknown = _unknown(store.repo, made.scopes)
            found |= {"id": made.id, "expires": None if expires is None else expires.isoformat()}
    screen.document(
        {
            "id": made.id,
            "name": made.name,
            "scopes": sorted(made.scopes),
            "expires": expires,
            "rate": made.rate,
            "unknown": unknown,
            "key": token,
        }
    )
    until = "until it is revoked" if expires is None else f"until {expires.isoformat()}"
    opened = ", ".join(sorted(made.scopes))
    screen.line(f"Made the key {made.name} ({made.id}), which opens {opened} {until}:")
    screen.text(token)
    screen.line("It is shown this once. A client reads it from FEATUREKIT_TOKEN.")
    if unknown:
        screen.line(
            f"The repo has nothing that {', '.join(unknown)} could open; see `featurekit list "
            "services` and `featurekit list sources`, and revoke the key where the name is wrong."
        )


def _unknown(repo: Repo, scopes: Collection[str]) -> list[str]:
    """The scopes that name a service or a source that the repo does not have."""
    known: dict[str, Collection[str]] = {"read": repo.services, "push": repo.sources}
    named = sorted(scope.partition(":") for scope in scopes)
    return [
        f"{verb}:{name}"
        for verb, _, name in named
        if verb in known and name != "*" and name not in known[verb]
    ]


def instant_of(us: int) -> dt.datetime:
    """The instant of microseconds since the epoch."""
    return EPOCH + dt.timedelta(microseconds=us)
