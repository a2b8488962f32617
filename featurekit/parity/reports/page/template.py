"""The parts of the page of a parity check, and what they are filled with."""

from __future__ import annotations

from featurekit.core.page import Html as Html
from featurekit.core.page import Parts, base_css
from featurekit.core.page import joined as joined

_parts = Parts("featurekit.parity.reports.page")
fill, asset = _parts.fill, _parts.asset


def css() -> Html:
    """The style of the page: what all pages share, and its own."""
    return Html(base_css() + asset("page.css"))
