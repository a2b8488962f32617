"""Turns the counts of the operator table and of the aggregates into the page's section of them."""

from __future__ import annotations

from collections.abc import Mapping

from featurekit.parity.reports.page.template import Html, fill, joined
from featurekit.parity.reports.page.verdict import Counts, Verdict, verdict

_PATHS = ("python", "online", "offline")


def operators_section(found: Counts, rows: Mapping[str, Counts]) -> Html:
    """A row for each of `rows`, and some of the inputs on which the three do not agree."""
    table = fill("operator-table", rows=joined(_operator(n, row) for n, row in rows.items()))
    return fill(
        "operators",
        table=fill("scroll", label="Operators", inside=table),
        differences=_inputs(found),
    )


def _operator(name: str, row: Counts) -> Html:
    told = verdict(row["inputs"], row["differing"], 0)
    if told.kind == "good" and not row["truthful"]:
        told = Verdict("bad", "raises, and its row says that it does not")
    return fill(
        "operator",
        row="bad" if told.kind == "bad" else "same",
        name=name,
        kind=told.kind,
        said=told.said,
        inputs=f"{row['inputs']:,}",
        differing=f"{row['differing']:,}",
        errors=f"{row['errors']:,}",
        runs_as=row["runs_as"],
    )


def _inputs(found: Counts) -> Html:
    rows = joined(
        fill(
            "operator-input",
            operator=d["operator"],
            arguments=", ".join(d["arguments"]),
            answers=joined(fill("code-cell", value=d[path]) for path in _PATHS),
        )
        for d in found["differences"]
    )
    if not rows:
        return Html()
    heads = joined(fill("head-cell", name=n) for n in ("operator", "arguments", *_PATHS))
    table = fill("table", heads=heads, rows=rows)
    return fill("differences", shown=fill("scroll", label="Differences", inside=table))
