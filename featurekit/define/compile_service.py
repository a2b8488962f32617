"""Turns a FeatureService into a compiled Service: bindings, outputs and a fingerprint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from featurekit.core.calls import near
from featurekit.core.types import DATETIME, Type
from featurekit.core.written import Place, place_of, placed
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import (
    FeatureSelection,
    FeatureService,
    FeatureView,
    check_columns,
)
from featurekit.define.identity import (
    input_identity,
    service_fingerprint,
    transform_fingerprint,
)
from featurekit.define.parameters import misfit, read_transform, shadowed
from featurekit.define.plan import (
    Feature,
    Input,
    Output,
    RequestTransform,
    Role,
    Service,
    View,
    full_name,
)
from featurekit.errors import DefinitionError
from featurekit.language import ir
from featurekit.language.transform import INSTANT, Transform

_WHAT = {
    "request": "the request field",
    "key": "the join key",
    "instant": "the instant asked for",
}


def compile_service(
    service: FeatureService, view_of: Callable[[FeatureView], View] = compile_view
) -> Service:
    """The compiled service. DefinitionError or CompileError if names or types do not fit.
    `view_of` gives the compiled views, for whoever has compiled them already."""
    compiler = _ServiceCompiler(f"FeatureService {service.name!r}", service.place, view_of)
    return compiler.compile(service)


def compile_features(features: Sequence[Asked], *, name: str) -> Service:
    """The service that answers with just these features. Its request fields are the parameters of
    request-time transforms that no feature here gives.

    DefinitionError or CompileError if names or types do not fit.
    """
    compiler = _ServiceCompiler("the list of features", None, compile_view, infer=True)
    return compiler.compile_items(name, features, {})


def compile_labels(labels: Sequence[Asked]) -> Service:
    """The labels of these views or selections of views as the outputs of a service that is never
    served (T10). DefinitionError for a view of features."""
    compiler = _ServiceCompiler("labels", None, compile_view, labels=True)
    return compiler.compile_items("labels", labels, {})


@dataclass(frozen=True, slots=True)
class Chosen:
    """Features of a compiled view, by name."""

    view: View
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Requested:
    """A request-time feature of a compiled service, by its place among the service's transforms;
    not `shown` where another one only reads it."""

    service: Service
    index: int
    shown: bool = True


Asked = FeatureView | FeatureSelection | Transform | Chosen | Requested
"""What a service is made of: definitions, or parts of compiled services."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request-time transform: its function, the parameters that are constants, and where it is
    written."""

    function: ir.Function
    defaults: Sequence[str] = ()
    place: Place | None = None
    shown: bool = True


class _ServiceCompiler:
    def __init__(
        self,
        what: str,
        place: Place | None,
        view_of: Callable[[FeatureView], View],
        *,
        infer: bool = False,
        labels: bool = False,
    ) -> None:
        self.what, self.place, self.infer, self.view_of = what, place, infer, view_of
        self.labels = labels
        self.views: list[View] = []
        self.named: dict[str, list[tuple[int, int]]] = {}
        """The features by their names, short and full, as numbers of view and feature."""
        self.chosen: dict[tuple[int, int], None] = {}
        self.pending: dict[str, _Pending] = {}
        self.transforms: list[RequestTransform] = []
        self.ready: dict[str, int] = {}
        self.request: dict[str, Type] = {}
        self.join_keys: dict[str, Type] = {}

    def fail(self, message: str, place: Place | None = None) -> DefinitionError:
        return placed(DefinitionError(f"{self.what}: {message}"), place or self.place)

    def compile(self, service: FeatureService) -> Service:
        return self.compile_items(
            service.name,
            service.features,
            service.request,
            on_outage="defaults" if service.on_outage == "defaults" else None,
        )

    def compile_items(
        self,
        name: str,
        items: Sequence[Asked],
        request: Mapping[str, Type],
        *,
        on_outage: Literal["defaults"] | None = None,
    ) -> Service:
        self.request = dict(request)
        for item in items:
            self._take(item)
        if self.infer:
            self._infer()
        self._check_keys()
        for one in list(self.pending):
            self._transform(one, ())
        compiled = Service(
            name,
            tuple(self.views),
            tuple(self.transforms),
            self._outputs(),
            tuple(ir.Param(n, t) for n, t in self.request.items()),
            on_outage=on_outage,
        )
        return replace(compiled, fingerprint=service_fingerprint(compiled))

    def _take(self, item: Asked) -> None:
        match item:
            case FeatureView():
                self._choose(self.view_of(item), tuple(item.features))
            case FeatureSelection():
                self._choose(replace(self.view_of(item.view), role=_role(item)), item.names)
            case Chosen(view, names):
                self._choose(view, names)
            case Requested():
                self._take_requested(item)
            case Transform():
                if item.name in self.pending:
                    raise self.fail(f"two features are named {item.name!r}")
                self.pending[item.name] = _Pending(
                    read_transform(item), item.defaults, place_of(item.function)
                )

    def _take_requested(self, item: Requested) -> None:
        """A transform of a compiled service, with the views and transforms that it reads."""
        made = item.service.transforms[item.index]
        for given in made.inputs:
            if given.kind == "feature":
                self._choose(item.service.views[given.view], ())
            elif given.kind == "transform":
                self._take_requested(Requested(item.service, given.index, shown=False))
            elif given.kind == "request":
                declared = {p.name: p.type for p in item.service.request}[given.name]
                self.request.setdefault(given.name, declared)
        known = self.pending.get(made.function.name)
        if known is None or (item.shown and not known.shown):
            self.pending[made.function.name] = _Pending(made.function, shown=item.shown)
        elif item.shown:
            raise self.fail(f"two features are named {made.function.name!r}")

    def _infer(self) -> None:
        """Ask the caller for what the transforms read and no feature gives."""
        self.join_keys = {k.name: k.type.or_none() for v in self.views for k in v.row_keys}
        for name, pending in self.pending.items():
            for param in pending.function.params:
                if not self._known(param.name, name):
                    self.request[param.name] = param.type

    def _check_kind(self, view: View) -> None:
        """A label is never a feature, and a feature no label (T10)."""
        if (view.kind == "label") == self.labels:
            return
        if self.labels:
            raise self.fail(
                f"view {view.name!r} has features and no labels; name it in the service, or write "
                "ahead=True in its aggregates for labels"
            )
        raise self.fail(
            f"view {view.name!r} has labels ({', '.join(f.name for f in view.features)}), which "
            "look ahead and are never served; leave it out here, and ask for it by "
            f'get_historical_features(…, labels=["{view.name}"])'
        )

    def _choose(self, view: View, names: Sequence[str]) -> None:
        self._check_kind(view)
        index = next((i for i, v in enumerate(self.views) if v.title == view.title), None)
        if index is None:
            index = self._add(view)
        elif (self.views[index].name, self.views[index].role) != (view.name, view.role):
            raise self.fail(
                f"{view.title!r} names two things: {_told(self.views[index])}, and "
                f"{_told(view)}; give each role a name of its own"
            )
        elif self.views[index].fingerprint != view.fingerprint:
            raise self.fail(f"two versions of view {view.name!r}; ask for features of one")
        places = {f.name: i for i, f in enumerate(self.views[index].features)}
        self.chosen.update(dict.fromkeys((index, places[name]) for name in names))

    def _add(self, view: View) -> int:
        """The number of a view that the service did not have yet."""
        index = len(self.views)
        self.views.append(view)
        for f, feature in enumerate(view.features):
            for name in _names(view, feature):
                self.named.setdefault(name, []).append((index, f))
        return index

    def _check_keys(self) -> None:
        keys: dict[str, tuple[Type, str]] = {}
        for view in self.views:
            for key in view.row_keys:
                known = keys.setdefault(key.name, (key.type, view.title))
                if known[0] != key.type:
                    raise self.fail(
                        f"the join key {key.name!r} is {known[0]} in view {known[1]!r} and "
                        f"{key.type} in view {view.title!r}; name them apart",
                    )
                if key.name in self.request:
                    raise self.fail(
                        f"{key.name!r} is both a join key and a request field; leave it out of "
                        "request, since a row brings its join keys anyway"
                    )
        check_columns([*keys, *self.request], what=self.what)
        self.join_keys = {name: type_.or_none() for name, (type_, _) in keys.items()}

    def _transform(self, name: str, above: tuple[str, ...]) -> int:
        if name in self.ready:
            return self.ready[name]
        if name in above:
            cycle = " -> ".join((*above[above.index(name) :], name))
            raise self.fail(f"request-time features read each other in a cycle: {cycle}")
        function = self.pending[name].function
        for default in self.pending[name].defaults:
            if self._known(default, name):
                what = "a request field or a feature here"
                raise self.fail(shadowed(name, default, what), self._at(name))
        inputs = []
        for param in function.params:
            found, type_ = self._input(name, param.name, (*above, name))
            there = ""
            if found.kind == "request":
                at = f" ({self.place.of(param.name)})" if self.place is not None else ""
                there = f'request={{"{param.name}": {param.type}}} in the service{at}'
            what = _WHAT.get(found.kind, "the feature")
            fault = misfit(name, param, type_, what, there=there)
            if fault is not None:
                raise self.fail(fault, self._at(name))
            inputs.append(found)
        made = [input_identity(i, self.views, self.transforms, self.request) for i in inputs]
        self.transforms.append(
            RequestTransform(function, tuple(inputs), transform_fingerprint(function, made))
        )
        self.ready[name] = len(self.transforms) - 1
        return self.ready[name]

    def _at(self, transform: str) -> Place | None:
        """Where a request-time transform is written."""
        return self.pending[transform].place

    def _known(self, name: str, transform: str) -> bool:
        """Whether a request field or a feature of the service has this name; a default must not
        hide it."""
        return (
            name in self.request
            or (name in self.pending and name != transform)
            or name in self.join_keys
            or name == INSTANT
            or name in self.named
        )

    def _input(self, transform: str, name: str, above: tuple[str, ...]) -> tuple[Input, Type]:
        if name == INSTANT:
            return Input("instant", name), DATETIME
        found: list[tuple[Input, Type]] = []
        if name in self.request:
            found.append((Input("request", name), self.request[name]))
        if name in self.join_keys:  # None for a row of no entity (S2)
            found.append((Input("key", name), self.join_keys[name]))
        if name in self.pending and name != transform:
            index = self._transform(name, above)
            type_ = self.transforms[index].function.returns
            found.append((Input("transform", name, index=index), type_))
        for v, f in self.named.get(name, ()):
            found.append((Input("feature", name, v, f), self.views[v].features[f].type))
        if not found:
            of_views = [_names(v, f)[0] for v in self.views for f in v.features]
            known = [*self.request, *self.join_keys, *of_views]
            raise self.fail(
                f"@feature {transform} takes {name!r}, which is no request field, join key or "
                f"feature of this service; {near(name, known)}; write request={{{name!r}: …}} for "
                "what a caller sends",
                self._at(transform),
            )
        if len(found) > 1:
            raise self.fail(
                f"@feature {transform} takes {name!r}, which names {len(found)} things here; write "
                "view__feature as the parameter's name, or rename the request field",
                self._at(transform),
            )
        return found[0]

    def _outputs(self) -> tuple[Output, ...]:
        named: list[tuple[str, str, int, int, Type, str]] = []
        for v, f in self.chosen:
            view = self.views[v]
            feature = view.features[f]
            names = _names(view, feature)
            named.append((names[0], names[-1], v, f, feature.type, feature.fingerprint))
        for name, pending in self.pending.items():
            if not pending.shown:
                continue
            index = self.ready[name]
            transform = self.transforms[index]
            type_ = transform.function.returns
            named.append((name, name, -1, index, type_, transform.fingerprint))
        counts: dict[str, int] = {}
        for name, *_ in named:
            counts[name] = counts.get(name, 0) + 1
        taken = {*self.request, *self.join_keys}
        outputs = []
        for name, full, view_index, index, type_, fingerprint in named:
            shown = full if counts[name] > 1 or name in taken else name
            if shown in taken:
                raise self.fail(f"{shown!r} is both a feature and a key or request field")
            outputs.append(Output(shown, full, view_index, index, type_, fingerprint))
        check_columns([*taken, *(o.name for o in outputs)], what=self.what)
        return tuple(outputs)


def _names(view: View, feature: Feature) -> tuple[str, ...]:
    """The names of a view's feature in a service: its own where the view has no role, and at last
    its full one."""
    full = full_name(view, feature)
    return (full,) if view.role is not None else (feature.name, full)


def _role(chosen: FeatureSelection) -> Role | None:
    """The role that a view plays, with the fields of a row that hold its join keys."""
    if chosen.role is None:
        return None
    keys = tuple(chosen.join_keys.get(key, key) for key in chosen.view.join_keys)
    return Role(chosen.role, keys)


def _told(view: View) -> str:
    """A view and what it is read by, for a message."""
    keys = ", ".join(p.name for p in view.row_keys)
    role = "" if view.role is None else " in a role"
    return f"view {view.name!r}{role} by {keys}"
