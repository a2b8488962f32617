"""Keeps the events of forgotten entities out of everything that is read.

A tombstone does not hold the key of the forgotten entity, since that would remember it. It holds a
keyed hash of the key: HMAC-SHA256 under a secret that lies in the state folder, apart from the
registry. From a plain hash, or one with a public salt, the key could be found by trying all keys,
because they are few: customer numbers have six digits.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import itertools
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.files import sync_folder, write_whole
from featurekit.core.keys import entity_key, entity_key_sql
from featurekit.core.openness import group_of, make_folder
from featurekit.core.sql import quote, text_literal
from featurekit.core.tables import temp_table
from featurekit.core.types import INT, STR, Type
from featurekit.define.definitions import EventSource, FeatureView
from featurekit.errors import RegistryError

_BLOCK = 64
_BYTES = 32
"""The length of a secret."""
_TABLES = itertools.count()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A forgotten entity: its name, the names and types of its join keys, a keyed hash of their
    values, the name of the hash's secret, and the instant, in microseconds, until which its events
    are gone. It also says who recorded it and when, and what was removed; that is None if the
    removal did not end."""

    entity: str
    keys: tuple[tuple[str, Type], ...]
    digest: str
    secret: str
    until: int
    applied_by: str = ""
    applied_at: str = ""
    removed: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """The secret key of the hashes."""

    value: bytes

    @property
    def name(self) -> str:
        """A name that tells this secret from others and reveals nothing of it."""
        return hmac.new(self.value, b"featurekit", hashlib.sha256).hexdigest()[:16]

    def digest(self, entity: str, keys: Mapping[str, tuple[Type, Any]]) -> str:
        """The hash of one entity's join keys, given with their types."""
        message = entity.encode() + b"\0" + entity_key([keys[name] for name in sorted(keys)])
        return hmac.new(self.value, message, hashlib.sha256).hexdigest()

    def digest_sql(self, entity: str, keys: Mapping[str, Type]) -> tuple[str, list[bytes]]:
        """The same hash in SQL over columns with the names of the keys, and the parameters of the
        SQL."""
        key = entity_key_sql({name: keys[name] for name in sorted(keys)})
        message = f"encode({text_literal(entity)} || chr(0)) || {key}"
        padded = self.value.ljust(_BLOCK, b"\0")
        inner, outer = (bytes(b ^ pad for b in padded) for pad in (0x36, 0x5C))
        return f"sha256(?::BLOB || unhex(sha256(?::BLOB || {message})))", [outer, inner]


def secret_path(state_dir: Path) -> Path:
    """The file of the state folder's secret, which is there once an entity was forgotten."""
    return state_dir / "forget.key"


def make_secret(state_dir: Path) -> Secret:
    """The secret of the state folder; it is made if there is none."""
    path = secret_path(state_dir)
    if not path.exists():
        make_folder(state_dir)
        made = secrets.token_hex(_BYTES).encode()
        # If two processes make one at once, the first one wins.
        secret = 0o600 if group_of(state_dir) is None else 0o660
        write_whole(path, made, durable=True, replace=False, mode=secret)
        sync_folder(os.fspath(state_dir))  # a tombstone without its secret stops all reading
    return _read(path)


def _read(path: Path) -> Secret:
    """The secret in a file. RegistryError where that holds none."""
    try:
        value = bytes.fromhex(path.read_bytes().decode("ascii"))
        if len(value) != _BYTES:
            raise ValueError(f"{len(value)} bytes")
    except ValueError:
        raise RegistryError(
            f"{path} is damaged: it is the secret under which forgotten entities are recorded, "
            f"{2 * _BYTES} hexadecimal digits. Put the file back from the machine on which the "
            "registry was made, or from a copy"
        ) from None
    return Secret(value)


def read_secret(state_dir: Path, tombstones: Sequence[Tombstone]) -> Secret:
    """The secret under which the tombstones were made. RegistryError if it is lost: then nothing
    may be read, because nobody can tell which events are to be forgotten."""
    path = secret_path(state_dir)
    secret = _read(path) if path.exists() else None
    if secret is None or any(t.secret != secret.name for t in tombstones):
        what = "is not the one" if secret else "is missing: it is the key"
        raise RegistryError(
            f"{path} {what} under which {len(tombstones)} forgotten entities are recorded. Without "
            "it their events cannot be told from others, so nothing is read; put the file back "
            "from the machine on which the registry was made"
        )
    return secret


@dataclass(frozen=True, slots=True)
class Columns:
    """The column of a source that holds each key of an entity, by the key's name. `listed` is the
    key, if any, whose column is a list: each element of a row's list is the key of one event."""

    names: Mapping[str, str]
    listed: str | None = None

    @property
    def lists(self) -> tuple[str, ...]:
        """The column that is a list, if any."""
        return () if self.listed is None else (self.names[self.listed],)


def key_columns(
    views: Iterable[FeatureView], source: EventSource, entity: str, keys: Mapping[str, Type]
) -> list[Columns]:
    """The columns by which the events of a source are events of an entity; none where they are
    not, and several where views take different ones for the keys (T11). A column may be a list, of
    which each element is an event.

    A view of the entity that reads the source says which columns hold the keys: those of their
    names, but for a source that stands in a union. Without such a view the columns of these names
    do, if no other entity has one of these keys. The columns must have the types of the keys.
    """
    found: list[Columns] = []
    others: set[str] = set()
    read = False
    for view in views:
        for known in view.entities:
            if known.name != entity:
                others |= known.join_keys.keys()
                continue
            columns = view.columns_of(source.name)
            if columns is None:
                continue
            read = True
            mine = _typed(source, {name: columns.get(name, "") for name in keys}, keys)
            if mine is not None and mine not in found:
                found.append(mine)
    if not read and not others & keys.keys():
        own = _typed(source, {name: name for name in keys}, keys)
        found += [] if own is None else [own]
    return found


def _typed(
    source: EventSource, names: Mapping[str, str], keys: Mapping[str, Type]
) -> Columns | None:
    """The columns of a source, if they have the types of an entity's keys, one of them perhaps in a
    list."""
    listed = []
    for key, column in names.items():
        found = source.schema.get(column)
        if found is not None and found.name == "list" and found.item == keys[key]:
            listed.append(key)
        elif found is None or found.base != keys[key]:
            return None
    return Columns(names, *listed) if len(listed) < 2 else None


def _own_names(tombstone: Tombstone) -> list[Columns]:
    return [Columns({name: name for name, _ in tombstone.keys})]


_Key = tuple[str, Type, str]
"""The name, the type and the column of a key."""

_Group = tuple[str, tuple[_Key, ...], str | None]
"""An entity, its keys, and the name of the one whose column is a list, if any."""


class Forgotten:
    """The tombstones that hold for one source's events. `groups` maps each entity, and its keys
    with their columns, to hashes, each with the instant until which it holds. `columns` says which
    columns hold the keys, by default those of their names.

    A row whose columns hold the keys is no event. Where one of them is a list, the row stays, and
    its list loses the elements that are such a key (T7)."""

    def __init__(
        self,
        tombstones: Sequence[Tombstone],
        secret: Secret | None,
        columns: Callable[[Tombstone], Iterable[Columns]] = _own_names,
    ) -> None:
        self.secret = secret
        self.groups: dict[_Group, dict[str, int]] = {}
        for t in tombstones:
            for held in columns(t):
                keys = tuple((name, type_, held.names[name]) for name, type_ in t.keys)
                known = self.groups.setdefault((t.entity, keys, held.listed), {})
                known[t.digest] = max(t.until, known.get(t.digest, t.until))

    def __bool__(self) -> bool:
        return bool(self.groups)

    @property
    def lists(self) -> set[str]:
        """The list columns that lose elements."""
        return {col for _, keys, listed in self.groups for name, _, col in keys if name == listed}

    def relation(self, con: Any, relation: str) -> str:
        """The relation (a source's columns with `__created`) without forgotten events."""
        assert self.secret is not None or not self.groups
        for (entity, keys, listed), digests in self.groups.items():
            found = self._found(con, relation, entity, keys, listed, digests)
            if found is not None and listed is not None:
                relation = _without_elements(relation, found, keys, listed)
            elif found is not None:
                same = " AND ".join(f"r.{quote(col)} = f.{quote(name)}" for name, _, col in keys)
                relation = (
                    f"(SELECT * FROM {relation} r ANTI JOIN {found} f "
                    f"ON {same} AND r.__created <= f.__until)"
                )
        return relation

    def _found(
        self,
        con: Any,
        relation: str,
        entity: str,
        keys: Sequence[_Key],
        listed: str | None,
        digests: Mapping[str, int],
    ) -> str | None:
        """A temporary table of the forgotten keys in the relation, with `__until`; None if there
        are none."""
        assert self.secret is not None
        number = next(_TABLES)
        table = quote(f"__forgotten_{number}")
        known = temp_table(
            con, f"__digests_{number}", {"__digest": STR, "__until": INT}, digests.items()
        )
        names = ", ".join(quote(name) for name, *_ in keys)
        shown = ", ".join(
            f"{f'unnest({quote(column)})' if name == listed else quote(column)} AS {quote(name)}"
            for name, _, column in keys
        )
        digest, parameters = self.secret.digest_sql(entity, {name: t for name, t, _ in keys})
        there = " AND ".join(f"{quote(name)} IS NOT NULL" for name, *_ in keys)
        con.execute(
            f"CREATE TEMP TABLE {table} AS SELECT {names}, __until FROM "
            f"(SELECT *, {digest} AS __digest FROM "
            f"(SELECT DISTINCT * FROM (SELECT {shown} FROM {relation}) WHERE {there})) "
            f"JOIN {known} USING (__digest)",
            parameters,
        )
        con.execute(f"DROP TABLE {known}")
        rows = con.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        return table if rows else None

    def kept(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """What is left of a row (a source's columns with `__created`): None of a forgotten event,
        and the row itself where nothing of it is forgotten."""
        for (entity, keys, listed), digests in self.groups.items():
            if row["__created"] > max(digests.values()):
                continue
            values = {name: (type_, row[column]) for name, type_, column in keys}
            if any(value is None for _, value in values.values()):
                continue
            until = functools.partial(self._until, entity, digests)
            if listed is None:
                if row["__created"] <= until(values):
                    return None
                continue
            type_, elements = values[listed]
            kept = [
                one
                for one in elements
                if one is None or row["__created"] > until({**values, listed: (type_, one)})
            ]
            if len(kept) < len(elements):
                row = {**row, next(col for name, _, col in keys if name == listed): kept}
        return row

    def _until(
        self, entity: str, digests: Mapping[str, int], values: Mapping[str, tuple[Type, Any]]
    ) -> int:
        """The instant until which an entity is forgotten; before all instants if it is not."""
        assert self.secret is not None
        return digests.get(self.secret.digest(entity, values), -(2**63))

    def left(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What is left of the rows; `rows` itself if nothing of them is forgotten."""
        if not self.groups or not rows:
            return rows
        last = max(until for digests in self.groups.values() for until in digests.values())
        if min(row["__created"] for row in rows) > last:
            return rows  # the case of live pushes
        kept = [one for one in map(self.kept, rows) if one is not None]
        same = len(kept) == len(rows) and all(a is b for a, b in zip(kept, rows, strict=True))
        return rows if same else kept


def _without_elements(relation: str, found: str, keys: Sequence[_Key], listed: str) -> str:
    """The relation whose lists lack the forgotten keys in the table `found`."""
    pairs = ", ".join(
        f"{quote(name)}: {quote(name)}" for name in ["__until", *(n for n, *_ in keys)]
    )
    column = next(quote(col) for name, _, col in keys if name == listed)
    also = "".join(f" AND __f.{quote(n)} = {quote(col)}" for n, _, col in keys if n != listed)
    mine = f"list_filter(__gone, lambda __f: __f.__until >= __created{also})"
    gone, mine = (f"list_transform({x}, lambda __f: __f.{quote(listed)})" for x in ("__gone", mine))
    # Few rows have such an element, and asking for any of them is cheap.
    left = (
        f"CASE WHEN list_has_any({column}, {gone}) THEN list_filter({column}, lambda __x: "
        f"NOT coalesce(list_contains({mine}, __x), FALSE)) ELSE {column} END"
    )
    every = f"(SELECT list({{{pairs}}}) FROM {found})"
    return (
        f"(SELECT * EXCLUDE (__gone) REPLACE ({left} AS {column}) FROM "
        f"(SELECT *, {every} AS __gone FROM {relation}))"
    )
