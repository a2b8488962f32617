"""`featurekit contract diff`: says which features differ from a contract, and in what."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import UsageError, argument, verb
from featurekit.cli.contracts import (
    CONTRACT,
    differing_documents,
    read_contract,
    show_differences,
)
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.define.feature_contract.contract import Contract
    from featurekit.define.plan import Service


@verb(
    "Without OTHER, the contract is compared with the service as the repo defines it now. The exit "
    "code is 1 where something differs.",
    CONTRACT,
    argument("other", nargs="?", type=Path, metavar="OTHER", help="another contract"),
    argument("--live", action="store_true", help="compare with the version that is live"),
)
def diff(arguments: Namespace, screen: Screen) -> bool:
    """Compare a feature contract."""
    if arguments.other is not None and arguments.live:
        raise UsageError("found both OTHER and --live; leave one of them out")
    found = read_contract(arguments, arguments.contract)
    other: Contract | Service
    if arguments.other is not None:
        other, title = read_contract(arguments, arguments.other), str(arguments.other)
    else:
        other = _service(arguments, found.service)
        title = "what is live" if arguments.live else "the definitions of the repo"
    differing = found.differences(other)
    screen.document({"differences": differing_documents(differing)})
    if not differing:
        screen.line(f"{arguments.contract} and {title} agree.")
        return True
    screen.line(f"From {arguments.contract} to {title}:\n")
    show_differences(screen, differing)
    return False


def _service(arguments: Namespace, name: str) -> Service:
    from featurekit.project.asked import live_service

    with open_store(arguments) as store:
        if arguments.live:
            return live_service(store.parts, name, store.live())
        return store.parts.service(name)
