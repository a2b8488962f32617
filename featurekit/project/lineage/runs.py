"""Tells what runs read and make, as data: of applying definitions, of materialising, of training
sets."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from featurekit.define.definitions import Described, EventSource
from featurekit.define.plan import Service, Source, View
from featurekit.project.lineage.definitions import answer_id, feature_id, lineage_of
from featurekit.project.lineage.graph import Lineage, Reach
from featurekit.project.lineage.teller import Teller

State = Literal["START", "COMPLETE", "FAIL", "ABORT"]


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """A column of a source that a field is made of, its role, and the transforms between."""

    source: str
    column: str
    role: str
    through: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Something that is read or made. `fields` are its columns with their types, `columns` has for
    fields that are made what they are made of, and `rows` how many rows were written."""

    name: str
    fields: Mapping[str, str]
    columns: Mapping[str, Sequence[ReadColumn]] = field(default_factory=dict)
    owner: str = ""
    description: str = ""
    version: str = ""
    uri: str = ""
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class RunTold:
    """What is told of a run: its job, its id, how it stands since when, and what it reads and
    makes. `error` is the type of the error that ended it."""

    job: str
    run: str
    state: State
    at: dt.datetime
    inputs: Sequence[Dataset] = ()
    outputs: Sequence[Dataset] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Definitions:
    """What runs are about: the written definitions, by name."""

    sources: Mapping[str, EventSource]
    views: Mapping[str, Described]
    services: Mapping[str, Described]

    def source(self, source: Source) -> Dataset:
        """A source of views."""
        name = source.name
        fields = {p.name: str(p.type) for p in source.schema}
        made = Dataset(f"source.{name}", {source.timestamp_field: "datetime", **fields})
        written = self.sources.get(name)
        if written is None:
            return made
        uri = str(written.path) if written.origin is None else written.origin.text
        return _described(replace(made, uri=uri), written)

    def view(self, view: View, graph: Lineage, rows: int | None = None) -> Dataset:
        """A view, with what its features are made of."""
        ids = {f.name: feature_id(view.name, f.name) for f in view.features}
        fields = {f.name: str(f.type) for f in view.features}
        made = Dataset(
            f"view.{view.name}", fields, _columns(graph, ids), version=view.fingerprint, rows=rows
        )
        return _described(made, self.views.get(view.name))

    def service(self, service: Service, graph: Lineage, names: Sequence[str] = ()) -> Dataset:
        """A service, whose outputs may have other names."""
        shown = names or [output.name for output in service.outputs]
        ids = {}
        for name, output in zip(shown, service.outputs, strict=True):
            if output.view < 0:
                ids[name] = answer_id(service.name, service.transforms[output.index].function.name)
            else:
                view = service.views[output.view]
                ids[name] = feature_id(view.name, view.features[output.index].name)
        fields = {n: str(o.type) for n, o in zip(shown, service.outputs, strict=True)}
        made = Dataset(
            f"service.{service.name}", fields, _columns(graph, ids), version=service.fingerprint
        )
        return _described(made, self.services.get(service.name))

    def all_of(
        self,
        views: Sequence[View],
        services: Sequence[Service],
        rows: Mapping[str, int] | None = None,
    ) -> tuple[list[Dataset], list[Dataset]]:
        """What these views and services read, and what they are."""
        graph = lineage_of(views, services)
        counts = rows or {}
        inputs = _once(self.source(s) for view in views for s in view.source.sources)
        outputs = [self.view(view, graph, counts.get(view.name)) for view in views]
        return inputs, [*outputs, *(self.service(service, graph) for service in services)]

    def training_set(
        self, service: Service, manifest: Mapping[str, Any], target: Path | None
    ) -> tuple[list[Dataset], list[Dataset]]:
        """What a training set was made of, and the training set, which was written to a file or
        not."""
        made = self.service(service, lineage_of((), [service]), list(manifest["features"]))
        made = replace(
            made,
            name=f"training_set.{service.name}",
            version=str(manifest["content_hash"]),
            uri="" if target is None else target.absolute().as_uri(),
            rows=int(manifest["rows"]),
        )
        return _once(self.source(s) for view in service.views for s in view.source.sources), [made]


def _described(made: Dataset, written: Described | None) -> Dataset:
    if written is None:
        return made
    return replace(made, owner=written.owner, description=written.description)


def _once(found: Iterable[Dataset]) -> list[Dataset]:
    return list({one.name: one for one in found}.values())


def _columns(graph: Lineage, ids: Mapping[str, str]) -> dict[str, list[ReadColumn]]:
    """What each field is made of, given the id of its feature; without what decides ties alone."""

    def read(reach: Reach) -> ReadColumn:
        source, _, column = graph.nodes[reach.column].name.partition(".")
        through = tuple(graph.nodes[one].name for one in reach.through)
        return ReadColumn(source, column, reach.role, through)

    return {
        name: [
            read(reach)
            for reach in graph.reaching.get(id_, ())
            if reach.role not in ("tie", "unread") and reach.column.startswith("column:")
        ]
        for name, id_ in ids.items()
    }


# --- runs -----------------------------------------------------------------------------------------

Made = Callable[[], tuple[Sequence[Dataset], Sequence[Dataset]]]
"""Gives what a run has read and made; it is called when that is sent, and not before."""


@contextmanager
def telling(teller: Teller | None, job: str) -> Iterator[Callable[[Made], None]]:
    """Tell of the run that the block is: that it began, and how it ended. The block gives what it
    has read and made to the function. Without a teller nothing is told."""
    made: list[Made] = []
    if teller is None:
        yield made.append
        return
    run = str(uuid.uuid4())

    def tell(state: State, error: str = "") -> None:
        at = dt.datetime.now(dt.UTC)

        def whole() -> RunTold:
            inputs, outputs = made[-1]() if made and state == "COMPLETE" else ((), ())
            return RunTold(job, run, state, at, inputs, outputs, error)

        teller.tell(whole)

    tell("START")
    try:
        yield made.append
    except Exception as error:
        tell("FAIL", type(error).__name__)
        raise
    except BaseException as error:  # it was interrupted
        tell("ABORT", type(error).__name__)
        raise
    tell("COMPLETE")
