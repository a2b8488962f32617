"""Turns a folder of Python modules into the definitions in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from featurekit.aggregates.base import Aggregate
from featurekit.core.written import Collected, collecting, placed
from featurekit.define.compile_service import compile_service
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import Entity, EventSource, FeatureService, FeatureView
from featurekit.define.deprecated import Deprecation
from featurekit.define.hidden import hidden
from featurekit.define.modules import run_modules
from featurekit.define.plan import Service, View
from featurekit.define.replaced import part_key, replaced, unused
from featurekit.define.successors import deprecations, wrong_successors
from featurekit.errors import DefinitionError, DefinitionErrors
from featurekit.language.transform import Transform

D = TypeVar("D", FeatureView, FeatureService)
C = TypeVar("C", View, Service)
_DEFINED = (EventSource, FeatureView, FeatureService)


@dataclass(slots=True)
class Repo:
    """A feature repo's definitions by name, and their compiled forms. `unnamed` are views and
    services that its modules made and did not keep, so that nothing knows them."""

    sources: dict[str, EventSource] = field(default_factory=dict)
    views: dict[str, FeatureView] = field(default_factory=dict)
    services: dict[str, FeatureService] = field(default_factory=dict)
    compiled_views: dict[str, View] = field(default_factory=dict)
    compiled_services: dict[str, Service] = field(default_factory=dict)
    unnamed: list[FeatureView | FeatureService] = field(default_factory=list)

    def deprecations(self) -> list[Deprecation]:
        """Every feature, view and service that is to be given up."""
        return deprecations(self.views, self.services)

    def transforms(self) -> list[Transform]:
        """Every transform that a view or a service of the repo runs."""
        found: list[Any] = []
        for view in self.views.values():
            for value in view.features.values():
                found += [*value.inputs, value.where] if isinstance(value, Aggregate) else [value]
        for service in self.services.values():
            found += service.features
        return [one for one in found if isinstance(one, Transform)]


def load_repo(folder: Path, ignore: Sequence[str] = ()) -> Repo:
    """Run every module of the folder and its sub-folders, and compile the definitions that they
    hold by name, in lists or in dicts. `ignore` are patterns, as of a .gitignore, of files that are
    no part of the repo.

    DefinitionError if a module fails or two definitions share a name, DefinitionErrors for several
    faults; then nothing stays half loaded.
    """
    folder = folder.resolve()
    with collecting() as collected:
        found = [
            value
            for _, module in run_modules(folder, collected, ignore)
            for value in vars(module).values()
        ]
        repo = _compiled(found, collected)
    if not repo.views and not repo.services and not collected.faults:
        collected.add(
            DefinitionError(
                f"{folder} defines no FeatureView and no FeatureService{_kept_by_nothing(repo)}"
                + (
                    hidden(folder, "FeatureService", ignore=ignore)
                    or hidden(folder, "FeatureView", ignore=ignore)
                    or "; write one in a module there, as in `customer_orders = FeatureView(…)`"
                )
            )
        )
    _raise(collected)
    return repo


def repo_of(definitions: Iterable[Any]) -> Repo:
    """The definitions of a list, and the views and sources that they read, compiled.

    DefinitionError if two of them share a name, if one is read in an older form than it was given
    in, or where an object is no definition.
    """
    given = list(definitions)
    for value in given:
        if not isinstance(value, (*_DEFINED, Entity, Transform)):
            raise DefinitionError(
                f"definitions: {type(value).__name__} is no definition; give a list of "
                "FeatureService, FeatureView and EventSource objects"
            )
    with collecting() as collected:
        repo = _compiled(given, collected)
        if not collected.faults:
            for fault in replaced(given, _holders(repo)):
                collected.add(fault)
    _raise(collected)
    return repo


def refuse_unused(given: Iterable[Any], repo: Repo) -> None:
    """DefinitionError where something of the given changes nothing, since nothing reads it."""
    named = unused(given, _holders(repo))
    if named is not None:
        raise DefinitionError(
            f"no view and no service reads {named}, so that nothing would change; give the "
            "FeatureView or FeatureService that reads it, as in apply([checkout])"
        )


def same_definition(one: Any, other: Any) -> bool:
    """Whether one definition takes the place of the other: both are of one kind and name."""
    if isinstance(one, (Entity, Transform)) and isinstance(other, (Entity, Transform)):
        return part_key(one) == part_key(other)
    return type(one) is type(other) and isinstance(one, _DEFINED) and one.name == other.name


def _holders(repo: Repo) -> list[FeatureView | FeatureService]:
    return [*repo.views.values(), *repo.services.values()]


def _kept_by_nothing(repo: Repo) -> str:
    made = [f"{type(d).__name__} {d.name!r} ({d.place})" for d in repo.unnamed]
    return (
        f" that a name, a list or a dict of a module holds (made and not kept: {', '.join(made)})"
        if made
        else ""
    )


def _raise(collected: Collected) -> None:
    if len(collected.faults) == 1:
        raise collected.faults[0]
    if collected.faults:
        raise DefinitionErrors(collected.faults)


def _compiled(values: Iterable[Any], collected: Collected) -> Repo:
    """The definitions among values, compiled; faults are collected."""
    repo, cases = Repo(), dict[tuple[str, str], str]()

    def add(known: dict[str, Any], value: Any) -> None:
        _add(known, value, collected, cases)

    for value in _definitions(values):
        match value:
            case FeatureService():
                add(repo.services, value)
                for item in value.features:
                    view = getattr(item, "view", item)
                    if isinstance(view, FeatureView):
                        add(repo.views, view)
            case FeatureView():
                add(repo.views, value)
            case EventSource():
                add(repo.sources, value)
    for view in list(repo.views.values()):
        for other in _joined(view):
            add(repo.views, other)
    for view in repo.views.values():
        for source in view.event_sources:
            add(repo.sources, source)
    repo.compiled_views = _each(compile_view, repo.views, collected)
    made = {id(repo.views[name]): view for name, view in repo.compiled_views.items()}

    def view_of(view: FeatureView) -> View:
        return made.get(id(view)) or compile_view(view)

    repo.compiled_services = _each(
        lambda service: compile_service(service, view_of), repo.services, collected
    )
    if not collected.faults:  # of a repo with faults, some of what is there is not known
        for fault in wrong_successors(repo.views, repo.services):
            collected.add(fault)
    for one in collected.made:
        view = isinstance(one, FeatureView) and one.name not in repo.views
        service = isinstance(one, FeatureService) and one.name not in repo.services
        if view or service:
            repo.unnamed.append(one)
    return repo


def _joined(view: FeatureView) -> Iterator[FeatureView]:
    """The views from which rows of a view take features, and those from which theirs do."""
    for other in view.joined:
        yield from _joined(other)
        yield other


def _definitions(values: Iterable[Any]) -> Iterator[Any]:
    """Each value once, and what lists, tuples, sets and dicts hold."""
    seen: set[int] = set()

    def walk(value: Any) -> Iterator[Any]:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, dict):
            yield from (one for inner in list(value.values()) for one in walk(inner))
        elif isinstance(value, (list, tuple, set, frozenset)):
            yield from (one for inner in list(value) for one in walk(inner))
        else:
            yield value

    for value in values:
        yield from walk(value)


def _each(
    compile_one: Callable[[D], C], written: Mapping[str, D], collected: Collected
) -> dict[str, C]:
    """Each definition compiled, in the order of the names."""
    made = {}
    for name, one in sorted(written.items()):
        try:
            made[name] = compile_one(one)
        except DefinitionError as fault:
            collected.add(fault)
    return made


def _add(
    known: dict[str, Any], value: Any, collected: Collected, cases: dict[tuple[str, str], str]
) -> None:
    """Add a definition to those of its kind; `cases` has the first name of each kind that is spelt
    so, whatever its case."""
    kind = type(value).__name__
    twin = cases.setdefault((kind, value.name.lower()), value.name)
    if twin != value.name:
        fault = DefinitionError(
            f"{kind} {twin!r} and {kind} {value.name!r} differ in case alone, which file systems "
            "and DuckDB may take for one; name them apart"
        )
        collected.add(placed(fault, value.place))
    other = known.setdefault(value.name, value)
    if other is not value and other != value:
        first = f", the other at {other.place}" if other.place else ""
        # In a notebook or a script, what was made before still holds the one that was replaced.
        apart = other.place and value.place and other.place.file != value.place.file
        replaced = (
            "or remove it"
            if apart
            else "or, where one replaces the other, make what still holds the older one once more"
        )
        fault = DefinitionError(
            f"two definitions of {type(value).__name__} {value.name!r}{first}; rename one of them, "
            f"{replaced}"
        )
        collected.add(placed(fault, value.place))
