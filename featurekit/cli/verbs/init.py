"""`featurekit init`: writes a small feature repo to start from."""

from __future__ import annotations

import datetime as dt
from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import argument, verb
from featurekit.core.screen import Screen


@verb(
    "It works as it stands: plan, apply, materialize, get-online. Nothing is overwritten.",
    argument(
        "folder",
        nargs="?",
        default="feature_repo",
        type=Path,
        metavar="FOLDER",
        help="a folder that is new or empty (default: feature_repo)",
    ),
)
def init(arguments: Namespace, screen: Screen) -> None:
    """Write a starter repo."""
    from featurekit.cli.starter import write_starter

    folder: Path = arguments.folder
    files = write_starter(folder, dt.datetime.now(dt.UTC))
    screen.document({"folder": folder, "files": files})
    screen.line(f"Wrote a feature repo in {folder}:")
    for file in files:
        screen.line(f"  {file}")
    repo = "" if str(folder) == "feature_repo" else f" --repo {folder}"
    screen.line("Next:")
    for command in (
        "apply",
        "materialize",
        "get-online checkout customer_id=1 basket_value=25",
        f"get-historical checkout {folder}/labels.csv",
        "parity --budget 2s",
    ):
        screen.line(f"  featurekit{repo} {command}")
