"""`featurekit lineage`: shows what features are made of, from the columns of sources on."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.core.files import check_writable, write_named
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.project.lineage.asked import Asked

MANIFESTS = argument(
    "--manifests",
    nargs="+",
    type=Path,
    default=[],
    metavar="PATH",
    help="manifests of training sets, or folders that hold some",
)


@verb(
    "The table has a line for each column and each feature that it reaches, with the role that it "
    "plays. Where two events have one instant and nothing else orders them, every column of a row "
    "may decide: such ties are in --json alone.",
    argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="a feature (view:feature, or its name alone), a service or a column (source.column); "
        "by default all that the repo defines",
    ),
    MANIFESTS,
    argument("--svg", type=Path, metavar="FILE", help="write a picture"),
    argument("--html", type=Path, metavar="FILE", help="write a page that needs no other file"),
    argument(
        "--openlineage",
        metavar="URL|FILE",
        help="send all that the repo defines as an event of OpenLineage (featurekit[lineage])",
    ),
)
def lineage(arguments: Namespace, screen: Screen) -> None:
    """Show the lineage of a name, or of everything."""
    from featurekit.project.lineage.asked import asked

    for option in ("svg", "html"):
        if getattr(arguments, option) is not None:
            check_writable(getattr(arguments, option), f"--{option}")
    with open_store(arguments) as store:
        found = asked(store.parts, arguments.name, arguments.manifests)
        project = store.project
        if arguments.openlineage is not None:
            from featurekit.project.lineage.told import send_present

            send_present(store.parts, arguments.openlineage)
    if arguments.svg is not None or arguments.html is not None:
        _write(found, project, arguments)
    screen.document({"project": project, "asked": found.name or None, **found.lineage.to_dict()})
    _show(found, screen)


def _write(found: Asked, project: str, arguments: Namespace) -> None:
    """Write the files that were asked for."""
    from featurekit.project.lineage.page import page, picture

    if arguments.svg is not None:
        write_named(arguments.svg, picture(found).encode(), "--svg")
    if arguments.html is not None:
        write_named(arguments.html, page(found, project).encode(), "--html")


def _show(found: Asked, screen: Screen) -> None:
    """The columns with what they reach, and the training sets, for people."""
    graph, nodes = found.lineage, found.lineage.nodes
    rows = [
        (
            nodes[r.column].name,
            r.role,
            " → ".join(nodes[t].name for t in r.through) or None,
            nodes[r.feature].name,
        )
        for r in graph.reaches
        if r.role != "tie" and (found.kind is None or _of(found, r.column, r.feature))
    ]
    screen.table(("column", "role", "through", "feature"), sorted(rows, key=lambda row: row[3]))
    if not rows:
        screen.line("Nothing reads it.")
    for kind in ("service", "training set"):
        of_kind = graph.of_kind(kind)
        if of_kind:
            screen.line(f"{kind}s: {', '.join(node.name for node in of_kind)}")


def _of(found: Asked, column: str, feature: str) -> bool:
    """Whether a line is about what was asked: the column or feature itself, or a feature that a
    service or training set has."""
    if found.kind in ("column", "request"):
        return column in found.ids
    if found.kind == "feature":
        return feature in found.ids
    return feature in found.lineage.above(*found.ids)
