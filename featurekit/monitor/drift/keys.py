"""Says by which join keys the rows of a service have the views of it, and of a service that has no
rows whether there is such a service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from featurekit.core.calls import near
from featurekit.errors import DataError
from featurekit.project.project import Project


def keys_of(project: Project, service: str) -> dict[str, tuple[str, ...]]:
    """The join keys of each view of a service that the repo defines, as rows have them."""
    found = project.repo.compiled_services.get(service)
    views = () if found is None else found.views
    return {view.title: tuple(key.name for key in view.row_keys) for view in views}


@contextmanager
def told_if_unknown(project: Project, service: str) -> Iterator[None]:
    """Where what the log has of a service is too little, say whether the repo defines it: the log
    may have services of before, so a name is not refused for that alone."""
    try:
        yield
    except DataError as error:
        known = project.repo.compiled_services
        if service in known:
            raise
        there = near(service, known, listed="there are")
        raise DataError(f"{error}. The repo has no service {service!r}; {there}") from None
