"""Says by which join keys the rows of a service have the views of it."""

from __future__ import annotations

from featurekit.project.project import Project


def keys_of(project: Project, service: str) -> dict[str, tuple[str, ...]]:
    """The join keys of each view of a service that the repo defines, as rows have them."""
    found = project.repo.compiled_services.get(service)
    views = () if found is None else found.views
    return {view.title: tuple(key.name for key in view.row_keys) for view in views}
