"""`featurekit serve`: answers lookups over HTTP."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurekit.cli.access import ACCESS, access_of
from featurekit.cli.arguments import UsageError, argument, port, positive, seconds, verb
from featurekit.cli.forwarding import FORWARD, check_targets, forward_of, log_of
from featurekit.cli.repo import repo_folder
from featurekit.core.page import CATALOG_MARK
from featurekit.core.screen import Screen
from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from featurekit.server.settings import PushSettings, Settings

_NEEDED = ("fastapi", "orjson", "ormsgpack", "uvicorn")
_EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@verb(
    "The store is that of --redis-url and --project, or that of the repo, whose code is not read. "
    "SIGTERM ends it in good order. Routes and errors are in docs/serve.md, and at /docs.",
    argument("--host", default="127.0.0.1", metavar="HOST", help="(default: 127.0.0.1)"),
    argument(
        "--port", type=port, default=6566, metavar="PORT", help="0 for a free one (default: 6566)"
    ),
    argument("--workers", type=positive, default=1, metavar="N", help="processes (default: 1)"),
    argument("--project", metavar="NAME", help="the project, where no repo is there"),
    argument(
        "--timeout",
        type=seconds,
        default=2.0,
        metavar="DURATION",
        help="how long a request may take (default: 2s)",
    ),
    argument(
        "--drain",
        type=seconds,
        default=1.0,
        metavar="DURATION",
        help="how long to answer on after SIGTERM (default: 1s)",
    ),
    argument(
        "--max-rows",
        type=positive,
        default=10_000,
        metavar="N",
        help="rows of one request (default: 10000)",
    ),
    argument(
        "--max-bytes",
        type=positive,
        default=4 * 1024 * 1024,
        metavar="N",
        help="bytes of one body (default: 4194304)",
    ),
    argument(
        "--max-unpacked",
        type=positive,
        default=16,
        metavar="TIMES",
        help="a body of Arrow or Parquet may have so many times --max-bytes once it is unpacked "
        "(default: 16)",
    ),
    argument(
        "--log",
        nargs="?",
        const="",
        metavar="PATH",
        help="take pushes, by the definitions of the repo, into the log of its state folder; PATH "
        "is that folder, where it is to be named",
    ),
    argument(
        "--push-timeout",
        type=seconds,
        default=10.0,
        metavar="DURATION",
        help="how long a push may take (default: 10s)",
    ),
    argument(
        "--push-queue",
        type=positive,
        default=64,
        metavar="N",
        help="pushes that may be under way; more are refused for now (default: 64)",
    ),
    argument(
        "--catalog",
        type=Path,
        metavar="FOLDER",
        help="serve the pages that `featurekit catalog` has written there, under /catalog",
    ),
    argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="how lines on standard error are written (default: text)",
    ),
    argument("--access-log", action="store_true", help="a line for each request"),
    argument(
        "--traces",
        action="store_true",
        help="send spans by OpenTelemetry, as the variables OTEL_… say (featurekit[otel])",
    ),
    *ACCESS,
    *FORWARD,
)
def serve(arguments: Namespace, screen: Screen) -> None:
    """Become the process that serves."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} is not installed; run `pip install 'featurekit[server]'`"
        )
    if arguments.traces and not _has(_EXPORTER):
        raise ConfigError(
            "OpenTelemetry is not installed; run `pip install 'featurekit[otel]'`, or leave "
            "--traces out"
        )
    from featurekit.server.handover import Handover
    from featurekit.server.listen import bound

    settings = _settings(arguments)
    check_targets(settings)
    listening = bound(arguments.host, arguments.port)
    host, found = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    screen.record({"url": f"http://{shown}:{found}", "project": settings.project})
    screen.line(f"Serving project {settings.project} at http://{shown}:{found} (docs at /docs).")
    sys.stdout.flush()
    with Handover(settings, listening.fileno(), arguments.workers).sent() as told:
        os.execv(sys.executable, [sys.executable, "-m", "featurekit.server", str(told)])


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it is not there
        return False


def _settings(arguments: Namespace) -> Settings:
    """What is served and how: the store and the project that are named, or those of a repo."""
    limits = _limits(arguments)
    from featurekit.online.store.login import Login
    from featurekit.project.config import URL_VARIABLE, find_repo, load_config
    from featurekit.server.settings import Settings

    if arguments.project is not None:
        if arguments.log is not None:
            raise UsageError(
                "--log needs a repo: whose rows are taken, and who was forgotten, stands there; "
                "write --repo in the place of --project"
            )
        url = arguments.redis_url or os.environ.get(URL_VARIABLE)
        if url is None:
            raise UsageError("--project needs --redis-url redis://localhost:6379/0")
        return Settings(
            arguments.project,
            url=url,
            login=Login.of_environment(),
            access=access_of(arguments, None),
            forward=forward_of(arguments, None),
            log=log_of(arguments),
            **limits,
        )
    folder = repo_folder(arguments)
    if folder is None:
        raise ConfigError(
            "no repo is here; write `featurekit serve --redis-url redis://localhost:6379/0 "
            "--project NAME`, or name a repo with --repo"
        )
    # Loaded here: it loads what plans are made of, which a server without a repo does itself.
    from featurekit.define.published import KEYS_VARIABLE, PYTHON_VARIABLE

    found = find_repo(folder)
    config = load_config(found)
    pushes = None
    if arguments.log is not None:
        pushes = _pushes(found, found / config.featurekit.state_dir, arguments)
    url = arguments.redis_url or config.redis_url()
    own = config.featurekit
    keys = None if os.environ.get(KEYS_VARIABLE) else tuple(own.public_keys)
    return Settings(
        config.project,
        url=url,
        private=str((found / own.state_dir / "redis").absolute()) if url is None else None,
        named="--redis-url" if arguments.redis_url else config.redis_url_from(),
        on_mismatch=own.numeric_mismatch,
        public_keys=keys,
        run_python=None if os.environ.get(PYTHON_VARIABLE) else own.run_python,
        tolerance_us=own.tolerance_us,
        login=own.login(found),
        connections=own.connections,
        limits=config.limits(),
        access=access_of(arguments, own.serve),
        pushes=pushes,
        forward=forward_of(arguments, own.serve, folder=found, keys=keys),
        log=log_of(arguments, own.serving_log, folder=found, state_dir=found / own.state_dir),
        **limits,
    )


def _limits(arguments: Namespace) -> dict[str, Any]:
    """What the command line alone says: how long, how much, and what is told of it."""
    return {
        "timeout_s": arguments.timeout,
        "drain_s": arguments.drain,
        "most_rows": arguments.max_rows,
        "most_bytes": arguments.max_bytes,
        "unpacked": arguments.max_unpacked,
        "push_timeout_s": arguments.push_timeout,
        "log_format": arguments.log_format,
        "access_log": arguments.access_log,
        "traces": arguments.traces,
        "catalog": _catalog(arguments),
    }


def _catalog(arguments: Namespace) -> str | None:
    """The folder of the catalogue. ConfigError where none is there."""
    folder: Path | None = arguments.catalog
    if folder is None:
        return None
    if not (folder / CATALOG_MARK).is_file():
        raise ConfigError(
            f"--catalog: {str(folder)!r} holds no catalogue; write one with `featurekit catalog -o "
            f"{folder}`"
        )
    return str(folder.absolute())


def _pushes(repo: Path, state: Path, arguments: Namespace) -> PushSettings:
    """How pushes are taken. UsageError where another log is named than that of the repo."""
    from featurekit.server.settings import PushSettings

    if arguments.log and Path(arguments.log).resolve() != state.resolve():
        raise UsageError(
            f"--log {arguments.log} is not the state folder of the repo, {state}; leave the path "
            "out, or write state_dir: in feature_store.yaml"
        )
    return PushSettings(
        str(repo.absolute()), redis_url=arguments.redis_url, waiting=arguments.push_queue
    )
