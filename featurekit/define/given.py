"""Holds a frame that is a source's events, as it was when the source was defined."""

from __future__ import annotations

import threading
from typing import Any

from featurekit.core.frames import is_frame, own, refuse_doubles
from featurekit.errors import DefinitionError


class GivenFrame:
    """A copy of the frame that an EventSource was given; what is done to the frame later does not
    reach it.

    `data` is a frame of pandas or polars, or a table of Arrow. `made` keeps what a reader makes of
    it, by whatever the reader likes; `lock` is held meanwhile. Two with equal data are equal, as
    those of a notebook's cell that is run twice.
    """

    def __init__(self, frame: Any, *, where: str) -> None:
        def refuse(reason: str) -> DefinitionError:
            return DefinitionError(f"{where}: frame: {reason}")

        if not is_frame(frame):
            raise refuse(
                f"{type(frame).__name__} is no frame; give a pandas or polars frame, an Arrow "
                "table or a DuckDB relation, and for files write path="
            )
        self.data = own(frame, refuse=refuse)
        names = getattr(self.data, "column_names", None)
        self.names = list(self.data.columns if names is None else names)
        """The names of its columns."""
        refuse_doubles(self.names, refuse)
        self.made: dict[str, Any] = {}
        self.lock = threading.Lock()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GivenFrame):
            return NotImplemented
        return type(self.data) is type(other.data) and bool(self.data.equals(other.data))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<frame of {len(self.data):,} rows: {', '.join(map(str, self.names))}>"
