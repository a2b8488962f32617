"""Turns a draft into the files of a repo."""

from __future__ import annotations

from typing import Any

import yaml

from featurekit.plugins.feast.importing.draft import Draft
from featurekit.plugins.feast.importing.python_text import assigned
from featurekit.plugins.feast.importing.sources import source_part
from featurekit.plugins.feast.importing.told import OUTCOMES, Report, Told

_RULE = 100


def files_of(draft: Draft) -> dict[str, str]:
    """The files of the repo, by their paths."""
    made = {one.module: one for one in draft.on_demand.values() if one.module}
    files = {"feature_store.yaml": _settings(draft), "features.py": _features(draft)}
    for module, one in made.items():
        imports = {"from featurekit import feature", *one.imports}
        head = f'"""On-demand view {one.name!r} of Feast, as functions of one row."""'
        files[f"{module}.py"] = "\n\n".join([head, _imports(imports)]) + f"\n\n\n{one.text}\n"
    files[".gitignore"] = ".featurekit/\n"
    return files


_REDIS = ("connection_string", "redis_url")


def _settings(draft: Draft) -> str:
    """feature_store.yaml, with Feast's Redis where it has one."""
    online: dict[str, Any] = {"type": "redis"}
    given = draft.repo.settings.get("online_store")
    told = draft.report.about("settings", "feature_store.yaml")
    if draft.repo.ours or (isinstance(given, dict) and given.get("type") == "redis"):
        online |= {k: v for k, v in (given or {}).items() if k in _REDIS}
    else:
        kind = given.get("type") if isinstance(given, dict) else given
        told.changed(
            f"the online store is Redis, where Feast has {kind or 'sqlite'}",
            "name a Redis by `connection_string:`; without one a private Redis is started",
        )
    told.here = "feature_store.yaml"
    settings = {
        "project": draft.repo.config.project,
        "provider": "local",
        "registry": ".featurekit/feast_registry.db",
        "entity_key_serialization_version": 3,
        "offline_store": {"type": "duckdb"},
        "online_store": online,
        "featurekit": {"registry": ".featurekit/registry.db"},
    }
    head = "# Feast's own file; what is featurekit's stands under `featurekit`.\n"
    return head + yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def _imports(lines: set[str]) -> str:
    """Imports as ruff sorts them: the library of Python, then featurekit."""
    named: dict[str, set[str]] = {}
    plain = set()
    for line in lines:
        words = line.split(" import ")
        if line.startswith("from ") and " as " not in line:
            named.setdefault(words[0].removeprefix("from "), set()).add(words[1])
        else:
            plain.add(line)
    made = sorted(plain)
    made += [f"from {m} import {', '.join(_ordered(n))}" for m, n in sorted(named.items())]
    own = [line for line in made if "featurekit" in line]
    others = [line for line in made if line not in own]
    return "\n\n".join("\n".join(part) for part in (others, own) if part)


def _ordered(names: set[str]) -> list[str]:
    """Classes, then functions."""
    return sorted(names, key=lambda name: (not name[:1].isupper(), name))


def _heading(title: str) -> str:
    return f"# ── {title} ".ljust(_RULE, "─")


def _features(draft: Draft) -> str:
    """features.py."""
    here = [one for one in draft.on_demand.values() if not one.module]
    classes = {"Entity", "EventSource", "FeatureService", "FeatureView"}
    imports = {f"from featurekit import {name}" for name in classes} | draft.imports
    for one in here:
        imports |= one.imports
    if not here:
        imports.discard("from featurekit import feature")
    modules = sorted(f"import {one.module}" for one in draft.on_demand.values() if one.module)
    project = draft.repo.config.project
    sources = [assigned(s.variable, source_part(s)) for s in draft.sources.values() if s.schema]
    parts = [f'"""The features of {project}, as they were in Feast."""', _imports(imports)]
    parts += ["\n".join(modules)] if modules else []
    parts += [_heading("Entities"), *(assigned(v, p) for v, p, *_ in draft.entities.values())]
    parts += [_heading("Sources"), *sources]
    parts += [_heading("Views"), *(assigned(v.variable, v.part) for v in draft.views.values())]
    if here:
        parts += [_heading("At the time of the request")]
        parts.append("\n" + "\n\n\n".join(one.text for one in here) + "\n")
    parts += [_heading("Services")]
    parts += [(f"# {said}\n" if said else "") + assigned(v, p) for v, p, said in draft.services]
    return "\n\n".join(parts) + "\n"


def report_text(report: Report, source: str) -> str:
    """IMPORT.md."""
    parts = [
        "# What came over from Feast",
        f"From `{source}`. *Changed* came over and means something else, as each row says.",
        _table(
            ("kind", *OUTCOMES),
            [(kind, *map(str, n.values())) for kind, n in report.counts().items()],
        ),
    ]
    titles = {"not carried": "Did not come over", "changed": "Changed", "carried": "As it was"}
    for outcome, title in titles.items():
        found = [one for one in report if one.outcome == outcome]
        if found and outcome != "carried":
            parts += [f"## {title}", _table(_COLUMNS, [row for one in found for row in rows(one)])]
        elif found:
            shown = [f"- {one.kind} `{one.name}`" for one in found]
            parts += [f"## {title}", "\n".join(shown)]
    return "\n\n".join(parts) + "\n"


_COLUMNS = ("kind", "name", "what is other", "what to write")


def rows(one: Told) -> list[tuple[str, str, str, str]]:
    """A row for each note; the name stands in the first."""
    found = []
    for i, note in enumerate(one.notes):
        kind, name = (one.kind, one.name) if not i else ("", "")
        found.append((kind, name, note.what, note.instead))
    return found


def _table(columns: tuple[str, ...], rows_: list[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows_]
    cells = [[cell.replace("|", r"\|") for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
