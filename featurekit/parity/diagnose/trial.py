"""One small failing scenario about one output: what experiments are made on, and what they told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from featurekit.define.plan import Feature, Service
from featurekit.parity.bench import Bench, differing
from featurekit.parity.compare import Stated
from featurekit.parity.scenario import Scenario

Told = tuple[str, str]
"""A cause, one of `CAUSES`, and where the paths part."""


@dataclass(slots=True)
class Trial:
    """A failing scenario. `offline` and `online` are what the paths say of `feature`; experiments
    add to the `evidence` what they have shown."""

    bench: Bench
    scenario: Scenario
    feature: str
    offline: Stated
    online: Stated
    evidence: list[str] = field(default_factory=list)

    @property
    def service(self) -> Service:
        """The version that answers offline."""
        return self.scenario.service

    def still(self, scenario: Scenario) -> bool:
        """Whether the feature differs in another scenario."""
        return self.feature in differing(self.bench.both(scenario))

    def with_feature(self, feature: Feature, **changes: Any) -> Scenario:
        """The scenario, its feature defined otherwise."""
        other = replace(feature, **changes)
        views = tuple(
            replace(v, features=tuple(other if f == feature else f for f in v.features))
            for v in self.service.views
        )
        return replace(self.scenario, service=replace(self.service, views=views))
