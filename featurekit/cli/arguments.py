"""Turns words of a command line into values, and what a verb says of itself into its parser.

Nothing that a verb needs to do its work is loaded here, so that --help is quick.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from featurekit.core.durations import duration_us
from featurekit.errors import DefinitionError
from featurekit.online.store.url import without_logins
from featurekit.parity.budget import Budget, parse_budget

if TYPE_CHECKING:
    from featurekit.core.screen import Screen


class UsageError(Exception):
    """A command line that is not understood; the command exits with 64. `usage` is shown before
    the message."""

    def __init__(self, message: str, *, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


# --- the mechanism --------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors exit with 64, for 2 means that the work failed.

    `source`, of a verb's parser, loads the verb when its options are needed. `mode` is the
    sub-command that is meant where none is named, and `mode_of` has those that an option means.
    """

    source: Callable[[], Verb] | None = None
    summary = ""
    mode: str | None = None
    mode_of: Mapping[str, str] = MappingProxyType({})
    _mixing = False

    def fill(self) -> None:
        """Load the verb, unless that is done, and add its options and all that --help says."""
        if self.source is None:
            return
        found, self.source = self.source(), None
        sentence = self.summary[0].upper() + self.summary[1:] + "."
        self.description = f"{sentence} {found.more}".strip()
        add_global(self, suppress=True)
        for option in found.options:
            option(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with `mode` in front where the arguments name no sub-command. Options and values
        may stand in any order."""
        self.fill()
        args = sys.argv[1:] if args is None else list(args)
        if self.mode is not None and not {"-h", "--help", *self.modes} & {*args}:
            named = (self.mode_of.get(word.partition("=")[0]) for word in args)
            args = [next(filter(None, named), self.mode), *args]
        if not self.modes and not self._mixing:
            self._mixing = True
            try:
                return self._strict(self.parse_known_intermixed_args(args, namespace))
            finally:
                self._mixing = False
        return super().parse_known_args(args, namespace)

    def _strict(self, parsed: tuple[Any, list[str]]) -> Any:
        """What was parsed; an error where words are left over, with what was probably meant."""
        namespace, left = parsed
        if left:
            self.error(self._left_over(left))
        return namespace, left

    def _left_over(self, words: Sequence[str]) -> str:
        unknown = next((word for word in words if word.startswith("-")), None)
        if unknown is None:
            return f"{' '.join(words)}: more words than `{self.prog}` takes{self._fewer(words)}"
        known = [o for a in self._actions for o in a.option_strings if o.startswith("--")]
        name = unknown.split("=")[0]
        if any(action.metavar == "key=value" for action in self._actions) and "_" in name:
            value = unknown.partition("=")[2] or next((w for w in words if w != unknown), "1")
            return f"there is no option {name}; write {name.strip('-')}={value}, without dashes"
        return f"there is no option {name}; {_near(name, known, listed='there are')}"

    def _fewer(self, words: Sequence[str]) -> str:
        """What to write instead of words that are too many."""
        options = {o for a in self._actions for o in a.option_strings}
        if "--end" in options and all(_is_instant(word) for word in words):
            return f"; write {self.prog} --end {words[-1]}"
        if "--repo" in options and Path(words[0]).is_dir():
            return f"; write --repo {words[0]} for the folder of the repo"
        takes = [str(a.metavar or a.dest) for a in self._actions if not a.option_strings]
        if not takes:
            return "; it takes options alone, so leave them out"
        return f"; it takes {' '.join(takes)}: put what has a space into quotes"

    @property
    def modes(self) -> list[str]:
        """The names of the sub-commands."""
        found = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return [name for action in found for name in action.choices]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse, with the word that was probably meant."""
        if action.choices is not None and value not in action.choices:
            what = action.metavar or action.dest
            known = list(action.choices)
            if isinstance(action, argparse._SubParsersAction):
                close = _ELSEWHERE.get(value) or _near(value, known, "there are")
                raise argparse.ArgumentError(
                    None, f"there is no {str(what).lower()} {value!r}; {close}"
                )
            raise argparse.ArgumentError(action, f"{value!r} is none of {', '.join(known)}")

    def _value_of(self, shown: str) -> str:
        """How an option is written with a value, as the end of a sentence."""
        names = shown.split("/")
        action = next((a for a in self._actions if set(names) & set(a.option_strings)), None)
        value = _VALUES.get(str(action.metavar)) if action is not None else None
        return f", as in {names[-1]} {value}" if value else ""

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError with the message."""
        missing = message.partition("the following arguments are required: ")[2]
        if missing:
            message = f"write {missing}, which this command needs"
        if missing.startswith("-"):
            message += self._value_of(missing.partition(",")[0])
        if missing == "VERB":
            message = f"write a verb: {', '.join(self.modes)}"
        message = message.removeprefix("argument ")
        option = re.match(r"(\S+): expected (one argument|at least one argument)$", message)
        if option:
            message = f"{option[1]} wants a value after it{self._value_of(option[1])}"
        raise UsageError(
            f"{without_logins(message)}; see `{self.prog} --help`", usage=self.format_usage()
        )


def _is_instant(word: str) -> bool:
    try:
        return bool(instant(word))
    except argparse.ArgumentTypeError:
        return False


_VALUES = {
    "TRIGGER": "nightly",
    "NAME-N": "nightly-3",
    "T": "2026-10-04",
    "P": "0.5",
    "VALUE": "true",
    "TIME": "30s",
    "DURATION": "1d",
    "SECONDS": "60",
    "N": "10",
    "N|TIME": "30s",
    "PATH": "feature_repo",
    "FOLDER": "feature_repo",
    "FILE": "orders.csv",
    "FILE.jsonl": "rows.jsonl",
    "FRAME": "labels.csv",
    "OUT.parquet": "train.parquet",
    "REPORT.html": "report.html",
    "REPORT.xml": "report.xml",
    "LOG": "served",
    "URL": "redis://localhost:6379/0",
    "HOST": "127.0.0.1",
    "PORT": "8000",
    "ZONE": "Europe/London",
    "VIEW": "customer_orders",
    "VIEW:FEATURE,…": "customer_orders:spend_7d",
    "VIEW:LABEL,…": "customer_future:churned",
    "NAME": "customer_orders",
    "NAME:FINGERPRINT": "customer_orders:0123abcd",
    "FINGERPRINT": "0123abcd",
    "SOURCE": "orders",
    "SERVICE": "checkout",
    "ENTITY": "customer",
    "KEY=VALUE": "customer_id=1",
    "key=value": "customer_id=1",
    "KIND": "features",
    "TEXT": "orders",
    "WORD": "orders",
    "TARGET": "http://models:8080,name=churn@3,service=churn_v1",
    "ROUTE": "churn@3=95,churn@4=5",
}
"""What may stand for the value of an option, by the word that --help has for it."""
_ELSEWHERE = {
    "materialize-incremental": "write `featurekit materialize --incremental`",
    "teardown": "`featurekit gc` removes what no service uses any more",
    "validate": "write `featurekit plan`, which checks the definitions and their files",
    "ui": "write `featurekit catalog -o site`, which makes pages of all there is",
    "registry-dump": "write `featurekit list --json`",
    **dict.fromkeys(
        ("entities", "feature-views", "feature-services", "features", "data-sources"),
        "write `featurekit list`",
    ),
    "delete": "write `featurekit forget` for an entity, or `featurekit gc` for versions",
    **dict.fromkeys(("ingest", "write", "write-to-online-store"), "write `featurekit push`"),
    "train": "write `featurekit get-historical`",
}
"""What to write here for a verb that other stores have."""


def _near(name: str, known: Sequence[str], listed: str) -> str:
    from featurekit.core.calls import near

    return near(name, known, listed=listed)


Option = Callable[[Parser], object]
"""Adds an option, a positional argument, or several that belong together to a parser."""

Run = Callable[[Namespace, "Screen"], "bool | int | None"]
"""Does what a verb or a mode does; False where the two paths differ, or another exit code."""


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, or a mode of one: what --help says after its summary, its options, its function."""

    more: str
    options: tuple[Option, ...]
    run: Run


def verb(more: str, *options: Option) -> Callable[[Run], Verb]:
    """Make a verb of a function. It is found under the function's name, in a module of that name
    (`load`)."""
    return lambda run: Verb(more, options, run)


def load(package: str, name: str) -> Verb:
    """The verb of a name, from its module in a package."""
    word = name.replace("-", "_")
    found: Verb = getattr(import_module(f"{package}.{word}"), word)
    return found


def argument(*names: str, **settings: Any) -> Option:
    """An option or a positional argument; takes what `ArgumentParser.add_argument` takes."""
    return lambda made: made.add_argument(*names, **settings)


def modes(
    package: str,
    summaries: Mapping[str, str],
    *,
    default: str,
    by_option: Mapping[str, str] = MappingProxyType({}),
) -> Option:
    """Sub-commands from the modules of a package, one of which is meant where none is named:
    `by_option` has those that are meant where an option of theirs stands."""

    def add(made: Parser) -> None:
        made.mode, made.mode_of = default, by_option
        add_verbs(made, package, summaries, dest="mode", help="one of these; each has --help")

    return add


def add_verbs(
    made: Parser, package: str, summaries: Mapping[str, str], *, dest: str, help: str | None = None
) -> None:
    """Add a parser for each verb of a package, which loads it when it is asked for."""
    parsers = made.add_subparsers(dest=dest, metavar=dest.upper(), required=True, help=help)
    for name, summary in summaries.items():
        of_verb = parsers.add_parser(name, help=summary)
        of_verb.source = partial(load, package, name)
        of_verb.summary = summary


def add_global(made: Parser, *, suppress: bool) -> None:
    """Add the options that stand before the verb or after it.

    With `suppress` they have no defaults, which would overwrite what stood before the verb.
    """

    def default(value: Any) -> Any:
        return argparse.SUPPRESS if suppress else value

    group = made.add_argument_group("global options, before the verb or after it")
    group.add_argument(
        "--repo",
        type=Path,
        default=default(None),
        metavar="PATH",
        help="the feature repo (default: . if feature_store.yaml is there, else feature_repo)",
    )
    group.add_argument(
        "--redis-url",
        default=default(None),
        metavar="URL",
        help="the online store (default: feature_store.yaml's, else a private server)",
    )
    group.add_argument(
        "--json", action="store_true", default=default(False), help="print one JSON document"
    )


# --- types of arguments ---------------------------------------------------------------------------


def instant(text: str) -> dt.datetime:
    """An ISO 8601 instant; one without an offset is UTC."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no instant; write 2011-09-30T12:00:00+01:00 (without an offset it is UTC)"
            " or 2011-09-30"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def pair(text: str) -> tuple[str, str]:
    """The two sides of `key=value`."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is no key=value; write customer_id=12347")
    return key, value


def of_pair(text: str) -> tuple[str, str]:
    """As `pair`, for a word that argparse did not read as one. UsageError where it is none."""
    try:
        return pair(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None


FAIL_OVERDUE = argument(
    "--fail-overdue",
    action="store_true",
    help="fail, too, where something is deprecated and its last day is over",
)


def features_option() -> Option:
    """--features, a list in the place of a service."""

    def add(made: Parser) -> None:
        made.add_argument(
            "--features",
            action="extend",
            type=_names,
            metavar="VIEW:FEATURE,…",
            help="these features instead of a service: view:feature, a view for all of its own, or "
            "a request-time feature; may be given several times",
        )

    return add


def labels_option() -> Option:
    """--labels, which look ahead (T10)."""

    def add(made: Parser) -> None:
        made.add_argument(
            "--labels",
            action="extend",
            type=_names,
            metavar="VIEW:LABEL,…",
            help="and these labels behind the features: view:label, or a view of labels for all of "
            "its own; may be given several times",
        )

    return add


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def budget(text: str) -> Budget:
    """A number of values, or a duration."""
    try:
        return parse_budget(text)
    except DefinitionError as error:
        raise argparse.ArgumentTypeError(_in_words(error, "budget")) from None


def _in_words(error: DefinitionError, what: str) -> str:
    """What an error says of `what`, as somebody at a shell may write it."""
    return str(error).removeprefix(f"{what}: ").replace("a timedelta, or a number", "a number")


def budget_of_values(text: str) -> Budget:
    """A number of values."""
    return Budget(values=positive(text))


def seconds(text: str) -> float:
    """A duration, in seconds."""
    duration(text)
    return duration_us(text, what="") / 1e6


def duration(text: str) -> str:
    """A duration, as it is written."""
    try:
        duration_us(text, what="")
    except DefinitionError as error:
        raise argparse.ArgumentTypeError(_in_words(error, "")) from None
    return text


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
