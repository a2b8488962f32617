"""`featurekit materialize`: fills the online states up to an instant."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from featurekit.cli.arguments import UsageError, argument, instant, pair, verb
from featurekit.cli.job_metrics import METRICS, counts, measured
from featurekit.cli.repo import open_store
from featurekit.cli.show import show_bad_rows
from featurekit.cli.values import one_row
from featurekit.core.screen import Screen

if TYPE_CHECKING:
    from featurekit.core.screen import Progress
    from featurekit.feed.materialise import Materialization
    from featurekit.monitor.jobs import Counts
    from featurekit.store import FeatureStore


@verb(
    "",
    argument("--end", type=instant, metavar="T", help="the instant, ISO 8601 (default: now)"),
    argument("--incremental", action="store_true", help="only what arrived since the last time"),
    argument(
        "--view",
        dest="views",
        action="append",
        metavar="NAME",
        help="this view only; may be given several times (default: all)",
    ),
    argument(
        "--entity",
        dest="entities",
        action="append",
        nargs="+",
        type=pair,
        metavar="KEY=VALUE",
        help="put right the states of one entity, by its join keys, alone; may be given several "
        "times",
    ),
    argument(
        "--restart-clock",
        action="store_true",
        help="leave a last stamp behind that is far after every clock, since a clock ran ahead",
    ),
    *METRICS,
)
def materialize(arguments: Namespace, screen: Screen) -> None:
    """Fill the online states."""
    if arguments.incremental and arguments.restart_clock:
        raise UsageError("--restart-clock makes states anew; leave out --incremental")
    if arguments.incremental and arguments.entities:
        raise UsageError("--entity reads all of an entity's events; leave out --incremental")
    with (
        open_store(arguments) as store,
        screen.progress() as move,
        measured("materialize", store, arguments) as tally,
    ):
        done = _run(store, arguments, move)
        tally.took(lambda: _counted(done))
    _show(done, arguments, screen)


def _run(store: FeatureStore, arguments: Namespace, move: Progress) -> Materialization:
    if arguments.incremental:
        return store.materialize_incremental(arguments.end, views=arguments.views, progress=move)
    views = store.repo.compiled_views.values()
    types = {p.name: p.type for view in views for p in view.join_keys}
    return store.materialize(
        arguments.end,
        views=arguments.views,
        entities=arguments.entities and [one_row(e, types) for e in arguments.entities],
        restart_clock=arguments.restart_clock,
        progress=move,
    )


def _counted(done: Materialization) -> list[Counts]:
    views = [
        counts(v.view, rows=v.events, entities=v.entities, erring=v.erring) for v in done.views
    ]
    return views + [counts(source, bad_rows=n) for source, n in done.bad_rows.items()]


def _show(done: Materialization, arguments: Namespace, screen: Screen) -> None:
    """What the run did."""
    shown = [
        {
            "view": v.view,
            "entities": v.entities,
            "events": v.events,
            "null_keys": v.null_keys,
            "erring": v.erring,
            "not_arrived": v.not_arrived,
            "repaired": v.repaired,
        }
        for v in done.views
    ]
    screen.document(
        {
            "until": done.until,
            "asked": done.asked,
            "stand_at": done.stand_at,
            "views": shown,
            "went_live": list(done.live),
            "set_aside": done.set_aside,
            "bad_rows": dict(done.bad_rows),
        }
    )
    if shown:
        columns = ("view", "entities written", "events read", "without an entity", "erring")
        screen.table(columns, [list(c.values())[: len(columns)] for c in shown])
    else:
        screen.line("Nothing to do.")
    asked = len(arguments.entities or ())
    what = f"Put right what {asked} named entities have" if asked else "Materialised"
    screen.line(f"\n{what} up to {done.until.isoformat()}.")
    if done.asked is not None and done.asked > done.until:
        screen.line(
            f"{done.asked.isoformat()} was asked for; what arrives after {done.until.isoformat()} "
            "may still come, so the run ends there."
        )
    if not asked and done.stand_at is not None and done.stand_at > done.until:
        screen.line(
            f"Nothing moved: the views were materialised up to {done.stand_at.isoformat()} before, "
            "and still are."
        )
    for view in done.views:
        if view.not_arrived:
            screen.line(f"{view.not_arrived} rows that {view.view} reads have not yet arrived.")
        if view.repaired:
            screen.line(
                f"{view.repaired} states of {view.view} held an arrival after the store's clock, "
                "and were made anew."
            )
    show_bad_rows(screen, done.bad_rows)
    if done.set_aside:
        screen.line(
            f"{done.set_aside} pushed rows had arrived after the store's clock, and were set aside."
        )
    if done.live:
        screen.line(f"Live now: {', '.join(done.live)}.")
