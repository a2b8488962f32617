"""`featurekit import-feast`: writes the definitions of a Feast repo as a featurekit repo."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, verb
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.plugins.feast.importing import Imported


@verb(
    "Feast itself (featurekit[feast]) reads the repo and runs its modules; nothing there is "
    "changed. The new folder has features.py, feature_store.yaml and IMPORT.md, which says of each "
    "definition whether it came over, what it means otherwise here, and what to write instead. The "
    "exit code is 1 where featurekit finds a fault in what was written.",
    argument("path", type=Path, metavar="PATH", help="the folder of the Feast repo"),
    argument(
        "folder",
        nargs="?",
        default="feature_repo",
        type=Path,
        metavar="FOLDER",
        help="a folder that is new or empty (default: feature_repo)",
    ),
)
def import_feast(arguments: Namespace, screen: Screen) -> bool:
    """Write a Feast repo as one of featurekit."""
    from featurekit.plugins.feast.importing import import_feast as write

    folder: Path = arguments.folder
    with screen.progress() as progress:
        done = write(arguments.path, folder, progress)
    screen.document(
        {
            "folder": folder,
            "files": done.files,
            "counts": done.report.counts(),
            "definitions": [one.document() for one in done.report],
            "faults": done.faults,
        }
    )
    _show(done, screen)
    screen.line(f"Wrote a feature repo in {folder}:")
    for file in done.files:
        screen.line(f"  {file}")
    if done.faults is not None:
        screen.line(f"featurekit finds faults in it:\n{done.faults}", style="yellow")
        return False
    repo = "" if str(folder) == "feature_repo" else f" --repo {folder}"
    screen.line("Next:")
    for command in ("plan", "apply", "materialize", "parity --budget 2s"):
        screen.line(f"  featurekit{repo} {command}")
    return True


def _show(done: Imported, screen: Screen) -> None:
    """What came over, and each thing that did not or that means something else."""
    from featurekit.plugins.feast.importing.told import OUTCOMES
    from featurekit.plugins.feast.importing.writing import rows

    counts = done.report.counts()
    screen.table(("kind", *OUTCOMES), [(kind, *n.values()) for kind, n in counts.items()])
    for outcome in ("not carried", "changed"):
        found = [row for one in done.report if one.outcome == outcome for row in rows(one)]
        if found:
            screen.line(f"\n{outcome}:", style="bold")
            screen.table(("kind", "name", "what is other", "what to write"), found)
    screen.line()
