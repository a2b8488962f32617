"""Asks each path which events it counts for a feature, and which values of them it computes with.

Nothing of a path is rebuilt for it: the feature is asked again with the number of each event in the
place of its input, so that what comes back is what the real window or latest row held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.aggregates.ordered import N_MAX
from featurekit.core.types import INT, Type, list_of
from featurekit.define.plan import Feature, Output, Service, Slot, View, full_name
from featurekit.language.ir import Param
from featurekit.parity.bench import Bench
from featurekit.parity.compare import Stated
from featurekit.parity.scenario import Delivery, Scenario, partners

_NUMBER = "__event"


@dataclass(frozen=True, slots=True)
class Counted:
    """The numbers of the deliveries that each path counts, in the order of T6, and the status that
    it states: of a window every event in it that `where` keeps, of a latest row that one. None
    where the path does not answer."""

    offline: tuple[int, ...] | None
    online: tuple[int, ...] | None
    offline_status: str
    online_status: str


def view_feature(service: Service, name: str) -> tuple[View, Feature] | None:
    """The view and feature behind an output; None for a request-time transform."""
    output = next(o for o in service.outputs if o.full_name == name)
    if output.view < 0:
        return None
    view = service.views[output.view]
    return view, view.features[output.index]


def counted(bench: Bench, scenario: Scenario, name: str) -> Counted:
    """Which deliveries each path counts for an output of a view."""
    asked = _asked(scenario, name, by_number=True)
    ((offline, online),) = bench.both(asked).values()
    return Counted(_numbers(offline), _numbers(online), offline[1], online[1])


def inputs(bench: Bench, scenario: Scenario, name: str) -> tuple[Stated, Stated] | None:
    """The values that each path's aggregate takes, in the order of T6, without None and errors;
    None for a latest row and for an aggregate that counts rows."""
    found = view_feature(scenario.service, name)
    assert found is not None
    if found[1].slot is None or found[1].aggregate is None:
        return None
    (both,) = bench.both(_asked(scenario, name, by_number=False)).values()
    return both


def slot_values(
    bench: Bench, scenario: Scenario, view: View, slot: int, deliveries: Sequence[int]
) -> list[tuple[Stated, Stated]]:
    """What each path makes of one slot of each of some deliveries, alone in an empty store."""
    type_ = view.slots[slot].type.or_none()
    feature = Feature("value", type_, slot, fingerprint=view.fingerprint)
    alone = replace(view, kind="latest", features=(feature,), ttl_us=None, role=None)
    found: list[tuple[Stated, Stated]] = []
    of_files = partners(scenario)
    for i in deliveries:
        delivery, partner = scenario.deliveries[i], of_files[i]
        at = max(delivery.row["__ts"], delivery.row["__created"])
        row = {p.name: delivery.row[p.name] for p in view.join_keys}
        of_file = None
        if scenario.files is not None and partner is not None:
            of_file = (scenario.files[partner],)
            at = max(at, of_file[0].row["__ts"], of_file[0].row["__created"])
        one = Scenario(_service(scenario.service, alone, feature), (delivery,), row, at,
                       files=of_file)  # fmt: skip
        found += bench.both(one).values()
    return found


def _asked(scenario: Scenario, name: str, *, by_number: bool) -> Scenario:
    service = _asking(scenario.service, name, by_number=by_number)
    served = scenario.served
    if served is not None:
        known = any(o.full_name == name and o.view >= 0 for o in served.outputs)
        served = _asking(served, name, by_number=by_number) if known else None
    files = scenario.files
    keys = service.join_keys
    return replace(
        scenario,
        service=service,
        served=served,
        row={n: v for n, v in scenario.row.items() if n in keys},
        deliveries=_numbered(scenario.deliveries),
        files=None if files is None else _numbered(files),
    )


def _asking(service: Service, name: str, *, by_number: bool) -> Service:
    """The service that has for its one output what the feature counts."""
    found = view_feature(service, name)
    assert found is not None
    view, feature = found
    schema = (*view.source.schema, Param(_NUMBER, INT))
    source = replace(view.source, schema=schema, parts=None)  # its rows are made already
    slots = (*view.slots, Slot(INT, column=_NUMBER))
    slot = len(view.slots) if by_number else feature.slot
    assert slot is not None
    type_: Type = INT.or_none()
    if feature.aggregate is not None:
        keeps = not by_number and feature.implementation().keeps_none
        item = slots[slot].type.base
        type_ = list_of(item.or_none() if keeps else item)
        params = (("n", N_MAX), *((("keep_none", True),) if keeps else ()))
        feature = replace(
            feature,
            type=type_,
            slot=slot,
            aggregate="LastN",
            params=params,
            default=None,
            by=None,
            most=None,
        )
    else:
        feature = replace(feature, type=type_, slot=slot, asked=None)
    # Aggregates that take no order come without one: any settles where ties stand in a list.
    order = (*view.order, *(i for i in range(len(slots)) if i not in view.order))
    asking = replace(view, source=source, slots=slots, order=order, features=(feature,))
    return _service(service, asking, feature)


def _service(service: Service, view: View, feature: Feature) -> Service:
    name = full_name(view, feature)
    output = Output(name, name, 0, 0, feature.type, feature.fingerprint)
    return replace(
        service, views=(view,), transforms=(), outputs=(output,), request=(),
    )  # fmt: skip


def _numbered(deliveries: tuple[Delivery, ...]) -> tuple[Delivery, ...]:
    return tuple(replace(d, row=d.row | {_NUMBER: i}) for i, d in enumerate(deliveries))


def _numbers(stated: Stated) -> tuple[int, ...] | None:
    value: Any = stated[0]
    if value is None:
        known = ("NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE", "ERROR")
        return () if stated[1] in known else None
    return tuple(value) if isinstance(value, list) else (value,)
