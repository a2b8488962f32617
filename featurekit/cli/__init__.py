"""Turns `featurekit VERB …` into what the verb does; each verb is a module of `verbs`.

Exit codes: 0 done; 1 a comparison found a difference; 2 an error that the message explains; 3
data broke its contract and nothing was written, or the contract of a model does not hold; 64 a
command line that is not understood; 70 a bug in featurekit; 130 interrupted, 143 terminated; 141
the reader of the output went away.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
"""Not from `typing`: until `main` has taken the signals over, little is to be imported."""

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from featurekit.cli.interrupt import Interrupts
    from featurekit.core.screen import Screen

DIFFERS, ERROR, BROKEN, USAGE, BUG, INTERRUPTED, PIPE = 1, 2, 3, 64, 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Without `argv` the process is the command's own, and
    its signals are, too."""
    if argv is not None:
        return _main(argv)
    code = INTERRUPTED
    try:
        from featurekit.cli.interrupt import interrupts

        signals = interrupts()
    except KeyboardInterrupt:  # it came before that was done
        return _interrupted()
    try:
        code = _main(None, signals)
        if signals.received is None:
            signals.over = code
    except BaseException:
        # What a library makes of the interruption, or whether it swallows it, is of no consequence.
        if signals.received is None:
            raise
    if signals.over is None:
        signals.leave(DIFFERS if code == DIFFERS else signals.code)
    return code


def _interrupted() -> int:
    print("featurekit: interrupted", file=sys.stderr)
    return INTERRUPTED


def _main(argv: Sequence[str] | None, signals: Interrupts | None = None) -> int:
    """Run one command; returns its exit code. With --json, an error is a JSON document too."""
    from featurekit.cli.parser import parser
    from featurekit.core.screen import Screen

    words = sys.argv[1:] if argv is None else list(argv)
    screen = Screen(as_json="--json" in words)
    try:
        return _run(parser().parse_args(words), screen)
    except SystemExit as leaving:  # argparse: --help and --version
        return leaving.code if isinstance(leaving.code, int) else USAGE
    except KeyboardInterrupt:
        if signals is not None:
            raise
        return _interrupted()
    except BrokenPipeError:
        # Python would complain once more when it flushes at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    except Exception as error:
        if signals is not None and signals.received is not None:
            raise  # it came of the interruption
        return _failed(error, screen)


def _failed(error: Exception, screen: Screen) -> int:
    from featurekit.cli.arguments import UsageError
    from featurekit.errors import ContractBroken, ContractRefused, FeaturekitError

    if isinstance(error, UsageError):
        sys.stderr.write(error.usage)
        screen.fail(error, USAGE)
        return USAGE
    if isinstance(error, (ContractBroken, ContractRefused)):
        screen.fail(error, BROKEN)
        return BROKEN
    if isinstance(error, (FeaturekitError, OSError)):  # OSError: a full disk, a file as a folder
        screen.fail(error, ERROR)
        return ERROR
    import traceback

    traceback.print_exception(error)
    screen.failed(error, BUG)
    print("featurekit: this is a bug in featurekit, please report it", file=sys.stderr)
    return BUG


def _run(arguments: Any, screen: Screen) -> int:
    import warnings

    from featurekit.cli import verbs
    from featurekit.cli.arguments import load

    def warn(message: Any, *_: Any, **__: Any) -> None:
        print(f"featurekit: warning: {message}", file=sys.stderr)

    verb = load(verbs.__name__, arguments.verb)
    with warnings.catch_warnings():
        warnings.showwarning = warn
        done = verb.run(arguments, screen)
    sys.stdout.flush()
    if isinstance(done, bool) or done is None:
        return DIFFERS if done is False else 0
    return done
