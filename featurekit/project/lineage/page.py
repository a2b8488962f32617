"""Turns a part of a project's lineage into a page of HTML that needs nothing beside it."""

from __future__ import annotations

from featurekit.core.page import Html, Parts, base_css, joined
from featurekit.core.version import VERSION
from featurekit.project.lineage.asked import Asked
from featurekit.project.lineage.graph import ROLES
from featurekit.project.lineage.picture import css, svg

_parts = Parts("featurekit.project.lineage")


def picture(asked: Asked) -> Html:
    """The part as an SVG that may stand alone in a file."""
    return svg(asked.lineage, label=_label(asked), marked=asked.ids, alone=True)


def page(asked: Asked, project: str) -> Html:
    """The part as a page: the picture, and a table of what reaches what."""
    lineage = asked.lineage
    return _parts.fill(
        "document",
        title=asked.name or project,
        version=VERSION,
        said=f"{len(lineage.nodes):,} things of project {project}, from the columns of sources on.",
        css=Html(base_css() + css()),
        picture=svg(lineage, label=_label(asked), marked=asked.ids),
        rows=joined(
            _parts.fill(
                "row",
                column=lineage.nodes[r.column].name,
                feature=lineage.nodes[r.feature].name,
                role=r.role,
                through=" → ".join(lineage.nodes[t].name for t in r.through) or "–",
            )
            for r in lineage.reaches
        ),
        roles=joined(_parts.fill("role", role=r, meaning=meaning) for r, meaning in ROLES.items()),
    )


def _label(asked: Asked) -> str:
    return f"Lineage of {asked.name or 'all features'}"
