"""featurekit: features written once, the same bits in training and in serving.

`from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from featurekit.core.types import Vector as Vector
    from featurekit.define.definitions import Entity as Entity
    from featurekit.define.definitions import EventSource as EventSource
    from featurekit.define.definitions import FeatureService as FeatureService
    from featurekit.define.definitions import FeatureView as FeatureView
    from featurekit.errors import FeaturekitError as FeaturekitError
    from featurekit.language.ops.binary import bucket as bucket
    from featurekit.language.ops.listing import dot as dot
    from featurekit.language.ops.listing import norm as norm
    from featurekit.language.transform import feature as feature
    from featurekit.store import FeatureStore as FeatureStore

_HOMES = {
    "Entity": "define.definitions",
    "EventSource": "define.definitions",
    "FeatureService": "define.definitions",
    "FeatureView": "define.definitions",
    "feature": "language.transform",
    "FeaturekitError": "errors",
    "FeatureStore": "store",
    "Vector": "core.types",
    "bucket": "language.ops.binary",
    "dot": "language.ops.listing",
    "norm": "language.ops.listing",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    # Lazy, so that a serving process loads neither DuckDB nor Arrow.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'featurekit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"featurekit.{home}"), name)
