"""Makes what the site has beside the pages of this folder: the reference, from the code itself.

mkdocs calls the functions that begin with `on_`. A link that leads out of this folder, to a test or
a module, stays as its text: the site is read without the repository.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
from collections.abc import Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel

from featurekit import aggregates, errors
from featurekit.cli.arguments import Parser
from featurekit.cli.parser import parser
from featurekit.language.ops import TABLE
from featurekit.project.config import (
    FeaturekitConfig,
    MonitoringConfig,
    OnlineConfig,
    OpenLineageConfig,
    ServeConfig,
    ServingLogConfig,
    TargetConfig,
)
from featurekit.project.pipeline_settings import PipelineConfig, StepConfig

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave only the text of a link that leads out of the folder."""
    if page.file.src_uri.count("/"):
        return markdown
    return _OUTSIDE.sub(r"\1", markdown)


def pages() -> dict[str, str]:
    """The reference's pages by name."""
    return {
        "api": _api(),
        "aggregates": _aggregates(),
        "operators": _operators(),
        "cli": _cli(),
        "settings": _settings(),
        "errors": _errors(),
    }


def _api() -> str:
    """The public names, each with its docstring."""
    parts = ["# Python API\n"]
    for module in ("featurekit", "featurekit.client", "featurekit.testing", "featurekit.results"):
        parts.append(f"## `{module}`\n")
        for name in sorted(importlib.import_module(module).__all__, key=str.lower):
            home = getattr(getattr(importlib.import_module(module), name), "__module__", module)
            parts.append(f"::: {home}.{name}\n    options: {{heading_level: 3}}\n")
    return "\n".join(parts)


def _aggregates() -> str:
    """Each aggregate with its parameters."""
    parts = [
        "# Aggregates\n",
        "The values are those of [the rules](../rules.md#aggregates-over-a-window); "
        "[Windows](../windows.md) says what they cost.\n",
        _text(aggregates.Aggregate),
    ]
    for name, kind in sorted(aggregates.BY_NAME.items()):
        own = [p for p in inspect.signature(kind).parameters.values() if _is_own(kind, p.name)]
        shown = ", ".join(["…", *(str(p) for p in own)])
        parts.append(f"## {name}\n\n```text\n{name}({shown})\n```\n\n{_text(kind)}\n")
    return "\n".join(parts)


def _is_own(kind: type, name: str) -> bool:
    return name not in inspect.signature(aggregates.Aggregate).parameters


def _operators() -> str:
    """The operator table, a row for each tuple of types."""
    parts = [
        "# Operators\n",
        "Every operator and function of [the language](../language.md), by the types that it "
        "takes. *Errs*: whether some input makes the value an error (R3). *By*: what computes it "
        "in training sets, DuckDB's own SQL or the Python meaning over distinct inputs (R5). "
        "*Platform*: what of the platform decides a bit of it (R6).\n",
        "| operator | takes | gives | errs | by | platform |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for op in sorted(TABLE.values(), key=lambda op: (op.name.lower(), op.key)):
        takes = ", ".join(map(str, op.params)) or "nothing"
        by = "SQL" if op.sql or op.literal_sql else "Python"
        cells = (_code(op.name), takes, str(op.result), "yes" if op.raises else "", by, op.platform)
        # A | in code ends no cell; with a backslash there, the backslash is shown.
        shown = [c if c.startswith("`") else c.replace("|", "\\|") for c in cells]
        parts.append(f"| {' | '.join(shown)} |")
    return "\n".join(parts) + "\n"


def _cli() -> str:
    """Each verb's help, as the command line prints it."""
    os.environ["COLUMNS"] = "88"  # whatever the width of the terminal that builds the site
    parts = ["# Command line\n", f"```text\n{parser().format_help().strip()}\n```\n"]
    for name, made in _verbs(parser(), ()):
        level = "#" * (len(name) + 1)
        parts.append(f"{level} featurekit {' '.join(name)}\n")
        parts.append(f"```text\n{made.format_help().strip()}\n```\n")
    return "\n".join(parts)


def _verbs(top: Parser, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Parser]]:
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, made in action.choices.items():
                made.fill()
                yield (*names, name), made
                yield from _verbs(made, (*names, name))


def _settings() -> str:
    """The keys of feature_store.yaml that featurekit reads."""
    parts = [
        "# Settings\n",
        "`feature_store.yaml` is Feast's own file; featurekit's settings stand under `featurekit:`."
        "\n",
    ]
    for title, model in (
        ("`featurekit:`", FeaturekitConfig),
        ("`featurekit: serving_log:`", ServingLogConfig),
        ("`featurekit: serve:`", ServeConfig),
        ("`featurekit: serve: targets:`", TargetConfig),
        ("`featurekit: monitoring:`", MonitoringConfig),
        ("`featurekit: openlineage:`", OpenLineageConfig),
        ("`featurekit: pipeline:`", PipelineConfig),
        ("`featurekit: pipeline: steps:`", StepConfig),
        ("`online_store:`", OnlineConfig),
    ):
        parts.append(f"## {title}\n\n{_text(model)}\n\n{_fields(model)}\n")
    return "\n".join(parts)


def _fields(model: type[BaseModel]) -> str:
    rows = ["| setting | type | default |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        type_ = re.sub(r"\b[\w.]+\.", "", str(field.annotation).removeprefix("<class '"))
        default = "needed" if field.is_required() else _code(str(field.get_default()))
        rows.append(f"| `{name}` | {_code(type_.rstrip(chr(39) + '>'))} | {default} |")
    return "\n".join(row.replace(" | None", " \\| None") for row in rows)


def _errors() -> str:
    """The tree of errors, and each error's meaning."""
    tree = (errors.__doc__ or "").strip()
    parts = ["# Errors\n", f"```text\n{tree}\n```\n"]
    parts.append("[Troubleshooting](../troubleshooting.md) says what to do about each.\n")
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and kind.__module__ == errors.__name__:
            parts.append(f"## {name}\n\n{_text(kind)}\n")
    return "\n".join(parts)


def _text(thing: Any) -> str:
    return inspect.getdoc(thing) or ""


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"
