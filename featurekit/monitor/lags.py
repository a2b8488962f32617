"""Looks at how far the streams and the views of a project are behind."""

from __future__ import annotations

from collections.abc import Callable

from featurekit.feed.consume import Consumer
from featurekit.monitor.beside import Lags
from featurekit.project.freshness import freshness
from featurekit.project.project import Project
from featurekit.project.trigger_settings import WatchConfig


def lags_of(project: Project, config: WatchConfig) -> Callable[[], Lags]:
    """What looks at the streams and views that `featurekit: watch:` names. DefinitionError for a
    source that the repo does not define, or one without an event_id."""
    consumers = {
        source: Consumer(project, source, stream=one.stream, url=one.stream_url, group=one.group)
        for source, one in config.consume.items()
    }
    wanted = set(config.materialize.views) if config.materialize is not None else set()

    def look() -> Lags:
        views = [view for service in project.live().values() for view in service.stored]
        if wanted:
            views = [view for view in views if view.name in wanted]
        filled = freshness(project.online, project.name, views).filled if views else {}
        return Lags(
            {source: consumer.waiting() for source, consumer in consumers.items()},
            {view: until / 1e6 for view, until in filled.items()},
            project.online.now_us() / 1e6,
        )

    return look
