"""What Feast's own universal tests are told of featurekit's stores.

`./run feast-suite` copies these tests beside the project and sets FULL_REPO_CONFIGS_MODULE to this
module. The stores stand under the keys "redis" and "sqlite": tests that are marked for these alone
run on ours.
"""

from __future__ import annotations

import os
from typing import Any

from tests.universal.feature_repos.universal.data_sources.file import (
    DeltaFileSourceCreator,
    FileDataSourceCreator,
)

from featurekit.plugins.feast import FeaturekitOfflineStoreConfig


class _Ours:
    """The offline store over whatever files the creator makes."""

    def create_offline_store_config(self) -> FeaturekitOfflineStoreConfig:
        """The settings of featurekit's store."""
        return FeaturekitOfflineStoreConfig()


class FeaturekitFiles(_Ours, FileDataSourceCreator):
    """One Parquet file for each source."""


class FeaturekitDelta(_Ours, DeltaFileSourceCreator):
    """A Delta Lake table for each source."""


_ONLINE: dict[str, Any] = {
    "type": "featurekit.plugins.feast.FeaturekitOnlineStore",
    "redis_url": os.environ.get("FEATUREKIT_REDIS_URL"),
}
AVAILABLE_OFFLINE_STORES = [
    ("local", FeaturekitFiles),
    ("local", FeaturekitDelta),
]
AVAILABLE_ONLINE_STORES = {"redis": (_ONLINE, None), "sqlite": (_ONLINE, None)}
