"""What Feast's own universal tests are told of featurekit's stores.

`./run feast-suite` copies these tests beside the project and sets FULL_REPO_CONFIGS_MODULE to this
module. The stores stand under the keys "redis" and "sqlite": tests that are marked for these alone
run on ours. With FEATUREKIT_FEAST_OWN=1 the stores are Feast's DuckDB and Redis.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from tests.universal.feature_repos.universal.data_sources.file import (
    DeltaFileSourceCreator,
    FileDataSourceCreator,
)

URL = os.environ.get("FEATUREKIT_REDIS_URL")


def _offline(_: Any) -> Any:
    """The settings of the offline store."""
    if os.environ.get("FEATUREKIT_FEAST_OWN"):
        from feast.infra.offline_stores.duckdb import DuckDBOfflineStoreConfig

        return DuckDBOfflineStoreConfig()
    from featurekit.plugins.feast import FeaturekitOfflineStoreConfig

    return FeaturekitOfflineStoreConfig()


def _online() -> dict[str, Any]:
    """The settings of the online store."""
    if os.environ.get("FEATUREKIT_FEAST_OWN"):  # its client takes whatever redis-py takes
        at = f"localhost:0,unix_socket_path={urlsplit(URL or '').path}"
        return {"type": "redis", "connection_string": at}
    return {"type": "featurekit.plugins.feast.FeaturekitOnlineStore", "redis_url": URL}


# Tests of online stores alone make their files by this class, too.
FileDataSourceCreator.create_offline_store_config = _offline
AVAILABLE_OFFLINE_STORES = [
    ("local", FileDataSourceCreator),
    ("local", DeltaFileSourceCreator),
]
AVAILABLE_ONLINE_STORES = {"redis": (_online(), None), "sqlite": (_online(), None)}
