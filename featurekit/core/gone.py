"""Takes rows, and elements of rows' lists, out of tables of Arrow."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class FixedLists(Exception):
    """A column whose lists cannot lose an element, since its type says how long they are; the text
    is the type."""


@dataclass(frozen=True, slots=True)
class Gone:
    """What is to be taken out of the rows of a file, which are numbered from 0 on: whole rows, and
    for each list column the positions, from 0 on, of elements in the lists of other rows."""

    rows: Collection[int] = ()
    elements: Mapping[str, Mapping[int, Collection[int]]] = field(default_factory=dict)

    @property
    def touched(self) -> set[int]:
        """The numbers of the rows that go, or lose an element."""
        return {*self.rows}.union(*self.elements.values())

    def __bool__(self) -> bool:
        return bool(self.touched)

    def without(self, table: pa.Table, start: int = 0) -> pa.Table:
        """The table, whose first row has the number `start`, without these. FixedLists for a column
        whose lists have a fixed length."""
        import numpy as np

        for name, cut in self.elements.items():
            here = {n - start: at for n, at in cut.items() if start <= n < start + table.num_rows}
            if here:
                at = table.column_names.index(name)
                column = _shortened(table.column(at).combine_chunks(), here)
                table = table.set_column(at, table.schema.field(at), column)
        numbers = np.arange(start, start + table.num_rows)
        return table.filter(~np.isin(numbers, np.fromiter(self.rows, np.int64)))


def _shortened(lists: pa.Array, cut: Mapping[int, Collection[int]]) -> pa.Array:
    """Lists without some elements, by their positions in each list."""
    import numpy as np
    import pyarrow as pa

    is_ = pa.types
    if not (is_.is_list(lists.type) or is_.is_large_list(lists.type)):
        raise FixedLists(str(lists.type))
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    keep = np.ones(starts[-1], bool)
    for row, positions in cut.items():
        keep[starts[row] + np.fromiter(positions, np.int64)] = False
    return _lists(lists, np.concatenate([[0], np.cumsum(keep)])[starts], keep)


def _lists(lists: pa.Array, offsets: np.ndarray[Any, Any], keep: np.ndarray[Any, Any]) -> pa.Array:
    import pyarrow as pa

    made = pa.LargeListArray if pa.types.is_large_list(lists.type) else pa.ListArray
    wide = pa.int64() if made is pa.LargeListArray else pa.int32()
    values = lists.flatten().filter(pa.array(keep))
    nulls = lists.is_null() if lists.null_count else None
    return made.from_arrays(pa.array(offsets, wide), values, type=lists.type, mask=nulls)
