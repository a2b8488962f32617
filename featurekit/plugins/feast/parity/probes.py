"""Looks closer at an online store and at a view's functions, to show why a value differs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pandas as pd
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from feast.value_type import ValueType

from featurekit.plugins.feast.parity.source import Row
from featurekit.plugins.feast.parity.targets import Part
from featurekit.plugins.feast.parity.values import same


class Probes:
    """What a diagnosis may ask of a repo beside its two paths; nothing of it writes."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def transformed(self, part: Part, rows: Sequence[Row], feature: str) -> Any:
        """What the transformation of a view makes of some rows of its source, of the last of them;
        None where it cannot be run here."""
        udf = getattr(part.view.feature_transformation, "udf", None)
        if udf is None or not rows:
            return None
        frame = pd.DataFrame([dict(row.values) for row in rows])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made = udf(frame)
            return made[feature].tolist()[-1]
        except Exception:  # it may want another engine: then it shows nothing
            return None

    def collisions(self, part: Part, feature: str) -> list[str]:
        """The other features of a view that Redis holds in the same field of its hash."""
        if "redis" not in type(self._online()).__name__.lower():
            return []
        mine = _hashed(part.view.name, feature)
        return [
            name for name in part.types if name != feature and _hashed(part.view.name, name) == mine
        ]

    def other_width(self, part: Part, key: Sequence[Any], feature: str) -> tuple[str, Any] | None:
        """The feature's value under the key in the other width of its ints, with that width; None
        where there is none."""
        if not key or not all(isinstance(one, int) and not isinstance(one, bool) for one in key):
            return None
        for name, field in (("int32", "int32_val"), ("int64", "int64_val")):
            try:
                values = [Value(**{field: one}) for one in key]
            except ValueError:
                continue
            found = self._read(part, EntityKey(join_keys=list(part.columns), entity_values=values))
            value = feast_value_type_to_python_type(found.get(feature, Value()))
            if value is not None:
                return name, value
        return None

    def holds(self, part: Part, key: Sequence[Any], feature: str, value: Any) -> bool:
        """Whether the online store has this value of a feature under a key."""
        types = {field.name: field.dtype.to_value_type() for field in part.view.entity_columns}
        names = list(part.columns) or [DUMMY_ENTITY_ID]
        values = [
            python_values_to_proto_values([one], types.get(name, ValueType.STRING))[0]
            for name, one in zip(names, key or [DUMMY_ENTITY_VAL], strict=True)
        ]
        found = self._read(part, EntityKey(join_keys=names, entity_values=values))
        held = feast_value_type_to_python_type(found.get(feature, Value()), part.types[feature])
        return same(held, value, part.types[feature])

    def _read(self, part: Part, key: EntityKey) -> dict[str, Any]:
        features = list(part.types)
        [(_, found)] = self._online().online_read(
            self.store.config, part.view, [key], list(features)
        )
        return found or {}

    def _online(self) -> Any:
        return self.store._get_provider().online_store


@lru_cache(maxsize=100_000)
def _hashed(view: str, feature: str) -> Any:
    """The field of Redis' hash in which Feast holds a feature."""
    from feast.infra.online_stores.helpers import _mmh3

    return _mmh3(f"{view}:{feature}")
