"""Writes what a project notes about itself in an online store anew, where that is damaged or lost.

While a note is damaged nothing is pushed and nothing filled, so none of it is out of date when it
is written anew. What cannot be known again is left out: a view then counts as not filled, or as
damaged, and is filled by the next run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from featurekit.core.keys import clock_key, names_key, project_key
from featurekit.define.plan import Service
from featurekit.define.published import Signer
from featurekit.errors import DamagedNote
from featurekit.online.store.marks import (
    carried,
    carried_key,
    damaged,
    damaged_key,
    filled,
    filled_key,
)
from featurekit.online.store.notes import name_of, numbers, read_number, read_object, read_version
from featurekit.online.store.notes import write_object as written
from featurekit.online.store.protocol import OnlineStore, pushed_key
from featurekit.project.deployment import (
    POINTERS,
    damage,
    fed_views,
    mend,
    pinned_versions,
    pins_key,
    published_key,
    remove_pointers,
    service_names,
    until_key,
)
from featurekit.project.died import died_key, whole, whole_key

Compiled = Callable[[str, str], Service | None]
"""Gives the version of a service, by its name and fingerprint; None where it is unknown."""

_WHY = "what Redis notes of it was not as it was written"


def restore(
    store: OnlineStore, project: str, compiled: Compiled, *, signer: Signer | None = None
) -> None:
    """Write every note anew that is damaged, and every plan that is damaged or lost. Versions of
    which nobody can read that they are pinned are fed again by `pins.feed_pinned`."""
    (pins,) = store.read([pins_key(project)])
    if not _reads(lambda: pinned_versions(pins)):
        store.delete([pins_key(project)])
    _restore_names(store, project)
    _restore_pointers(store, project, compiled)
    mend(store, project, compiled, signer=signer)
    _restore_marks(store, project)


def _restore_names(store: OnlineStore, project: str) -> None:
    """The services are those of which there are pointers."""
    key = names_key(project)
    try:
        service_names(project, store.read([key])[0])
    except DamagedNote:
        prefixes = [project_key(project, kind, "") for kind in POINTERS]
        names = {name.removeprefix(p).decode() for p in prefixes for name in store.keys(p)}
        store.write({key: written(name_of(key), dict.fromkeys(names, 1))})


def _restore_pointers(store: OnlineStore, project: str, compiled: Compiled) -> None:
    """Remove each pointer to a version that nobody has. Publishing sets what is missing."""
    names = service_names(project, store.read([names_key(project)])[0])
    places = [(kind, name) for kind in POINTERS for name in names]
    keys = [project_key(project, *place) for place in places]
    gone = []
    for (kind, name), key, value in zip(places, keys, store.read(keys), strict=True):
        if value is None:
            continue
        try:
            version = read_version(f"{kind}:{name}", value)
        except DamagedNote:
            version = ""
        plan = store.read([project_key(project, "plan", name, version)])[0] if version else None
        if plan is None and (not version or compiled(name, version) is None):
            gone.append(key)
    if gone:
        remove_pointers(store, project, gone)


def _restore_marks(store: OnlineStore, project: str) -> None:
    """What says until when views are filled, and whether they are damaged."""
    views = fed_views(store, project)
    known = [
        *(until_key(project), filled_key(project), damaged_key(project), published_key(project)),
        *(carried_key(project), whole_key(project)),
    ]
    until, fills, broken, published, forgotten, wholes = store.read(known)
    if not _reads(lambda: read_object("until", until, numbers)):
        store.delete([known[0]])
    if not _reads(lambda: filled(fills)):
        store.delete([known[1]])
        damage(store, project, views, _WHY)
    if not _reads(lambda: damaged(broken)):
        store.delete([known[2]])
        damage(store, project, views, _WHY)
    if not _reads(lambda: read_number("published", published)):
        store.write({known[3]: b"%d" % store.stamp(clock_key(project))})
    if not _reads(lambda: carried(forgotten)):
        store.delete([known[4]])
        damage(store, project, views, _WHY)
    if not _reads(lambda: whole(wholes)):
        store.delete([known[5]])
    for source in sorted({name for view in views for name in view.source_names}):
        died = died_key(project, source)
        if not _reads(partial(read_number, name_of(died), store.read([died])[0])):
            store.write({died: b"%d" % store.stamp(clock_key(project))})
        ended = pushed_key(project_key(project, "pushes", source))
        if not _reads(partial(read_number, name_of(ended), store.read([ended])[0])):
            store.delete([ended])
            damage(store, project, [v for v in views if source in v.source_names], _WHY)


def _reads(read: Callable[[], object]) -> bool:
    """Whether a note can be read."""
    try:
        read()
    except DamagedNote:
        return False
    return True
