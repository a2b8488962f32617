"""`featurekit lineage`: shows what features are made of, from the columns of sources on."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import UsageError, argument, verb
from featurekit.cli.contracts import is_model, know_mlflow
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.core.files import check_writable, write_named
from featurekit.core.screen import Screen, as_text

if TYPE_CHECKING:
    from featurekit.project.lineage.asked import Asked
    from featurekit.project.lineage.models import ModelLineage

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
        "or a model in MLflow, as in models:/churn/3: what it was trained on; by default all that "
        "the repo defines",
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
    if arguments.name is not None and is_model(arguments.name):
        _of_model(arguments, screen)
        return
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
    for kind in ("service", "training set", "model"):
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


# --- models ---------------------------------------------------------------------------------------


def _of_model(arguments: Namespace, screen: Screen) -> None:
    """Show what a model was trained on. UsageError for an option that is about definitions."""
    given = [
        name for name in ("manifests", "svg", "html", "openlineage") if getattr(arguments, name)
    ]
    if given:
        raise UsageError(
            f"--{given[0]} is of what the repo defines, and {arguments.name} is a model; leave it "
            "out"
        )
    know_mlflow()
    from featurekit.plugins.mlflow import model_lineage

    with open_store(arguments) as store:
        found = model_lineage(arguments.name, store=store)
    screen.document(found.to_dict())
    _show_model(found, screen)


def _show_model(found: ModelLineage, screen: Screen) -> None:
    """Data, features, code and version, for people."""
    model, made, told = found.model, found.contract, found.contract.manifest
    named = f" ({', '.join(model['aliases'])})" if model["aliases"] else ""
    code = "not known: the definitions were in no repository of git"
    if made.code is not None:
        code = f"commit {made.code.commit}" + (", and modules differed" if made.code.dirty else "")
    screen.line(f"{model['uri']}{named}", style="bold")
    screen.table(
        ("what", "is"),
        [
            ("logged", f"{model['logged_at']} by {model['logged_by']}, run {found.kept['run']}"),
            ("model file", f"SHA-256 {model['sha256']}"),
            ("version", f"{made.version}, {found.standing}"),
            ("code", f"{code}; featurekit {told['featurekit']}"),
            ("contract", f"SHA-256 {made.sha256}; signed by {made.signed_by or 'nobody'}"),
            ("training set", f"{told['rows']:,} rows, content hash {made.content_hash}"),
            ("known at", as_text(told["known_at"])),
            ("manifest", found.kept["manifest"] or "not logged (log_training_set)"),
            ("labels", found.kept["labels"] or "not logged, so remake needs a file"),
        ],
    )
    screen.line("\nData", style="bold")
    screen.table(("source", "rows", "file", "hash"), list(_files(found)))
    screen.line("\nFeatures", style="bold")
    screen.table(
        ("feature", "type", "fingerprint", "made of"),
        [
            (one.name, one.type, short(one.fingerprint), ", ".join(found.columns.get(one.name, ())))
            for one in (*made.features,)
        ],
    )
    labels = ", ".join(f"{one.name} ({one.label})" for one in made.labels)
    screen.line(f"\nLabels: {labels or 'none of featurekit'}")


def _hash_of(file: Mapping[str, Any]) -> str | None:
    """What tells a file's content: a hash, or the version of a table or an object."""
    names = ("sha256", "hash", "etag", "version", "snapshot", "commit")
    return next((f"{name} {file[name]}" for name in names if file.get(name) is not None), None)


def _files(found: ModelLineage) -> Iterator[tuple[object, ...]]:
    """A line for each file of a source."""
    for name, about in found.sources.items():
        for i, file in enumerate(about.get("files") or [{}]):
            shown = file.get("path") or file.get("name")
            yield name if not i else "", about["rows"] if not i else "", shown, _hash_of(file)
