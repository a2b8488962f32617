"""Hands what a repo defines to another tool's registry, where `featurekit: publish:` names one."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from featurekit.errors import FeaturekitError, RegistryError
from featurekit.project.project import Project

PUBLISHERS = {"feast": "featurekit.plugins.feast.publish"}
"""The module whose `publish` does it, by the tool. It is loaded for a repo that asks for it, and
for no other: Feast's import takes seconds."""


@dataclass(frozen=True, slots=True)
class Published:
    """What is done to an object of the other tool's registry: "add", "change" or "remove"; or
    "omit", for what the tool cannot say, with the reason in `why`. `kind` is the tool's own word
    for the object."""

    action: str
    kind: str
    name: str
    why: str = ""


def to_publish(project: Project) -> list[Published]:
    """What `publish` would do; nothing is written. Empty where nothing is to be published."""
    made = _publisher(project)
    return [] if made is None else list(made(project, write=False))


def publish(project: Project) -> list[Published]:
    """Bring the other tool's registry up to date with the definitions in force; what was done.

    RegistryError where that fails. The definitions are in force all the same.
    """
    made = _publisher(project)
    if made is None:
        return []
    try:
        return list(made(project, write=True))
    except Exception as error:  # whatever another tool's registry may raise
        told = str(error) if isinstance(error, FeaturekitError) else repr(error)
        raise RegistryError(
            f"the definitions are applied and in force here; publishing them to "
            f"{project.config.featurekit.publish} failed: {told}. Mend that, and apply again: what "
            "is published already stays as it is"
        ) from error


def _publisher(project: Project) -> Any:
    tool = project.config.featurekit.publish
    return None if tool is None else import_module(PUBLISHERS[tool]).publish
