"""Turns an attribute that a public object does not have into an error that says what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from featurekit.core.calls import near

_A_FRAME = frozenset({"df", "dataframe", "to_df", "to_dataframe", "as_df", "pandas", "toPandas"})
"""What other libraries call a result's frame of pandas."""


class Named:
    """A class whose objects say, for an attribute that they lack, which they have.

    An object of rows has `_column_names`; then a column is written in brackets, and what a frame of
    pandas has is asked of `to_pandas()`.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # a type checker knows what is there

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if name.startswith("_"):  # asked for by copy, pickle and notebooks
                raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
            raise AttributeError(f"{kind.__name__} has no {name!r}; {_instead(self, name)}")


def _instead(one: Any, name: str) -> str:
    kind = type(one)
    known = [word for word in dir(kind) if not word.startswith("_")]
    columns = getattr(kind, "_column_names", None)
    if columns is not None:
        if name in columns(one):
            return f'write ["{name}"], the column in brackets'
        if name in _A_FRAME:
            return "write .to_pandas()"
        if name == "to_json":
            return 'write .to_pandas().to_json(orient="records"), or .to_pylist() for dicts'
        if _has_frame(name):
            return f"write .to_pandas().{name}"
    return near(name, known)


def _has_frame(name: str) -> bool:
    """Whether a frame of pandas has such an attribute."""
    try:
        import pandas as pd
    except ImportError:
        return False
    return hasattr(pd.DataFrame, name)
