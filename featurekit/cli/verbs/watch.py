"""`featurekit watch`: looks at triggers and does their actions, until it is told to end."""

from __future__ import annotations

import datetime as dt
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from featurekit.cli.arguments import argument, port, seconds, verb
from featurekit.cli.interrupt import stopping
from featurekit.cli.repo import open_store
from featurekit.core.screen import Screen, warn
from featurekit.errors import ConfigError

if TYPE_CHECKING:
    from featurekit.monitor.triggers.conditions import OpenProject
    from featurekit.monitor.triggers.engine import Parts
    from featurekit.monitor.triggers.lead import Watch
    from featurekit.monitor.triggers.metrics import TriggerMetrics
    from featurekit.project.project import Project
    from featurekit.store import FeatureStore


@verb(
    "Of several processes that watch a project one leads, and another one takes its place where it "
    "ends. Ends in good order at SIGTERM and SIGINT: an action that is under way is waited for. "
    "`featurekit triggers` shows what became of them.",
    argument(
        "--port",
        type=port,
        metavar="PORT",
        help="answer at http://HOST:PORT: /metrics, /health, /ready and POST /events/NAME",
    ),
    argument(
        "--host",
        default="127.0.0.1",
        metavar="HOST",
        help="the address to listen at (default: 127.0.0.1; 0.0.0.0 is every one)",
    ),
    argument("--dry-run", action="store_true", help="do no action, and tell what would be done"),
    argument(
        "--drain",
        type=seconds,
        default="25s",
        metavar="TIME",
        help="how long an action may go on after a signal, before it is ended (default: 25s)",
    ),
)
def watch(arguments: Namespace, screen: Screen) -> None:
    """Watch until a signal."""
    from featurekit.monitor.triggers.lead import Watch

    stop = threading.Event()
    with open_store(arguments) as store, ExitStack() as stack:
        parts = _parts(store, arguments, screen)
        made = Watch(parts, store.online)
        if not parts.triggers and parts.beside is None:
            raise ConfigError(
                "there is nothing to watch: write triggers: or watch: under featurekit: in "
                "feature_store.yaml; `featurekit triggers` shows an example"
            )
        stack.enter_context(stopping(stop, within_s=arguments.drain + _END_S))
        if arguments.port is not None:
            _serve(made, arguments, screen, stack)
        screen.line(f"Watching project {store.project}: {len(parts.triggers)} triggers.")
        sys.stdout.flush()
        made.run(stop, drain_s=arguments.drain)


_END_S = 15.0
"""How long the end of an action that is ended may take, and all that comes after it."""


def _serve(made: Watch, arguments: Namespace, screen: Screen, stack: ExitStack) -> None:
    from featurekit.monitor.answers import answering
    from featurekit.monitor.triggers.answers import WatchAnswers

    main = threading.current_thread()
    answers = WatchAnswers(made, [made.parts.metrics.text], main.is_alive)
    found = stack.enter_context(
        answering(answers, arguments.host, arguments.port, what="the watch")
    )
    screen.record({"url": f"http://{arguments.host}:{found}"})
    screen.line(f"Answering at http://{arguments.host}:{found}.")


def _parts(store: FeatureStore, arguments: Namespace, screen: Screen) -> Parts:
    from featurekit.monitor.triggers.actions import Where
    from featurekit.monitor.triggers.check import check_triggers
    from featurekit.monitor.triggers.engine import Parts
    from featurekit.monitor.triggers.metrics import TriggerMetrics
    from featurekit.monitor.triggers.record import Record

    project = store.parts
    triggers = check_triggers(project)
    metrics = TriggerMetrics(list(triggers))
    if arguments.dry_run:
        dry = {"dry_run": True}
        triggers = {name: one.model_copy(update=dry) for name, one in triggers.items()}

    def tell(line: str) -> None:
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        screen.record({"at": now, "said": line})
        screen.line(f"{now} {line}")
        sys.stdout.flush()

    return Parts(
        project.name,
        triggers,
        _opener(project),
        Record(project.state_dir, tell),
        metrics,
        Where(project.path, project.state_dir / "triggers"),
        warn,
        _beside(project, metrics, arguments),
    )


def _beside(
    project: Project, metrics: TriggerMetrics, arguments: Namespace
) -> Callable[[threading.Event], None] | None:
    """What runs consumers and materialize; None where the settings name neither."""
    from featurekit.monitor.beside import Beside, BesideMetrics
    from featurekit.monitor.lags import lags_of
    from featurekit.monitor.triggers.check import check_watch
    from featurekit.project.config import URL_VARIABLE

    config = check_watch(project)
    if config is None or (not config.consume and config.materialize is None):
        return None
    env = dict(os.environ)
    if arguments.redis_url is not None:
        env[URL_VARIABLE] = arguments.redis_url  # not as an option: it may hold a password
    made = BesideMetrics(metrics.registry)
    return Beside(config, project.path, lags_of(project, config), made, warn, env).run


def _opener(project: Project) -> OpenProject:
    """What opens the project anew for a look, so that its definitions are those of now."""
    from featurekit.project.project import Project

    @contextmanager
    def opened() -> Iterator[Project]:
        made = Project(project.path, redis_url=project.redis_url)
        made.redis_url_from = project.redis_url_from
        try:
            yield made
        finally:
            made.close()

    return opened
