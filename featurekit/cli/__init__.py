"""Turns `featurekit VERB …` into what the verb does; each verb is a module of `verbs`.

Exit codes: 0 done; 1 a parity check found a difference; 2 an error that the message explains; 64 a
command line that is not understood; 70 a bug in featurekit; 130 interrupted; 141 the reader of the
output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from featurekit.errors import FeaturekitError

DIFFERS, ERROR, USAGE, BUG, INTERRUPTED, PIPE = 1, 2, 64, 70, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    from featurekit.cli.arguments import UsageError
    from featurekit.cli.parser import parser

    try:
        arguments = parser().parse_args(argv)
        return _run(arguments)
    except SystemExit as leaving:  # argparse: --help, --version, a wrong command line
        return leaving.code if isinstance(leaving.code, int) else USAGE
    except FeaturekitError as error:
        print(f"featurekit: error: {error}", file=sys.stderr)
        return ERROR
    except UsageError as error:
        print(f"featurekit: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("featurekit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE
    except OSError as error:  # a full disk, a file where a folder should be
        print(f"featurekit: error: {error}", file=sys.stderr)
        return ERROR
    except Exception:
        import traceback

        traceback.print_exc()
        print("featurekit: this is a bug in featurekit, please report it", file=sys.stderr)
        return BUG


def _run(arguments: Any) -> int:
    import warnings

    from featurekit.cli import verbs
    from featurekit.cli.arguments import load
    from featurekit.core.screen import Screen

    def warn(message: Any, *_: Any, **__: Any) -> None:
        print(f"featurekit: warning: {message}", file=sys.stderr)

    verb = load(verbs.__name__, arguments.verb)
    with warnings.catch_warnings():
        warnings.showwarning = warn
        code = verb.run(arguments, Screen(as_json=arguments.json))
    sys.stdout.flush()
    return DIFFERS if code is False else 0
