"""Turns drift into one HTML page that needs nothing beside it, and no script.

The markup stands in page.html; here are the numbers that fill it.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from featurekit.core.files import write_named
from featurekit.core.page import Html, Parts, base_css, joined
from featurekit.core.version import VERSION
from featurekit.monitor.drift.distances import Bins
from featurekit.monitor.drift.judge import Figure
from featurekit.monitor.drift.report import Drift

_PARTS = Parts(__name__)
_LINE, _LONGEST, _LEFT = 26, 200, 160
"""The height of a bin, the length of the longest bar and the place of its begin, in pixels."""
_KINDS = {"drift": "bad", "too few": "late", "steady": "good", "": ""}
_NAMES = {
    "psi": "PSI",
    "jensen_shannon": "Jensen-Shannon",
    "kolmogorov_smirnov": "Kolmogorov-Smirnov",
    "wasserstein": "Wasserstein",
    "chi_squared": "chi²",
    "null_share": "nulls",
    "error_share": "errors",
    "nan_share": "NaN",
}
_SAID = {
    "drift": "drifts",
    "too few": "too few rows to tell",
    "steady": "steady",
    "": "no threshold",
}


def write_page(path: Path, found: Drift) -> None:
    """Write the page of drift into a file, whole or not at all. ConfigError where it cannot be
    written."""
    write_named(path, page(found).encode(), "--html")


def page(found: Drift) -> str:
    """The page: the features that drift first, each with its bins and its figures."""
    features = dict.fromkeys([*found.drifting, *(f.feature for f in found.figures)])
    n = len(found.drifting)
    facts = (
        ("rows served", f"{found.rows:,}"),
        ("rows of the reference", f"{found.reference_rows:,}"),
        ("versions", ", ".join(version[:12] for version in found.versions)),
    )
    return _PARTS.fill(
        "document",
        service=found.service,
        said=f"{n} of {len(features)} features drift" if n else "no feature drifts",
        kind="bad" if n else "good",
        css=Html(base_css() + _PARTS.asset("page.css")),
        start=_at(found.start),
        end=_at(found.end),
        reference=found.reference,
        version=VERSION,
        facts=joined(_PARTS.fill("fact", name=name, value=value) for name, value in facts),
        sections=joined(
            _feature(found, name, number) for number, name in enumerate(features, start=1)
        ),
    )


def _feature(found: Drift, name: str, number: int) -> Html:
    figures = [f for f in found.figures if f.feature == name]
    if name in found.lacking:
        verdict, inside = "drift", _PARTS.fill("lacking", why=found.lacking[name])
    else:
        verdicts = [f.verdict for f in figures]
        verdict = next((v for v in ("drift", "too few", "steady") if v in verdicts), "")
        rows = joined(map(_figure, figures))
        inside = _PARTS.fill("figures", name=name, rows=rows)
    bins = found.shapes.get(name)
    return _PARTS.fill(
        "feature",
        name=name,
        number=number,
        kind=_KINDS[verdict],
        said=_SAID[verdict],
        bars=Html() if bins is None else _bars(name, bins),
        figures=inside,
    )


def _bars(name: str, bins: Bins) -> Html:
    shares = [(one / max(one.sum(), 1)).tolist() for one in (bins.was, bins.now)]
    longest = max(*shares[0], *shares[1])
    bars = []
    for i, (bin_, was, now) in enumerate(zip(bins.names, *shares, strict=True)):
        lengths = [round(_LONGEST * share / longest, 1) for share in (was, now)]
        bars.append(
            _PARTS.fill(
                "bar",
                y=i * _LINE + 4,
                below=i * _LINE + 12,
                text=i * _LINE + 17,
                was=lengths[0],
                now=lengths[1],
                end=_LEFT + max(lengths) + 8,
                bin=bin_ if len(bin_) <= 24 else f"{bin_[:23]}…",
                shares=f"{was:.1%} → {now:.1%}",
            )
        )
    told = "; ".join(
        f"{bin_}: {was:.1%} before, {now:.1%} now"
        for bin_, was, now in zip(bins.names, *shares, strict=True)
    )
    height = len(bars) * _LINE + 4
    width = _LEFT + _LONGEST + 110
    return _PARTS.fill("bars", name=name, told=told, width=width, height=height, bars=joined(bars))


def _figure(figure: Figure) -> Html:
    return _PARTS.fill(
        "figure",
        measure=_NAMES[figure.measure],
        value=f"{figure.value:.4g}",
        bound=f"{figure.bound:.2g}" if figure.bound else "exact",
        threshold=_or_dash(figure.threshold),
        chance=_or_dash(figure.chance),
        verdict=_SAID[figure.verdict],
    )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _at(at: dt.datetime) -> str:
    return at.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
