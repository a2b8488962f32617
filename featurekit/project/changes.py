"""Holds the changes that a plan or an apply lists, and shows them in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from featurekit.core import html
from featurekit.project.publishing import Published
from featurekit.project.registry import Change


class Changes(list[Change]):
    """A list of changes, which a notebook shows as a table. `published` is what is done in the
    registry of the tool that `featurekit: publish:` names; empty without one."""

    def __init__(self, changes: Iterable[Change] = (), published: Sequence[Published] = ()) -> None:
        super().__init__(changes)
        self.published = list(published)

    def _repr_html_(self) -> str:
        if not self:
            return html.box("No changes", html.line("The registry has these definitions."))
        names = ["action", "kind", "name", "from", "to", "features"]
        rows = [
            (c.action, c.kind, c.name, (c.old or "")[:8], (c.new or "")[:8], ", ".join(c.details))
            for c in self
        ]
        return html.box(f"{len(self):,} change{'s' * (len(self) > 1)}", html.table(names, rows))
