"""`featurekit contracts export`: turns the rules of a source into those of another tool."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.core.files import check_writable, write_named
from featurekit.core.screen import Screen
from featurekit.define.contracts.rules import Rule


@verb(
    "What does not carry over is listed on standard error.",
    argument("source", metavar="SOURCE", help="the source's name"),
    argument(
        "--to",
        choices=("gx", "pandera"),
        required=True,
        help="a suite of Great Expectations 1.x, or a schema for pandera's DataFrameSchema."
        "from_json",
    ),
    argument("-o", "--output", type=Path, metavar="FILE", help="write it here, not to the screen"),
)
def export(arguments: Namespace, screen: Screen) -> None:
    """Turn the rules of a source into another tool's."""
    from featurekit.define.contracts.gx import to_gx
    from featurekit.define.contracts.pandera import to_pandera

    if arguments.output is not None:
        check_writable(arguments.output, "--output")
    with open_store(arguments) as store:
        source = store.parts.source(arguments.source)
    rules = [rule for rule in source.expect if isinstance(rule, Rule)]
    if arguments.to == "gx":
        made, left_out = to_gx(source.name, rules)
    else:
        made, left_out = to_pandera(source.schema, rules)
    text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    if arguments.output is not None:
        write_named(arguments.output, text.encode(), "--output")
    screen.document({"to": arguments.to, "made": made, "left_out": left_out})
    if arguments.output is None:
        screen.text(text)
    if not screen.as_json:
        for one in left_out:
            print(f"left out: {one}", file=sys.stderr)
