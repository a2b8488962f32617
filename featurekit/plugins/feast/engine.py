"""Feast's batch engine on featurekit's own writing of states: no value becomes a proto."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

from feast.infra.common.materialization_job import MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.repo_config import FeastConfigBaseModel

from featurekit.core.types import micros
from featurekit.errors import ConfigError
from featurekit.feed.add import add_relation
from featurekit.offline.session import connect
from featurekit.plugins.feast.events import state_folder, view_rows
from featurekit.plugins.feast.kinds import out_of_range
from featurekit.plugins.feast.online_store import FeaturekitOnlineStore, project_of, versions_of
from featurekit.plugins.feast.published import fill_published, is_published
from featurekit.plugins.feast.schemas import note, others
from featurekit.plugins.feast.views import mapped


class FeaturekitEngineConfig(FeastConfigBaseModel):
    """The settings of `batch_engine` in feature_store.yaml."""

    type: Literal["featurekit.plugins.feast.FeaturekitEngine"] = (
        "featurekit.plugins.feast.FeaturekitEngine"
    )


@dataclass
class _Moved:
    """Feast's bar of progress, which is moved by how much is done."""

    bar: Any
    done: int = 0

    def __call__(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.done)
        self.done = done


class FeaturekitEngine(LocalComputeEngine):
    """Materialises Feast views into `FeaturekitOnlineStore`.

    A run reads every row up to the end that it is asked for, whatever its beginning: a row that
    came late, and one that is older than the ttl, have their place online as offline (T3, T4). A
    batch or stream view's transformation is run over all rows of its source.
    """

    def __init__(self, **settings: Any) -> None:
        settings.pop("type", None)
        super().__init__(**settings)
        if not isinstance(self.online_store, FeaturekitOnlineStore):
            raise ConfigError(
                "batch_engine: featurekit's engine writes to featurekit's online store alone; set "
                "online_store.type to featurekit.plugins.feast.FeaturekitOnlineStore, or leave "
                "batch_engine out"
            )

    def _materialize_one(
        self, registry: Any, task: MaterializationTask, **options: Any
    ) -> LocalMaterializationJob:
        name = f"{task.feature_view.name}-{task.start_time}-{task.end_time}"
        try:
            self._fill(task)
        except Exception as error:
            return LocalMaterializationJob(name, MaterializationJobStatus.ERROR, error)
        return LocalMaterializationJob(name, MaterializationJobStatus.SUCCEEDED)

    def _fill(self, task: MaterializationTask) -> None:
        config, view = self.repo_config, task.feature_view
        if is_published(view):
            return fill_published(config, view, task.end_time)
        made = mapped(view, versions=versions_of(config))
        assert isinstance(self.online_store, FeaturekitOnlineStore)
        store = self.online_store.store(config)
        now = store.now_us()
        with closing(connect(state_folder(config))) as con:
            rows = view_rows(con, config, view).events.relation
            relation = (
                f"(SELECT * REPLACE (least(__ts, {now}) AS __created) FROM {rows} "
                f"WHERE __ts <= {micros(task.end_time)})"
            )
            bar = None if task.tqdm_builder is None else task.tqdm_builder(0)
            progress: Callable[[int, int], None] = (
                (lambda done, total: None) if bar is None else _Moved(bar)
            )
            project = project_of(config)
            with out_of_range():
                add_relation(con, store, project, made.view, relation, progress=progress)
            for prefix in others(store, project, made.view):
                for keys in store.scan(prefix):
                    store.delete(keys)
            note(store, project, made.view, alone=True)
