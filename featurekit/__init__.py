"""featurekit: features written once, the same bits in training and in serving.

`from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from featurekit.define import Entity as Entity
    from featurekit.define import EventSource as EventSource
    from featurekit.define import FeatureService as FeatureService
    from featurekit.define import FeatureView as FeatureView
    from featurekit.define import feature as feature
    from featurekit.errors import FeaturekitError as FeaturekitError
    from featurekit.ops.binary import bucket as bucket
    from featurekit.ops.listing import dot as dot
    from featurekit.ops.listing import norm as norm
    from featurekit.store import FeatureStore as FeatureStore
    from featurekit.types import Vector as Vector

_HOMES = {
    "Entity": "define",
    "EventSource": "define",
    "FeatureService": "define",
    "FeatureView": "define",
    "feature": "define",
    "FeaturekitError": "errors",
    "FeatureStore": "store",
    "Vector": "types",
    "bucket": "ops.binary",
    "dot": "ops.listing",
    "norm": "ops.listing",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    # Lazy, so that a serving process loads neither DuckDB nor Arrow.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'featurekit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"featurekit.{home}"), name)
