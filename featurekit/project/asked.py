"""Turns what a caller names, a service or a list of features, into what answers it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from featurekit.core.calls import near
from featurekit.core.examples import example
from featurekit.define.compile_service import compile_service
from featurekit.define.definitions import (
    FeatureSelection,
    FeatureService,
    FeatureView,
)
from featurekit.define.deprecated import warn
from featurekit.define.labels import Labelled, labelled
from featurekit.define.listed import listed_service
from featurekit.define.plan import Service
from featurekit.errors import DefinitionError, EntityFrameError, FeaturekitError, NotServed
from featurekit.language.transform import Transform
from featurekit.online.lookup.listed import ListedFeatures
from featurekit.online.lookup.service import OnlineService
from featurekit.project.deployment import turned_key, until_key
from featurekit.project.deprecations import concerning
from featurekit.project.examples import example_of
from featurekit.project.listed import resolved
from featurekit.project.project import Project

Features = (
    str
    | FeatureService
    | Sequence[str | FeatureView | FeatureSelection | Transform]
    | FeatureView
    | FeatureSelection
    | Transform
)
"""A service, by its name or its definition, or a list of features; one alone counts as a list."""
_TO_SERVE = "; run `featurekit apply` and `featurekit materialize`"
Labels = str | FeatureView | FeatureSelection | Sequence[str | FeatureView | FeatureSelection]
"""A list of labels; one alone counts as a list."""
Asked = str | FeatureService | Sequence[Any]
"""The same, with a list for one feature."""


def one_of(service: Features | None, features: Features | None) -> Asked:
    """What is asked for, given as `service` or as `features`. DefinitionError for both or none."""
    given = features if service is None else service
    if given is None or (service is not None and features is not None):
        what = "found neither" if given is None else "found both service= and features="
        raise DefinitionError(
            f'name one service, as in service="checkout", or a list of features, as in '
            f'features=["customer_orders:spend_7d"]; {what}'
        )
    if isinstance(given, (FeatureView, FeatureSelection, Transform)):
        return [given]
    return given


def no_rows(project: Project, asked: Asked, rows: str | None) -> EntityFrameError:
    """The error for a lookup without rows, or with a text in their place, with a row as the service
    takes it."""
    if rows is not None and not isinstance(asked, str):
        return EntityFrameError(
            f"get_online_features: rows is {rows!r}, and service is a list; they stand in each "
            "other's place: exchange them"
        )
    given = {"service": asked} if isinstance(asked, str) else {}
    return EntityFrameError(
        "get_online_features"
        + (" lacks rows, the entities to answer for" if rows is None else f": rows is {rows!r}")
        + "; write rows="
        f"{example_of(project, 'rows', given) or example('get_online_features', 'rows')}"
    )


def asked_service(project: Project, asked: Asked) -> Service:
    """The compiled service that is asked for, as the repo defines it."""
    if isinstance(asked, str):
        return project.service(asked)
    if isinstance(asked, FeatureService):
        return compile_service(asked)
    repo = project.repo
    return listed_service(asked, repo.compiled_views, repo.compiled_services)


def asked_offline(project: Project, asked: Asked) -> Service:
    """As `asked_service`. DeprecatedFeature warns of what of it is to be given up."""
    found = asked_service(project, asked)
    warn(concerning(found, project.repo.deprecations()))
    return found


def asked_labels(project: Project, service: Service, labels: Any) -> Labelled:
    """The service with the labels that are asked for (T10)."""
    single = isinstance(labels, (str, FeatureView, FeatureSelection))
    return labelled(service, [labels] if single else list(labels), project.repo.compiled_views)


def asked_online(project: Project, asked: Asked) -> OnlineService:
    """What answers online: a service that is live, or the states of the views of a list.

    A FeatureService that is live is answered by its name. The views of a list that is written as
    texts are those of the services that are fed, and the repo's code is not read.
    """
    if isinstance(asked, str):
        return project.online_service(asked)
    key: Any = id(asked)
    if not isinstance(asked, FeatureService):
        key = tuple(f if isinstance(f, str) else id(f) for f in asked)
    found = project.listed.get(key)
    if found is None:
        made = (
            _of_service(project, asked)
            if isinstance(asked, FeatureService)
            else _of_list(project, asked)
        )
        found = project.listed[key] = (made, asked)  # what is kept gives its id to nothing else
    return found[0]


def _of_service(project: Project, service: FeatureService) -> OnlineService:
    if service.name in project.live():
        return project.online_service(service.name)
    made = compile_service(service)
    return ListedFeatures(project.online, project.name, lambda *_: made, _followed(project))


def _of_list(project: Project, features: Sequence[Any]) -> OnlineService:
    def resolve(filled: Collection[str], _: bytes | None) -> Service:
        return _resolved(project, features, filled)

    return ListedFeatures(project.online, project.name, resolve, _followed(project))


def _followed(project: Project) -> tuple[bytes, bytes]:
    return until_key(project.name), turned_key(project.name)


def _resolved(project: Project, features: Sequence[Any], filled: Collection[str]) -> Service:
    """The service that a list stands for, over the versions of views that are filled; the live
    version where several are."""
    try:
        return resolved(features, project.live(), project.fed(), filled)
    except DefinitionError:
        _refuse_labels(project, features)
        raise


def _refuse_labels(project: Project, features: Sequence[Any]) -> None:
    """NotServed where one of the texts names a view of labels of the repo (T10)."""
    try:
        views = project.repo.compiled_views
    except FeaturekitError:
        return
    for one in features:
        name = one.partition(":")[0] if isinstance(one, str) else ""
        if name in views and views[name].kind == "label":
            raise NotServed(
                f"{one!r}: view {name!r} has labels, which look ahead and are never served; ask "
                f'for them by get_historical_features(…, labels=["{one}"])'
            ) from None


def live_service(project: Project, name: str, live: Mapping[str, Service]) -> Service:
    """A service that is live. NotServed for another name."""
    found = live.get(name)
    if found is None:
        known = near(name, live, listed="live are:")
        hides = project.hides_service(name)
        run = "" if "did you mean" in known else _TO_SERVE
        raise NotServed(
            f"project {project.name!r} serves no service {name!r}; {known}{hides or run}"
        )
    return found
