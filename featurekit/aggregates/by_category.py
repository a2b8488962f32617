"""An aggregate of each category of the events of a window, as a dict (A6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from featurekit.aggregates.base import Aggregate
from featurekit.core.types import FLOAT, Type, dict_of
from featurekit.errors import DefinitionError

Sorted = tuple[Any, Any]
"""The category of an event, and the input that its aggregate takes."""


@dataclass(frozen=True, slots=True)
class ByCategory(Aggregate):
    """The aggregate `inner` of the events of each category, by the number of its inputs descending,
    then by category. A category over which the aggregate is None is left out, and of the others
    those after the first `most`.

    It takes pairs of a category and an input. Both paths collect these, and ask `inner` of each
    category. So no block of a state stands for them, and no plan of windows adds them.
    """

    inner: Aggregate = field(kw_only=True)
    most: int | None = field(default=None, kw_only=True)

    counts_rows: ClassVar[bool] = True

    @property
    def ordered(self) -> bool:  # type: ignore[override]
        return self.inner.ordered

    @property
    def raises(self) -> bool:  # type: ignore[override]
        return self.inner.raises

    @property
    def keeps_none(self) -> bool:
        return self.inner.keeps_none

    def over(self, values: Sequence[Sorted], item: Type | None) -> dict[Any, Any]:
        found: dict[Any, list[Any]] = {}
        for category, value in values:
            found.setdefault(category, []).append(value)
        order = sorted(found, key=lambda category: (-len(found[category]), category))
        return {category: self.inner.over(found[category], item) for category in order}

    def as_of(self, found: dict[Any, Any], t: int) -> dict[Any, Any]:
        made = {category: self.inner.as_of(value, t) for category, value in found.items()}
        kept = [(category, value) for category, value in made.items() if value is not None]
        return dict(kept[: self.most])


def dict_type(kind: Aggregate, category: Type, item: Type | None) -> Type:
    """The type of an aggregate by categories of type `category`, for inputs of type `item`;
    DefinitionError for a category or an aggregate that gives none."""
    what = type(kind).__name__
    if category.item is not None or category.base == FLOAT:
        raise DefinitionError(
            f"{what}: by= is {category}, and a category is bool, int, str, bytes, date, datetime "
            "or timedelta; make one of it in a @feature"
        )
    value = kind.result(item).base
    if value.item is not None:
        raise DefinitionError(
            f"{what} gives {value}, and by= takes aggregates of one value, as Sum or Last; leave "
            "by= out"
        )
    return dict_of(category.base.plain, value.plain)
