"""Turns values into YAML as people write it: keys in their order, scripts as blocks."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Lists are indented, and nothing is written as a reference to what stands above."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(head: str, *documents: Any) -> str:
    """Documents below a comment."""
    texts = [
        yaml.dump(one, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
        for one in documents
    ]
    return f"# {head}\n" + "---\n".join(texts)
