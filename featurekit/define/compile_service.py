"""Turns a FeatureService into a compiled Service: bindings, outputs and a fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from featurekit.core.types import DATETIME, Type
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import (
    FeatureSelection,
    FeatureService,
    FeatureView,
    check_columns,
)
from featurekit.define.parameters import misfit, read_transform, shadowed
from featurekit.define.plan import Feature, Input, Output, RequestTransform, Role, Service, View
from featurekit.errors import DefinitionError
from featurekit.language import ir, walk, wire
from featurekit.language.transform import INSTANT, Transform

_WHAT = {
    "request": "the request field",
    "key": "the join key",
    "instant": "the instant asked for",
}


def compile_service(service: FeatureService) -> Service:
    """The compiled service. DefinitionError or CompileError if names or types do not fit."""
    return _ServiceCompiler(service).compile()


class _ServiceCompiler:
    def __init__(self, service: FeatureService) -> None:
        self.service = service
        self.views: list[View] = []
        self.chosen: list[tuple[int, int]] = []
        self.pending: dict[str, Transform] = {}
        self.transforms: list[RequestTransform] = []
        self.ready: dict[str, int] = {}
        self.request: Mapping[str, Type] = service.request
        self.join_keys: dict[str, Type] = {}

    def fail(self, message: str) -> DefinitionError:
        return DefinitionError(f"FeatureService {self.service.name!r}: {message}")

    def compile(self) -> Service:
        for item in self.service.features:
            match item:
                case FeatureView():
                    self._choose(item, tuple(item.features))
                case FeatureSelection():
                    self._choose(item.view, item.names, item)
                case Transform():
                    if item.name in self.pending:
                        raise self.fail(f"two features are named {item.name!r}")
                    self.pending[item.name] = item
        self._check_keys()
        for name in list(self.pending):
            self._transform(name, ())
        compiled = Service(
            self.service.name,
            tuple(self.views),
            tuple(self.transforms),
            self._outputs(),
            tuple(ir.Param(n, t) for n, t in self.request.items()),
        )
        identity = [
            [v.fingerprint for v in compiled.views],
            [t.fingerprint for t in compiled.transforms],
            [(o.name, o.view, o.index) for o in compiled.outputs],
            compiled.request,
        ]
        if any(v.role is not None for v in compiled.views):
            identity.append([v.role for v in compiled.views])
        return replace(compiled, fingerprint=wire.fingerprint(identity))

    def _choose(
        self, view: FeatureView, names: Sequence[str], chosen: FeatureSelection | None = None
    ) -> None:
        role = None
        if chosen is not None and chosen.role is not None:
            keys = tuple(chosen.join_keys.get(key, key) for key in view.join_keys)
            role = Role(chosen.role, keys)
        title = view.name if role is None else role.name
        index = next((i for i, v in enumerate(self.views) if v.title == title), None)
        if index is None:
            self.views.append(replace(compile_view(view), role=role))
            index = len(self.views) - 1
        elif (self.views[index].name, self.views[index].role) != (view.name, role):
            raise self.fail(
                f"{title!r} names two things: {_told(self.views[index])}, and "
                f"{_told(replace(compile_view(view), role=role))}; give each role a name of its own"
            )
        of_view = [f.name for f in self.views[index].features]
        for name in names:
            if (index, of_view.index(name)) not in self.chosen:
                self.chosen.append((index, of_view.index(name)))

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
                    raise self.fail(f"{key.name!r} is both a join key and a request field")
        what = f"FeatureService {self.service.name!r}"
        check_columns([*keys, *self.request], what=what)
        self.join_keys = {name: type_.or_none() for name, (type_, _) in keys.items()}

    def _transform(self, name: str, above: tuple[str, ...]) -> int:
        if name in self.ready:
            return self.ready[name]
        if name in above:
            cycle = " -> ".join((*above[above.index(name) :], name))
            raise self.fail(f"request-time features read each other in a cycle: {cycle}")
        function = read_transform(self.pending[name])
        for default in self.pending[name].defaults:
            if self._known(default, name):
                what = "a request field or a feature here"
                raise self.fail(shadowed(name, default, what))
        inputs = []
        for param in function.params:
            found, type_ = self._input(name, param.name, (*above, name))
            fault = misfit(name, param, type_, _WHAT.get(found.kind, "the feature"))
            if fault is not None:
                raise self.fail(fault)
            inputs.append(found)
        identity = [walk.rename(function), [self._input_identity(i) for i in inputs]]
        self.transforms.append(
            RequestTransform(function, tuple(inputs), wire.fingerprint(identity))
        )
        self.ready[name] = len(self.transforms) - 1
        return self.ready[name]

    def _known(self, name: str, transform: str) -> bool:
        """Whether a request field or a feature of the service has this name; a default must not
        hide it."""
        return (
            name in self.request
            or (name in self.pending and name != transform)
            or name in self.join_keys
            or name == INSTANT
            or any(name in _names(v, f) for v in self.views for f in v.features)
        )

    def _input_identity(self, given: Input) -> Any:
        if given.kind == "feature":
            return self.views[given.view].features[given.index].fingerprint
        if given.kind == "transform":
            return self.transforms[given.index].fingerprint
        if given.kind == "instant":
            return ["instant"]
        if given.kind == "key":
            return ["key", given.name, self.join_keys[given.name]]
        return [given.name, self.request[given.name]]

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
        for v, view in enumerate(self.views):
            for f, feature in enumerate(view.features):
                if name in _names(view, feature):
                    found.append((Input("feature", name, v, f), feature.type))
        if not found:
            of_views = [_names(v, f)[0] for v in self.views for f in v.features]
            known = [*self.request, *self.join_keys, *of_views]
            raise self.fail(
                f"@feature {transform} takes {name!r}, which is no request field, join key or "
                f"feature of this service; it has {', '.join(known)}",
            )
        if len(found) > 1:
            raise self.fail(
                f"@feature {transform} takes {name!r}, which names {len(found)} things here; write "
                "view__feature as the parameter's name, or rename the request field",
            )
        return found[0]

    def _outputs(self) -> tuple[Output, ...]:
        named: list[tuple[str, str, int, int, Type, str]] = []
        for v, f in self.chosen:
            view = self.views[v]
            feature = view.features[f]
            names = _names(view, feature)
            named.append((names[0], names[-1], v, f, feature.type, feature.fingerprint))
        for name in self.pending:
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
        what = f"FeatureService {self.service.name!r}"
        check_columns([*taken, *(o.name for o in outputs)], what=what)
        return tuple(outputs)


def _names(view: View, feature: Feature) -> tuple[str, ...]:
    """The names of a view's feature in a service: its own where the view has no role, and at last
    its full one."""
    full = f"{view.title}__{feature.name}"
    return (full,) if view.role is not None else (feature.name, full)


def _told(view: View) -> str:
    """A view and what it is read by, for a message."""
    keys = ", ".join(p.name for p in view.row_keys)
    role = "" if view.role is None else " in a role"
    return f"view {view.name!r}{role} by {keys}"
