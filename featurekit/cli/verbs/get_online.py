"""`featurekit get-online`: turns entities into answers of the online state."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import (
    UsageError,
    argument,
    features_option,
    instant,
    of_pair,
    pair,
    verb,
)
from featurekit.cli.repo import open_store
from featurekit.cli.values import check_file, json_rows, one_row
from featurekit.core.samples import row_in_json, row_in_words
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.define.plan import Service
    from featurekit.store import FeatureStore

_HOW = "write key=value for each join key and request field, or --rows FILE.jsonl"


@verb(
    "Values are read by the types that the service declares; an empty one is None, but for "
    "str, whose None only --rows can say.",
    argument(
        "service", nargs="?", metavar="SERVICE", help="the service's name; none with --features"
    ),
    argument(
        "values",
        nargs="*",
        type=pair,
        metavar="key=value",
        help="one row's join keys and request fields",
    ),
    argument(
        "--rows", metavar="FILE.jsonl", help="many rows as JSON lines, or - for standard input"
    ),
    features_option(),
    argument("--as-of", type=instant, metavar="T", help="the instant, ISO 8601 (default: now)"),
)
def get_online(arguments: Namespace, screen: Screen) -> None:
    """Answer for some entities."""
    if arguments.features and arguments.service is not None:
        arguments.values.insert(0, of_pair(arguments.service))  # there is no SERVICE to name
        arguments.service = None
    if not arguments.features and arguments.service is None:
        raise UsageError("name a SERVICE, or features with --features view:feature,…")
    if arguments.values and arguments.rows is not None:
        raise UsageError(_HOW)
    with open_store(arguments) as store:
        service = _service(store, arguments)
        types = {**service.join_keys, **{p.name: p.type for p in service.request}}
        if types and not arguments.values and arguments.rows is None:
            example = row_in_words(types)
            raise UsageError(
                f"{_HOW}; service {arguments.service!r} takes {', '.join(types)}, as in {example}"
            )
        if arguments.rows is not None:
            holds = f"a file with a row on each line, as {row_in_json(types)}"
            check_file(arguments.rows, named="--rows", holds=holds)
            rows = json_rows(arguments.rows, types)
        else:
            rows = [one_row(arguments.values, types)]
        asked = arguments.features or arguments.service
        found = store.get_online_features(asked, rows, as_of=arguments.as_of)
    statuses_of = found.statuses()
    entities = _by_row(found.entities) or [{} for _ in statuses_of]  # a service without views
    answers = list(zip(entities, _by_row(found.columns), statuses_of, strict=True))
    screen.document(
        {
            "service": arguments.service,
            **({"asked": arguments.features} if arguments.features else {}),
            "as_of": found.as_of,
            "rows": [{"entity": e, "features": f, "statuses": s} for e, f, s in answers],
        }
    )
    for entity, features, statuses in answers:
        screen.line(", ".join(f"{k} = {v!r}" for k, v in entity.items()), style="bold")
        screen.table(
            ("feature", "value", "status"), [(n, v, statuses[n]) for n, v in features.items()]
        )
        screen.line()
    screen.line(f"As of {found.as_of.isoformat()}.")


def _service(store: FeatureStore, arguments: Namespace) -> Service:
    """What answers: the live service, a version that is named, or the service that a list of
    features stands for."""
    from featurekit.online.lookup.version import named_version
    from featurekit.project.asked import asked_online, live_service

    if arguments.features:
        return asked_online(store.parts, arguments.features).current().service
    if named_version(arguments.service)[1] is not None:
        return asked_online(store.parts, arguments.service).current().service
    return live_service(store.parts, arguments.service, store.live())


def _by_row(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
