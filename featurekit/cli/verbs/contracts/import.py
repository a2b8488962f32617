"""`featurekit contracts import`: turns a suite or a schema of another tool into rules as code."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen
from featurekit.define.contracts.code import as_code
from featurekit.define.contracts.exchange import read_json


@verb(
    "The file is a suite of Great Expectations 1.x (`json.dumps(suite.to_json_dict())`) or a "
    "schema of pandera (`schema.to_json()`). What does not carry over is listed.",
    argument("file", type=Path, metavar="FILE", help="a file of JSON"),
    argument(
        "--source",
        metavar="SOURCE",
        help="leave out what does not fit the schema of this source, and read days and instants by "
        "it",
    ),
)
def _import(arguments: Namespace, screen: Screen) -> None:
    """Turn the rules of another tool into code."""
    from featurekit.define.contracts.gx import from_gx
    from featurekit.define.contracts.pandera import from_pandera

    document, schema = read_json(arguments.file), None
    if arguments.source is not None:
        with open_store(arguments) as store:
            schema = store.parts.source(arguments.source).schema
    of_pandera = isinstance(document, dict) and "columns" in document
    taken = (from_pandera if of_pandera else from_gx)(document, schema)
    screen.document(
        {
            "from": "pandera" if of_pandera else "gx",
            "rules": [{"rule": r.name, "says": r.says, "code": r.written} for r in taken.rules],
            "left_out": taken.left_out,
        }
    )
    screen.text(as_code(taken.rules, taken.left_out))


# A verb has the name of its module, and this one is a keyword.
setattr(sys.modules[__name__], "import", _import)
