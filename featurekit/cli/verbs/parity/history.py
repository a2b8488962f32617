"""`featurekit parity history`: replays what happened into a scratch Redis."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import verb
from featurekit.cli.verbs.parity.checking import check_services, engine_option, service_options
from featurekit.core.screen import Screen


@verb(
    "Nothing of the live store is touched.",
    *service_options(100_000),
    engine_option(),
)
def history(arguments: Namespace, screen: Screen) -> bool:
    """Replay what the files and the log of pushes hold into a scratch Redis."""
    return check_services(arguments, screen, engine=arguments.engine)
