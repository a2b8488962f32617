"""What a feature is, in a line, and what its aggregate makes of the events, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from featurekit.core.values import ERROR
from featurekit.define.plan import Feature, View
from featurekit.parity.diagnose.explanation import Seen
from featurekit.parity.diagnose.rules import span


def definition(view: View, feature: Feature) -> str:
    """The feature in a line, as it was written."""
    slot = None if feature.slot is None else view.slots[feature.slot]
    of = "" if slot is None else (slot.column or (slot.transform and slot.transform.name) or "")
    of = of if feature.asked is None else feature.asked.function.name
    if feature.aggregate is None:
        ttl = "" if view.ttl_us is None else f", ttl {span(view.ttl_us)}"
        return f"{of} of the latest row of {view.source.title}{ttl}"
    framed = feature.frame is not None and feature.frame.calendar is not None
    said = [f"window {feature.span if framed or feature.lifetime else span(feature.window_us)}"]
    said += [f"offset {span(feature.offset_us)}"] if feature.offset_us else []
    said += [f"hop {span(feature.hop_us)}"] if feature.hop_us else []
    said += [] if feature.frame is None else feature.frame.said
    if feature.where is not None:
        where = view.slots[feature.where]
        said.append(f"where {where.column or (where.transform and where.transform.name)}")
    if feature.default is not None:
        said.append(f"default {feature.default!r}")
    return f"{feature.aggregate}({of}) over {view.source.title}, {', '.join(said)}"


def steps_of(feature: Feature, view: View, events: Sequence[Seen]) -> list[tuple[str, Any]]:
    """What the aggregate makes of its events, step by step."""
    if feature.aggregate is None:
        return []
    steps: list[tuple[str, Any]] = [("events in the window", len(events))]
    if feature.slot is None:
        return steps
    aggregate = feature.implementation()
    values = [e.value for e in events if e.value is not ERROR]
    nulls = 0 if aggregate.keeps_none else sum(value is None for value in values)
    values = [value for value in values if value is not None] if nulls else values
    errors = sum(e.value is ERROR for e in events)
    steps += [("inputs that are None, skipped", nulls)] if nulls else []
    steps += [("inputs that err, skipped (R3)", errors)] if errors else []
    steps.append(("inputs", len(values)))
    if aggregate.of_instants:
        return steps
    item = view.slots[feature.slot].type.base
    finite = all(not isinstance(v, float) or v - v == 0.0 for v in values)
    if item.name in ("int", "float", "bool") and values and finite and None not in values:
        total = sum((Fraction(v) for v in values), Fraction())
        if feature.aggregate in ("Sum", "Mean", "Variance", "StdDev"):
            steps.append(("their exact sum", _decimal(total)))
        if feature.aggregate in ("Variance", "StdDev"):
            squares = sum((Fraction(v) ** 2 for v in values), Fraction())
            deviation = squares - total * total / len(values)
            steps.append(("exact sum of squared deviations", _decimal(deviation)))
    elif not finite:
        special = sum(isinstance(v, float) and v - v != 0.0 for v in values)
        steps.append(("NaN or infinite inputs", special))
    if aggregate.timed or feature.by is not None:
        return steps
    try:
        value = aggregate.over(values, item)
    except ArithmeticError as error:
        return [*steps, (feature.aggregate, f"error: {error}")]
    rounded = feature.aggregate in ("Sum", "Mean", "Variance", "StdDev") and item.name == "float"
    steps.append((f"{feature.aggregate}{', rounded once' if rounded else ''}", value))
    if value is None and feature.default is not None:
        steps.append(("default", feature.default))
    return steps


def _decimal(value: Fraction) -> str:
    """An exact value in decimal, cut after 40 digits."""
    with localcontext() as context:
        context.prec = 40
        made = Decimal(value.numerator) / Decimal(value.denominator)
    exact = Fraction(made) == value
    return f"{made:f}" if exact and abs(made.adjusted()) < 40 else f"{made}{'' if exact else '…'}"
