"""Asks a training set and the oracle for the labels of one view, of rows that are given (T10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import oracle
import pyarrow as pa
from oracle import bits
from paths import Paths

from featurekit import Entity, FeatureView
from featurekit.aggregates import Count
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import FeatureService
from featurekit.define.labels import with_labels
from featurekit.offline.events import Snapshot
from featurekit.offline.training_set import TrainingSet


def ahead_of(entity: Entity, of: Any, features: Any, **options: Any) -> FeatureView:
    """A view of labels with the name `ahead`, of a source or of a union of some."""
    sources = {"sources": of} if isinstance(of, list) else {"source": of}
    return FeatureView("ahead", entities=[entity], features=features, **sources, **options)


class Lent:
    """A connection that whoever closes it gives back."""

    def __init__(self, con: Any) -> None:
        self._con = con

    def __getattr__(self, name: str) -> Any:
        return getattr(self._con, name)

    def close(self) -> None:
        pass


class Ahead(Paths):
    """A view of labels beside a service of features, and the rows of its sources."""

    def __init__(self, con: Any, labels: FeatureView, rows: Mapping[str, Sequence[Any]]) -> None:
        self.con, self.rows, self.labels = con, rows, labels
        self.tables, self.known, self.made = [], {}, []
        one = labels.event_sources[0]
        features = FeatureView(
            "back", entities=labels.entities, source=one, features={"n": Count(window="1d")},
            explode=labels.explode,
        )  # fmt: skip
        service = FeatureService("service", features=[features])
        self.asked = with_labels(compile_service(service), [labels])
        self.of_features = self._events(one)
        self.known = {}  # the labels' events are a relation of their own, which a test may change
        self.of_labels = self._events(labels.source)

    def training(self, questions: Sequence[Any], known_at: int, **how: Any) -> TrainingSet:
        """The training set of (row, t) as of what had arrived by `known_at`."""
        types = self.asked.whole.join_keys
        frame = {n: pa.array([q[n] for q, _ in questions], t.arrow) for n, t in types.items()}
        at = pa.array([t for _, t in questions], pa.int64()).cast(pa.timestamp("us", "UTC"))

        def snapshot(con: Any, of: Any) -> Snapshot:
            return Snapshot(self.of_labels if of.kind == "label" else self.of_features, {})

        return TrainingSet(
            self.asked.features,
            pa.table({**frame, "event_timestamp": at}),
            connect=lambda: Lent(self.con),
            snapshot=snapshot,
            full_names=True,
            statuses=True,
            timezone="UTC",
            known_at=known_at,
            labelled=self.asked,
            **{"buckets": 1, **how},
        )

    def offline(self, questions: Any, known_at: int, **how: Any) -> list[dict[str, Any]]:
        """Each question's labels, as bits and status."""
        made = self.training(questions, known_at, **how)
        rows = made.to_arrow().to_pylist(maps_as_pydicts="strict")
        names = {n: f"ahead__{n}" for n in self.labels.features}
        return [
            {n: (bits(r[full]), r[f"{full}__status"]) for n, full in names.items()} for r in rows
        ]

    def expected(self, questions: Any, known_at: int) -> list[dict[str, Any]]:
        """The same by the oracle."""
        rows = [row | {"__source": name} for name, some in self.rows.items() for row in some]
        found = []
        for key, t in questions:
            given = {
                n: oracle.label(self.labels, n, rows, key, t, known_at)
                for n in self.labels.features
            }
            found.append({n: (bits(value), status) for n, (value, status) in given.items()})
        return found
