"""Says where a source's events are, if no path of files does: a database, or a table of a lake.

An origin is data alone. `sources/origins` has a module for each, which reads it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

from featurekit.core.calls import found
from featurekit.core.variables import VARIABLE
from featurekit.errors import DefinitionError

_SECRETS = ("password", "sslpassword")
_SECRET_NAMES = ("secret", "token", "password", "credential", "access-key", "account-key", "sas-")


@dataclass(frozen=True, slots=True)
class Origin:
    """What every origin has: the name of its kind, and what it says of itself."""

    kind: ClassVar[str] = ""

    @property
    def about(self) -> dict[str, Any]:
        """The origin as a manifest has it, by the name of its kind; no password is in it."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """The origin in a few words, for messages."""
        place, *more = self.about.items()
        shown = "".join(f", {name} {value}" for name, value in more)
        return f"{type(self).__name__} {place[1]}{shown}"

    def _refuse(self, why: str) -> DefinitionError:
        return DefinitionError(f"{type(self).__name__}: {why}")

    def _instant(self, at: Any) -> dt.datetime:
        """The instant of an `as_of`, in UTC."""
        given = at
        if isinstance(at, str):
            try:
                at = dt.datetime.fromisoformat(at)
            except ValueError:
                at = None
        if not isinstance(at, dt.datetime) or at.tzinfo is None:
            raise self._refuse(
                f"as_of is an instant with its offset, as in "
                f'"2026-01-02T00:00:00+00:00", found {given!r}'
            )
        return at.astimezone(dt.UTC)


@dataclass(frozen=True, slots=True)
class Database(Origin):
    """Rows of a database: those of a table or of a query, one of which is given."""

    table: str | None = field(default=None, kw_only=True)
    query: str | None = field(default=None, kw_only=True)

    def _check_rows(self) -> None:
        if (self.table is None) == (self.query is None):
            raise self._refuse(
                'write table="orders", a table of it, or query="SELECT …", and one of them alone'
            )
        for name in ("table", "query"):
            given = getattr(self, name)
            if given is not None and (not isinstance(given, str) or not given.strip()):
                raise self._refuse(f"{name} is a text, found {found(given)}")

    @property
    def _rows(self) -> dict[str, str]:
        if self.table is not None:
            return {"table": self.table}
        return {"query": str(self.query)}


@dataclass(frozen=True, slots=True)
class _DatabaseFile(Database):
    """A database that is a file; its path is relative to the feature repo."""

    path: str

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise self._refuse(f"path is a text, the path of its file, found {found(self.path)}")
        self._check_rows()

    @property
    def about(self) -> dict[str, Any]:
        """See `Origin.about`."""
        return {self.kind: self.path, **self._rows}


@dataclass(frozen=True, slots=True)
class SQLite(_DatabaseFile):
    """A table or a query of a SQLite database, as in `SQLite("data/shop.db", table="orders")`."""

    kind: ClassVar[str] = "sqlite"


@dataclass(frozen=True, slots=True)
class DuckDB(_DatabaseFile):
    """A table or a query of a DuckDB database, as in `DuckDB("data/shop.duckdb", table="orders")`.
    A table of another schema than `main` is written `schema.table`."""

    kind: ClassVar[str] = "duckdb"


@dataclass(frozen=True, slots=True)
class Postgres(Database):
    """A table or a query of a PostgreSQL database, as in
    `Postgres("postgresql://reader:${SHOP_PASSWORD}@db.example/shop", table="public.orders")`.

    `${VAR}` is replaced by a variable of the environment whenever it is read. A password is never
    written in the URL itself.
    """

    kind: ClassVar[str] = "postgres"
    url: str

    def __post_init__(self) -> None:
        if not isinstance(self.url, str):
            raise self._refuse(f"its URL is a text, found {found(self.url)}")
        if not self.url.startswith(("postgresql://", "postgres://")):
            raise self._refuse(
                'its URL begins with postgresql://, as in "postgresql://reader:${SHOP_PASSWORD}@'
                'db.example/shop"; what was written is not shown, since it may hold a password'
            )
        if _holds_secret(self.url):
            raise self._refuse(
                "a password stands in its URL; write a variable of the environment in its place, "
                'as in "postgresql://reader:${SHOP_PASSWORD}@db.example/shop"'
            )
        self._check_rows()

    @property
    def about(self) -> dict[str, Any]:
        """See `Origin.about`."""
        return {self.kind: self.url, **self._rows}


def _holds_secret(url: str) -> bool:
    """Whether a URL has a password that is no variable."""
    try:
        parts = urlsplit(url)
        given = [parts.password or "", *(v for n, v in parse_qsl(parts.query) if n in _SECRETS)]
    except ValueError:
        return True
    return any(one and VARIABLE.fullmatch(one) is None for one in given)


@dataclass(frozen=True, slots=True)
class LakeTable(Origin):
    """A table of a lake, which keeps versions of itself."""

    def then(self, told: Mapping[str, Any]) -> Self:
        """The table at the version that a manifest tells of. KeyError where it tells of none."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Delta(LakeTable):
    """A Delta Lake table in a folder, relative to the feature repo, as in `Delta("lake/orders")`,
    or in S3, as in `Delta("s3://lake/orders")`, with the credentials of the environment.

    `version` or `as_of`, an instant, pins it; otherwise the newest version is read.
    """

    kind: ClassVar[str] = "delta"
    path: str
    version: int | None = field(default=None, kw_only=True)
    as_of: dt.datetime | str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise self._refuse(f"path is a text, the folder of the table, found {found(self.path)}")
        if "://" in self.path and not self.elsewhere:
            raise self._refuse(
                f"{self.path.partition('://')[0]}://… is not read: the table is in a folder of "
                'this machine or in S3, as in Delta("lake/orders") or Delta("s3://lake/orders")'
            )
        if self.elsewhere and any(sign in self.path for sign in "@?"):
            raise self._refuse(
                "an s3:// path has a bucket and a folder alone; leave the rest out, as credentials "
                "are those of the environment"
            )
        if self.version is not None and self.as_of is not None:
            raise self._refuse("version and as_of both say which version is read; write one")
        whole = type(self.version) is int and self.version >= 0
        if self.version is not None and not whole:
            raise self._refuse(f"version is a number from 0 on, found {self.version!r}")
        if self.as_of is not None:
            object.__setattr__(self, "as_of", self._instant(self.as_of))

    @property
    def elsewhere(self) -> bool:
        """Whether the table is in S3."""
        return self.path.startswith("s3://")

    @property
    def about(self) -> dict[str, Any]:
        """See `Origin.about`."""
        made: dict[str, Any] = {self.kind: self.path}
        if self.version is not None:
            made["version"] = self.version
        if isinstance(self.as_of, dt.datetime):
            made["as_of"] = self.as_of.isoformat()
        return made

    def then(self, told: Mapping[str, Any]) -> Self:
        """See `LakeTable.then`."""
        return replace(self, version=told["version"], as_of=None)


@dataclass(frozen=True, slots=True)
class Iceberg(LakeTable):
    """An Iceberg table of a catalogue, as in `Iceberg("shop.orders", catalog="lake")`, or one that
    a metadata file tells of, as in `Iceberg(metadata="lake/orders/metadata/00003.metadata.json")`.

    `catalog` is the name of a catalogue that PyIceberg's own configuration has, or a mapping of its
    properties, with its `name` where it has one. In it, `${VAR}` is replaced by a variable of the
    environment whenever the table is read; a password or a key is never written there itself. The
    path of a metadata file is relative to the feature repo.

    `snapshot_id` or `as_of`, an instant, pins it, with the columns that it had then; otherwise the
    newest snapshot is read. `schema_id` is the schema of the table whose names are meant, if it is
    another one.
    """

    kind: ClassVar[str] = "iceberg"
    table: str | None = None
    catalog: str | Mapping[str, str] | None = field(default=None, kw_only=True, hash=False)
    metadata: str | None = field(default=None, kw_only=True)
    snapshot_id: int | None = field(default=None, kw_only=True)
    schema_id: int | None = field(default=None, kw_only=True)
    as_of: dt.datetime | str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        named = isinstance(self.table, str) and "." in self.table and self.catalog is not None
        filed = isinstance(self.metadata, str) and self.metadata != ""
        both = self.table is not None or self.catalog is not None
        if (filed and both) or not (named or filed):
            raise self._refuse(
                'write a table and its catalog, as in Iceberg("shop.orders", catalog="lake"), or '
                'metadata="lake/orders/metadata/00003.metadata.json", its metadata file, alone'
            )
        self._check_catalog()
        if self.snapshot_id is not None and self.as_of is not None:
            raise self._refuse("snapshot_id and as_of both say which is read; write one")
        for name in ("snapshot_id", "schema_id"):
            if getattr(self, name) is not None and type(getattr(self, name)) is not int:
                raise self._refuse(f"{name} is a number, found {found(getattr(self, name))}")
        if self.as_of is not None:
            object.__setattr__(self, "as_of", self._instant(self.as_of))

    def _check_catalog(self) -> None:
        """Copy the properties; none of them holds a secret."""
        if self.catalog is None or (isinstance(self.catalog, str) and self.catalog):
            return
        if not isinstance(self.catalog, Mapping) or not all(
            isinstance(part, str) for pair in self.catalog.items() for part in pair
        ):
            raise self._refuse(
                'catalog is the name of a catalogue, or texts by their names, as in {"type": '
                '"sql", "uri": "sqlite:///lake/catalog.db"}; what was written is not shown, since '
                "it may hold a password"
            )
        for name, value in self.catalog.items():
            secret = any(sign in name.lower() for sign in _SECRET_NAMES)
            if (secret and VARIABLE.fullmatch(value) is None) or _holds_secret(value):
                raise self._refuse(
                    f"a secret stands in {name!r} of its catalog; write a variable of the "
                    f'environment in its place, as in "{name}": "${{LAKE_SECRET}}"'
                )
        object.__setattr__(self, "catalog", dict(self.catalog))

    @property
    def about(self) -> dict[str, Any]:
        """See `Origin.about`."""
        made: dict[str, Any] = {self.kind: self.table or self.metadata}
        for name in ("catalog", "snapshot_id", "schema_id"):
            if getattr(self, name) is not None:
                made[name] = getattr(self, name)
        if isinstance(self.as_of, dt.datetime):
            made["as_of"] = self.as_of.isoformat()
        return made

    def then(self, told: Mapping[str, Any]) -> Self:
        """See `LakeTable.then`."""
        ids = {"snapshot_id": told["snapshot_id"], "schema_id": told["schema_id"]}
        return replace(self, **ids, as_of=None)
