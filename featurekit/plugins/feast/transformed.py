"""Runs the transformation of a Feast batch or stream view over all rows of its source.

Both paths read what it gives: the historical features of such a view, and what is materialised.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from featurekit.errors import DataError, DefinitionError

_MODES = ("pandas", "python")


def transforms(view: Any) -> bool:
    """Whether Feast computes the view's rows from those of its source. DefinitionError for what
    featurekit does not run."""
    what = f"Feast's view {view.name!r}"
    if getattr(view, "aggregations", None):
        raise DefinitionError(
            f"{what} has aggregations of Feast's, which have no instant on its local engine; write "
            "them as a featurekit view"
        )
    if getattr(view, "source_views", None):
        raise DefinitionError(
            f"{what} is made of other views, and featurekit's stores read files; materialise it "
            "into a file, and give that as its source"
        )
    transformation = getattr(view, "feature_transformation", None)
    if transformation is None:
        return False
    mode = str(getattr(transformation.mode, "value", transformation.mode))
    if mode not in _MODES:
        raise DefinitionError(
            f"{what} is transformed in the mode {mode!r}; featurekit's stores run "
            f"{' and '.join(map(repr, _MODES))}, as Feast's local engine does"
        )
    return True


def transformed(view: Any, table: pa.Table) -> pa.Table:
    """The rows that the view's function makes of those of its source, which are given to it as a
    frame of pandas, in both modes. DataError where it gives anything else."""
    what = f"Feast's view {view.name!r}: its transformation"
    made = view.feature_transformation.udf(table.to_pandas())
    if not isinstance(made, pd.DataFrame):
        raise DataError(f"{what} gives a {type(made).__name__}; give a frame of pandas")
    try:
        found = pa.Table.from_pandas(made, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{what} gives a column of several types ({error}); give one") from None
    return found.replace_schema_metadata(None)
