"""Which versions of a Feast view's schema have rows in Redis.

Rows of another schema are other states: a value of one type is no value of another. Those of the
old schema stay, for processes that still read it, until the view is materialised again.
"""

from __future__ import annotations

import json

from featurekit.core.keys import project_key, state_prefix
from featurekit.define.plan import View
from featurekit.online.store.protocol import OnlineStore


def others(store: OnlineStore, project: str, view: View) -> list[bytes]:
    """The prefixes of the states of other schemas of the view."""
    return [one for one in known(store, project, view) if one != state_prefix(project, view)]


def note(store: OnlineStore, project: str, view: View, *, alone: bool = False) -> None:
    """Note that the schema has rows, or will have; where it is `alone`, that no other one has."""
    before = known(store, project, view)
    now = [] if alone else before
    now = [*dict.fromkeys([*now, state_prefix(project, view)])]
    if now != before:
        told = json.dumps([prefix.decode() for prefix in now]).encode()
        store.write({_key(project, view): told})


def known(store: OnlineStore, project: str, view: View) -> list[bytes]:
    """The prefixes of the states of all schemas of the view."""
    (value,) = store.read([_key(project, view)])
    return [] if value is None else [prefix.encode() for prefix in json.loads(value)]


def _key(project: str, view: View) -> bytes:
    return project_key(project, "schemas", view.name)
