"""featurekit: features written once, the same bits in training and in serving.

`from featurekit import Entity, EventSource, FeatureService, FeatureStore, FeatureView, feature`
"""

from __future__ import annotations

from featurekit.core.names import Names
from featurekit.core.version import VERSION

__version__ = VERSION
TYPE_CHECKING = False
"""Not from `typing`: a command imports this before it can take Ctrl-C for what it is."""

if TYPE_CHECKING:
    from featurekit.core.types import Vector as Vector
    from featurekit.define.arrivals import Commit as Commit
    from featurekit.define.arrivals import Delay as Delay
    from featurekit.define.arrivals import Modified as Modified
    from featurekit.define.contracts.rules import Between as Between
    from featurekit.define.contracts.rules import Holds as Holds
    from featurekit.define.contracts.rules import Length as Length
    from featurekit.define.contracts.rules import Matches as Matches
    from featurekit.define.contracts.rules import NotNull as NotNull
    from featurekit.define.contracts.rules import OneOf as OneOf
    from featurekit.define.contracts.sets import Fresh as Fresh
    from featurekit.define.contracts.sets import Monotone as Monotone
    from featurekit.define.contracts.sets import NotNullShare as NotNullShare
    from featurekit.define.contracts.sets import References as References
    from featurekit.define.contracts.sets import RowCount as RowCount
    from featurekit.define.contracts.sets import Share as Share
    from featurekit.define.contracts.sets import Unique as Unique
    from featurekit.define.definitions import Entity as Entity
    from featurekit.define.definitions import EventSource as EventSource
    from featurekit.define.definitions import FeatureService as FeatureService
    from featurekit.define.definitions import FeatureView as FeatureView
    from featurekit.define.deprecated import Deprecated as Deprecated
    from featurekit.define.feature_contract.contract import Contract as Contract
    from featurekit.define.origins import Delta as Delta
    from featurekit.define.origins import DuckDB as DuckDB
    from featurekit.define.origins import Iceberg as Iceberg
    from featurekit.define.origins import Postgres as Postgres
    from featurekit.define.origins import SQLite as SQLite
    from featurekit.errors import FeaturekitError as FeaturekitError
    from featurekit.language.ops.binary import bucket as bucket
    from featurekit.language.ops.listing import cosine as cosine
    from featurekit.language.ops.listing import dot as dot
    from featurekit.language.ops.listing import norm as norm
    from featurekit.language.transform import feature as feature
    from featurekit.online.lookup.service import OnlineService as OnlineService
    from featurekit.store import FeatureStore as FeatureStore
else:
    # Lazy, so that a serving process loads neither DuckDB nor Arrow.
    _names = Names(__name__)
    __getattr__, __dir__ = _names.get, _names.dir
