"""Answers what Feast asks of published views, by featurekit's project itself."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView

from featurekit.define.compile_service import Chosen, Requested, compile_features
from featurekit.define.listed import NAME
from featurekit.define.plan import Role, Service, View
from featurekit.errors import DefinitionError, EntityFrameError, NotServed
from featurekit.feed.materialise import materialize
from featurekit.online.lookup.listed import ListedFeatures
from featurekit.online.lookup.service import OnlineService
from featurekit.plugins.feast.kinds import Kind, kind_of
from featurekit.plugins.feast.lookup import KeysMissing, context_of, native_columns
from featurekit.plugins.feast.response import Column, FeaturekitResponse
from featurekit.plugins.feast.retrieval import TableJob, carried, instants_of
from featurekit.plugins.feast.shown import MARK, OF, feast_type
from featurekit.project.deployment import turned_key, until_key
from featurekit.project.project import Project

_INSTANT = "event_timestamp"
_projects: dict[Path, Project] = {}
_lock = threading.Lock()


def project_of(config: Any) -> Project:
    """The featurekit project of a Feast repo; one for each folder of a process."""
    if config.repo_path is None:
        raise DefinitionError(
            "what featurekit publishes is answered from its repo, and Feast's settings name no "
            "folder; open the store by FeatureStore(repo_path=…)"
        )
    path = Path(config.repo_path).resolve()
    with _lock:
        if path not in _projects:
            _projects[path] = Project(path)
        found = _projects[path]
        found.refresh()
        return found


def kind_of_view(view: Any) -> str | None:
    """ "view", "push" or "request" for what is published; None for Feast's own."""
    tags: Mapping[str, str] = getattr(view, "tags", None) or {}
    return tags.get(MARK)


def is_published(view: Any) -> bool:
    """Whether featurekit answers for a view, or takes its pushes."""
    return kind_of_view(view) is not None


def refuse_removal(views: Sequence[Any]) -> None:
    """DefinitionError where one of these views, which Feast would remove, is published."""
    names = ", ".join(view.name for view in views if is_published(view))
    if names:
        raise DefinitionError(
            f"`featurekit apply` has published {names}, which Feast would remove now; take their "
            "definitions out of the repo and run `featurekit apply`. Nothing was removed"
        )


def fill_published(config: Any, view: Any, end: dt.datetime) -> None:
    """Fill the states of a published view with all that arrived up to an instant, as `featurekit
    materialize` does."""
    materialize(project_of(config), end, views=[view.tags[OF]])


def all_published(views: Sequence[Any]) -> bool:
    """Whether all of these views are published. DefinitionError where some are, and others are
    Feast's own; and for a view that takes pushes."""
    marked = [view for view in views if kind_of_view(view) is not None]
    if not marked:
        return False
    if len(marked) < len(views):
        own = ", ".join(v.name for v in views if v not in marked)
        theirs = ", ".join(v.name for v in marked)
        raise DefinitionError(
            f"one request has views of featurekit ({theirs}) and views of Feast ({own}); ask for "
            "them in two"
        )
    for view in marked:
        if kind_of_view(view) == "push":
            raise DefinitionError(
                f"view {view.name!r} takes pushes to {view.tags[OF]!r} and has no features; ask "
                "for those of a view that reads it"
            )
    return True


# --- what a request asks for ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """A feature that is asked for: the name of its column in the answer, its full name in the
    service that answers, and its kind."""

    shown: str
    full_name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Request:
    """What a request of Feast asks for: published views and on-demand views by the names that the
    request calls them by, the references, and whether columns have full names."""

    views: Mapping[str, Any]
    refs: tuple[tuple[str, str], ...]
    full: bool

    def wanted(self) -> list[Wanted]:
        """The features in the order in which they are asked for."""
        found = []
        for title, name in self.refs:
            view = self.views[title]
            dtype = next(f.dtype for f in view.features if f.name == name)
            is_request = kind_of_view(view) == "request"
            found.append(
                Wanted(
                    f"{title}__{name}" if self.full else name,
                    name if is_request else f"{title}__{name}",
                    kind_of(dtype, what=f"feature {title}:{name}"),
                )
            )
        return found

    def whole(self, services: Mapping[str, Service]) -> Service | None:
        """The service whose features these are, all and no other; None where there is none."""
        asked = {
            name if kind_of_view(self.views[title]) == "request" else f"{title}__{name}"
            for title, name in self.refs
        }
        for service in services.values():
            if {o.full_name for o in service.outputs} == asked and self._of(service):
                return service
        return None

    def _of(self, service: Service) -> bool:
        """Whether the views are those of the service, in its roles."""
        titles = {view.title: view for view in service.views}
        for title, view in self.views.items():
            if kind_of_view(view) == "request":
                if view.tags[OF] != service.name:
                    return False
            elif title not in titles or _viewed(view, titles[title]) != titles[title]:
                return False
        return True

    def service(self, views: Mapping[str, View], services: Mapping[str, Service]) -> Service:
        """The service that answers with these features. NotServed for a view or service that is
        not there."""
        asked: list[Chosen | Requested] = []
        for title, name in self.refs:
            view = self.views[title]
            if kind_of_view(view) == "request":
                of = _known(services, view.tags[OF], "service")
                output = next((o for o in of.outputs if o.view < 0 and o.name == name), None)
                if output is None:
                    raise _older(f"service {of.name!r}", name)
                asked.append(Requested(of, output.index))
                continue
            made = _known(views, view.name, "view")
            if name not in {f.name for f in made.features}:
                raise _older(f"view {view.name!r}", name)
            asked.append(Chosen(_viewed(view, made), (name,)))
        return compile_features(asked, name=NAME)


def _older(what: str, name: str) -> NotServed:
    return NotServed(
        f"{what} is served in a version without {name!r}; run `featurekit apply` and `featurekit "
        "materialize`"
    )


def _known(found: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in found:
        raise NotServed(
            f"Feast's registry has {what} {name!r}, and featurekit has none in force; run "
            "`featurekit apply` and `featurekit materialize`"
        )
    return found[name]


def _viewed(view: Any, made: View) -> View:
    """The compiled view in the role that a projection of Feast gives it."""
    title, keys = view.projection.name_to_use(), view.projection.join_key_map or {}
    named = tuple(keys.get(key.name, key.name) for key in made.join_keys)
    plain = title == made.name and named == tuple(key.name for key in made.join_keys)
    return replace(made, role=None if plain else Role(title, named))


def _request(views: Sequence[Any], refs: Sequence[str], *, full: bool) -> Request:
    by_title = {view.projection.name_to_use(): view for view in views}
    parted = [tuple(ref.split(":", 1)) for ref in refs]
    return Request(by_title, tuple((p[0], p[1]) for p in parted), full)


# --- historical features --------------------------------------------------------------------------


def historical_job(
    config: Any,
    registry: Any,
    project: str,
    views: Sequence[Any],
    refs: Sequence[str],
    entity_df: pd.DataFrame | str | None,
    *,
    full: bool,
    options: Mapping[str, Any],
) -> TableJob:
    """A job for the published features of each row of a frame, in its order: what
    `featurekit.FeatureStore.get_historical_features` gives.

    DefinitionError for what only Feast's own views have: a query or an interval in place of the
    frame, and `filter_by_created_timestamp`.
    """
    frame = _frame(entity_df, options)
    on_demand = OnDemandFeatureView.get_requested_odfvs(list(refs), project, registry)
    request = _request([*views, *on_demand], refs, full=full)
    parts = project_of(config)
    compiled = parts.repo.compiled_services
    service = request.whole(compiled) or request.service(parts.repo.compiled_views, compiled)
    instant = infer_event_timestamp_from_entity_df(dict(frame.dtypes))
    instants = instants_of(frame[instant])

    def make() -> pa.Table:
        return _historical(parts, service, request, frame, instant)

    return TableJob(
        config,
        make,
        full_feature_names=full,
        metadata=RetrievalMetadata(
            features=list(refs),
            keys=[name for name in frame.columns if name != instant],
            min_event_timestamp=instants.min().to_pydatetime(),
            max_event_timestamp=instants.max().to_pydatetime(),
        ),
    )


def _frame(entity_df: pd.DataFrame | str | None, options: Mapping[str, Any]) -> pd.DataFrame:
    if options.get("filter_by_created_timestamp"):
        raise DefinitionError(
            "filter_by_created_timestamp is no option of what featurekit publishes: there a row "
            "counts from its arrival on, always; leave it out"
        )
    if not isinstance(entity_df, pd.DataFrame):
        raise DefinitionError(
            "historical features of what featurekit publishes need an entity frame of pandas; for "
            "every known entity at some instants use featurekit's get_historical_features(at=…)"
        )
    return entity_df


def _historical(
    project: Project, service: Service, request: Request, frame: pd.DataFrame, instant: str
) -> pa.Table:
    keys = list(service.join_keys)
    needed = [*keys, *(p.name for p in service.request)]
    if missing := [name for name in needed if name not in frame.columns]:
        raise EntityFrameError(
            f"entity frame: there is no column {', '.join(map(repr, missing))}; it has "
            f"{', '.join(map(repr, frame.columns))}"
        )
    instants = pc.cast(
        pa.array(instants_of(frame[instant])), pa.timestamp("us", tz="UTC"), safe=False
    )
    rows = frame[needed].reset_index(drop=True)
    rows = rows.assign(**{_INSTANT: instants.to_numpy(zero_copy_only=False)})
    made = project.training_set(service, rows).to_arrow()
    table = carried(frame, keys)
    table = table.set_column(table.column_names.index(instant), instant, instants)
    for one in request.wanted():
        table = table.append_column(one.shown, made.column(one.full_name).cast(one.kind.arrow))
    return table


# --- online features ------------------------------------------------------------------------------


class Lookup:
    """A request of Feast for published features, made ready to be asked again."""

    def __init__(self, project: Project, request: Request, service: str | None) -> None:
        self.request, self.wanted = request, request.wanted()
        self.project = project
        if service is not None:
            self.asked: OnlineService = project.online_service(service)
        else:
            followed = until_key(project.name), turned_key(project.name)
            self.asked = ListedFeatures(project.online, project.name, self._resolve, followed)

    def _resolve(self, filled: Collection[str], _: bytes | None) -> Service:
        live = self.project.live()
        views: dict[str, View] = {}
        for view in (v for service in live.values() for v in service.views):
            views.setdefault(view.name, view)
        for view in self.project.fed():
            if f"{view.name}:{view.fingerprint}" in filled:
                views.setdefault(view.name, view)
        return self.request.service(views, live)

    def get(self, entity_rows: Any) -> FeaturekitResponse:
        """The answer for rows of join keys and request fields; other columns are left out."""
        columns = self._columns(entity_rows)
        return self._answered(columns, self.asked.get(columns, full_feature_names=True))

    async def get_async(self, entity_rows: Any) -> FeaturekitResponse:
        """As `get`, without blocking the event loop while the store is read."""
        columns = self._columns(entity_rows)
        found = await self.asked.get_async(columns, full_feature_names=True)
        return self._answered(columns, found)

    def _columns(self, entity_rows: Any) -> dict[str, list[Any]]:
        service = self.asked.current().service
        given = native_columns(entity_rows)
        needed = [*service.join_keys, *(p.name for p in service.request)]
        if missing := [name for name in needed if name not in given]:
            raise KeysMissing(
                f"entity rows lack {', '.join(map(repr, missing))}; they have {', '.join(given)}"
            )
        return {name: given[name] for name in needed}

    def _answered(self, columns: Mapping[str, list[Any]], found: Any) -> FeaturekitResponse:
        made = []
        for name, values in found.entities.items():
            kind = kind_of(feast_type(found.types[name]), what=f"join key {name!r}")
            made.append(Column(name, kind, values, ["PRESENT"] * len(values)))
        for one in self.wanted:
            if one.full_name not in found.columns:
                raise _older("the live service", one.shown)
            made.append(
                Column(one.shown, one.kind, found.columns[one.full_name],
                       found.status[one.full_name])
            )  # fmt: skip
        return FeaturekitResponse(made)


_lookups: dict[Any, tuple[Any, Lookup]] = {}
_MOST = 1_000


def lookup_of(
    config: Any, features: Any, registry: Any, project: str, *, full: bool
) -> Lookup | None:
    """What answers a request for published features; None for a request of Feast's own views."""
    context = context_of(registry, project, features, full=full)
    refs, on_demand, grouped = context[0], context[1], context[5]
    views = [*(view for view, _ in grouped), *on_demand]
    if not all_published(views):
        return None
    key = features.name if hasattr(features, "name") else tuple(features)
    at = (str(config.repo_path), project, key, full)
    known = _lookups.get(at)
    if known is None or known[0] is not context:
        request = _request(views, list(dict.fromkeys(refs)), full=full)
        tags = getattr(features, "tags", None) or {}
        named = tags.get(OF) if tags.get(MARK) == "service" else None
        known = _lookups[at] = context, Lookup(project_of(config), request, named)
        while len(_lookups) > _MOST:
            _lookups.pop(next(iter(_lookups)))
    return known[1]


def read_published(
    config: Any, view: Any, entity_keys: Sequence[Any], features: Sequence[str] | None
) -> list[tuple[dt.datetime | None, dict[str, Any] | None]]:
    """The values of each key as of now, as protos, with the instant of the answer; (None, None) for
    a key that is not known."""
    all_published([view])
    names = list(features or [f.name for f in view.features])
    request = _request([view], [f"{view.projection.name_to_use()}:{n}" for n in names], full=True)
    asked = Lookup(project_of(config), request, None)
    columns: dict[str, list[Any]] = {}
    for key in entity_keys:
        for name, value in zip(key.join_keys, key.entity_values, strict=True):
            columns.setdefault(name, []).append(value)
    answered = asked.get(columns)
    now = dt.datetime.now(dt.UTC)
    by_name = {column.name: column for column in answered.columns}
    wanted = [(one.shown.split("__", 1)[1], by_name[one.shown]) for one in asked.wanted]
    found: list[tuple[dt.datetime | None, dict[str, Any] | None]] = []
    for i in range(len(entity_keys)):
        if all(column.statuses[i] == "NOT_FOUND" for _, column in wanted):
            found.append((None, None))
        else:
            found.append((now, {n: c.kind.written(c.values[i]) for n, c in wanted}))
    return found
