"""Turns the footer of a Parquet file into the ranges of bytes that its reader needs, so that of a
file elsewhere only these are fetched."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable

HOLE = 1 << 18
"""What is smaller than this is fetched with what is around it."""


def needed_ranges(
    footer: bytes, size: int, wanted: Collection[str]
) -> tuple[list[tuple[int, int]], list[str] | None]:
    """The ranges of a Parquet file without the pages of columns that are not wanted, and the names
    of those that it then has; nothing, where all of it is needed. What is no page of a column, as
    statistics and filters, always is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(io.BytesIO(b"PAR1" + footer))
        names = about.schema.to_arrow_schema().names
    except (pa.ArrowException, OSError):
        return [], None
    holes = []
    for group in map(about.row_group, range(about.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            path = column.path_in_schema
            if any(path == name or path.startswith(f"{name}.") for name in wanted):
                continue
            start = column.data_page_offset
            if column.has_dictionary_page and column.dictionary_page_offset:
                start = min(start, column.dictionary_page_offset)
            holes.append((start, start + column.total_compressed_size))
    ranges, at = [], 0
    for start, end in [*_joined(holes), (size, size)]:
        if at < start:
            ranges.append((at, start))
        at = end
    columns = sorted({*names} & {*wanted})
    return (ranges, columns) if len(ranges) > 1 else ([], None)


def _joined(holes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that touch as one, without the small ones."""
    made: list[tuple[int, int]] = []
    for start, end in sorted(holes):
        if made and start <= made[-1][1]:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((start, end))
    return [(start, end) for start, end in made if end - start >= HOLE]
