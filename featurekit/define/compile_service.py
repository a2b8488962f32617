"""Turns a FeatureService into a compiled Service: bindings, outputs and a fingerprint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from featurekit.core.types import Type
from featurekit.define.compile_view import compile_view
from featurekit.define.definitions import FeatureSelection, FeatureService, FeatureView
from featurekit.define.identity import (
    input_identity,
    service_fingerprint,
    transform_fingerprint,
)
from featurekit.define.parameters import misfit, read_transform, shadowed
from featurekit.define.plan import Input, Output, RequestTransform, Service, View
from featurekit.errors import DefinitionError
from featurekit.language import ir
from featurekit.language.transform import Transform


def compile_service(service: FeatureService) -> Service:
    """The compiled service. DefinitionError or CompileError if names or types do not fit."""
    return _ServiceCompiler(service).compile()


class _ServiceCompiler:
    def __init__(self, service: FeatureService) -> None:
        self.service = service
        self.views: list[View] = []
        self.named: dict[str, list[tuple[int, int]]] = {}
        """The features by their names, short and full, as numbers of view and feature."""
        self.chosen: dict[tuple[int, int], None] = {}
        self.pending: dict[str, Transform] = {}
        self.transforms: list[RequestTransform] = []
        self.ready: dict[str, int] = {}
        self.request: Mapping[str, Type] = service.request

    def fail(self, message: str) -> DefinitionError:
        return DefinitionError(f"FeatureService {self.service.name!r}: {message}")

    def compile(self) -> Service:
        for item in self.service.features:
            match item:
                case FeatureView():
                    self._choose(item, tuple(item.features))
                case FeatureSelection(view, names):
                    self._choose(view, names)
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
        return replace(compiled, fingerprint=service_fingerprint(compiled))

    def _choose(self, view: FeatureView, names: Sequence[str]) -> None:
        index = next((i for i, v in enumerate(self.views) if v.name == view.name), None)
        if index is None:
            index = self._add(compile_view(view))
        places = {f.name: i for i, f in enumerate(self.views[index].features)}
        self.chosen.update(dict.fromkeys((index, places[name]) for name in names))

    def _add(self, view: View) -> int:
        """The number of a view that the service did not have yet."""
        index = len(self.views)
        self.views.append(view)
        for f, feature in enumerate(view.features):
            for name in (feature.name, f"{view.name}__{feature.name}"):
                self.named.setdefault(name, []).append((index, f))
        return index

    def _check_keys(self) -> None:
        keys: dict[str, tuple[Type, str]] = {}
        for view in self.views:
            for key in view.join_keys:
                known = keys.setdefault(key.name, (key.type, view.name))
                if known[0] != key.type:
                    raise self.fail(
                        f"the join key {key.name!r} is {known[0]} in view {known[1]!r} and "
                        f"{key.type} in view {view.name!r}; name them apart",
                    )
                if key.name in self.request:
                    raise self.fail(f"{key.name!r} is both a join key and a request field")
        if "event_timestamp" in self.request:
            raise self.fail("'event_timestamp' names the instant, no request field")

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
            what = "the request field" if found.kind == "request" else "the feature"
            fault = misfit(name, param, type_, what)
            if fault is not None:
                raise self.fail(fault)
            inputs.append(found)
        made = [input_identity(i, self.views, self.transforms, self.request) for i in inputs]
        self.transforms.append(
            RequestTransform(function, tuple(inputs), transform_fingerprint(function, made))
        )
        self.ready[name] = len(self.transforms) - 1
        return self.ready[name]

    def _known(self, name: str, transform: str) -> bool:
        """Whether a request field or a feature of the service has this name; a default must not
        hide it."""
        return (
            name in self.request
            or (name in self.pending and name != transform)
            or name in self.named
        )

    def _input(self, transform: str, name: str, above: tuple[str, ...]) -> tuple[Input, Type]:
        found: list[tuple[Input, Type]] = []
        if name in self.request:
            found.append((Input("request", name), self.request[name]))
        if name in self.pending and name != transform:
            index = self._transform(name, above)
            type_ = self.transforms[index].function.returns
            found.append((Input("transform", name, index=index), type_))
        for v, f in self.named.get(name, ()):
            found.append((Input("feature", name, v, f), self.views[v].features[f].type))
        if not found:
            known = [*self.request, *(f.name for v in self.views for f in v.features)]
            raise self.fail(
                f"@feature {transform} takes {name!r}, which is no request field and no feature of "
                f"this service; it has {', '.join(known)}",
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
            full = f"{view.name}__{feature.name}"
            named.append((feature.name, full, v, f, feature.type, feature.fingerprint))
        for name in self.pending:
            index = self.ready[name]
            transform = self.transforms[index]
            type_ = transform.function.returns
            named.append((name, name, -1, index, type_, transform.fingerprint))
        counts: dict[str, int] = {}
        for name, *_ in named:
            counts[name] = counts.get(name, 0) + 1
        taken = {*self.request, *(k.name for v in self.views for k in v.join_keys)}
        outputs = []
        for name, full, view_index, index, type_, fingerprint in named:
            shown = full if counts[name] > 1 or name in taken else name
            if shown in taken:
                raise self.fail(f"{shown!r} is both a feature and a key or request field")
            outputs.append(Output(shown, full, view_index, index, type_, fingerprint))
        return tuple(outputs)
