"""`featurekit parity`: asks both paths the same, in one of the modes; each is a module here."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import load, modes, verb
from featurekit.cli.verbs.parity.checking import check_files
from featurekit.core.screen import Screen

MODES = {
    "history": "replay the files and the log of pushes into a scratch Redis",
    "fuzz": "invent events from the schemas, and play them through both paths",
    "sample": "compare entities of the live store with offline, at one instant",
    "replay": "recompute offline what the serving log says was served",
    "feast": "check a Feast repo on any stores, Feast's own included; --feast REPO says so, too",
    "exhaust": "play every history of up to four events, in every order of arrival",
    "operators": "prove every operator and aggregate in the installed DuckDB: Python, SQL, online",
}


@verb(
    "Compares type, bits and status of every value; exits with 1 where one differs, with 2 "
    "where it could not be checked. Without a MODE it is history.",
    modes(__name__, MODES, default="history", by_option={"--feast": "feast"}),
)
def parity(arguments: Namespace, screen: Screen) -> bool | int | None:
    """Compare both paths bit for bit, in one of the modes."""
    check_files(arguments)
    return load(__name__, arguments.mode).run(arguments, screen)
