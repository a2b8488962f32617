"""Notes beside what is served who owns it and what it is for, so that a server without a repo can
say so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from featurekit.core.keys import project_key
from featurekit.online.store.notes import read_object, write_object
from featurekit.online.store.protocol import OnlineStore

if TYPE_CHECKING:  # a server reads notes, and has no repo
    from featurekit.define.definitions import Described
    from featurekit.define.repo import Repo

_NAME = "about"
About = dict[str, dict[str, str]]
"""By the kind and name of a definition, as in "service checkout": its `owner` and `description`,
where it has them."""


def note_about(store: OnlineStore, project: str, repo: Repo) -> None:
    """Note what the repo says of its services and views."""
    said: About = {}
    for kind, written in (("service", repo.services), ("view", repo.views)):
        said |= {f"{kind} {name}": _of(one) for name, one in written.items() if _of(one)}
    store.write({project_key(project, _NAME): write_object(_NAME, said)})


def read_about(store: OnlineStore, project: str) -> About:
    """What was noted; nothing where an earlier release applied the repo. DamagedNote where it
    cannot be read."""
    (value,) = store.read([project_key(project, _NAME)])
    return read_object(_NAME, value, _texts)


def _of(written: Described) -> dict[str, str]:
    said = {"owner": written.owner, "description": written.description}
    return {name: text for name, text in said.items() if text}


def _texts(found: dict[str, Any]) -> About:
    for of_one in found.values():
        if not isinstance(of_one, Mapping) or not all(type(t) is str for t in of_one.values()):
            raise TypeError("a value that is no text")
    return found
