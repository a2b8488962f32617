"""`featurekit keys revoke`: lets an API key open nothing any more."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen


@verb(
    "Every worker that reaches Redis refuses it within two seconds, without a restart.",
    argument("key", metavar="ID|NAME", help="as `featurekit keys list` shows it"),
)
def revoke(arguments: Namespace, screen: Screen) -> None:
    """Revoke an API key."""
    from featurekit.project.api_keys import parts_of, revoke_api_key

    named: str = arguments.key
    parts = parts_of(named.encode(errors="replace"))
    if parts is not None:  # somebody wrote the key itself, which goes into no log
        named = parts[0]
    with open_store(arguments) as store:
        store.parts.claim()
        with store.parts.audit.doing("keys", {"action": "revoke"}) as found:
            one = revoke_api_key(store.online, store.project, named)
            found |= {"id": one.id, "name": one.name}
    screen.document({"id": one.id, "name": one.name, "revoked": one.revoked})
    screen.line(f"The key {one.name} ({one.id}) is revoked: servers refuse it within two seconds.")
