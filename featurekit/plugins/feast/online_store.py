"""Feast's online store on featurekit's packed rows in Redis."""

from __future__ import annotations

import asyncio
import datetime as dt
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.repo_config import FeastConfigBaseModel
from pydantic import Field, StrictStr

from featurekit.core.keys import entity_key, project_key, state_key, state_prefix
from featurekit.core.status import NULL_VALUE, PRESENT
from featurekit.core.types import micros
from featurekit.errors import DataError, DefinitionError
from featurekit.feed.add import add_events
from featurekit.online.state.state import Event, State
from featurekit.online.state.update import update_states
from featurekit.online.store.open import open_private, open_store
from featurekit.online.store.protocol import OnlineStore as Store
from featurekit.plugins.feast.answers import Answered, Answering
from featurekit.plugins.feast.events import state_folder
from featurekit.plugins.feast.kinds import Kind
from featurekit.plugins.feast.lookup import Prepared, context_of, prepared
from featurekit.plugins.feast.published import (
    is_published,
    lookup_of,
    read_published,
    refuse_removal,
)
from featurekit.plugins.feast.pushes import is_push, push_rows
from featurekit.plugins.feast.response import FeaturekitResponse
from featurekit.plugins.feast.schemas import known, note
from featurekit.plugins.feast.views import (
    NO_ENTITY,
    Mapped,
    mapped,
    plain_name,
    renamed,
    wanted,
)
from featurekit.project.config import connection_url

_CHUNK = 500
_MOST_READY = 1_000


class FeaturekitOnlineStoreConfig(FeastConfigBaseModel):
    """The settings of `online_store` in feature_store.yaml."""

    type: Literal["featurekit.plugins.feast.FeaturekitOnlineStore"] = (
        "featurekit.plugins.feast.FeaturekitOnlineStore"
    )
    connection_string: StrictStr | None = Field(default=None)
    """Feast's host:port with options behind commas."""
    redis_url: StrictStr | None = Field(default=None)
    """A URL in its place: redis://, rediss:// or unix://. Without either a private Redis is
    started, whose data stay in .featurekit/feast beside the repo."""

    @property
    def url(self) -> str | None:
        """The URL of the Redis; None for the private one."""
        if self.redis_url is not None or self.connection_string is None:
            return self.redis_url
        return connection_url(self.connection_string)


def versions_of(config: Any) -> bool:
    """Whether each version of a Feast view has rows of its own."""
    return bool(config.registry.enable_online_feature_view_versioning)


def project_of(config: Any) -> str:
    """The name under which the states of a Feast project lie; no project of featurekit has it."""
    return f"feast.{config.project}"


class FeaturekitOnlineStore(OnlineStore):
    """The latest rows of Feast views, as the rules say (V1, T4, T6).

    A write takes rows in any order and any number of times: what is the latest row does not depend
    on it.
    """

    _versioned_read_supported = True

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Reads and writes may be awaited."""
        return SupportedAsyncMethods(read=True, write=True)

    def __init__(self) -> None:
        self._store: tuple[str | None, Store] | None = None
        self._ready: dict[Any, tuple[Any, Prepared]] = {}

    def store(self, config: Any) -> Store:
        """The Redis of a repo, opened when it is first needed."""
        url = config.online_store.url
        if self._store is None or self._store[0] != url:
            made = open_private(state_folder(config)) if url is None else open_store(url)
            self._store = url, made
        return self._store[1]

    def online_write_batch(
        self,
        config: Any,
        table: Any,
        data: list[tuple[Any, dict[str, Any], dt.datetime, dt.datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Take rows, each a key, values, its instant and its created timestamp. A naive instant is
        in UTC. DataError for a value of another type than the view declares."""
        if is_push(table):
            return push_rows(config, table, data, progress)
        made, store = mapped(table, versions=versions_of(config)), self.store(config)
        prefix = state_prefix(project_of(config), made.view)
        now = store.now_us()
        rows: dict[bytes, list[Event]] = {}
        for key, values, happened, created in data:
            entity = _entity(made, key)
            if entity is None:
                continue
            event = _event(made, values, happened, created, now)
            rows.setdefault(state_key(prefix, entity), []).append(event)
        keys = list(rows)
        for first in range(0, len(keys), _CHUNK):
            some = keys[first : first + _CHUNK]

            def change(i: int, state: State, some: list[bytes] = some) -> None:
                add_events(state, rows[some[i]])

            update_states(store, made.view, some, change)
            if progress is not None:
                progress(sum(len(rows[key]) for key in some))

    async def online_write_batch_async(
        self,
        config: Any,
        table: Any,
        data: list[tuple[Any, dict[str, Any], dt.datetime, dt.datetime | None]],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """As `online_write_batch`, in a thread: most of its time it makes states."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    def online_read(
        self,
        config: Any,
        table: Any,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[dt.datetime | None, dict[str, Any] | None]]:
        """The values of each key as of now, as protos, with the instant of their row; (None, None)
        for a key without a row, and for one whose row is older than the ttl."""
        if is_published(table):
            return read_published(config, table, entity_keys, requested_features)
        asked = _Asked(config, table, entity_keys, requested_features)
        return asked.rows(asked.answering.answer(self.store(config), asked.entities))

    async def online_read_async(
        self,
        config: Any,
        table: Any,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[dt.datetime | None, dict[str, Any] | None]]:
        """As `online_read`, without blocking the event loop while Redis is read."""
        if is_published(table):
            return await asyncio.to_thread(
                read_published, config, table, entity_keys, requested_features
            )
        asked = _Asked(config, table, entity_keys, requested_features)
        return asked.rows(await asked.answering.answer_async(self.store(config), asked.entities))

    def get_online_features(
        self,
        config: Any,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> FeaturekitResponse:
        """The features of each entity as of now, from one round trip for all views."""
        published = lookup_of(config, features, registry, project, full=full_feature_names)
        if published is not None:
            return published.get(entity_rows)
        ready = self._prepared(
            config, features, registry, project, full_feature_names,
            include_feature_view_version_metadata,
        )  # fmt: skip
        keys, fields = ready.rows(entity_rows)
        found = ready.answering.answer(self.store(config), renamed(keys))
        return ready.answered(keys, fields, found)

    async def get_online_features_async(
        self,
        config: Any,
        features: Any,
        entity_rows: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> FeaturekitResponse:
        """As `get_online_features`, without blocking the event loop while Redis is read."""
        published = lookup_of(config, features, registry, project, full=full_feature_names)
        if published is not None:
            return await published.get_async(entity_rows)
        ready = self._prepared(
            config, features, registry, project, full_feature_names,
            include_feature_view_version_metadata,
        )  # fmt: skip
        keys, fields = ready.rows(entity_rows)
        found = await ready.answering.answer_async(self.store(config), renamed(keys))
        return ready.answered(keys, fields, found)

    def _prepared(
        self, config: Any, features: Any, registry: Any, project: str, full: bool, versions: bool
    ) -> Prepared:
        """A request made ready; what Feast knows of it is one object until its registry changes."""
        context = context_of(registry, project, features, full=full)
        key = features.name if hasattr(features, "name") else tuple(features)
        known = self._ready.get((project, key, full, versions))
        if known is None or known[0] is not context:
            made = prepared(
                project_of(config), context, full=full, told=versions, apart=versions_of(config)
            )
            known = self._ready[project, key, full, versions] = context, made
            while len(self._ready) > _MOST_READY:
                self._ready.pop(next(iter(self._ready)))
        return known[1]

    def update(
        self,
        config: Any,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """Remove the states of views that are no more, with those of all their versions. A warning
        names a view whose schema has changed: it has no rows until it is materialised again.
        DefinitionError where one of these is published: it goes with its definition."""
        refuse_removal(tables_to_delete)
        for table in tables_to_delete:
            names = {mapped(table).view.name}
            if versions_of(config):
                every = range(1, (table.current_version_number or 0) + 1)
                names |= {plain_name(f"{table.name}_v{number}") for number in every}
            for name in names:
                self._remove(config, project_key(project_of(config), "state", name))
                self._remove(config, project_key(project_of(config), "schemas", name))
        for table in tables_to_keep:
            if table.features and not is_published(table):
                self._note(config, table)

    def _note(self, config: Any, table: Any) -> None:
        store, project = self.store(config), project_of(config)
        view = mapped(table, versions=versions_of(config)).view
        schemas = known(store, project, view)
        if schemas and state_prefix(project, view) not in schemas:
            warnings.warn(
                f"Feast's view {table.name!r} has another schema than its rows in Redis: they are "
                "not found until it is materialised again",
                stacklevel=2,
            )
        note(store, project, view)

    def retrieve_online_documents(self, *_: Any, **__: Any) -> Any:
        """DefinitionError: there is no index of vectors."""
        raise _no_vectors()

    def retrieve_online_documents_v2(self, *_: Any, **__: Any) -> Any:
        """DefinitionError: there is no index of vectors."""
        raise _no_vectors()

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        if self._store is not None:
            await self._store[1].close_async()

    def teardown(self, config: Any, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """Remove all that the project has in Redis, and nothing of another one."""
        self._remove(config, project_key(project_of(config)))

    def _remove(self, config: Any, prefix: bytes) -> None:
        store = self.store(config)
        store.delete([prefix])
        for keys in store.scan(prefix + b":"):
            store.delete(keys)


def _key_values(made: Mapped, key: Any) -> list[Any]:
    """The values of an entity's join keys, in the order of the view's."""
    given = dict(zip(key.join_keys, key.entity_values, strict=True))
    found = []
    for name, kind in made.key_kinds.items():
        if name not in given:
            raise DataError(
                f"view {made.view.name!r}: the entity key lacks {name!r}; it has {', '.join(given)}"
            )
        found.append(_read_key(kind, given[name], name))
    return found


def _read_key(kind: Kind, proto: Any, name: str) -> Any:
    held = proto.WhichOneof("val")
    ints = ("int32_val", "int64_val")
    if held in ints and kind.field in (*ints, "string_val"):
        return kind.key(getattr(proto, held))  # two sources may hold one key in two widths
    return kind.read(proto, name)


def _entity(made: Mapped, key: Any) -> bytes | None:
    """The entity of a key; None for one with a null, as for a row of a file (S2)."""
    values = _key_values(made, key)
    if NO_ENTITY in made.keys.values() and None in values:
        raise DefinitionError(
            f"view {made.view.name!r} is written to the online store and names no entities, so "
            "that its rows have no keys; give it entities=[…]"
        )
    if None in values:
        return None
    types = [param.type for param in made.view.join_keys]
    return entity_key(list(zip(types, values, strict=True)))


def _event(
    made: Mapped,
    values: dict[str, Any],
    happened: dt.datetime,
    created: dt.datetime | None,
    now: int,
) -> Event:
    """A row as an event of the view. It arrives when it happens; one that is still to happen
    arrives now, so that the present row is kept until then."""
    ts = micros(happened)
    slots = []
    for slot in made.view.slots:
        if slot.column == made.created:
            slots.append(None if created is None else _utc(created))
        else:
            kind = made.kinds[slot.column or ""]
            slots.append(_value(kind, values, slot.column or ""))
    return ts, min(ts, now), tuple(slots)


def _value(kind: Kind, values: dict[str, Any], name: str) -> Any:
    proto = values.get(name)
    return None if proto is None else kind.read(proto, name)


def _utc(given: dt.datetime) -> dt.datetime:
    return given.replace(tzinfo=dt.UTC) if given.tzinfo is None else given.astimezone(dt.UTC)


class _Asked:
    """A read of some entities of one view."""

    def __init__(
        self, config: Any, table: Any, keys: Sequence[Any], features: Sequence[str] | None
    ) -> None:
        versions = versions_of(config)
        self.made = mapped(table, versions=versions)
        self.names = tuple(features or self.made.kinds)
        one = wanted(table, self.names, versions=versions)
        self.answering = Answering(project_of(config), [one])
        rows = [_key_values(self.made, key) for key in keys]
        columns = [list(column) for column in zip(*rows, strict=True)]
        self.entities = dict(zip(self.answering.join_keys, columns, strict=True))

    def rows(self, answered: Answered) -> list[tuple[dt.datetime | None, dict[str, Any] | None]]:
        """What Feast wants of each entity."""
        happened = answered.happened[0]()
        return [self._row(answered, i, at) for i, at in enumerate(happened)]

    def _row(
        self, answered: Answered, row: int, at: dt.datetime | None
    ) -> tuple[dt.datetime | None, dict[str, Any] | None]:
        statuses = [column[row] for column in answered.statuses]
        if not any(status in (PRESENT, NULL_VALUE) for status in statuses):
            return None, None
        values = {
            name: self.made.kinds[name].written(column[row])
            for name, column in zip(self.names, answered.columns, strict=True)
        }
        return at, values


def _no_vectors() -> DefinitionError:
    return DefinitionError(
        "featurekit's online store finds rows by their join keys and has no index of vectors; read "
        "them by get_online_features, or search in an online store that has one"
    )
