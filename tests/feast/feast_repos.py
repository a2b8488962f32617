"""Feast repos over small Parquet files, on featurekit's stores or on Feast's own."""

from __future__ import annotations

import datetime as dt
import math
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig

OURS = "featurekit.plugins.feast."
NOW = dt.datetime.now(dt.UTC).replace(microsecond=123_456)
DAY = dt.timedelta(days=1)


def config_of(
    folder: Path,
    url: str | None,
    *,
    ours: bool = True,
    project: str = "shop",
    own: tuple[str, str] = ("duckdb", "redis"),
) -> Any:
    """The settings of a repo in `folder`, on featurekit's stores or on Feast's `own`, offline and
    online."""
    path = urlsplit(url or "").path  # its client takes whatever redis-py takes
    at = f"localhost:0,unix_socket_path={path}"
    stores: dict[str, Any] = {
        "offline_store": {"type": own[0]},
        "online_store": {"type": "redis", "connection_string": at},
    }
    if own[1] == "sqlite":
        stores["online_store"] = {"type": "sqlite", "path": str(folder / "online.db")}
    if ours:
        stores = {
            "offline_store": {"type": f"{OURS}FeaturekitOfflineStore"},
            "online_store": {"type": f"{OURS}FeaturekitOnlineStore", "redis_url": url},
            "batch_engine": {"type": f"{OURS}FeaturekitEngine"},
        }
    return RepoConfig(
        project=project,
        provider="local",
        registry=str(folder / "registry.db"),
        repo_path=folder,
        entity_key_serialization_version=3,
        **stores,
    )


class Repo:
    """A Feast repo with one entity `key` and a view for each Parquet file that is written."""

    def __init__(
        self, folder: Path, url: str | None, *, ours: bool, project: str = "shop", **options: Any
    ) -> None:
        self.folder, self.ours = folder, ours
        self.config = config_of(folder, url, ours=ours, project=project, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.store = FeatureStore(config=self.config)
            self.key = Entity(name="key", join_keys=["key"])

    def view(
        self,
        name: str,
        rows: pa.Table,
        types: Mapping[str, Any],
        *,
        ttl: dt.timedelta = dt.timedelta(0),
        key_type: Any = None,
        **of_source: Any,
    ) -> FeatureView:
        """A view over a file of these rows, applied."""
        from feast.types import Int64

        path = self.folder / f"{name}.parquet"
        pq.write_table(rows, path)
        created = {"created_timestamp_column": "created"} if "created" in rows.column_names else {}
        source = FileSource(
            name=f"{name}_source", path=str(path), timestamp_field="at", **created, **of_source
        )
        schema = [Field(name="key", dtype=key_type or Int64)]
        schema += [Field(name=one, dtype=type_) for one, type_ in types.items()]
        view = FeatureView(name=name, entities=[self.key], ttl=ttl, source=source, schema=schema)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.store.apply([self.key, view])
        return view

    def write_settings(self) -> None:
        """Write the feature_store.yaml of the repo, which others open it by."""
        import yaml

        settings: dict[str, Any] = {
            "project": self.config.project,
            "provider": "local",
            "registry": "registry.db",
            "entity_key_serialization_version": 3,
        }
        for name in ("offline_store", "online_store", "batch_engine"):
            section = getattr(self.config, name, None)
            if hasattr(section, "model_dump"):  # not the name of the local engine
                settings[name] = {"type": section.type, **section.model_dump(exclude_unset=True)}
        (self.folder / "feature_store.yaml").write_text(yaml.safe_dump(settings))

    def materialize(self, days: float = 400) -> None:
        """Fill the online store with the rows of the last `days`."""
        self.store.materialize(NOW - days * DAY, dt.datetime.now(dt.UTC))

    def offline(self, refs: Sequence[str], keys: Sequence[Any], **options: Any) -> dict[str, list]:
        """The features of each key as of now, from the offline store."""
        import pandas as pd

        frame = pd.DataFrame(
            {"key": keys, "event_timestamp": [dt.datetime.now(dt.UTC)] * len(keys)}
        )
        job = self.store.get_historical_features(frame, list(refs), **options)
        table = job.to_arrow()
        names = [ref.split(":")[1] for ref in refs]
        return {name: table[name].to_pylist(maps_as_pydicts="strict") for name in names}

    def online(self, refs: Sequence[str], keys: Sequence[Any]) -> dict[str, list]:
        """The same, from the online store."""
        found = self.store.get_online_features(list(refs), [{"key": k} for k in keys]).to_dict()
        return {ref.split(":")[1]: found[ref.split(":")[1]] for ref in refs}


def exact(value: Any) -> Any:
    """What tells a value apart to the last bit: its class and, of a float, its 64 bits."""
    if isinstance(value, float):
        return "float", "nan" if math.isnan(value) else struct.pack("<d", value)
    if isinstance(value, (list, tuple)):
        return "list", [exact(one) for one in value]
    if isinstance(value, dict):
        return "dict", {key: exact(one) for key, one in value.items()}
    if isinstance(value, dt.datetime):
        return "datetime", value.replace(tzinfo=value.tzinfo or dt.UTC).astimezone(dt.UTC)
    return type(value).__name__, value
