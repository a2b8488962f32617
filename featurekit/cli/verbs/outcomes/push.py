"""`featurekit outcomes push`: adds outcomes of rows that were served."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.values import check_file, json_rows, parquet_rows
from featurekit.core.screen import Screen


@verb(
    "Each line is a JSON object with the outcome (true or false, a number or a text) and what it "
    "is of: request_id and row, 0 by default, or the join keys of the service and at, an instant. "
    "known_at says when it was known, by default now; of several outcomes of one row the one that "
    "was known last counts. prediction may say what was predicted, where the serving log does not. "
    "A Parquet file has the same as columns. What names no row of the log is kept for when it "
    "comes.",
    argument("service", metavar="SERVICE", help="the service that was asked"),
    argument(
        "file",
        nargs="?",
        default="-",
        metavar="FILE",
        help="a file of JSON lines or Parquet, or - for JSON lines from standard input",
    ),
)
def push(arguments: Namespace, screen: Screen) -> None:
    """Add outcomes."""
    check_file(arguments.file, named="FILE", holds="a file of outcomes (JSON lines or Parquet)")
    with open_store(arguments) as store:
        done = store.push_outcomes(arguments.service, _rows(store, arguments))
    counts = {name: getattr(done, name) for name in ("rows", "taken", "corrected", "repeated")}
    screen.document({"service": arguments.service, **counts})
    screen.table(("service", *counts), [[arguments.service, *counts.values()]])


def _rows(store: Any, arguments: Namespace) -> Any:
    if Path(arguments.file).suffix.lower() in (".parquet", ".pq"):
        return parquet_rows(Path(arguments.file))
    found = store.repo.compiled_services.get(arguments.service)
    return json_rows(arguments.file, {} if found is None else dict(found.join_keys))
