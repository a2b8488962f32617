"""Says what of Feast's settings is not as `featurekit: publish: feast` needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STORES = {
    "offline_store": "featurekit.plugins.feast.FeaturekitOfflineStore",
    "online_store": "featurekit.plugins.feast.FeaturekitOnlineStore",
    "batch_engine": "featurekit.plugins.feast.FeaturekitEngine",
}


def fault_for_feast(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """What of Feast's own settings does not do for `publish: feast`: the setting, and what is wrong
    with it; None where all is there."""
    for setting, wanted in _STORES.items():
        store = raw.get(setting)
        found = store.get("type") if isinstance(store, dict) else store
        if found != wanted:
            return setting, (
                "Feast asks its stores and its engine for what is published, and `publish: feast` "
                f"needs featurekit's; write {setting}: {{type: {wanted}}}"
            )
    for setting, example in (("registry", ".featurekit/feast_registry.db"), ("provider", "local")):
        if not raw.get(setting):
            return setting, f"is missing, and `publish: feast` needs it; write {setting}: {example}"
    return None
