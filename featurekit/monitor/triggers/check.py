"""Checks that the triggers of a repo name what is there, before anybody relies on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from featurekit.core.calls import near
from featurekit.errors import ConfigError
from featurekit.monitor.triggers.actions import check_environment
from featurekit.project.project import Project
from featurekit.project.trigger_settings import TriggerConfig, WatchConfig


def check_triggers(project: Project) -> Mapping[str, TriggerConfig]:
    """The triggers of a project. ConfigError where one names a service, source or feature that the
    repo does not define, or a variable that the environment does not have."""
    triggers = project.config.featurekit.triggers
    for name, config in triggers.items():
        place = f"featurekit.triggers.{name}"
        _check_names(project, config, place)
        for number, action in enumerate(config.actions):
            for variable in check_environment(action):
                raise ConfigError(
                    f"{place}.actions.{number}: the environment has no variable {variable}; set it "
                    "where `featurekit watch` runs"
                )
    return triggers


def check_watch(project: Project) -> WatchConfig | None:
    """What runs beside the triggers of a project; None where nothing does. ConfigError where it
    names a source or a view that the repo does not define."""
    config = project.config.featurekit.watch
    if config is None:
        return None
    for source in config.consume:
        said = f"featurekit.watch.consume.{source}: no view reads a source"
        _check(source, project.repo.sources, said)
    for view in config.materialize.views if config.materialize is not None else ():
        said = "featurekit.watch.materialize.views: there is no view"
        _check(view, project.repo.views, said)
    return config


def _check_names(project: Project, config: TriggerConfig, place: str) -> None:
    services = project.repo.compiled_services
    for one in (config.performance, config.drift, config.skew):
        if one is not None:
            _check(one.service, services, f"{place}.{config.kind}.service: there is no service")
    if config.new_rows is not None:
        sources = project.repo.sources
        said = f"{place}.new_rows.source: no view reads a source"
        _check(config.new_rows.source, sources, said)
    if config.drift is not None:
        known = [output.full_name for output in services[config.drift.service].outputs]
        said = f"{place}.drift.features: service {config.drift.service} has no feature"
        for feature in config.drift.features:
            _check(feature, known, said)


def _check(name: str, known: Collection[str], said: str) -> None:
    if name not in known:
        raise ConfigError(f"{said} {name!r}; {near(name, sorted(known), listed='there are')}")
