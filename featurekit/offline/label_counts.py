"""Counts the statuses of the labels of a training set, and the balance of their classes."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.define.labels import Labelled
from featurekit.define.plan import View

MOST_CLASSES = 20
"""A label of more distinct values is no class."""
_OF_CLASSES = ("bool", "int", "str", "date")


class LabelCounts:
    """The statuses and classes of each label, counted batch by batch; the order of rows leaves no
    trace."""

    def __init__(self, asked: Labelled, names: Sequence[str]) -> None:
        self.asked = asked
        self.first = len(asked.features.outputs)
        self.names = names[self.first :]
        self.statuses: list[Counter[str]] = [Counter() for _ in self.names]
        self.classes: list[Counter[Any] | None] = [
            Counter() if output.type.name in _OF_CLASSES else None for output in asked.labels
        ]

    def update(self, made: Any, columns: Sequence[Any]) -> None:
        """Take a batch: `made` has the statuses, `columns` are the outputs as they leave."""
        for place in range(len(self.names)):
            o = self.first + place
            self.statuses[place].update(_counted(made.column(f"t{o}")))
            counts = self.classes[place]
            if counts is not None:
                counts.update(_counted(columns[o].drop_null()))
                if len(counts) > MOST_CLASSES:
                    self.classes[place] = None

    def told(self) -> dict[str, dict[str, Any]]:
        """What a manifest says of each label, by the name of its column."""
        found = {}
        for place, (name, output) in enumerate(zip(self.names, self.asked.labels, strict=True)):
            view, label = self.asked.label(output)
            classes = self.classes[place]
            found[name] = {
                "label": f"{view.name}:{label.name}",
                "view": view.fingerprint,
                "type": str(output.type),
                "fingerprint": output.fingerprint,
                **_role(view),
                "statuses": dict(sorted(self.statuses[place].items())),
                **({} if classes is None else {"classes": balance(classes)}),
            }
        return found


def balance(classes: Mapping[Any, int]) -> list[dict[str, Any]]:
    """Each class with its rows, and the weight that gives all classes the same part: the rows of
    all over the number of classes times its own rows. In the order of the values."""
    rows = sum(classes.values())
    return [
        {
            "value": value.isoformat() if isinstance(value, dt.date) else value,
            "rows": count,
            "share": count / rows,
            "weight": rows / (len(classes) * count),
        }
        for value, count in sorted(classes.items())
    ]


def _role(view: View) -> dict[str, Any]:
    """The part that a view of labels plays, as a manifest has it."""
    if view.role is None:
        return {}
    return {"role": {"name": view.role.name, "keys": list(view.role.keys)}}


def _counted(column: Any) -> dict[Any, int]:
    import pyarrow.compute as pc

    found = pc.value_counts(column)
    pairs = zip(found.field("values").to_pylist(), found.field("counts").to_pylist(), strict=True)
    return dict(pairs)
