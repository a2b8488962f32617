"""featurekit's stores for a Feast repo: `type: featurekit.plugins.feast.FeaturekitOfflineStore`.

A Feast view becomes a featurekit view of the latest row, with the view's ttl (V1, T4), so that what
a value is is said by the rules, on both paths:

- an event is a row of the batch source. It arrives when it happens; where a Feast source has a
  `created_timestamp_column`, that column orders the events of one instant (T6), as Feast means it.
  `filter_by_created_timestamp=True` makes it the arrival (T3);
- offline, the compiled point-in-time join runs over the source's checked rows (S1);
- online, an entity's state is the packed row of featurekit, sealed, in Redis. A row that comes late
  or again finds its place by the same order, so that no order of writes changes a value;
- a ttl ends a row at the same microsecond on both paths; a ttl of zero is none, as in Feast.

`views` maps views and `kinds` maps types; `events` reads sources; `offline_store` and
`online_store` are the two stores, and `engine` fills the one from the files of the other. `parity`
checks a Feast repo on any stores. Feast is imported in this folder alone.
"""

from featurekit.errors import ConfigError

try:
    import feast.version  # noqa: F401
except ImportError:
    raise ConfigError(
        "featurekit's stores for Feast need Feast itself; install featurekit[feast]"
    ) from None

from featurekit.plugins.feast.engine import FeaturekitEngine, FeaturekitEngineConfig
from featurekit.plugins.feast.offline_store import (
    FeaturekitOfflineStore,
    FeaturekitOfflineStoreConfig,
)
from featurekit.plugins.feast.online_store import (
    FeaturekitOnlineStore,
    FeaturekitOnlineStoreConfig,
)
from featurekit.plugins.feast.parity import Asked, assert_feast_parity, check_feast

__all__ = [
    "Asked",
    "FeaturekitEngine",
    "FeaturekitEngineConfig",
    "FeaturekitOfflineStore",
    "FeaturekitOfflineStoreConfig",
    "FeaturekitOnlineStore",
    "FeaturekitOnlineStoreConfig",
    "assert_feast_parity",
    "check_feast",
]
