"""`featurekit parity exhaust`: plays every history of a few events through both paths."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from functools import partial
from pathlib import Path

from featurekit.cli.arguments import argument, positive, verb
from featurekit.cli.verbs.parity.checking import html_option, junit_option, write_reports
from featurekit.core.files import check_writable
from featurekit.core.screen import Screen
from featurekit.errors import FeaturekitError

_MOST = 4


def _number(text: str) -> int:
    if text not in tuple(map(str, range(1, _MOST + 1))):
        raise ArgumentTypeError(f"{text!r} is no number of events from 1 to {_MOST}")
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    """Part 3 of 64, of "3/64"."""
    shard, _, shards = text.partition("/")
    known = shard.isdecimal() and shards.isdecimal()
    if not known or not 1 <= int(shard) <= int(shards):
        raise ArgumentTypeError(f'{text!r} is no part; write one as in "1/64"')
    return int(shard), int(shards)


@verb(
    "Needs no repo, no data and no Redis. Every aggregate, in every form of a window, and the "
    "latest row: over all histories of up to four events at three instants with hostile values, "
    "in every order of arrival, pushed and materialised, and asked at every edge and a "
    "microsecond beside it. All of it takes many hours: --shard plays a part of it, and --resume "
    "goes on where a run was stopped.",
    argument(
        "--events",
        type=_number,
        default=_MOST,
        metavar="N",
        help=f"histories of up to so many events, 1 to {_MOST} (default: {_MOST})",
    ),
    argument(
        "--shard", type=_shard, metavar="I/N", help="only the I-th of N equal parts (default: all)"
    ),
    argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="keep the parts that agree in FILE, and do not play those again that are there",
    ),
    argument(
        "--only",
        default="",
        metavar="TEXT",
        help='the forms whose name contains this, as "hop, float", or the features, as "Sum"',
    ),
    argument(
        "--workers", type=positive, metavar="N", help="processes (default: one for each processor)"
    ),
    html_option(),
    junit_option("a test case for each feature of each form, a failure with its diagnosis"),
)
def exhaust(arguments: Namespace, screen: Screen) -> bool:
    """Play every history of a few events through both paths."""
    from featurekit.parity.modes.exhaust import exhaust as mode
    from featurekit.parity.reports.show import show_exhaust

    if arguments.resume is not None:
        check_writable(arguments.resume, "--resume")
    with screen.progress() as move:
        found = mode.exhaust(
            events=arguments.events,
            only=arguments.only,
            part=arguments.shard or (1, 1),
            workers=arguments.workers,
            resume=arguments.resume,
            progress=partial(move, "exhaust"),
        )
    agree = all(not one.report.differing for one in found)
    if not any(one.report.compared for one in found):
        raise FeaturekitError("this shard has no history; name an earlier one, or fewer shards")
    failed = write_reports([one.report for one in found], arguments)
    screen.document({"ok": agree, "spaces": [one.to_dict() for one in found]})
    show_exhaust(screen, found)
    if failed:
        raise failed[0]
    return agree
