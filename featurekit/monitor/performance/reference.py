"""Turns what a caller names as a reference of performance into judged rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featurekit.core.calls import near
from featurekit.core.durations import Duration, duration_us
from featurekit.errors import ArgumentError, DataError, DefinitionError
from featurekit.monitor.performance.join import Judged
from featurekit.offline.manifest import MANIFEST
from featurekit.project.project import Project
from featurekit.project.remake import remake


def reference_of(given: str | os.PathLike[str] | Duration | None) -> int | str | None:
    """How many microseconds before the window a reference goes back, or the path of a manifest."""
    if given is None:
        return None
    if isinstance(given, os.PathLike) or (isinstance(given, str) and given.endswith(".json")):
        path = os.fspath(given)
        if not path.endswith(MANIFEST) or not Path(path).exists():
            raise DataError(
                f"reference: {path} is no manifest that exists; write one, as in "
                f"valid.parquet{MANIFEST}"
            )
        return path
    try:
        return duration_us(given, what="reference")
    except DefinitionError:
        raise ArgumentError(
            f"reference: found {given!r}; write how long before the window, as in 30d, or the "
            f"manifest of a training set, as in valid.parquet{MANIFEST}"
        ) from None


def of_training_set(
    project: Project, path: str, service: str, prediction: str | None, label: str | None
) -> tuple[str, Sequence[Judged]]:
    """The rows of a training set, which is made again, as judged ones: its feature `prediction`
    beside its column `label`. ArgumentError where a name is not there."""
    found = remake(project, path)
    table = found.to_arrow()
    if label is None and len(found.labels) == 1:
        (label,) = found.labels
    names = list(table.column_names)
    of_feature = prediction
    if prediction is not None and prediction not in names:
        of_feature = prediction.rpartition("__")[2]
    for what, name in (("prediction", of_feature), ("label", label)):
        if name is None or name not in names:
            told = "is missing" if name is None else f"is no column {name!r}"
            raise ArgumentError(
                f"{what}: of the training set {path} it {told}; "
                f"{near(name or '', names, listed='there are')}"
            )
    compiled = project.repo.compiled_services.get(service)
    keys = [] if compiled is None else [n for n in compiled.join_keys if n in names]
    columns = [table[name].to_pylist() for name in keys]
    whose = list(zip(*columns, strict=True)) if columns else [()] * len(table)
    both = zip(table[of_feature].to_pylist(), table[label].to_pylist(), whose, strict=True)
    judged = [Judged(0, who, p, _plain(y)) for p, y, who in both if p is not None and y is not None]
    return f"the training set {path}", judged


def _plain(outcome: Any) -> Any:
    """An outcome as pushed ones are kept: numbers are floats."""
    return float(outcome) if type(outcome) is int else outcome
