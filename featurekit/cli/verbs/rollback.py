"""`featurekit rollback`: serves an older version of a service again."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.core.screen import Screen


@verb(
    "At once where its states were fed all along, as those of the retained version are; else "
    "when materialize has filled them. It holds until the next apply.",
    argument("service", metavar="SERVICE", help="the service's name"),
    argument(
        "--to",
        metavar="FINGERPRINT",
        help="a version's fingerprint or its beginning, as `versions` lists them; that of the live "
        "version withdraws the one that waits (default: the version that was live before)",
    ),
)
def rollback(arguments: Namespace, screen: Screen) -> None:
    """Serve an older version again."""
    with open_store(arguments) as store:
        done = store.rollback(arguments.service, arguments.to)
        defined = store.repo.compiled_services.get(done.service)
    screen.document(
        {
            "service": done.service,
            "fingerprint": done.fingerprint,
            "before": done.before,
            "live": done.live,
            "unfilled": list(done.unfilled),
            "withdrawn": done.withdrawn,
        }
    )
    name, now, before = done.service, short(done.fingerprint), short(done.before)
    if done.live and done.fingerprint == done.before:
        screen.line(f"{name}: {now} stays live.")
    elif done.live:
        was = f"; it was {before}, which stays fed" if before else ""
        screen.line(f"{name}: {now} is live at once{was}.")
    else:
        until = f"; until then {before} answers" if before else ""
        screen.line(
            f"{name}: {now} is next, and live once `featurekit materialize` has filled "
            f"{', '.join(done.unfilled)}{until}."
        )
    if done.withdrawn:
        screen.line(f"{short(done.withdrawn)} was waiting and is withdrawn.")
    if defined is not None and defined.fingerprint != done.fingerprint:
        screen.line(
            f"The repo still defines {short(defined.fingerprint)}: take the change back there too, "
            "or the next `featurekit apply` publishes it again."
        )
