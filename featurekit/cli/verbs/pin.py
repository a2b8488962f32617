"""`featurekit pin`: keeps a version of a service fed for what needs it."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, instant, verb
from featurekit.cli.repo import open_store
from featurekit.cli.show import pin_document, short
from featurekit.core.screen import Screen


@verb(
    "Pushes and materialisations feed it whatever is live, and gc and rollback leave it alone. It "
    "is asked by its name and version, as in churn@3f2a.",
    argument(
        "version",
        metavar="SERVICE@FINGERPRINT",
        help="the version: its fingerprint or the beginning of it, as `versions` lists them",
    ),
    argument("--by", required=True, help="what needs it, as in models:/churn/3"),
    argument("--owner", help="who answers for the pin (default: you)"),
    argument(
        "--until",
        type=instant,
        metavar="T",
        help="when it ends, ISO 8601: the first gc or apply after that takes it away (default: it "
        "has no end)",
    ),
)
def pin(arguments: Namespace, screen: Screen) -> None:
    """Pin a version."""
    with open_store(arguments) as store:
        done = store.pin(
            arguments.version, by=arguments.by, owner=arguments.owner, until=arguments.until
        )
        document = pin_document(store, done.pin)
    screen.document({**document, "unfilled": list(done.unfilled)})
    made = done.pin
    end = "" if made.expires is None else f" until {made.expires.isoformat(timespec='seconds')}"
    screen.line(f"{made.service}@{short(made.fingerprint)} is pinned by {made.by}{end}.")
    if done.unfilled:
        screen.line(
            f"It can be asked once `featurekit materialize` has filled {', '.join(done.unfilled)}."
        )
    if document["extra_views"]:
        screen.line(f"Fed for it alone: {', '.join(document['extra_views'])}.")
