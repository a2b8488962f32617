"""`featurekit parity fuzz`: invents events and plays them through both paths."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, positive, verb
from featurekit.cli.verbs.parity.checking import check_services, engine_option, service_options
from featurekit.core.screen import Screen


@verb(
    "Needs no data and no Redis: hostile events are drawn from the schemas of the services' "
    "sources, written to files for offline, pushed and materialised for online, and asked "
    "about at every edge of every window.",
    *service_options(1_000_000),
    argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes (default: one for each processor); they change no question",
    ),
    engine_option(),
)
def fuzz(arguments: Namespace, screen: Screen) -> bool:
    """Invent events and play them through both paths."""
    return check_services(arguments, screen, workers=arguments.workers, engine=arguments.engine)
