"""Says where the profiles of a project are kept."""

from __future__ import annotations

from featurekit.log.profile_places import ProfileFolder, ProfileObjects, ProfilePlace
from featurekit.project.config import MonitoringConfig
from featurekit.project.project import Project


def profile_place(project: Project) -> ProfilePlace:
    """Where profiles are kept by the settings. ConfigError where what reads S3 is not installed."""
    found = (project.config.featurekit.monitoring or MonitoringConfig()).profiles
    if found.folder is None:
        return ProfileFolder(project.state_dir)
    return ProfileObjects(found.folder, project.state_dir)
