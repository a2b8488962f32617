"""`featurekit contracts suggest`: profiles a source, and proposes rules as code to paste."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, verb
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen
from featurekit.define.contracts.code import as_code


@verb(
    "Every rule that is proposed holds of the rows that the source has now.",
    argument("source", metavar="SOURCE", help="the source's name"),
    argument(
        "--severity",
        choices=("warn", "fail"),
        default="warn",
        help="what happens where a rule is broken (default: warn)",
    ),
)
def suggest(arguments: Namespace, screen: Screen) -> None:
    """Propose rules for a source."""
    from featurekit.project.contracts import suggest as found

    with open_store(arguments) as store:
        rules = found(store.parts, arguments.source, severity=arguments.severity)
    shown = [{"rule": rule.name, "says": rule.says, "code": rule.written} for rule in rules]
    screen.document({"source": arguments.source, "rules": shown})
    if not rules:
        screen.line(f"Source {arguments.source} has no rows, so nothing is proposed.")
        return
    screen.text(as_code(rules))
