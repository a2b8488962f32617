"""Finds what in a feature contract contradicts itself: a profile of other rows, a manifest of other
features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featurekit.define.feature_contract.document import Body, ColumnProfile
from featurekit.errors import ContractRefused


def check_consistent(body: Body, where: str) -> None:
    """ContractRefused, which names `where` the contract is from, where its parts are not of one
    training set."""
    try:
        wrong = next(_contradictions(body), None)
    except (AttributeError, KeyError, TypeError) as error:
        wrong = f"its manifest is none ({type(error).__name__}: {error})"
    if wrong is not None:
        raise ContractRefused(
            f"{where}: the feature contract contradicts itself: {wrong}; make it again of its "
            "training set (training_set.contract())"
        )


def _contradictions(body: Body) -> Iterator[str]:
    told, profile = body.manifest, body.profile
    for what, said in (("service", body.service), ("fingerprint", body.fingerprint)):
        if told[what] != said:
            yield f"its {what} is {said}, and its manifest is of {told[what]}"
    if told["content_hash"] != profile.content_hash or told["rows"] != profile.rows:
        yield (
            f"its profile is stale, of {profile.rows:,} rows with the content hash "
            f"{profile.content_hash[:12]}, and its manifest is of {told['rows']:,} rows with "
            f"{told['content_hash'][:12]}"
        )
    yield from _other_columns(body)
    for name, column in profile.columns.items():
        erred = told["errors"]["features"].get(name, {"rows": 0})["rows"]
        yield from (f"the profile of {name} is stale: {why}" for why in _of(column, body, erred))


def _other_columns(body: Body) -> Iterator[str]:
    """Where features, labels, manifest and profile are not of the same columns."""
    features = {f.name: {"type": f.type, "fingerprint": f.fingerprint} for f in body.features}
    if len(features) != len(body.features):
        yield "two features have one name"
    if features != body.manifest["features"] or [*features] != [f.name for f in body.features]:
        others = sorted(
            name
            for name in {*features, *body.manifest["features"]}
            if features.get(name) != body.manifest["features"].get(name)
        )
        yield f"its manifest says otherwise of {', '.join(others)}"
    labels = {x.name: x.fingerprint for x in body.labels}
    told = body.manifest.get("label_columns", {})
    if labels != {name: about["fingerprint"] for name, about in told.items()}:
        yield "its labels are not those of its manifest"
    if {*body.profile.columns} != {*features, *labels}:
        apart = sorted({*body.profile.columns} ^ {*features, *labels})
        yield f"its profile is stale: {', '.join(apart)} is in one of the two alone"


def _of(column: ColumnProfile, body: Body, erred: int) -> Iterator[str]:
    rows = body.profile.rows
    counts: list[tuple[str, Any]] = [
        ("values and nulls", column.present + column.null),
        ("statuses", sum(column.statuses.values())),
    ]
    for what, found in counts:
        if found != rows:
            yield f"it has {found:,} {what} of {rows:,} rows"
    if column.statuses.get("ERROR", 0) != erred:
        yield f"it has {column.statuses.get('ERROR', 0):,} errors, and its manifest {erred:,}"
    if column.numbers is not None:
        counted = sum(n for _, n in column.numbers.buckets)
        if counted != column.present:
            yield f"its buckets hold {counted:,} of {column.present:,} values"
    if column.top is not None and sum(n for _, n in column.top) > column.present:
        yield "its most frequent values are more than its values"
