"""Says what a change of a column would touch: what the repo defines, what is served, and training
sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurekit.core.attributes import Named
from featurekit.core.calls import near
from featurekit.define.plan import Service
from featurekit.errors import DefinitionError, OnlineError, RegistryError
from featurekit.project.deployment import pointers
from featurekit.project.lineage.asked import lineage
from featurekit.project.lineage.definitions import column_id, lineage_of, service_id
from featurekit.project.lineage.graph import ROLES, Lineage, Reach
from featurekit.project.lineage.training_sets import Paths, TrainingSetMade, read_manifests
from featurekit.project.project import Project

_PLACES = list(ROLES)


@dataclass(frozen=True, slots=True)
class Touched(Named):
    """A feature that a column reaches: the roles that it plays for it, and the names of the
    transforms between, each once. `id` is that of its node in the lineage."""

    id: str
    feature: str
    roles: tuple[str, ...]
    through: tuple[str, ...]

    @property
    def only_ties(self) -> bool:
        """Whether the column decides nothing but the order of events of one instant (T6)."""
        return set(self.roles) <= {"tie", "unread"}


@dataclass(frozen=True, slots=True)
class TouchedVersion(Named):
    """A version of a service that is fed, whose features the column reaches. `state` is "live",
    "next", "retained", or "pinned" where only a pin keeps it; `needed_by` says for whom it is
    pinned, such as a model."""

    service: str
    fingerprint: str
    state: str
    features: tuple[str, ...]
    needed_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TouchedSet(Named):
    """A training set that the column is in. `features` are None where its version of the service
    is in neither the repo nor the registry, so that only the source is known to be read."""

    manifest: str
    service: str
    rows: int
    features: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Impact(Named):
    """What a change of `column` ("source.column") would touch.

    `features` and `services` are those of the repo, `versions` those that are fed, and
    `training_sets` those whose manifests were named. `asked_online` is False where nothing was
    applied or the online store was not reached, so that no version is known; `notes` say what else
    could not be told.
    """

    column: str
    features: tuple[Touched, ...]
    services: tuple[str, ...]
    versions: tuple[TouchedVersion, ...]
    training_sets: tuple[TouchedSet, ...]
    asked_online: bool
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The impact as JSON has it."""

        def fields(one: Any) -> dict[str, Any]:
            return {name: getattr(one, name) for name in type(one).__slots__}

        return {
            **fields(self),
            **{
                part: [fields(one) for one in getattr(self, part)]
                for part in ("features", "versions", "training_sets")
            },
        }


def impact(project: Project, column: str, manifests: Paths = ()) -> Impact:
    """What a change of a column ("source.column") would touch. DefinitionError where neither the
    repo nor a version that is fed has the column."""
    made = _Impact(project, column)
    whole = lineage(project)
    sets = read_manifests(manifests)
    if made.id not in whole.nodes and not any(made.id in p.nodes for _, _, p in made.fed):
        known = [node.name for node in whole.of_kind("column")]
        raise DefinitionError(
            f"no source has the column {column!r}; write it as source.column; "
            f"{near(column, known, listed='there are')}"
        )
    features = touched(whole, made.id)
    real = {f.id for f in features if not f.only_ties}
    return Impact(
        column,
        features,
        tuple(
            node.name
            for node in whole.of_kind("service")
            if real & whole.above(service_id(node.name))
        ),
        tuple(made.versions()),
        tuple(made.sets(sets)),
        made.asked_online,
        tuple(made.notes),
    )


def touched(whole: Lineage, column: str) -> tuple[Touched, ...]:
    """The features that a column reaches, given its id; first those that it gives a value."""
    found: dict[str, list[Reach]] = {}
    for reach in whole.reached.get(column, ()):
        found.setdefault(reach.feature, []).append(reach)
    made = []
    for feature, reaches in found.items():
        roles = sorted({reach.role for reach in reaches}, key=_PLACES.index)
        through = dict.fromkeys(whole.nodes[one].name for r in reaches for one in r.through)
        name = whole.nodes[feature].name
        made.append(Touched(feature, name, tuple(roles), tuple(through)))
    return tuple(sorted(made, key=lambda one: _PLACES.index(one.roles[0])))


class _Impact:
    """What is found about one column."""

    def __init__(self, project: Project, column: str) -> None:
        self.project = project
        source, _, name = column.partition(".")
        self.id = column_id(source, name)
        self.source = source
        self.asked_online, self.notes = True, list[str]()
        self._needed: dict[tuple[str, str], list[str]] = {}
        for pin in project.registry.pins():
            self._needed.setdefault((pin.service, pin.fingerprint), []).append(pin.by)
        self.fed = list(self._fed())

    def _fed(self) -> Iterator[tuple[Service, str, Lineage]]:
        """The versions that are fed, with their states and graphs."""
        names = self.project.registry.names("service")
        if not names:
            self.asked_online = False
            self.notes.append("nothing was applied, so no version is served")
        for name in names:
            try:
                pointed = pointers(self.project.online, self.project.name, name)
            except OnlineError as error:
                self.asked_online = False
                self.notes.append(f"the online store was not asked which versions it has: {error}")
                return
            states = [(state, pointed.get(state)) for state in ("live", "next", "retained")]
            states += [("pinned", print_) for service, print_ in self._needed if service == name]
            seen: set[str] = set()
            for state, print_ in states:
                if print_ is None or print_ in seen:
                    continue
                seen.add(print_)
                service = self._version(name, print_)
                if service is None:
                    self.notes.append(
                        f"{state} version {print_[:12]} of service {name!r} is not in the registry"
                    )
                else:
                    yield service, state, lineage_of((), [service])

    def _version(self, name: str, fingerprint: str) -> Service | None:
        """A version of a service, from the repo or the registry; None where neither has it."""
        defined = self.project.repo.compiled_services.get(name)
        if defined is not None and defined.fingerprint == fingerprint:
            return defined
        try:
            found = self.project.registry.definition("service", name, fingerprint)
        except RegistryError:
            return None
        assert isinstance(found, Service)
        return found

    def versions(self) -> Iterator[TouchedVersion]:
        """The versions that are fed and read the column."""
        for service, state, graph in self.fed:
            found = self._names(graph, service)
            if found:
                needed = self._needed.get((service.name, service.fingerprint), ())
                yield TouchedVersion(service.name, service.fingerprint, state, found, tuple(needed))

    def sets(self, made: Sequence[TrainingSetMade]) -> Iterator[TouchedSet]:
        """The training sets that have a feature of the column."""
        for one in made:
            told: Mapping[str, Any] = one.told
            service = self._version(told["service"], told["fingerprint"])
            if service is not None:
                names = self._names(lineage_of((), [service]), service)
                if names:
                    yield TouchedSet(str(one.path), service.name, told["rows"], names)
            elif self.source in told["sources"]:
                yield TouchedSet(str(one.path), told["service"], told["rows"], None)

    def _names(self, graph: Lineage, service: Service) -> tuple[str, ...]:
        """The features of a service's answer that the column reaches, but for those where it
        decides ties alone."""
        within = graph.above(service_id(service.name))
        return tuple(
            one.feature for one in touched(graph, self.id) if one.id in within and not one.only_ties
        )
