"""`featurekit deploy check`: says whether the online store can serve a model now."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path

from featurekit.cli.arguments import UsageError, argument, budget, duration, verb
from featurekit.cli.contracts import contract_of, differing_lines
from featurekit.cli.repo import open_store
from featurekit.core.durations import duration_us
from featurekit.core.files import check_writable
from featurekit.core.screen import Screen
from featurekit.parity.budget import Budget

_SAID = {True: "holds", False: "FAILS", None: "-"}


@verb(
    "The model's feature contract has to be unchanged, and signed where the repo holds a public "
    "key; its version has to be live or pinned, filled, and of the columns that the contract says; "
    "and a sample has the same bits offline and online. The exit code is 3 where a check fails.",
    argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help="a model in MLflow that carries its contract: models:/churn/3, models:/churn@champion "
        "or runs:/RUN/NAME, at MLFLOW_TRACKING_URI",
    ),
    argument(
        "--contract",
        type=Path,
        metavar="CONTRACT.json",
        help="the contract, as `featurekit get-historical … --contract` wrote it",
    ),
    argument(
        "--max-age",
        type=duration,
        metavar="DURATION",
        help="fail, too, where a view was last filled longer ago than that",
    ),
    argument(
        "--budget",
        type=budget,
        default=Budget(values=10_000),
        metavar="N|TIME",
        help="values to compare, or for how long, as in 30s (default: 10000)",
    ),
    argument("--junit", type=Path, metavar="REPORT.xml", help="write a test case for each check"),
)
def check(arguments: Namespace, screen: Screen) -> int | None:
    """Check whether a model can be served."""
    from featurekit.cli import BROKEN
    from featurekit.monitor.deploy import deployable, documents
    from featurekit.monitor.deploy_junit import write_junit

    if (arguments.contract is None) == (arguments.model is None):
        raise UsageError("name one of a MODEL, as in models:/churn/3, and --contract CONTRACT.json")
    if arguments.junit is not None:
        check_writable(arguments.junit, "--junit")
    age = None if arguments.max_age is None else duration_us(arguments.max_age, what="--max-age")
    with open_store(arguments) as store, screen.progress() as move:
        found = deployable(
            store.parts,
            partial(contract_of, arguments, store),
            keys=store.parts.trust.keys,
            max_age_us=age,
            budget=arguments.budget,
            progress=partial(move, "values"),
        )
    if arguments.junit is not None:
        write_junit(arguments.junit, found)
    screen.document({"ok": found.ok, "checks": list(documents(found))})
    screen.table(
        ("check", "verdict", "found"), [(c.name, _SAID[c.held], c.found) for c in found.checks]
    )
    for one in found.checks:
        differing_lines(screen, one.differences)
    said = "The model can be served." if found.ok else "The model cannot be served now."
    screen.line(f"\n{said}")
    return None if found.ok else BROKEN
