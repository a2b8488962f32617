"""`featurekit pipeline export`: writes the pipeline as the files of an orchestrator."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, verb
from featurekit.cli.pipeline import check_apart, described
from featurekit.core.screen import Screen
from featurekit.plugins.pipelines.export import TOOLS


@verb(
    "Each step is a command of featurekit with its exit codes, or one of yours. What the tool "
    "cannot say, or does otherwise, is told.",
    argument("--to", required=True, choices=tuple(TOOLS), help=", ".join(TOOLS), metavar="TOOL"),
    argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="FOLDER",
        help="write below this folder: that of the checkout, where a file has a fixed place in it, "
        "as a Jenkinsfile; modules of Python go outside of the feature repo",
    ),
)
def export(arguments: Namespace, screen: Screen) -> None:
    """Write the files of a tool."""
    from featurekit.plugins.pipelines.export import exporter, write

    exported = exporter(arguments.to).export(described(arguments))
    check_apart(arguments, (arguments.output / name for name in exported.files))
    files = write(exported, arguments.output)
    screen.document(
        {
            "to": arguments.to,
            "files": files,
            "notes": list(exported.notes),
            "commands": list(exported.commands),
        }
    )
    screen.line(f"Wrote {TOOLS[arguments.to]}:")
    for file in files:
        screen.line(f"  {file}")
    if exported.notes:
        screen.line("To know:")
    for note in exported.notes:
        screen.line(f"  - {note}")
    screen.line("Next:")
    for command in exported.commands:
        screen.line(f"  {command}")
