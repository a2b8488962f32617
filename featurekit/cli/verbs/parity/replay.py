"""`featurekit parity replay`: recomputes offline what the serving log says was served."""

from __future__ import annotations

from argparse import Namespace

from featurekit.cli.arguments import argument, budget, verb
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG
from featurekit.cli.verbs.parity.checking import conclude, html_option, junit_option
from featurekit.core.screen import Screen
from featurekit.errors import FeaturekitError


@verb(
    "Each row as of its own instant, by the version that answered it. Reads the log that "
    "feature_store.yaml configures under featurekit: serving_log:.",
    argument(
        "services", nargs="*", metavar="SERVICE", help="services (default: every one in the log)"
    ),
    LOG,
    argument(
        "--budget",
        type=budget,
        metavar="N|TIME",
        help="values to compare or how long to go on, from the oldest on (default: the whole log)",
    ),
    html_option(),
    junit_option("a test case for each feature, a failure where a value differs"),
)
def replay(arguments: Namespace, screen: Screen) -> bool:
    """Recompute what the serving log says was served."""
    with open_store(arguments) as store:
        from featurekit.parity.modes.replay import replay as replayed

        with screen.progress() as move:
            reports = replayed(
                store.parts,
                arguments.services,
                store.served(arguments.log),
                budget=arguments.budget,
                progress=lambda done: move("rows", done, done),
            )
        if not reports or not any(r.compared or r.unchecked for r in reports):
            of = f" of {', '.join(arguments.services)}" if arguments.services else ""
            raise FeaturekitError(f"the serving log holds no rows{of}")
        return conclude(screen, reports, arguments, why="see what was not checked")
