"""Turns what a project's store is asked to do into what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from featurekit.define.plan import Service
from featurekit.define.repo import Repo
from featurekit.project.lineage.runs import Definitions, telling
from featurekit.project.project import Project


def _definitions(repo: Repo) -> Definitions:
    return Definitions(repo.sources, repo.views, repo.services)


def send_present(project: Project, where: str) -> None:
    """Send what the repo defines to a URL or into a file, as one event of OpenLineage. ConfigError
    where that fails."""
    from featurekit.project.lineage.openlineage import send_definitions

    repo, config = project.repo, project.config.featurekit.openlineage
    views, services = [*repo.compiled_views.values()], [*repo.compiled_services.values()]
    named = config.namespace if config is not None else None
    send_definitions(where, named or project.name, *_definitions(repo).all_of(views, services))


@contextmanager
def told_apply(project: Project) -> Iterator[None]:
    """Tell of the block, which applies the definitions."""
    with telling(project.teller, "apply") as tell:
        yield
        repo = project.repo
        views, services = [*repo.compiled_views.values()], [*repo.compiled_services.values()]
        tell(lambda: _definitions(repo).all_of(views, services))


@contextmanager
def told_materialize(project: Project) -> Iterator[Callable[[Mapping[str, int]], None]]:
    """Tell of the block, which fills views; it says by name how many states it has written."""
    with telling(project.teller, "materialize") as tell:

        def filled(rows: Mapping[str, int]) -> None:
            repo = project.repo
            views = [view for name, view in repo.compiled_views.items() if name in rows]
            tell(lambda: _definitions(repo).all_of(views, [], rows))

        yield filled


def telling_training_sets(
    project: Project, service: Service
) -> Callable[[Path | None], AbstractContextManager[Callable[[Mapping[str, Any]], None]]]:
    """What tells of each computation of a training set."""
    repo = project.repo

    @contextmanager
    def of(target: Path | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
        with telling(project.teller, f"training_set.{service.name}") as tell:

            def made(manifest: Mapping[str, Any]) -> None:
                tell(lambda: _definitions(repo).training_set(service, manifest, target))

            yield made

    return of
