"""Tells which outputs of a service may have no value, from its plan alone.

A frame of pandas has one dtype for a column that may lack values and another one for a column that
may not. It must not depend on the rows that happen to be in the frame: a model that was trained on
the one would then be served the other (A3).
"""

from __future__ import annotations

from featurekit.define.plan import Feature, Service, View
from featurekit.language import walk
from featurekit.language.ir import Call, Fail, Function, Lookup, Verbatim


def may_lack(service: Service) -> list[bool]:
    """For each output, whether some row may have no value for it: its type has a None, or some
    input makes it an error (R3)."""
    erring = {
        ("feature", v, i): _may_err(view, feature)
        for v, view in enumerate(service.views)
        for i, feature in enumerate(view.features)
    }
    for i, transform in enumerate(service.transforms):
        read = [
            erring.get((given.kind, given.view, given.index), False) for given in transform.inputs
        ]
        erring["transform", -1, i] = may_raise(transform.function) or any(read)
    return [
        o.type.optional or erring["feature" if o.view >= 0 else "transform", o.view, o.index]
        for o in service.outputs
    ]


def _may_err(view: View, feature: Feature) -> bool:
    if feature.aggregate is not None:
        return feature.implementation().raises  # an event that errs is left out
    transform = None if feature.slot is None else view.slots[feature.slot].transform
    return transform is not None and may_raise(transform)


def may_raise(function: Function) -> bool:
    """Whether some arguments may make a call of the function an error; False only where none do."""
    return any(_raises(node) for node in walk.nodes(function))


def _raises(node: object) -> bool:
    match node:
        case Fail() | Verbatim():
            return True
        case Lookup():
            return node.default is None
        case Call():
            # Loaded late: a service without transforms needs no table of operators.
            from featurekit.language import ops

            return ops.TABLE[node.op].raises
    return False
