"""Says which registry a project's keys in an online store belong to, and keeps a copy of it there.

A registry has a random id, which the store keeps, too. The same id is welcome, from whatever host
or checkout. Without a registry, `adopt` rebuilds it from the store. Another id is refused, since
two repos of one project would overwrite each other.

    fk:PROJECT:registry            the id, and how many changes and tombstones the registry has
    fk:PROJECT:registry:record     its tables, but for the definitions
    fk:PROJECT:registry:KIND:NAME:FINGERPRINT    a definition
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.attributes import Named
from featurekit.core.keys import names_key, project_key
from featurekit.define.plan import Service, View
from featurekit.define.published import look_at
from featurekit.errors import DamagedNote, PlanRefused, RegistryError
from featurekit.language.wire import to_json
from featurekit.log.tombstones import secret_path
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import PINNED, owner_key, plans, service_names
from featurekit.project.registry import Known, Record, Registry

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Owner:
    """The registry that a project's keys belong to: its id, and how much it had when it last wrote
    its copy."""

    id: str
    changes: int
    forgotten: int


@dataclass(frozen=True, slots=True)
class Adopted(Named):
    """What `adopt` made of the online store's copy of a registry.

    `versions`, `changes` and `forgotten` count what the registry has now. `missing` names versions
    whose definitions the store had lost, so that no rollback leads to them. `kept` is where the
    file lies that was there before. `complete` is False where the store had no copy, since an
    earlier featurekit wrote it: then only what is served is known, and nobody who was forgotten.
    """

    id: str
    services: tuple[str, ...]
    versions: int
    changes: int
    forgotten: int
    missing: tuple[str, ...]
    kept: Path | str | None
    complete: bool


def check(store: OnlineStore, project: str, registry: Registry) -> None:
    """RegistryError where the project's keys belong to another registry than this one, or to one
    that is not here, or that has come further than this copy of it."""
    owned, served = store.read([owner_key(project), names_key(project)])
    _check(owned, _names_some(project, served), project, registry)


def _names_some(project: str, served: bytes | None) -> bool:
    """Whether services are served, which may be so where nobody can read which."""
    try:
        return bool(service_names(project, served))
    except DamagedNote:
        return True


def check_value(owned: bytes | None, project: str, registry: Registry) -> None:
    """As `check`, for the value of the owner's key alone."""
    _check(owned, False, project, registry)


def check_forgotten(store: OnlineStore, project: str, registry: Registry) -> None:
    """RegistryError where the project's keys belong to this registry, or to one that is not here,
    and that one knows of more who were forgotten than is known here."""
    (owned,), here = store.read([owner_key(project)]), registry.known()
    if owned is None:
        return
    owner, known = _owner(owned, project), 0 if here is None else here.forgotten
    if owner.forgotten > known and (here is None or here.id in (None, owner.id)):
        raise RegistryError(
            f"{owner.forgotten} forgotten entities of project {project!r} are recorded in the "
            f"online store, and {known} in {registry.place}: the others would come back. Run "
            "`featurekit adopt`, which takes the records from the online store, put the newest "
            "registry back, or name it by `registry:` under featurekit:"
        )


def claim(store: OnlineStore, project: str, registry: Registry, state_dir: Path) -> None:
    """Make the project's keys this registry's, where they are nobody's; checked as by `check`. A
    registry that is new gets its id."""
    check(store, project, registry)
    if registry.known() is None and secret_path(state_dir).exists():
        raise lost_registry(registry, state_dir)
    registry.make_id()
    _write(store, project, registry, None)


def lost_registry(registry: Registry, state_dir: Path) -> RegistryError:
    """The error where entities were forgotten and nothing says which."""
    return RegistryError(
        f"{secret_path(state_dir)} lies here, so entities were forgotten, and the registry that "
        f"records them, {registry.place}, is lost: their events would come back. Run `featurekit "
        "adopt`, which rebuilds it from the online store, or put the file back; if nobody is to "
        "stay forgotten, remove forget.key"
    )


def record(store: OnlineStore, project: str, registry: Registry) -> None:
    """Bring the store's copy of the registry up to date. RegistryError where the keys have become
    another's meanwhile."""
    _write(store, project, registry, registry.dump())


def is_behind(store: OnlineStore, project: str, registry: Registry) -> bool:
    """Whether the store's copy of this registry has fewer changes or tombstones than it."""
    (owned,), here = store.read([owner_key(project)]), registry.known()
    if owned is None or here is None:
        return False
    owner = _owner(owned, project)
    less = owner.changes < here.changes or owner.forgotten < here.forgotten
    return owner.id == here.id and less


def adopt(store: OnlineStore, project: str, registry: Registry) -> Adopted:
    """Rebuild the registry's file from the store's copy; see `FeatureStore.adopt`."""
    owned, copied = store.read([owner_key(project), record_key(project)])
    owner, here = None if owned is None else _owner(owned, project), registry.known()
    if here is not None and here.id is not None and (owner is None or here.id != owner.id):
        whose = "has no owner yet: `featurekit apply` makes it this registry's"
        if owner is not None:
            whose = f"belongs to another registry ({owner.id[:8]}): move this one away first"
        raise RegistryError(
            f"{registry.place} is a registry ({here.id[:8]}), and project {project!r} in the "
            f"online store {whose}"
        )
    served = _served(store, project)
    if owner is None and not served:
        raise RegistryError(
            f"the online store has nothing of a project {project!r} to adopt; check the project's "
            "name and the Redis URL, or begin with `featurekit apply`"
        )
    read = _of_services(served) if copied is None else _read(copied, project)
    if here is not None:
        read = read.joined(registry.dump())
    definitions, missing = _definitions(store, project, registry, read, served)
    kept = registry.rebuild(read, definitions, None if owner is None else owner.id)
    registry.make_id()
    record(store, project, registry)
    made = registry.known()
    assert made is not None
    assert made.id is not None
    return Adopted(
        made.id,
        tuple(sorted(name for kind, name, *_ in read.current if kind == "service")),
        len(definitions),
        made.changes,
        made.forgotten,
        missing,
        kept,
        copied is not None,
    )


# --- what lies in the store -----------------------------------------------------------------------


def record_key(project: str) -> bytes:
    return project_key(project, "registry", "record")


def _version_key(project: str, version: Sequence[str]) -> bytes:
    return project_key(project, "registry", *version)


def _owner(value: bytes, project: str) -> Owner:
    try:
        found = json.loads(value)
        if found["format"] == _FORMAT:
            return Owner(str(found["id"]), int(found["changes"]), int(found["forgotten"]))
        what = f"of format {found['format']!r}; this featurekit reads {_FORMAT}"
    except (ValueError, TypeError, KeyError):
        what = "no such value"
    raise RegistryError(
        f"{owner_key(project).decode()} says whose this project is, and it is {what}; see who else "
        "writes to this store"
    )


def _read(value: bytes, project: str) -> Record:
    try:
        return Record.read(json.loads(value))
    except (ValueError, TypeError, KeyError) as error:
        raise RegistryError(
            f"{record_key(project).decode()} is not what featurekit writes ({error}); put the "
            "registry's file back from a copy of your own"
        ) from None


def _write(store: OnlineStore, project: str, registry: Registry, made: Record | None) -> None:
    """Write the owner and, where there is one, the record, if the keys are nobody's or this
    registry's, and nothing in the store is newer."""
    known = registry.known()
    assert known is not None
    assert known.id is not None
    keys = [owner_key(project), record_key(project)]
    if made is not None:
        _write_definitions(store, project, registry, made)
    changes, forgotten = (0, 0) if made is None else (len(made.changes), len(made.forgotten))
    owner = {"format": _FORMAT, "id": known.id, "changes": changes, "forgotten": forgotten}

    def change(values: list[bytes | None]) -> list[bytes | None]:
        owned, copied = values
        _check(owned, False, project, registry)
        if made is None:
            return [json.dumps(owner).encode() if owned is None else None, None]
        if copied is not None and not made.continues(_read(copied, project)):
            raise RegistryError(
                f"another copy of the registry {registry.place} has written to project {project!r} "
                "meanwhile; run `featurekit adopt`, and then this again"
            )
        return [json.dumps(owner).encode(), json.dumps(made.written()).encode()]

    store.update(keys, change)


def _write_definitions(store: OnlineStore, project: str, registry: Registry, made: Record) -> None:
    (copied,) = store.read([record_key(project)])
    known = set() if copied is None else {v[:3] for v in _read(copied, project).versions}
    values = {}
    for version in made.versions:
        if version[:3] not in known:
            kind, name, fingerprint, *_ = version
            text = registry.written(kind, name, fingerprint)
            if text is not None:
                values[_version_key(project, version[:3])] = text.encode()
    store.write(values)


def _check(owned: bytes | None, served: bool, project: str, registry: Registry) -> None:
    here = registry.known()
    if owned is None:
        if here is None and served:  # an earlier featurekit wrote it
            raise _not_here(project, registry)
        return
    owner = _owner(owned, project)
    if here is None:
        raise _not_here(project, registry)
    if here.id != owner.id:
        raise RegistryError(
            f"project {project!r} in this online store belongs to another registry "
            f"({owner.id[:8]}) than {registry.place} ({(here.id or 'no id')[:8]}); two repos of "
            "one project would overwrite each other. Name this project otherwise in "
            "feature_store.yaml, or let `registry:` under featurekit: name that registry's file; "
            "if the file here is of no use any more, move it away and run `featurekit adopt`"
        )
    if here.changes < owner.changes or here.forgotten < owner.forgotten:
        raise RegistryError(
            f"the registry {registry.place} is an old copy: it has {here.changes} of "
            f"{owner.changes} changes and {here.forgotten} of {owner.forgotten} forgotten "
            "entities; put the newest back, or run `featurekit adopt`, which takes them from the "
            "online store"
        )


def _not_here(project: str, registry: Registry) -> RegistryError:
    return RegistryError(
        f"project {project!r} in this online store belongs to a registry that is not here: "
        f"{registry.place} is missing or empty. Run `featurekit adopt`, which rebuilds it from the "
        "online store, or put the file back; if these are another team's services, name your "
        "project otherwise in feature_store.yaml"
    )


# --- what is adopted ------------------------------------------------------------------------------


def _served(store: OnlineStore, project: str) -> list[Service]:
    """The versions of services that are fed, as far as their plans can be read; those that are to
    be in force come last."""
    found = []
    for plan in plans(store, project, PINNED, "retained", "live", "next").values():
        try:
            found.append(look_at(plan or b""))
        except PlanRefused:
            continue  # it is missing then
    return found


def _named(service: Service) -> list[tuple[str, View | Service]]:
    """The service's views and the service, each with its kind."""
    return [*(("view", view) for view in service.views), ("service", service)]


def _of_services(served: Sequence[Service]) -> Record:
    """A record of what is served, where the store has no copy of the registry."""
    who, when = "unknown", ""
    current: dict[tuple[str, str], str] = {}
    versions: dict[tuple[str, str, str], None] = {}
    for service in served:
        for kind, value in _named(service):
            versions[kind, value.name, value.fingerprint] = None
            current[kind, value.name] = value.fingerprint
    return Record(
        versions=[(*version, who, when) for version in versions],
        current=[(*name, fingerprint, "{}") for name, fingerprint in current.items()],
        changes=[("add", *version, who, when) for version in versions],
        forgotten=[],
    )


def _definitions(
    store: OnlineStore,
    project: str,
    registry: Registry,
    read: Record,
    served: Sequence[Service],
) -> tuple[dict[Known, str], tuple[str, ...]]:
    """The text of each version's definition, and the versions without one."""
    of_plans: dict[Known, str] = {}
    for service in served:
        for kind, value in _named(service):
            of_plans[kind, value.name, value.fingerprint] = json.dumps(to_json(value))
    wanted: list[Known] = [(kind, name, version) for kind, name, version, *_ in read.versions]
    found = store.read([_version_key(project, version) for version in wanted])
    made, missing = {}, []
    for version, kept in zip(wanted, found, strict=True):
        text = None if kept is None else kept.decode(errors="replace")
        text = text or of_plans.get(version) or registry.written(*version)
        if text is None:
            missing.append(":".join(version))
        else:
            made[version] = text
    return made, tuple(missing)
