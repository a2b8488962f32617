"""`featurekit parity operators`: proves the operators and aggregates in the installed DuckDB."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from featurekit.cli.arguments import argument, positive, verb
from featurekit.cli.repo import repo_folder, state_dir
from featurekit.cli.verbs.parity.checking import budget_options, html_option, junit_option
from featurekit.core.screen import Screen
from featurekit.errors import FeaturekitError
from featurekit.parity.budget import Budget


@verb(
    "Needs no repo; in one, the proof is kept in its state folder. Every row of the operator "
    "table is tried on the edges of its types and on generated values, as columns and as "
    "literals; every aggregate over windows of hostile events. Each is tried once at least, "
    "whatever the budget, which takes half a minute.",
    budget_options(1_000_000, "inputs to compare, shared out among the rows,"),
    argument(
        "--inputs", type=positive, metavar="N", help="about so many inputs for each row instead"
    ),
    html_option(),
    junit_option("a test case for each row of the table and each aggregate"),
    argument("--only", default="", metavar="TEXT", help="the rows whose name contains this"),
)
def operators(arguments: Namespace, screen: Screen) -> bool:
    """Compare every row of the operator table three ways, and every aggregate; the proof is kept in
    the state folder, where there is one."""
    from featurekit.define.proven import duckdb_version
    from featurekit.language import ops
    from featurekit.parity.modes.prove import keep_proof, prove
    from featurekit.parity.reports.show import show_operators

    folder = repo_folder(arguments)
    state = None if folder is None else state_dir(folder)
    budget: Budget = arguments.budget
    if arguments.inputs is not None:
        rows = sum(arguments.only in key for key in ops.TABLE)
        budget = Budget(values=arguments.inputs * max(rows, 1))
    with screen.progress() as move:
        report = prove(
            budget=budget,
            seed=arguments.seed,
            only=arguments.only,
            progress=partial(move, "operators"),
        )
    if not report.all:
        raise FeaturekitError(f"no operator's name contains {arguments.only!r}")
    kept = None if state is None else keep_proof(report, state, only=arguments.only)
    if arguments.html is not None:
        from featurekit.parity.reports.page import write_operators_page

        write_operators_page(arguments.html, report.to_dict())
    if arguments.junit is not None:
        from featurekit.parity.reports.junit import write_operators_junit

        write_operators_junit(arguments.junit, report)
    screen.document(report.to_dict())
    show_operators(screen, report)
    if kept is not None:
        screen.line(f"DuckDB {duckdb_version()}: the proof is kept in {kept}")
    return report.ok
