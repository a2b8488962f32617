"""Finds what MLflow keeps of entities that were forgotten: the labels of training sets, which have
their keys, and contracts and manifests that name one.

Labels are deleted where that is asked for. A contract or a manifest is hashed, and a model's tags
name the hash, so only their owner can take one away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.screen import Advance
from featurekit.core.types import from_text
from featurekit.define.feature_contract.contract import Contract
from featurekit.errors import ContractRefused, DataError
from featurekit.feed.forget_served import ForgottenRows
from featurekit.feed.forgotten_labels import labels_of
from featurekit.feed.naming import names_one_of
from featurekit.log.tombstones import read_secret
from featurekit.plugins.mlflow.client import deleted, downloaded, explained, mlflow
from featurekit.plugins.mlflow.models import CONTRACT_FILE, CONTRACT_TAG
from featurekit.plugins.mlflow.training import FOLDER, part
from featurekit.store import FeatureStore

_PAGE = 1_000
_ALL = mlflow.entities.ViewType.ALL
"""Runs that were deleted, too: MLflow keeps their files until `mlflow gc`."""


@dataclass(frozen=True, slots=True)
class StillKept(Named):
    """What MLflow keeps of who was forgotten: its `place`, as in "runs:/RUN/featurekit/…" or
    "models:/…", and `what` it is: "labels", with as many `rows` of them; a "contract" or a
    "manifest", which names one; or "unread", which nobody can tell of. `removed` says that it is
    gone now."""

    place: str
    what: str
    rows: int = 0
    removed: bool = False


def find_forgotten(
    store: FeatureStore,
    keys: Mapping[str, Any] | None = None,
    *,
    delete: bool = False,
    progress: Advance | None = None,
) -> list[StillKept]:
    """What the tracking server that is set keeps of entities that `store` has forgotten, in runs
    and models of its project; runs that were deleted are looked at, too.

    Labels are found whoever was forgotten, by the keyed hashes of the registry. Contracts and
    manifests are found that have a value of `keys`, the join keys of one entity, among their
    frequent values or classes. With `delete` the labels are removed from MLflow, after which
    `remake` cannot make the training set again from the registry alone.

    RegistryError where the secret of who was forgotten is lost, DataError where MLflow cannot be
    asked.
    """
    found: list[StillKept] = []
    looking = _Looking(store, frozenset((keys or {}).values()), delete=delete)
    with explained("what is kept of forgotten entities"):
        client = mlflow.MlflowClient()
        every = partial(client.search_experiments, view_type=_ALL)
        experiments = [one.experiment_id for one in _pages(every)]
        asked = partial(client.search_runs, experiments, run_view_type=_ALL)
        runs = list(_pages(asked)) if experiments else []
        for done, run in enumerate(runs, 1):
            found += looking.in_run(client, run)
            if progress is not None:
                progress(done, len(runs))
        if keys and experiments:
            models = partial(client.search_logged_models, experiments)
            for model in _pages(models):
                found += looking.in_model(model)
    return found


def _pages(ask: Callable[..., Any]) -> Iterator[Any]:
    """All that a question of MLflow's client finds, page by page."""
    token = None
    while True:
        page = ask(max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


class _Looking:
    """Looks at what MLflow keeps for a project; `values` are those of the keys of one entity."""

    def __init__(self, store: FeatureStore, values: frozenset[Any], *, delete: bool) -> None:
        self.project, self.values, self.delete = store.parts, values, delete
        tombstones = self.project.registry.tombstones()
        secret = read_secret(self.project.state_dir, tombstones) if tombstones else None
        self.gone = None
        if secret is not None:
            self.gone = ForgottenRows(self.project, tombstones, secret, ever=True)

    def in_run(self, client: Any, run: Any) -> Iterator[StillKept]:
        """What a run keeps: a folder for each of its training sets."""
        id_ = run.info.run_id
        for folder in client.list_artifacts(id_, FOLDER):
            listed = client.list_artifacts(id_, folder.path)
            files = {part(Path(one.path).name): one.path for one in listed}
            with TemporaryDirectory(prefix="featurekit-") as made:
                for kept in self._in_folder(id_, files, made):
                    if kept.what == "labels" and self.delete:
                        deleted(run.info.artifact_uri, files["labels"])
                        left = client.list_artifacts(id_, folder.path)
                        gone = files["labels"] not in {one.path for one in left}
                        yield StillKept(kept.place, kept.what, kept.rows, gone)
                    else:
                        yield kept

    def _in_folder(self, run: str, files: Mapping[str, str], made: str) -> Iterator[StillKept]:
        if "contract" not in files:
            return
        places = {what: f"runs:/{run}/{path}" for what, path in files.items()}
        here = {what: downloaded(places[what], made) for what in files}
        try:
            contract = Contract(here["contract"].read_bytes(), where=places["contract"])
        except ContractRefused:
            yield StillKept(places["contract"], "unread")
            return
        if contract.project != self.project.name:
            return
        if "labels" in here:
            try:
                rows = self._rows(contract, here["labels"])
            except DataError:
                yield StillKept(places["labels"], "unread")
            else:
                if rows:
                    yield StillKept(places["labels"], "labels", rows)
        for what in ("contract", "manifest"):
            if what in here and names_one_of(here[what], self.values):
                yield StillKept(places[what], what)

    def in_model(self, model: Any) -> Iterator[StillKept]:
        """What a model keeps: its contract."""
        if CONTRACT_TAG not in model.tags:
            return
        place = f"models:/{model.model_id}"
        with TemporaryDirectory(prefix="featurekit-") as made:
            path = downloaded(f"{model.artifact_location}/extra_files/{CONTRACT_FILE}", made)
            try:
                contract = Contract(path.read_bytes(), where=place)
            except ContractRefused:
                yield StillKept(place, "unread")
                return
            if contract.project == self.project.name and names_one_of(path, self.values):
                yield StillKept(place, "contract")

    def _rows(self, contract: Contract, path: Path) -> int:
        """How many rows of labels are of who was forgotten. DataError where it has no labels."""
        if self.gone is None:
            return 0
        types = {key.name: from_text(key.type) for key in contract.entity_keys}
        return labels_of(self.gone, path, contract.service, contract.fingerprint, types)
