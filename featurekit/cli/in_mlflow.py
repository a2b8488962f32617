"""Tells what MLflow keeps of an entity that was forgotten, and what a person has to do about it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from featurekit.cli.contracts import TRACKING_VARIABLE, know_mlflow
from featurekit.core.screen import Progress, Screen
from featurekit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from featurekit.plugins.mlflow import StillKept
    from featurekit.store import FeatureStore

_TODO = {
    "labels": "`featurekit forget … --delete-in-mlflow` deletes them, or delete the run and run "
    "`mlflow gc`",
    "contract": "it is hashed, so delete the model and the run, and run `mlflow gc`",
    "manifest": "it is hashed, so delete the run, and run `mlflow gc`",
    "unread": "its contract was changed after it was written, so look at it yourself",
}


@dataclass(frozen=True, slots=True)
class InMlflow:
    """What MLflow `keeps`, where it was `asked`; `why` says why it could not be."""

    asked: bool
    keeps: Sequence[StillKept] = ()
    why: str = ""

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        names = ("place", "what", "rows", "removed")
        keeps = [{name: getattr(one, name) for name in names} for one in self.keeps]
        return {"asked": self.asked, "keeps": keeps, "why": self.why or None}

    def show(self, screen: Screen) -> None:
        """For people."""
        if self.why:
            screen.line(f"MLflow may still have the entity: {self.why}", style="yellow")
        for one in self.keeps:
            what = f"{one.rows} rows of labels" if one.what == "labels" else f"its {one.what}"
            if one.removed:
                screen.line(f"{one.place} had the entity in {what}, and was deleted.")
            else:
                said = f"{one.place} has the entity in {what}: {_TODO[one.what]}."
                screen.line(said, style="yellow")


def in_mlflow(
    store: FeatureStore, keys: Mapping[str, Any], *, delete: bool, progress: Progress
) -> InMlflow:
    """What MLflow keeps of an entity that `store` has forgotten. It is asked where it was named, or
    keeps something in this folder."""
    try:
        know_mlflow()
    except ConfigError:
        return InMlflow(asked=False)
    try:
        from featurekit.plugins.mlflow import find_forgotten

        move = partial(progress, "runs in MLflow")
        return InMlflow(True, find_forgotten(store, keys, delete=delete, progress=move))
    except (ConfigError, DataError) as error:
        where = os.environ.get(TRACKING_VARIABLE, "this folder")
        return InMlflow(False, why=f"{where} was not looked at ({error})")
