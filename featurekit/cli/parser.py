"""Turns a command line into arguments; loads nothing that a verb needs, so that --help is quick."""

from __future__ import annotations

import argparse
import datetime as dt
import sys
from pathlib import Path
from typing import Any, NoReturn

from featurekit.core.durations import duration_us
from featurekit.core.version import VERSION
from featurekit.errors import DefinitionError
from featurekit.parity.budget import Budget, parse_budget

USAGE = 64
_EPILOG = (
    "exit codes: 0 done, 1 parity differs, 2 an error that the message explains, 64 a command line "
    "that is not understood, 130 interrupted"
)


class UsageError(Exception):
    """A command line that only its verb could see through."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors exit with 64, for 2 means that the work failed.

    `mode` is the sub-command that is meant where none is named.
    """

    mode: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with `mode` in front where the arguments name no sub-command."""
        if self.mode is not None and not {"-h", "--help", *self.modes} & {*args}:
            args = [self.mode, *args]
        return super().parse_known_args(args, namespace)

    @property
    def modes(self) -> list[str]:
        """The names of the sub-commands."""
        found = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return [name for action in found for name in action.choices]

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message; exit."""
        self.print_usage(sys.stderr)
        self.exit(USAGE, f"featurekit: error: {message}; see `{self.prog} --help`\n")


def instant(text: str) -> dt.datetime:
    """An ISO 8601 instant; one without an offset is UTC."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no instant; write 2011-09-30T12:00:00+01:00 (without an offset it is UTC)"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def pair(text: str) -> tuple[str, str]:
    """The two sides of `key=value`."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is no key=value; write customer_id=12347")
    return key, value


def budget(text: str) -> Budget:
    """A number of values, or a duration."""
    try:
        return parse_budget(text)
    except DefinitionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def seconds(text: str) -> float:
    """A duration."""
    try:
        return duration_us(text, what="every") / 1e6
    except DefinitionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def port(text: str) -> int:
    """The number of a port; 0 for any that is free."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write a number up to 65535")
    return int(text)


def url(text: str) -> str:
    """An address that HTTP reaches."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL; write https://…")
    return text


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def parser() -> Parser:
    """Every verb with its options."""
    top = Parser(
        prog="featurekit",
        description="Features written once, the same bits in training and in serving.",
        epilog=_EPILOG,
    )
    top.add_argument("--version", action="version", version=f"featurekit {VERSION}")
    _common(top, suppress=False)
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, summary: str, more: str = "") -> Parser:
        text = summary[0].upper() + summary[1:] + "."
        made = verbs.add_parser(name, help=summary, description=f"{text} {more}".strip())
        _common(made, suppress=True)
        return made

    init = verb(
        "init",
        "write a small feature repo to start from",
        "It works as it stands: plan, apply, materialize, get-online. Nothing is overwritten.",
    )
    init.add_argument(
        "folder", nargs="?", default="feature_repo", type=Path, metavar="FOLDER",
        help="a folder that is new or empty (default: feature_repo)",
    )  # fmt: skip

    verb(
        "plan",
        "show what apply would change, and what to know about each feature",
        "Writes nothing, and needs no Redis.",
    )
    verb(
        "apply",
        "register the definitions and publish the services",
        "It asks nothing: plan shows the same changes beforehand. A changed service goes on "
        "serving its old version until materialize has filled the new one.",
    )

    versions = verb(
        "versions",
        "list the versions of a service",
        "Who applied each and when, and whether it is live, next (it waits for materialize), "
        "retained (it was live and is still fed) or unfed.",
    )
    versions.add_argument("service", metavar="SERVICE", help="the service's name")

    rollback = verb(
        "rollback",
        "serve an older version of a service again",
        "At once where its states were fed all along, as those of the retained version are; else "
        "when materialize has filled them. It holds until the next apply.",
    )
    rollback.add_argument("service", metavar="SERVICE", help="the service's name")
    rollback.add_argument(
        "--to", metavar="FINGERPRINT",
        help="a version's fingerprint or its beginning, as `versions` lists them; that of the live "
        "version withdraws the one that waits (default: the version that was live before)",
    )  # fmt: skip

    gc = verb(
        "gc",
        "remove online states and plans that no version in use needs",
        "In use are the versions that are live, next or retained. Pushes, materialisations and "
        "publishing may go on meanwhile.",
    )
    gc.add_argument(
        "versions", nargs="*", metavar="NAME:FINGERPRINT",
        help="these only, views or services; one that is in use is refused (default: all unused)",
    )  # fmt: skip
    gc.add_argument("--dry-run", action="store_true", help="show what would go")
    gc.add_argument(
        "--retained", action="store_true",
        help="let go of retained versions too: rolling back to one then takes a materialisation",
    )  # fmt: skip

    materialize = verb("materialize", "fill the online state up to an instant, and go live")
    materialize.add_argument(
        "--end", type=instant, metavar="T", help="the instant, ISO 8601 (default: now)"
    )
    materialize.add_argument(
        "--incremental", action="store_true", help="only what arrived since the last time"
    )
    materialize.add_argument(
        "--view", dest="views", action="append", metavar="NAME",
        help="this view only; may be given several times (default: all)",
    )  # fmt: skip
    materialize.add_argument(
        "--entity", dest="entities", action="append", nargs="+", type=pair, metavar="KEY=VALUE",
        help="put right the states of one entity, by its join keys, alone; may be given several "
        "times",
    )  # fmt: skip

    push = verb(
        "push",
        "add events of a source, online and to the offline log",
        "JSON lines, CSV with a header, or Parquet, told apart by the name's end; "
        "standard input is JSON lines.",
    )
    push.add_argument("source", metavar="SOURCE", help="the source's name")
    push.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="a file, or - for standard input"
    )

    consume = verb(
        "consume",
        "take events from a Redis stream, in a consumer group",
        "Each entry counts once, whatever crashes: the source needs an event_id. Runs until it is "
        "interrupted. An entry is a field for each column, or one field json with an object.",
    )
    consume.add_argument("source", metavar="SOURCE", help="the source's name")
    consume.add_argument(
        "--stream", metavar="KEY", help="the stream's key (default: the source's name)"
    )
    consume.add_argument(
        "--stream-url", metavar="URL", help="the stream's Redis (default: the online store's)"
    )
    consume.add_argument(
        "--group", default="featurekit", metavar="NAME", help="the group (default: featurekit)"
    )
    consume.add_argument(
        "--name", metavar="NAME", help="this member of the group (default: the host's name)"
    )
    consume.add_argument(
        "--batch", type=positive, default=500, metavar="N", help="entries at once (default: 500)"
    )
    consume.add_argument(
        "--idle", type=positive, default=60, metavar="SECONDS",
        help="take over what another member has left for so long (default: 60)",
    )  # fmt: skip
    consume.add_argument(
        "--until-empty", action="store_true", help="end when nothing is left to take"
    )

    forget = verb(
        "forget",
        "remove an entity's events and states, and keep them from coming back",
        "It asks nothing, and cannot be undone. What arrives from now on is a new start.",
    )
    forget.add_argument("entity", metavar="ENTITY", help="the entity's name")
    forget.add_argument(
        "--key", dest="keys", action="append", type=pair, required=True, metavar="KEY=VALUE",
        help="a join key of the entity and its value; each of them once",
    )  # fmt: skip
    forget.add_argument(
        "--rewrite-files", action="store_true",
        help="take the rows out of the sources' files too (default: they stay there, unread)",
    )  # fmt: skip

    historical = verb(
        "get-historical",
        "make a training set for a frame of entities and instants",
        "Without a frame, for every entity that is known at the instants of --at, or of --start, "
        "--end and --every.",
    )
    historical.add_argument("service", metavar="SERVICE", help="the service's name")
    historical.add_argument(
        "frame", nargs="?", type=Path, metavar="FRAME",
        help="Parquet or CSV: join keys, event_timestamp and request fields; others ride along",
    )  # fmt: skip
    historical.add_argument(
        "--at", action="append", type=instant, metavar="T",
        help="an instant, ISO 8601; may be given several times",
    )  # fmt: skip
    historical.add_argument("--start", type=instant, metavar="T", help="the first instant")
    historical.add_argument("--end", type=instant, metavar="T", help="none is later")
    historical.add_argument(
        "--every", metavar="DURATION", help="from one instant to the next, as in 1d or 6h"
    )
    historical.add_argument(
        "--entities", metavar="VIEW",
        help="the view whose events tell which entities there are, where views are of different "
        "ones",
    )  # fmt: skip
    historical.add_argument(
        "-o", "--output", type=Path, metavar="OUT.parquet",
        help="write it here, with OUT.parquet.manifest.json (default: show the first rows)",
    )  # fmt: skip
    historical.add_argument(
        "--limit", type=positive, default=10, metavar="N", help="rows to show (default: 10)"
    )
    historical.add_argument(
        "--timezone", default="UTC", metavar="ZONE", help="of naive event_timestamps (default: UTC)"
    )
    historical.add_argument(
        "--full-feature-names", action="store_true", help="name each column view__feature"
    )
    historical.add_argument(
        "--known-at", type=instant, metavar="T",
        help="only what had arrived by this instant, ISO 8601 (default: all)",
    )  # fmt: skip
    historical.add_argument(
        "--statuses", action="store_true", help="add a column <feature>__status for each feature"
    )
    historical.add_argument(
        "--buckets", type=positive, metavar="N",
        help="join N parts of the entities one after the other, for less memory (default: as many "
        "as the memory limit asks for)",
    )  # fmt: skip

    online = verb(
        "get-online",
        "answer for some entities, from the online state",
        "Values are read by the types that the service declares; an empty one is None, but for "
        "str, whose None only --rows can say.",
    )
    online.add_argument("service", metavar="SERVICE", help="the service's name")
    online.add_argument(
        "values",
        nargs="*",
        type=pair,
        metavar="key=value",
        help="one row's join keys and request fields",
    )
    online.add_argument(
        "--rows", metavar="FILE.jsonl", help="many rows as JSON lines, or - for standard input"
    )
    online.add_argument(
        "--as-of", type=instant, metavar="T", help="the instant, ISO 8601 (default: now)"
    )

    explain = verb(
        "explain",
        "show how one value came about, offline and online",
        "The events that counted, the near misses with the rule that left each out, the nodes of "
        "the transform, the steps of the aggregate. Only reads.",
    )
    explain.add_argument("service", metavar="SERVICE", help="the service's name")
    explain.add_argument(
        "feature", metavar="FEATURE", help="one of its features: its name, or view__feature"
    )
    explain.add_argument(
        "values", nargs="+", type=pair, metavar="key=value",
        help="the join keys and request fields",
    )  # fmt: skip
    explain.add_argument(
        "--as-of", type=instant, metavar="T", help="the instant, ISO 8601 (default: now)"
    )

    parity = verb(
        "parity",
        "prove that both paths agree, or show where they do not",
        "Compares type, bits and status of every value; exits with 1 where one differs, with 2 "
        "where it could not be checked. Without a MODE it is history.",
    )
    parity.mode = "history"
    modes = parity.add_subparsers(
        dest="mode", metavar="MODE", required=True, help="one of these; each has --help"
    )

    def mode(name: str, summary: str, more: str = "") -> Parser:
        text = summary[0].upper() + summary[1:] + "."
        made = modes.add_parser(name, help=summary, description=f"{text} {more}".strip())
        _common(made, suppress=True)
        return made

    history = mode(
        "history",
        "replay the files and the log of pushes into a scratch Redis",
        "Nothing of the live store is touched.",
    )
    _checked(history, 100_000)

    fuzz = mode(
        "fuzz",
        "invent events from the schemas, and play them through both paths",
        "Needs no data and no Redis: hostile events are drawn from the schemas of the services' "
        "sources, written to files for offline, pushed and materialised for online, and asked "
        "about at every edge of every window.",
    )
    _checked(fuzz, 1_000_000)
    fuzz.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes (default: one for each processor); they change no question",
    )

    sample = mode(
        "sample",
        "compare entities of the live store with offline, at one instant",
        "Only reads. Tells values that differ since events are not online yet (lag) from those "
        "that differ for another reason (skew); lag is shown, and is no difference.",
    )
    _checked(sample, 100_000)
    sample.add_argument(
        "--rate", type=positive, default=50_000, metavar="N",
        help="read at most so many states a second (default: 50000)",
    )  # fmt: skip
    sample.add_argument(
        "--every", type=seconds, metavar="TIME",
        help="check again and again, as in 5m; ends with 1 at the first skew",
    )  # fmt: skip
    sample.add_argument(
        "--keep-going", action="store_true", help="with --every: go on after a skew"
    )
    sample.add_argument(
        "--metrics-port", type=port, metavar="PORT",
        help="with --every: answer Prometheus at http://HOST:PORT/metrics",
    )  # fmt: skip
    sample.add_argument(
        "--metrics-host", default="127.0.0.1", metavar="HOST",
        help="the address to listen at (default: 127.0.0.1; 0.0.0.0 is every one)",
    )  # fmt: skip
    sample.add_argument(
        "--metrics-file", type=Path, metavar="FILE",
        help="write the metrics to a file, as for node_exporter's textfile collector",
    )  # fmt: skip
    sample.add_argument(
        "--webhook", type=url, metavar="URL", help="POST the reports of a skew to it, as JSON"
    )

    replay = mode(
        "replay",
        "recompute offline what the serving log says was served",
        "Each row as of its own instant, by the version that answered it. Reads the log that "
        "feature_store.yaml configures under featurekit: serving_log:.",
    )
    replay.add_argument(
        "services", nargs="*", metavar="SERVICE", help="services (default: every one in the log)"
    )
    replay.add_argument(
        "--log", metavar="LOG",
        help="another log: a folder or a file of it, or stream:NAME in the online store's Redis",
    )  # fmt: skip
    replay.add_argument(
        "--budget", type=budget, metavar="N|TIME",
        help="values to compare or how long to go on, from the oldest on (default: the whole log)",
    )  # fmt: skip
    _pages(replay)
    _junit(replay, "a test case for each feature, a failure where a value differs")

    operators = mode(
        "operators",
        "prove every operator and aggregate in the installed DuckDB: Python, SQL, online",
        "Needs no repo; in one, the proof is kept in its state folder. Every row of the operator "
        "table is tried on the edges of its types and on generated values, as columns and as "
        "literals; every aggregate over windows of hostile events.",
    )
    _budget(operators, 1_000_000, "inputs to compare, shared out among the rows,")
    operators.add_argument(
        "--inputs", type=positive, metavar="N", help="about so many inputs for each row instead"
    )
    _pages(operators)
    _junit(operators, "a test case for each row of the table and each aggregate")
    operators.add_argument(
        "--only", default="", metavar="TEXT", help="the rows whose name contains this"
    )

    demo = verb(
        "demo",
        "do all of it on the example shop",
        "On generated data, or with --data on the order lines of a real shop.",
    )
    demo.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help='order lines with the columns of "Online Retail", Parquet',
    )
    demo.add_argument(
        "--folder",
        type=Path,
        metavar="FOLDER",
        help="work here and keep it (default: a temporary one)",
    )
    demo.add_argument(
        "--labels",
        type=positive,
        default=20_000,
        metavar="N",
        help="rows of the training sets (default: 20000)",
    )
    _values(demo, "values that the parity check compares")
    return top


def _checked(made: Parser, default: int) -> None:
    """What every mode of parity about services takes."""
    made.add_argument(
        "services", nargs="*", metavar="SERVICE", help="services (default: every one)"
    )
    _budget(made, default, "values to compare for each service,")
    _pages(made)
    _junit(made, "a test case for each feature, a failure with its diagnosis")


def _pages(made: Parser) -> None:
    made.add_argument(
        "--html", type=Path, metavar="REPORT.html", help="write a page that needs no other file"
    )


def _junit(made: Parser, text: str) -> None:
    made.add_argument(
        "--junit", type=Path, metavar="REPORT.xml", help=f"write a JUnit report: {text}"
    )


def _budget(made: Parser, default: int, text: str) -> None:
    group = made.add_mutually_exclusive_group()
    group.add_argument(
        "--budget",
        type=budget,
        default=Budget(values=default),
        metavar="N|TIME",
        help=f"{text} or how long to go on in all: 30s, 5m (default: {default} values)",
    )
    group.add_argument(
        "--values",
        dest="budget",
        type=lambda text: Budget(values=positive(text)),
        metavar="N",
        help="the same as --budget N",
    )
    made.add_argument(
        "--seed", type=int, default=0, metavar="N", help="other questions (default: 0)"
    )


def _values(made: Parser, text: str) -> None:
    made.add_argument(
        "--values", type=positive, default=100_000, metavar="N", help=f"{text} (default: 100000)"
    )


def _common(made: Parser, *, suppress: bool) -> None:
    """The options that stand before the verb or after it."""

    def default(value: Any) -> Any:
        # A verb's own default would overwrite what stood before the verb.
        return argparse.SUPPRESS if suppress else value

    group = made.add_argument_group("global options, before the verb or after it")
    group.add_argument(
        "--repo", type=Path, default=default(None), metavar="PATH",
        help="the feature repo (default: . if feature_store.yaml is there, else feature_repo)",
    )  # fmt: skip
    group.add_argument(
        "--redis-url", default=default(None), metavar="URL",
        help="the online store (default: feature_store.yaml's, else a private server)",
    )  # fmt: skip
    group.add_argument(
        "--json", action="store_true", default=default(False), help="print one JSON document"
    )
