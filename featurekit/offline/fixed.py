"""Turns the frame of a training set into one that stays as it was when it was given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.frames import (
    is_column_of_pandas,
    is_frame,
    is_object,
    own,
    own_objects,
    own_value,
)
from featurekit.errors import EntityFrameError


@dataclass(frozen=True, slots=True)
class FixedFrame:
    """A frame as it was when it was given: a copy of what is in memory, or the path of a file,
    which is read in its place and must not change."""

    frame: Any
    stamp: tuple[int, int] | None = None
    """The size and the time of change of a file."""

    def check(self) -> None:
        """EntityFrameError if the file has changed since it was given."""
        if self.stamp is not None and _stamp(self.frame) != self.stamp:
            raise EntityFrameError(
                f"entity frame: {self.frame} has changed since the training set was made; ask "
                "get_historical_features again, with the file as it is now"
            )


def fixed(frame: Any) -> FixedFrame:
    """The frame as it is now; later changes to what was given do not reach it.

    What is in memory is copied. A reader or a relation, which may give its rows only once or others
    the next time, is read now, to a file that is mapped into memory. A file stays where it is: it
    may be large. What is no frame stays as it is, and is refused when it is read.
    """
    if isinstance(frame, (str, os.PathLike)):
        path = Path(frame).absolute()
        return FixedFrame(path, _stamp(path))
    if isinstance(frame, (list, tuple)):
        return FixedFrame([_row(row) for row in frame])
    if isinstance(frame, Mapping):
        return FixedFrame({name: _column(values) for name, values in frame.items()})
    # A column of pandas before 3 is told from a frame by its type alone.
    taken = is_frame(frame) or is_column_of_pandas(frame)
    return FixedFrame(own(frame, refuse=_refuse) if taken else frame)


def _row(row: Any) -> Any:
    return {name: own_value(v) for name, v in row.items()} if isinstance(row, Mapping) else row


def _column(values: Any) -> Any:
    """A copy of a list or an array. An array of Arrow is copied, too: it may share the memory of an
    array of NumPy."""
    if isinstance(values, (list, tuple)):
        return [own_value(value) for value in values]
    if hasattr(values, "__arrow_c_array__") or hasattr(values, "__arrow_c_stream__"):
        if type(values).__module__.startswith("pandas"):
            return own_objects(values) if is_object(values) else values.copy(deep=True)
        return _own_array(values)
    return values.copy() if hasattr(values, "copy") else values


def _own_array(values: Any) -> Any:
    import pyarrow as pa

    made = own(pa.table({"column": pa.chunked_array(values)}), refuse=_refuse)
    return made["column"]


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):  # no file, or no name of one
        return None
    return found.st_size, found.st_mtime_ns


def _refuse(reason: str) -> EntityFrameError:
    return EntityFrameError(f"entity frame: {reason}")
