"""Feast 0.67 on its DuckDB and Redis stores, as a peer: the same Parquet file, the same questions.

Feast is the extra `featurekit[feast]`; `installed()` says whether it is there, and nothing here is
imported by who does not ask. It takes seconds to import.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

NAME = "Feast"
YEAR = dt.timedelta(days=365)


def installed() -> bool:
    """Whether Feast and its DuckDB store are here."""
    return all(importlib.util.find_spec(name) is not None for name in ("feast", "ibis"))


class Feast:
    """A Feast repo in `folder` with one entity `key`, and views over Parquet files.

    `views` gives each view's file and its float columns; `online` adds the Redis at that URL.
    Files have the columns `key` (int64), `timestamp` and the features; ttl is a year.
    """

    def __init__(
        self,
        folder: Path,
        views: Mapping[str, tuple[Path, Sequence[str]]],
        *,
        key: str = "key",
        timestamp: str = "event_timestamp",
        created: str | None = None,
        redis_url: str | None = None,
    ) -> None:
        os.environ.setdefault("FEAST_USAGE", "False")
        from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
        from feast.types import Float64
        from feast.value_type import ValueType

        config = RepoConfig(**config_of(folder, redis_url))
        self.key, self.views = key, views
        self.store = FeatureStore(config=config)
        entity = Entity(name=key, join_keys=[key], value_type=ValueType.INT64)
        made: list[Any] = [entity]
        for name, (path, features) in views.items():
            source = FileSource(
                name=f"{name}_source", path=str(path), timestamp_field=timestamp,
                **({} if created is None else {"created_timestamp_column": created}),
            )  # fmt: skip
            schema = [Field(name=f, dtype=Float64) for f in features]
            made.append(
                FeatureView(name=name, entities=[entity], ttl=YEAR, source=source, schema=schema)
            )
        self.store.apply(made)

    @property
    def references(self) -> list[str]:
        """Every feature, as Feast names it."""
        return [f"{view}:{f}" for view, (_, features) in self.views.items() for f in features]

    def historical(self, frame: Any) -> Callable[[], Any]:
        """A call that answers for a pandas frame of `key` and `event_timestamp`, to Arrow."""

        def answer() -> Any:
            with warnings.catch_warnings():  # of its own dependencies
                warnings.simplefilter("ignore")
                return self.store.get_historical_features(frame, self.references).to_arrow()

        return answer

    def materialize(self, begin: dt.datetime, end: dt.datetime) -> None:
        """Fill the online store from the files, without the lines that Feast prints of it."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.store.materialize(begin, end)

    def write(self, view: str, frame: Any) -> None:
        """Put the rows of a pandas frame online, without the file."""
        self.store.write_to_online_store(view, frame)

    def online(self, keys: Sequence[int]) -> Callable[[], dict[str, list[Any]]]:
        """A call that looks up all features of some keys."""
        rows = [{self.key: key} for key in keys]
        references = self.references
        return lambda: dict(self.store.get_online_features(references, rows).to_dict())


def config_of(folder: Path, redis_url: str | None) -> dict[str, Any]:
    """What a repo in `folder` is made with, here and by a server."""
    online = None if redis_url is None else {"type": "redis", **_connection(redis_url)}
    return {
        "project": "bench",
        "provider": "local",
        "registry": str(folder / "feast_registry.db"),
        "offline_store": {"type": "duckdb"},
        "online_store": online,
        "entity_key_serialization_version": 3,
    }


def _connection(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    if parts.scheme == "unix":  # its client takes whatever redis-py takes
        return {"connection_string": f"localhost:0,unix_socket_path={unquote(parts.path)}"}
    return {"connection_string": f"{parts.hostname}:{parts.port or 6379}"}
