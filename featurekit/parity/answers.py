"""Rows that are asked about, and what each path answers to them, in columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from featurekit.core.types import instant
from featurekit.define.plan import Service
from featurekit.parity.columns import differing, differing_statuses
from featurekit.parity.report import Difference, Report
from featurekit.project.project import Project


@dataclass(slots=True)
class Asked:
    """Rows: join keys and request fields by column, and each row's instant in microseconds."""

    columns: Mapping[str, Sequence[Any]]
    at: Sequence[int]

    def some(self, rows: Sequence[int]) -> Asked:
        """The rows of these numbers."""
        return Asked(
            {name: [column[i] for i in rows] for name, column in self.columns.items()},
            [self.at[i] for i in rows],
        )

    def row(self, i: int) -> dict[str, Any]:
        """One row."""
        return {name: column[i] for name, column in self.columns.items()}

    def frame(self, service: Service) -> Any:
        """The rows as an entity frame."""
        import pyarrow as pa

        types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        made = {n: pa.array(self.columns[n], type=type_.arrow) for n, type_ in types.items()}
        made["event_timestamp"] = pa.array(self.at, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
        return pa.table(made)


@dataclass(slots=True)
class Answers:
    """For each output of a service, a column of values and one of statuses: Arrow arrays where
    offline answered, sequences of Python values where online did."""

    values: Sequence[Any]
    statuses: Sequence[Any]


def offline_answers(project: Project, service: Service, asked: Asked) -> Answers:
    """What offline says of the rows, each as of its own instant."""
    return answers_of(service, project.training_set(service, asked.frame(service)).to_arrow())


def answers_of(service: Service, table: Any) -> Answers:
    """The outputs of a training set with statuses and full names."""
    names = [o.full_name for o in service.outputs]
    return Answers(
        [table[n].combine_chunks() for n in names],
        [table[f"{n}__status"].combine_chunks() for n in names],
    )


def lenient(service: Service) -> Service:
    """The service with `on_error="fail"` of no view, so that errors are compared, not raised."""
    return replace(service, views=tuple(replace(v, on_error="null") for v in service.views))


def parting(service: Service, offline: Answers, online: Answers) -> list[list[int]]:
    """For each output, the numbers of the rows whose type, bits or status differ."""
    found = []
    for o, output in enumerate(service.outputs):
        of_values = differing(output.type, offline.values[o], online.values[o])
        of_statuses = differing_statuses(offline.statuses[o], online.statuses[o])
        found.append(sorted({*of_values, *of_statuses}))
    return found


def count(report: Report, service: Service, offline: Answers) -> None:
    """Add as many compared values as offline answered."""
    for o, output in enumerate(service.outputs):
        statuses = offline.statuses[o]
        counts = {str(c["values"]): int(c["counts"]) for c in statuses.value_counts().to_pylist()}
        report.count(output.full_name, compared=len(statuses), statuses=Counter(counts))
        report.features[output.full_name].nulls += offline.values[o].null_count


def tell_apart(
    report: Report,
    service: Service,
    asked: Asked,
    offline: Answers,
    online: Answers,
    parted: Sequence[Sequence[int]],
    explained: dict[tuple[int, int], int | None],
) -> None:
    """Add differences to a report: those that are `explained`, by output and row, are lag, with the
    arrival of the oldest event that was not online; all others are skew."""
    for o, rows in enumerate(parted):
        name = service.outputs[o].full_name
        found = report.features[name]
        for i in rows:
            if (o, i) in explained:
                found.lagging += 1
                oldest = explained[o, i]
                if oldest is not None:
                    found.lag_us = max(found.lag_us or 0, asked.at[i] - oldest)
                continue
            found.differing += 1
            report.keep(
                Difference(
                    name,
                    asked.row(i),
                    instant(asked.at[i]).isoformat(),
                    (_value(offline.values[o], i), offline.statuses[o][i].as_py()),
                    (online.values[o][i], online.statuses[o][i]),
                )
            )


def _value(column: Any, i: int) -> Any:
    return column.slice(i, 1).to_pylist(maps_as_pydicts="strict")[0]
