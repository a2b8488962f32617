"""What the methods of a `FeatureStore` return, by name, for annotations; nobody makes one.

`from featurekit.results import OnlineResult, TrainingSet`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from featurekit.core.names import Names

if TYPE_CHECKING:
    from featurekit.define.deprecated import Deprecation as Deprecation
    from featurekit.feed.consume import Consumed as Consumed
    from featurekit.feed.events import Pushed as Pushed
    from featurekit.feed.forget import Forgot as Forgot
    from featurekit.feed.materialise import Materialization as Materialization
    from featurekit.feed.push_outcomes import PushedOutcomes as PushedOutcomes
    from featurekit.monitor.compare import ModelComparison as ModelComparison
    from featurekit.monitor.performance.report import Performance as Performance
    from featurekit.monitor.prediction import PredictionAudit as PredictionAudit
    from featurekit.monitor.profiles.keep import Profiled as Profiled
    from featurekit.offline.splits import Splits as Splits
    from featurekit.offline.training_set import TrainingSet as TrainingSet
    from featurekit.online.lookup.result import OnlineResult as OnlineResult
    from featurekit.parity.diagnose.explanation import Explanation as Explanation
    from featurekit.parity.report import Report as Report
    from featurekit.project.catalog import Item as Item
    from featurekit.project.checks import SourceCheck as SourceCheck
    from featurekit.project.contracts import Validation as Validation
    from featurekit.project.gc import Collection as Collection
    from featurekit.project.history import Revision as Revision
    from featurekit.project.lineage.graph import Lineage as Lineage
    from featurekit.project.lineage.impact import Impact as Impact
    from featurekit.project.ownership import Adopted as Adopted
    from featurekit.project.pins import Pinned as Pinned
    from featurekit.project.registry import Change as Change
    from featurekit.project.registry import Pin as Pin
    from featurekit.project.versions import RolledBack as RolledBack
    from featurekit.project.versions import Version as Version
else:
    _names = Names(__name__)
    __getattr__, __dir__ = _names.get, _names.dir
