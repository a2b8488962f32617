"""Notes beside what is served who owns it, what it is for and what of it is to be given up, so that
a server without a repo can say so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from featurekit.core.keys import project_key
from featurekit.define.deprecated import Deprecated, Deprecation
from featurekit.errors import DamagedNote, DefinitionError
from featurekit.online.store.notes import read_object, write_object
from featurekit.online.store.protocol import OnlineStore

if TYPE_CHECKING:  # a server reads notes, and has no repo
    from featurekit.define.definitions import Described
    from featurekit.define.repo import Repo

_NAME = "about"
_SINCE = "since"
About = dict[str, dict[str, str]]
"""By the kind and name of a definition, as in "service checkout": its `owner` and `description`,
where it has them, and what `Deprecated.about` gives of what is to be given up, with `since`."""


def note_about(store: OnlineStore, project: str, repo: Repo, now: dt.datetime) -> None:
    """Note what the repo says of its services and views. What is to be given up is so since it was
    first noted, or since `now`."""
    said: About = {}
    for kind, written in (("service", repo.services), ("view", repo.views)):
        said |= {f"{kind} {name}": _of(one) for name, one in written.items() if _of(one)}
    before: About = {}
    with suppress(DamagedNote):  # it is written anew here
        before = read_about(store, project)
    for one in repo.deprecations():
        key = f"{one.kind} {one.name}"
        since = before.get(key, {}).get(_SINCE, now.isoformat())
        said[key] = {**said.get(key, {}), **one.said.about, _SINCE: since}
    store.write({project_key(project, _NAME): write_object(_NAME, said)})


def read_about(store: OnlineStore, project: str) -> About:
    """What was noted; nothing where an earlier release applied the repo. DamagedNote where it
    cannot be read."""
    (value,) = store.read([project_key(project, _NAME)])
    return read_object(_NAME, value, _texts)


def noted_deprecations(about: About) -> list[Deprecation]:
    """What is to be given up of all that is noted. What a later release has noted in another form
    is left out."""
    found = []
    for key, said in about.items():
        kind, _, name = key.partition(" ")
        with suppress(DefinitionError, KeyError, ValueError):
            since = dt.datetime.fromisoformat(said[_SINCE])
            found.append(Deprecation(kind, name, Deprecated.of(said), since))
    return found


def _of(written: Described) -> dict[str, str]:
    said = {"owner": written.owner, "description": written.description}
    return {name: text for name, text in said.items() if text}


def _texts(found: dict[str, Any]) -> About:
    for of_one in found.values():
        if not isinstance(of_one, Mapping) or not all(type(t) is str for t in of_one.values()):
            raise TypeError("a value that is no text")
    return found
