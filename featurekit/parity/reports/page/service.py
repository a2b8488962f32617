"""Turns a service's report into its section of the page: features, plot and differences."""

from __future__ import annotations

from featurekit.parity.reports.page.plot import plot
from featurekit.parity.reports.page.template import Html, fill, joined
from featurekit.parity.reports.page.verdict import Counts, verdict_of

_SHARES = {
    "PRESENT": ("present", "a value"),
    "NULL_VALUE": ("null", "None"),
    "NOT_FOUND": ("unknown", "no such entity"),
    "OUTSIDE_MAX_AGE": ("stale", "older than its ttl"),
    "ERROR": ("error", "its function erred"),
}


def service_section(report: Counts, number: int) -> Html:
    """The section of one service, the `number`-th of the page."""
    told = verdict_of(report)
    features = report["features"]
    used = {s for f in features.values() for s in f["statuses"]}
    keys = [fill("share-key", share=k, meaning=m) for s, (k, m) in _SHARES.items() if s in used]
    filtered = len(features) > 1 and any(f["differing"] for f in features.values())
    rows = joined(_feature(n, f) for n, f in features.items())
    return fill(
        "service",
        number=number,
        service=report["service"],
        kind=told.kind,
        said=told.said,
        filter=fill("filter") if filtered else Html(),
        legend=joined(keys),
        features=fill(
            "scroll",
            label=f"Features of {report['service']}",
            inside=fill("features", rows=rows),
        ),
        plot=plot(report),
        differences=_differences(report),
    )


def _feature(name: str, found: Counts) -> Html:
    told = verdict_of(found)
    statuses = found["statuses"]
    total = sum(statuses.values())
    shares = {s: statuses[s] / total for s in _SHARES if total and statuses.get(s)}
    title = ", ".join(f"{_SHARES[s][0]} {_percent(share)}" for s, share in shares.items())
    return fill(
        "feature",
        row="bad" if found["differing"] else "same",
        name=name,
        kind=told.kind,
        said=told.said,
        compared=f"{found['compared']:,}",
        differing=f"{found['differing']:,}",
        null=_percent(shares.get("NULL_VALUE", 0.0)),
        stale=_percent(shares.get("OUTSIDE_MAX_AGE", 0.0)),
        label=title or "nothing",
        title=title,
        bar=joined(
            fill("bar", share=_SHARES[s][0], percent=f"{100 * share:.3f}")
            for s, share in shares.items()
        ),
    )


def _percent(share: float) -> str:
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


# --- differences ----------------------------------------------------------------------------------


def _differences(report: Counts) -> Html:
    found = report["differences"]
    if not found:
        return Html()
    # What was diagnosed stands first, and open.
    ranked = sorted(found, key=lambda d: d.get("diagnosis") is None)
    shown = [_difference(d, opened=i == 0) for i, d in enumerate(ranked)]
    more = report["differing"] - len(found)
    if more > 0:
        shown.append(fill("more", more=f"{more:,}"))
    return fill("differences", shown=joined(shown))


def _difference(found: Counts, *, opened: bool) -> Html:
    diagnosis = found.get("diagnosis")
    pair = joined(fill("pair-row", path=path, **found[path]) for path in ("offline", "online"))
    return fill(
        "difference",
        opened=" open" if opened else "",
        feature=found["feature"],
        as_of=found["as_of"],
        cause=fill("cause", cause=diagnosis["cause"]) if diagnosis else Html(),
        row=", ".join(f"{k} = {v}" for k, v in found["row"].items()),
        pair=fill("scroll", label="The two values", inside=fill("pair", rows=pair)),
        diagnosis=_diagnosis(diagnosis) if diagnosis else Html(),
    )


def _diagnosis(found: Counts) -> Html:
    apart = found.get("ulps")
    case = Html()
    if found["case"]:
        text = fill("text", text=found["case"])
        case = fill("case", text=fill("scroll", label="A pytest case", inside=text))
    return fill(
        "diagnosis",
        cause=found["cause"],
        meaning=found["meaning"],
        apart="" if apart is None else f" The values are {apart:,} ulps apart.",
        where=found["where"],
        evidence=joined(fill("evidence", said=e) for e in found.get("evidence", ())),
        heading="Events that are enough to see it" if found["case"] else "Events",
        as_of=found["as_of"],
        events=_events(found["events"]),
        case=case,
    )


def _events(events: list[Counts]) -> Html:
    if not events:
        return fill("no-events")
    columns = list(dict.fromkeys(c for e in events for c in e))
    table = fill(
        "table",
        heads=joined(fill("head-cell", name=c) for c in columns),
        rows=joined(
            fill("row", cells=joined(fill("cell", value=e.get(c, "")) for c in columns))
            for e in events
        ),
    )
    return fill("scroll", label="Events", inside=table)
