"""Brings a Feast registry up to date with what a repo defines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from feast import FeatureStore as FeastStore
from feast import Project as FeastProject
from feast.infra.registry.sql import SqlRegistry
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from featurekit.errors import RegistryError
from featurekit.plugins.feast.shown import MARK, Shown, shown
from featurekit.project.project import Project
from featurekit.project.publishing import Published

_UNSAID = {"meta", "project", "created_timestamp", "last_updated_timestamp",
           "current_version_number", "materialization_intervals", "body"}  # fmt: skip
"""Fields of Feast's protos that its registry fills in; and the pickled form of a function, which is
another one in each process. Its text says the same."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of object: Feast's word, what is wanted and what the registry has of it, and the names
    of the registry's methods. Kinds stand in the order in which they are written."""

    word: str
    wanted: Callable[[Shown], Mapping[str, Any]]
    lister: str
    apply: str
    delete: str


_KINDS = [
    _Kind("entity", lambda s: s.entities, "list_entities", "apply_entity", "delete_entity"),
    _Kind("data source", lambda s: s.sources, "list_data_sources", "apply_data_source",
          "delete_data_source"),
    _Kind("feature view", lambda s: s.views, "list_feature_views", "apply_feature_view",
          "delete_feature_view"),
    _Kind("on demand feature view", lambda s: s.requests, "list_on_demand_feature_views",
          "apply_feature_view", "delete_feature_view"),
    _Kind("feature service", lambda s: s.services, "list_feature_services",
          "apply_feature_service", "delete_feature_service"),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Step:
    kind: _Kind
    action: str
    name: str
    made: Any = None


def publish(project: Project, *, write: bool) -> list[Published]:
    """What has to be done in the Feast registry that feature_store.yaml names; with `write`, it is
    done.

    Objects of other projects, and those of this one that featurekit has not published, stay as they
    are. RegistryError where one of these has the name of something that is to be published.
    """
    wanted = shown(project)
    store = FeastStore(repo_path=str(project.path))
    registry, name = store.registry, store.project
    steps = list(_steps(registry, name, wanted))
    if write and steps:
        _write(registry, name, steps)
    done = [Published(step.action, step.kind.word, step.name) for step in steps]
    return [*done, *wanted.omitted]


def is_published(found: Any) -> bool:
    """Whether an object of Feast is one that `publish` made."""
    return MARK in (getattr(found, "tags", None) or {})


def _steps(registry: Any, project: str, wanted: Shown) -> Iterator[_Step]:
    """What is to be added and changed, in the order of the kinds, and then what is to be removed,
    in the opposite order."""
    gone: list[_Step] = []
    foreign: list[str] = []
    for kind in _KINDS:
        listed = getattr(registry, kind.lister)(project, allow_cache=False)
        known = {one.name: one for one in listed}
        for name, made in kind.wanted(wanted).items():
            there = known.get(name)
            if there is None:
                yield _Step(kind, "add", name, made)
            elif is_published(made) and not is_published(there):
                foreign.append(f"{kind.word} {name!r}")
            elif _said(there) != _said(made):
                yield _Step(kind, "change", name, made)
        gone += [
            _Step(kind, "remove", name)
            for name, one in known.items()
            if is_published(one) and name not in kind.wanted(wanted)
        ]
    if foreign:
        raise RegistryError(
            f"Feast's registry has {', '.join(foreign)} of its own in project {project!r}, which "
            "would be replaced; give one of the two another name"
        )
    yield from reversed(gone)


def _said(found: Any) -> bytes:
    """What an object says, without what the registry adds to it."""
    proto = found.to_proto()
    _strip(proto)
    text: bytes = proto.SerializeToString(deterministic=True)
    return text


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if field.name in _UNSAID:
            message.ClearField(field.name)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            of_map = field.message_type.GetOptions().map_entry
            several = value.values() if of_map else value if field.is_repeated else [value]
            for one in several:
                if isinstance(one, Message):
                    _strip(one)


def _write(registry: Any, project: str, steps: list[_Step]) -> None:
    """Do all of the steps, or none."""
    with _at_once(registry):
        if not any(one.name == project for one in registry.list_projects(allow_cache=False)):
            registry.apply_project(FeastProject(name=project), commit=False)
        with _project_there(registry, project):
            for step in steps:
                if step.action == "remove":
                    getattr(registry, step.kind.delete)(step.name, project, commit=False)
                else:
                    getattr(registry, step.kind.apply)(step.made, project, commit=False)
        registry.commit()
    registry.refresh(project)


@contextmanager
def _at_once(registry: Any) -> Iterator[None]:
    """A registry on a database writes within one transaction. By itself it makes several for each
    object, and reads all that it holds after each. A registry in a file has nothing to be kept
    from: it writes at its `commit`."""
    if not isinstance(registry, SqlRegistry):
        yield
        return
    there: Any = registry  # `_Within` is no engine, and has what the registry asks of one
    before = there.read_engine, there.write_engine, there.cache_mode
    try:
        with there.write_engine.begin() as connection:
            there.read_engine = there.write_engine = _Within(connection)
            there.cache_mode = "none"
            yield
    finally:
        there.read_engine, there.write_engine, there.cache_mode = before


@contextmanager
def _project_there(registry: Any, project: str) -> Iterator[None]:
    """A registry on a database takes the project for known. By itself it reads and applies it with
    each object, which changes nothing and takes a third of the time."""
    if not isinstance(registry, SqlRegistry):
        yield
        return
    there: Any = registry
    found = registry.get_project(project, allow_cache=False)
    there.get_project = lambda name, allow_cache=False: found
    there.apply_project = lambda project, commit=True: None
    try:
        yield
    finally:
        del there.get_project, there.apply_project


@dataclass(frozen=True, slots=True)
class _Within:
    """What stands in the place of an engine: its transactions are parts of one."""

    connection: Any

    @contextmanager
    def begin(self) -> Iterator[Any]:
        """The one connection."""
        yield self.connection
