"""Lets go of the leases on a project's sources, those of the dead or all."""

from __future__ import annotations

from collections.abc import Sequence

from featurekit.errors import DefinitionError
from featurekit.project import leases
from featurekit.project.leases import Lease
from featurekit.project.project import Project


def unlock(project: Project, sources: Sequence[str], *, force: bool) -> list[tuple[Lease, bool]]:
    """Let go of the dead, and with `force` of the living; see `FeatureStore.unlock`."""
    fed = {name for view in project.fed(on_mismatch="warn") for name in view.source_names}
    known = sorted({*project.repo.sources, *fed})
    for name in sources:
        if name not in known:
            raise DefinitionError(f"no view reads a source {name!r}; there are {', '.join(known)}")
    chosen = sources or [*known, leases.WATCH]
    return leases.unlock(project.online, project.name, chosen, force=force)
