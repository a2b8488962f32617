"""Holds the changes that a plan or an apply lists, and shows them in notebooks."""

from __future__ import annotations

from featurekit.core import html
from featurekit.project.registry import Change


class Changes(list[Change]):
    """A list of changes, which a notebook shows as a table."""

    def _repr_html_(self) -> str:
        if not self:
            return html.box("No changes", html.line("The registry has these definitions."))
        names = ["action", "kind", "name", "from", "to", "features"]
        rows = [
            (c.action, c.kind, c.name, (c.old or "")[:8], (c.new or "")[:8], ", ".join(c.details))
            for c in self
        ]
        return html.box(f"{len(self):,} change{'s' * (len(self) > 1)}", html.table(names, rows))
