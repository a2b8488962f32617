"""Turns a project into the home of the training sets that are made in it."""

from __future__ import annotations

from featurekit.define.plan import Service
from featurekit.offline.home import Home
from featurekit.project.lineage.told import telling_training_sets
from featurekit.project.project import Project


def home_of(project: Project, service: Service) -> Home:
    """Where training sets of a service, with its labels, are made."""
    return Home(
        project=project.name,
        folder=project.path,
        private_key=project.private_key,
        telling=telling_training_sets(project, service),
    )
