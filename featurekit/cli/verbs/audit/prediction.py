"""`featurekit audit prediction`: shows all that is known of the answer to a request."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.arguments import UsageError, argument, verb
from featurekit.cli.contracts import contract_of
from featurekit.cli.repo import open_store
from featurekit.cli.served import LOG
from featurekit.cli.show import short
from featurekit.core.durations import duration_text
from featurekit.core.screen import Screen, as_text
from featurekit.core.types import instant
from featurekit.parity.compare import shown

if TYPE_CHECKING:
    from featurekit.define.feature_contract.contract import Contract
    from featurekit.monitor.prediction import AuditedFeature, AuditedRow, PredictionAudit

_STYLES = {"equal": "green", "differs": "bold red", "lag": "yellow"}


@verb(
    "From the serving log, from the events that files and the log of pushes still have, and from "
    "the audit log. The exit code is 1 where offline says something else now than what was served.",
    argument(
        "request_id",
        metavar="REQUEST_ID",
        help="the id that the answer said, or PROCESS:NUMBER for a lookup from Python",
    ),
    argument("--row", type=int, metavar="N", help="one row of the request, from 0 (default: all)"),
    LOG,
    argument("--contract", type=Path, metavar="FILE", help="the feature contract of the model"),
    argument(
        "--model", metavar="URI", help="the model in MLflow whose contract it is: models:/churn/3"
    ),
    argument("--no-events", action="store_true", help="leave out the events behind each feature"),
)
def prediction(arguments: Namespace, screen: Screen) -> bool:
    """Show all that is known of the answer to a request."""
    if arguments.contract is not None and arguments.model is not None:
        raise UsageError("--contract and --model both name a contract; write one of them")
    named = arguments.contract is not None or arguments.model is not None
    with open_store(arguments) as store:
        found = store.audit_prediction(
            arguments.request_id,
            row=arguments.row,
            log=arguments.log,
            contract=contract_of(arguments, store) if named else None,
            events=not arguments.no_events,
        )
    screen.document(found.to_dict())
    _show(screen, found)
    return found.equal is not False


def _show(screen: Screen, found: PredictionAudit) -> None:
    screen.line(f"Request {found.request_id} of project {found.project}", style="bold")
    screen.line(f"  {found.request} of the serving log; asked by {found.caller or 'this process'}")
    for row in found.rows:
        _show_row(screen, row)
    _show_contract(screen, found.contract)
    if found.steps:
        screen.line("\nWho made it live", style="bold")
        screen.table(("at", "who", "did"), [(s.at[:19], s.who, s.did) for s in found.steps])
    for note in found.notes:
        screen.line(f"note: {note}", style="yellow")
    said = {
        True: "Every served value is, bit for bit, what offline says now of the same instant.",
        False: "Offline says something else now than what was served.",
        None: "Not every value could be compared with offline.",
    }[found.equal]
    counts = ", ".join(f"{n} {verdict}" for verdict, n in found.verdicts.items())
    style = {True: "bold green", False: "bold red", None: "yellow"}[found.equal]
    screen.line(f"\n{said} ({counts})", style=style)


def _show_row(screen: Screen, row: AuditedRow) -> None:
    told = ", ".join(f"{n} = {v!r}" for n, v in {**row.keys, **row.request}.items())
    screen.line(f"\nRow {row.row}: {told}" if not row.forgotten else f"\nRow {row.row}: FORGOTTEN")
    screen.line(
        f"  served by {row.service}@{short(row.fingerprint)} at {as_text(row.served_at)}, as of "
        f"{as_text(row.as_of)}"
    )
    models = [one for one in row.answers if one.target]
    if models:
        screen.table(
            ("target", "role", "answered", "prediction", "error", "ms", "model version", "route"),
            [
                (a.target, a.role, a.answered, a.prediction, a.error, a.latency_us / 1000,
                 a.model_version, a.route)
                for a in models
            ],
        )  # fmt: skip
    screen.table(
        ("feature", "served", "bits", "status", "offline now", "verdict"),
        [_cells(feature) for feature in row.features],
    )
    for feature in row.features:
        if feature.why:
            screen.line(f"  {feature.name}: {feature.why}", style=_STYLES.get(feature.verdict, ""))
    for feature in row.features:
        _show_events(screen, feature)


def _cells(one: AuditedFeature) -> tuple[Any, ...]:
    offline = "–" if one.offline is None else f"{shown(one.offline[0])} {one.offline[1]}"
    return one.name, shown(one.served[0]), one.bits, one.served[1], offline, one.verdict


def _show_events(screen: Screen, feature: AuditedFeature) -> None:
    """The events that counted for a feature."""
    made = feature.explanation
    if made is None:
        return
    screen.line(f"\n{feature.name}: {made.definition}", style="bold")
    counting = [event for event in made.events if event.counts]
    if counting:
        names = [n for n in counting[0].row if not n.startswith("__") and n not in made.row]
        screen.table(
            ("happened", "arrived", *names),
            [
                (
                    as_text(instant(e.row["__ts"])),
                    as_text(instant(e.row["__created"])),
                    *(as_text(e.row[n]) for n in names),
                )
                for e in counting
            ],
        )
    elif made.window is not None:
        screen.line("  no event counts")
    for name, kind, offline, _ in made.inputs:
        value = "–" if offline is None else shown(offline[0])
        screen.line(f"  {name} = {value}, {kind}")
    for note in made.notes:
        screen.line(f"  note: {note}", style="yellow")


def _show_contract(screen: Screen, contract: Contract | None) -> None:
    if contract is None:
        return
    told = contract.manifest
    screen.line("\nThe training set of the model", style="bold")
    screen.line(f"  {contract.service}@{short(contract.fingerprint)}, {told['rows']:,} rows")
    screen.line(f"  content hash {contract.content_hash}")
    screen.line(f"  known at {told['known_at']}; signed by {contract.signed_by or 'nobody'}")
    if contract.code is not None:
        dirty = ", with modules that differ from it" if contract.code.dirty else ""
        screen.line(f"  definitions at commit {contract.code.commit}{dirty}")
    for label in contract.labels:
        ahead = duration_text(label.window_us)
        screen.line(f"  label {label.name}: {label.label}, {ahead} ahead")
