"""Tells what was of a definition before: its versions with what differs between them, and what
parity checks found of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.define.plan import Service, View
from featurekit.errors import DataError, RegistryError
from featurekit.project.differences import differing, reasons
from featurekit.project.kept_results import ParityResult
from featurekit.project.registry import Registry

MOST_VERSIONS = 20
"""So many versions of a definition are shown, the newest ones."""


@dataclass(frozen=True, slots=True)
class Before:
    """A version of a view or service: when it was applied and by whom, which features differ from
    the version before ("+ name", "~ name", "- name"), and why."""

    fingerprint: str
    applied_at: str
    applied_by: str
    features: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    def of_feature(self, name: str) -> tuple[str, ...]:
        """The reasons that are about a feature, with the lines below them; nothing where the
        feature did not change."""
        if not any(one[2:] == name for one in self.features):
            return ()
        found, inside = [], False
        for line in self.reasons:
            if not line.startswith(" "):
                inside = line.startswith(f"{name}:")
            if inside:
                found.append(line)
        return tuple(found) or ("changed with its view or its source",)


def versions_of(registry: Registry, kind: str, name: str) -> list[Before]:
    """The versions of a view or service, newest first."""
    known = registry.versions(kind, name)
    found: list[Before] = []
    older: View | Service | None = None
    for number, (fingerprint, who, when) in enumerate(known[-MOST_VERSIONS - 1 :]):
        value: View | Service | None
        try:
            value = registry.definition(kind, name, fingerprint)
        except RegistryError:  # what is damaged is told by the verbs that need it
            value = None
        first = not number and len(known) > MOST_VERSIONS
        if not first:
            features: tuple[str, ...] = ()
            why: tuple[str, ...] = ()
            if value is not None and older is not None:
                features, why = differing(older, value), reasons(older, value)
            found.append(Before(fingerprint, when, who, features, why))
        older = value
    return found[::-1]


# --- parity ---------------------------------------------------------------------------------------


def read_parity(paths: Iterable[Path]) -> list[ParityResult]:
    """What `featurekit parity --json` has printed into these files. DataError for another file."""
    found: list[ParityResult] = []
    for path in paths:
        try:
            told = json.loads(path.read_bytes())
            services: Sequence[Mapping[str, Any]] = told["services"]
            for service in services:
                for name, about in service["features"].items():
                    named = str(service["service"]), str(service["mode"]), str(name)
                    compared, differing, lagging = (
                        int(about[n]) for n in ("compared", "differing", "lagging")
                    )
                    found.append(ParityResult(*named, compared, differing, lagging))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"--parity {path}: it is no report of a parity check ({type(error).__name__}: "
                f"{error}); write one with `featurekit parity history SERVICE --json > {path.name}`"
            ) from None
    return found
