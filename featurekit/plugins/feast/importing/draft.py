"""What the written repo will hold, while it is made."""

from __future__ import annotations

import hashlib
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurekit.errors import DefinitionError
from featurekit.language.transform import check_name
from featurekit.plugins.feast.importing.python_text import Part, call, mapping, text
from featurekit.plugins.feast.importing.reading import FeastRepo
from featurekit.plugins.feast.importing.told import Report


@dataclass(slots=True)
class SourceDraft:
    """A source as it will be written: its variable, its name, the arguments that say where its rows
    are, and the hints of the columns that views read."""

    variable: str
    name: str
    source: Any
    place: dict[str, Part | str]
    timestamp: str
    created: str | None
    schema: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class ViewDraft:
    """A view as it will be written. `hints` has the type of each feature as a service gives it,
    `keys` its join keys, and `names` the name here of each feature of Feast's."""

    variable: str
    name: str
    part: Part
    hints: dict[str, str]
    keys: dict[str, str]
    names: dict[str, str]
    source: str
    functions: list[str] = field(default_factory=list)
    comment: str = ""


@dataclass(slots=True)
class OnDemandDraft:
    """An on-demand view as functions. `outputs` has an expression for each feature of Feast's, as a
    service names it; `reads` the views that it takes features of, and `request` its request
    fields."""

    name: str
    module: str
    text: str
    outputs: dict[str, str]
    reads: list[str]
    request: dict[str, str]
    imports: set[str]


@dataclass(slots=True)
class Draft:
    """All of it, by Feast's names. `taken_twice` are features' names that two views of a service
    have, `twice` those of on-demand views that two of them have."""

    repo: FeastRepo
    report: Report
    folder: Path
    taken: set[str] = field(default_factory=set)
    taken_twice: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)
    entities: dict[str, tuple[str, Part, str, str]] = field(default_factory=dict)
    sources: dict[str, SourceDraft] = field(default_factory=dict)
    views: dict[str, ViewDraft] = field(default_factory=dict)
    on_demand: dict[str, OnDemandDraft] = field(default_factory=dict)
    services: list[tuple[str, Part, str]] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)

    def variable(self, name: str, kind: str) -> str:
        """A variable for a definition of this name, that nothing else has."""
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or kind
        plain = f"{kind}_{plain}" if plain[0].isdigit() or keyword.iskeyword(plain) else plain
        for one in (plain, f"{plain}_{kind}", *(f"{plain}_{kind}{i}" for i in range(2, 10_000))):
            if one not in self.taken:
                self.taken.add(one)
                return one
        raise AssertionError("there are 10,000 definitions of one name")


def plain_name(name: str) -> str:
    """The name that a definition has here: Feast's own where it is one."""
    try:
        check_name(name, what="")
    except DefinitionError:
        made = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:150]
        if not made:
            return "f_" + hashlib.sha256(name.encode()).hexdigest()[:10]
        return made if made[0].isalpha() else f"f_{made}"
    return name


def described(one: Any, *, doc: str = "") -> dict[str, Part | str | None]:
    """The description, the owner and the tags of a definition, as arguments."""
    tags: Mapping[str, Any] = getattr(one, "tags", None) or {}
    description = " ".join((getattr(one, "description", "") or doc).split())
    owner = getattr(one, "owner", "") or ""
    return {
        "description": text(description) if description else None,
        "owner": text(owner) if owner else None,
        "tags": mapping({str(k): text(str(v)) for k, v in tags.items()}) if tags else None,
    }


def definition(kind: str, name: str, **named: Part | str | None) -> Part:
    """A definition of this kind."""
    return call(kind, text(name), **named)
