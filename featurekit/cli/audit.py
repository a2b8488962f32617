"""Turns a repo's audit log into what verbs show of it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from featurekit.cli.repo import open_store
from featurekit.cli.show import short
from featurekit.core.screen import Screen, shown
from featurekit.errors import ConfigError
from featurekit.log.audit import AuditLog, Entry, Fault


def audit_log(arguments: Namespace) -> AuditLog:
    """The audit log of --repo, or of the repo that the shell is in."""
    with open_store(arguments) as store:
        log = store.parts.audit.log
    if log is None:
        raise ConfigError("a store without a folder has no audit log; name one with --repo")
    return log


def about(entry: Entry) -> str:
    """What an entry says of its verb, as one line; fingerprints are short."""
    parts = []
    for name, value in entry.about.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            parts += [_change(change) for change in value]
        elif isinstance(value, list):
            parts += [f"{name} {' '.join(_short(shown(item)) for item in value)}"] if value else []
        elif value not in (None, False):
            parts.append(f"{name} {_short(shown(value))}")
    return ", ".join(parts)


def _change(change: Mapping[str, Any]) -> str:
    prints = [p for p in (short(change.get("old")), short(change.get("new"))) if p]
    what = " ".join(str(change.get(name)) for name in ("action", "kind", "name"))
    return f"{what} {' → '.join(dict.fromkeys(prints))}"


def _short(text: str) -> str:
    """A text whose last part, behind a colon, is shorter where it is a fingerprint."""
    name, colon, last = text.rpartition(":")
    is_long = len(last) >= 32 and not set(last) - set("0123456789abcdef")
    return f"{name}{colon}{short(last)}" if is_long else text


def fault_documents(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Faults as programs read them."""
    return [{"line": f.line, "byte": f.byte, "what": f.what} for f in faults]


def show_faults(screen: Screen, log: AuditLog, faults: Sequence[Fault]) -> None:
    """The places where the log is not as it was written."""
    if faults:
        screen.line(f"{log.path} is not as it was written:", style="bold red")
    for fault in faults:
        screen.line(f"  line {fault.line}, byte {fault.byte}: {fault.what}")
