"""Experiments on what is made of one event: its column, its transform, the nodes of that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurekit.define.plan import View
from featurekit.language.ir import Function
from featurekit.language.to_python import to_python
from featurekit.language.trace import trace
from featurekit.parity.compare import bits, parts, shown
from featurekit.parity.diagnose.causes import OF_VALUES, of_node, of_stated, of_values, raw
from featurekit.parity.diagnose.counted import slot_values
from featurekit.parity.diagnose.diagnosis import FEW, said_of
from featurekit.parity.diagnose.parting import first_parting
from featurekit.parity.diagnose.trial import Told, Trial


def parting_node(
    trial: Trial, function: Function, arguments: Sequence[Any], offline: Any, online: Any
) -> Told:
    """The first node of a function at which the paths part."""
    made = trace(function, arguments)
    found = first_parting(trial.bench.con, made)
    if found is not None:
        step, value = found
        given = ", ".join(f"{n} = {shown(v)}" for n, v in step.inputs)
        where = (
            f"{function.name}, node `{step.text}`{' with ' + given if given else ''}: offline "
            f"{shown(value)}, online {shown(step.value)}"
        )
        return of_node(step, value), where
    whole = to_python(function)(*arguments)
    where = f"{function.name} as a whole: offline {shown(offline)}, online {shown(online)}"
    trial.evidence.append("every node of it, evaluated alone, agrees")
    if bits(whole) != bits(made.value):
        trial.evidence.append(f"its nodes give {shown(made.value)}")
    wrong = online if bits(made.value) == bits(offline) else offline
    return of_values(made.value, wrong, "operator"), where


def parting_slot(trial: Trial, view: View, slot: int, numbers: Sequence[int]) -> Told | None:
    """The first of some events whose slot the paths do not make the same."""
    pairs = slot_values(trial.bench, trial.scenario, view, slot, numbers[:FEW])
    for number, (one, other) in zip(numbers, pairs, strict=False):
        if not parts(one, other):
            continue
        made = view.slots[slot]
        row = trial.scenario.deliveries[number].row
        if made.transform is None:
            name = made.column
            cause = of_stated(one, other, "column")
            seen = (bits(one[0]), bits(other[0]))
            crossed = [
                n for n, v in row.items()
                if n != name and not n.startswith("__") and bits(v) in seen
            ]  # fmt: skip
            if crossed and None not in (one[0], other[0]) and cause in OF_VALUES:
                cause = "column"
            return cause, (
                f"column {name} of event {number + 1}: offline {said_of(one)}, online "
                f"{said_of(other)}"
            )
        arguments = [row[p.name] for p in made.transform.params]
        cause, where = parting_node(trial, made.transform, arguments, raw(one), raw(other))
        return cause, f"event {number + 1}: {where}"
    return None


def keeps(view: View, slot: int, row: dict[str, Any]) -> bool:
    """Whether the condition of a window holds for a row."""
    made = view.slots[slot]
    if made.transform is None:
        return row[made.column or ""] is True
    return to_python(made.transform)(*[row[p.name] for p in made.transform.params]) is True
