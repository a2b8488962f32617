"""Turns rows into what a service answers in their place while its store cannot be asked: the
defaults that its features declare, marked as such."""

from __future__ import annotations

from typing import Any

from featurekit.core.status import DEFAULT
from featurekit.core.values import ERROR
from featurekit.define.plan import Service
from featurekit.define.published import broken
from featurekit.online.lookup.answer import stated
from featurekit.online.lookup.evaluator import Evaluator
from featurekit.online.lookup.view import RowAnswer

ON_OUTAGE = "defaults"
"""What a service says that wants such answers."""

_OF_ROW = ("request", "key", "transform")
"""What a transform may read and be computed all the same: what the row has, and other transforms
that are computed."""


def instead(evaluator: Evaluator, requests: list[dict[str, Any]]) -> list[RowAnswer]:
    """The outputs of each row (A4): a feature of a view has the value of its `default=`, or None,
    and a transform that reads one, or the instant, is None; all of them with status DEFAULT. Other
    transforms are computed."""
    service = evaluator.service
    computed = _computed(service)
    return [_row(evaluator, computed, request) for request in requests]


def _computed(service: Service) -> set[int]:
    """The numbers of the transforms that need no store."""
    found: set[int] = set()
    for number, transform in enumerate(service.transforms):
        if all(
            given.kind in _OF_ROW and (given.kind != "transform" or given.index in found)
            for given in transform.inputs
        ):
            found.add(number)
    return found


def _row(evaluator: Evaluator, computed: set[int], request: dict[str, Any]) -> RowAnswer:
    service = evaluator.service
    made: dict[int, Any] = {}
    for number in sorted(computed):
        inputs = service.transforms[number].inputs
        given = [made[g.index] if g.kind == "transform" else request[g.name] for g in inputs]
        made[number] = _called(evaluator, number, given)
    answers: list[tuple[Any, str]] = []
    for output in service.outputs:
        if output.view >= 0:
            declared = service.views[output.view].features[output.index].default
            answers.append((declared, DEFAULT))
        elif output.index in computed:
            answers.append(stated(made[output.index]))
        else:
            answers.append((None, DEFAULT))
    return [value for value, _ in answers], [status for _, status in answers]


def _called(evaluator: Evaluator, number: int, given: list[Any]) -> Any:
    """What a transform gives; reading an erring one errs (R3)."""
    if any(value is ERROR for value in given):
        return ERROR
    try:
        return evaluator.functions[number](*given)
    except Exception as error:
        raise broken(f"service {evaluator.service.name!r}", error) from error
