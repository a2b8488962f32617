"""Removes states, plans and pointers that no fed version of a service uses any more, and what the
state folder keeps of files that no source reads any more.

The store checks each removal: it holds only if no version was published, made live or released
since it was decided. So a version that is published meanwhile loses nothing, since what is removed
was written before. A push that began while a version was fed may write some of its states again
after their removal. No lookup reads these, and the next run removes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.attributes import Named
from featurekit.core.keys import names_key, project_key
from featurekit.core.screen import Advance
from featurekit.define.published import look_at
from featurekit.errors import OnlineError, RegistryError
from featurekit.online.state.blocks import head_key
from featurekit.online.store.notes import read_version
from featurekit.online.store.protocol import OnlineStore
from featurekit.project.deployment import (
    PINNED,
    POINTERS,
    forget_unfed,
    pinned_versions,
    pins_key,
    release_retained,
    service_names,
)
from featurekit.project.project import Project

_STEP = 1000
_Version = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Collected:
    """The keys of one version in the online store, and the `bytes` that they take up.

    For a "view" these are its states and what it remembers of ids (T7), for a "service" its plan.
    `used_by` says which versions of services need them; without any, the keys are removed.
    """

    kind: str
    name: str
    fingerprint: str
    used_by: tuple[str, ...]
    keys: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """A file of the state folder with the copy of a CSV file or of a database, with the hash of a
    file's content, or with verdicts on its rows, of which no source reads the content any more
    (S4)."""

    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Collection(Named):
    """What `gc` found, and removed or would remove. `files` are those that nothing needs, and
    `served_rows` the rows of the serving log that were emptied since their entity is forgotten."""

    versions: tuple[Collected, ...]
    dry_run: bool
    files: tuple[CollectedFile, ...] = ()
    served_rows: int = 0

    @property
    def removed(self) -> tuple[Collected, ...]:
        """The versions that nothing uses."""
        return tuple(v for v in self.versions if not v.used_by)

    @property
    def keys(self) -> int:
        """The number of keys removed."""
        return sum(v.keys for v in self.removed)

    @property
    def bytes(self) -> int:
        """The number of bytes freed in the online store."""
        return sum(v.bytes for v in self.removed)

    @property
    def file_bytes(self) -> int:
        """The number of bytes freed in the state folder."""
        return sum(file.bytes for file in self.files)


@dataclass(frozen=True, slots=True)
class _Use:
    """The versions in use, and the keys and values that say so."""

    guards: list[bytes]
    values: Sequence[bytes | None]
    names: frozenset[str]
    by: dict[_Version, tuple[str, ...]]


def collect(
    store: OnlineStore,
    project: str,
    *,
    only: Sequence[str] = (),
    retained: bool = False,
    dry_run: bool = False,
    progress: Advance = lambda done, total: None,
) -> Collection:
    """Remove what no service uses; see `FeatureStore.gc`."""
    if only:
        _refuse_used(_use(store, project, retained=retained), only)
    if retained and not dry_run:
        release_retained(store, project)
        retained = False  # a version retained from now on was live until now, and stays
    use = _use(store, project, retained=retained)
    total, looked = store.count(), 0
    found: dict[_Version, list[int]] = {}
    for keys in store.scan(project_key(project) + b":"):
        looked += _STEP
        progress(min(looked, total), total)
        versions = {key: v for key in keys if (v := _version(key, use.names)) is not None}
        wanted = [k for k, v in versions.items() if v not in use.by and _is_asked(v, only)]
        if not dry_run:
            # A head goes with its blocks: a version that comes back must find none without them.
            heads = {h: versions[k] for k in wanted if (h := head_key(k)) is not None}
            versions |= heads
            wanted = list(dict.fromkeys([*wanted, *heads]))
        sizes = dict(zip(wanted, store.sizes(wanted), strict=True)) if wanted else {}
        while wanted and not dry_run and not store.delete_if(wanted, use.guards, use.values):
            use = _use(store, project, retained=retained)
            wanted = [k for k in wanted if versions[k] not in use.by]
        for key, version in versions.items():
            gone = key in wanted and sizes[key]
            if gone or version in use.by:
                counts = found.setdefault(version, [0, 0])
                counts[0] += 1
                counts[1] += sizes.get(key, 0)
    progress(total, total)
    if not dry_run:
        forget_unfed(store, project)
    for asked in only:
        if not any(_is_asked(v, [asked]) for v in found):
            raise RegistryError(
                f"the online store holds no unused version {asked!r}; `featurekit gc --dry-run` "
                "lists those that it holds"
            )
    made = [Collected(*v, use.by.get(v, ()), *counts) for v, counts in sorted(found.items())]
    return Collection(tuple(made), dry_run)


def collect_files(project: Project, *, dry_run: bool) -> tuple[CollectedFile, ...]:
    """Remove what is kept of files for no source of the repo as it is now."""
    from featurekit.sources.leftovers import leftovers

    found = []
    for path in leftovers(project.repo.sources.values(), project.path, project.state_dir):
        with suppress(FileNotFoundError):  # a reader was faster
            found.append(CollectedFile(path, path.stat().st_size))
            if not dry_run:
                path.unlink()
    return tuple(found)


def _version(key: bytes, names: frozenset[str]) -> _Version | None:
    """The version that a key belongs to; None for the project's own bookkeeping."""
    kind, *rest = key.split(b":", 5)[2:]
    match kind, [part.decode(errors="replace") for part in rest[:2]]:
        case b"state" | b"block" | b"ids", [view, fingerprint] if len(rest) == 3:
            return "view", view, fingerprint
        case b"floor" | b"seen", [view, fingerprint]:
            return "view", view, fingerprint
        case b"plan", [service, fingerprint]:
            return "service", service, fingerprint
        case _, [service] if kind.decode() in POINTERS and service not in names:
            return "pointer", service, kind.decode()
    return None


def _is_asked(version: _Version, only: Sequence[str]) -> bool:
    """Whether a version is one of `only`. Each of these is a name, or a name, a colon and the
    beginning of a fingerprint. Without any, all versions are asked for."""
    _, name, fingerprint = version
    asked = (one.partition(":") for one in only)
    return not only or any(n == name and fingerprint.startswith(f) for n, _, f in asked)


def _refuse_used(use: _Use, only: Sequence[str]) -> None:
    for asked in only:
        for version, by in use.by.items():
            if _is_asked(version, [asked]):
                kind, name, fingerprint = version
                raise RegistryError(
                    f"{kind} {name}:{fingerprint[:12]} is used by {', '.join(by)}; apply and "
                    "materialise definitions that do not use it first; for a retained version "
                    "write --retained, and for a pinned one `featurekit unpin` it first"
                )


def _use(store: OnlineStore, project: str, *, retained: bool) -> _Use:
    """The versions that the live, the next and the retained versions of services use. `retained`
    leaves out those that only a retained one uses."""
    while True:
        (listed,) = store.read([names_key(project)])
        names = service_names(project, listed)
        places = [(kind, name) for name in names for kind in POINTERS]
        pointers = [project_key(project, k, n) for k, n in places]
        guards = [names_key(project), pins_key(project), *pointers]
        values = store.read(guards)
        if values[0] == listed:
            break
    by: dict[_Version, list[str]] = {}
    pointed: dict[tuple[str, str], str] = {}  # the version and its first pointer
    for (kind, name), pointer in zip(places, values[2:], strict=True):
        if pointer and not (retained and kind == "retained"):
            pointed.setdefault((name, read_version(f"{kind}:{name}", pointer)), kind)
    for version in pinned_versions(values[1]):
        pointed.setdefault(version, PINNED)
    plans = store.read([project_key(project, "plan", *version) for version in pointed])
    for ((name, fingerprint), kind), plan in zip(pointed.items(), plans, strict=True):
        if plan is None:
            raise OnlineError(
                f"the {kind} version {fingerprint[:12]} of service {name!r} has no plan in the "
                "online store, so what it uses is unknown; run `featurekit apply` first"
            )
        user = f"{kind} {name}"
        by.setdefault(("service", name, fingerprint), []).append(user)
        for view in look_at(plan).fed:
            by.setdefault(("view", view.name, view.fingerprint), []).append(user)
    return _Use(guards, values, frozenset(names), {v: tuple(users) for v, users in by.items()})
