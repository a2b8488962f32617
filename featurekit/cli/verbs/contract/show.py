"""`featurekit contract show`: shows what a model was trained on."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from featurekit.cli.arguments import verb
from featurekit.cli.contracts import CONTRACT, read_contract
from featurekit.cli.show import short
from featurekit.core.durations import duration_text
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.define.feature_contract.contract import Contract

_QUANTILES = (0.05, 0.5, 0.95)


@verb(
    "Quantiles are up to one part in 256 off.",
    CONTRACT,
)
def show(arguments: Namespace, screen: Screen) -> None:
    """Show a feature contract."""
    found = read_contract(arguments, arguments.contract)
    screen.document(found.to_dict())
    told, code = found.manifest, found.code
    screen.line(f"{found.service}@{short(found.fingerprint)} of project {found.project}")
    screen.line(f"  trained on {told['rows']:,} rows, content hash {told['content_hash']}")
    if code is not None:
        dirty = ", with modules that differ from it" if code.dirty else ""
        screen.line(f"  definitions at commit {code.commit[:12]}{dirty}")
    signed = found.signed_by
    screen.line(f"  signed by {signed}" if signed else "  not signed")
    brought = [*found.entity_keys, *found.request]
    screen.line(f"  a row brings {', '.join(f'{c.name} ({c.type})' for c in brought)}\n")
    screen.table(
        ("feature", "type", "null", "values", "nulls", "errors", "least", "5 %", "half", "95 %",
         "greatest"),
        [_row(found, f.name, f.type, f.nulls) for f in found.features],
    )  # fmt: skip
    for label in found.labels:
        ahead = duration_text(label.window_us)
        screen.line(f"\nLabel {label.name}: {label.label}, {label.type}, {ahead} ahead")


def _row(found: Contract, name: str, type_: str, nulls: str) -> list[object]:
    """A feature and its profile."""
    profile = found.profile[name]
    numbers = profile.numbers
    ends = (None, None) if numbers is None else (numbers.least, numbers.greatest)
    middle = [None if numbers is None else found.quantile(name, q) for q in _QUANTILES]
    counts = [profile.present, profile.null, profile.statuses.get("ERROR", 0)]
    return [name, type_, nulls, *counts, ends[0], *middle, ends[1]]
