"""Asks Evidently for its own report of the rows that drift compares.

It is the one module that imports Evidently, which takes some seconds, and only when it is asked.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurekit.core.files import check_writable, write_named
from featurekit.errors import ConfigError, DataError
from featurekit.monitor.drift.report import EvidentlyFigure
from featurekit.monitor.drift.samples import AGE

OPTION = "--evidently"
MOST_CLASSES = 1_000
"""Texts of more distinct values are left out, as PSI leaves them out."""
_NUMBERS, _CLASSES = ("int", "float"), ("bool", "str")


class Rows(Protocol):
    """One side: the type of each feature in words, and the rows."""

    @property
    def kinds(self) -> dict[str, set[str]]: ...
    def table(self) -> pa.Table: ...


def check_evidently(path: Path) -> None:
    """ConfigError where Evidently is not installed, or the file cannot be written."""
    if find_spec("evidently") is None:
        raise ConfigError(
            f"{OPTION}: Evidently is not installed; run `pip install 'featurekit[evidently]'`"
        )
    check_writable(path, OPTION)


def write_report(path: Path, was: Rows, now: Rows) -> tuple[EvidentlyFigure, ...]:
    """Write Evidently's report of drift, a page, and give its figure of each feature. Which test it
    takes, and its threshold, are Evidently's own defaults. DataError where it fails."""
    old, new = was.table(), now.table()
    left_out: dict[str, str] = {}
    numbers: list[str] = []
    classes: list[str] = []
    # A training set knows nothing of the age of views.
    names = [*was.kinds, *(n for n in now.kinds if n not in was.kinds and not n.startswith(AGE))]
    for name in names:
        why, of = _sort(name, was, now, old, new)
        if why:
            left_out[name] = why
        else:
            (numbers if of in _NUMBERS else classes).append(name)
    found: dict[str, EvidentlyFigure] = {}
    if numbers or classes:
        page, found = _asked(old, new, numbers, classes)
        write_named(path, page.encode(), OPTION)
    if not found:
        told = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise DataError(
            f"{OPTION}: Evidently can compare no feature ({told}), so {path} is not written"
        )
    return tuple(
        found.get(name) or EvidentlyFigure(name, left_out=left_out[name]) for name in names
    )


def _sort(name: str, was: Rows, now: Rows, old: pa.Table, new: pa.Table) -> tuple[str, str]:
    """Why a feature is left out, and else its type."""
    told = [" and ".join(sorted(side.kinds.get(name, ()))) for side in (was, now)]
    if "" in told:
        return f"only {'served' if not told[0] else 'in the reference'}", ""
    if told[0] != told[1] or " and " in told[0]:
        return f"{told[0]} in the reference, and {told[1]} served", ""
    if told[0] not in (*_NUMBERS, *_CLASSES):
        return f"{told[0]} is neither a number nor a class", ""
    sides = [_there(side[name]) for side in (old, new)]
    if not all(len(side) for side in sides):
        return "one side has no value", ""
    if told[0] == "str" and len(pc.unique(pa.chunked_array(sides))) > MOST_CLASSES:
        return f"more than {MOST_CLASSES:,} distinct texts", ""
    return "", told[0]


def _there(column: pa.ChunkedArray) -> pa.Array:
    """The values that Evidently counts: finite ones."""
    there = column.drop_null().combine_chunks()
    return there.filter(pc.is_finite(there)) if pa.types.is_floating(there.type) else there


def _asked(
    old: pa.Table, new: pa.Table, numbers: list[str], classes: list[str]
) -> tuple[str, dict[str, EvidentlyFigure]]:
    """Evidently's page, and its figures by feature."""
    # What Evidently warns of, and divides by zero, is its own.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            from evidently import DataDefinition, Dataset, Report
            from evidently.presets import DataDriftPreset
        except ImportError as error:
            raise ConfigError(
                f"{OPTION}: Evidently cannot be imported ({error}); run `pip install "
                "'featurekit[evidently]'`"
            ) from None
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=classes)
        try:
            now, was = (
                Dataset.from_pandas(_pandas(side, numbers, classes), data_definition=definition)
                for side in (new, old)
            )
            made = Report([DataDriftPreset()]).run(now, was)
            return made.get_html_str(as_iframe=False), {f.feature: f for f in _figures(made)}
        except Exception as error:
            raise DataError(
                f"{OPTION}: Evidently fails: {type(error).__name__}: {error}"
            ) from error


def _pandas(table: pa.Table, numbers: list[str], classes: list[str]) -> Any:
    """A frame of numbers and of classes as texts. An int column with nulls is one of floats."""
    columns = {name: table[name] for name in numbers}
    columns |= {name: table[name].cast(pa.string()) for name in classes}
    return pa.table(columns).to_pandas()


def _figures(made: Any) -> Iterator[EvidentlyFigure]:
    for metric in made.dict()["metrics"]:
        told = metric["config"]
        if "column" in told:
            value, threshold = float(metric["value"]), float(told["threshold"])
            yield EvidentlyFigure(told["column"], told["method"], value, threshold)
