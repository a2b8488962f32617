"""Turns a command line into the pipeline of its repo, whose steps are command lines, too."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from featurekit.cli.arguments import UsageError
from featurekit.cli.repo import repo_folder
from featurekit.errors import ConfigError
from featurekit.plugins.pipelines.pipeline import Pipeline, Step, pipeline_of

if TYPE_CHECKING:
    from featurekit.project.config import RepoConfig

_SOME_END = "2026-01-01T00:00:00+00:00"


def described(arguments: Namespace) -> Pipeline:
    """The pipeline that the settings describe. ConfigError where there is no repo, or a step is no
    command line of featurekit."""
    from featurekit.project.config import FILE

    folder, config = _settings(arguments)
    found = pipeline_of(config.featurekit.pipeline, config.project)
    for step in found.steps:
        if step.words[0] == "featurekit":
            _check(step, f"{folder / FILE}: featurekit.pipeline.steps: {step.name}")
    return found


def check_apart(arguments: Namespace, paths: Iterable[Path]) -> None:
    """ConfigError where a file would be a module of the repo, which runs them all."""
    from featurekit.define.modules import IGNORE_FILE, is_module

    folder, config = _settings(arguments)
    for path in paths:
        if is_module(folder, path, config.featurekit.ignore):
            raise ConfigError(
                f"-o {arguments.output}: {path} would be a module of the feature repo; name a "
                f"folder outside of it, as in -o ../dags, or write `{path.parent.name}/` in "
                f"{IGNORE_FILE}"
            )


def _settings(arguments: Namespace) -> tuple[Path, RepoConfig]:
    from featurekit.project.config import find_repo, load_config

    folder = find_repo(repo_folder(arguments) or Path())
    return folder, load_config(folder)


def _check(step: Step, where: str) -> None:
    """ConfigError where featurekit would not understand the step, or would not end by itself."""
    import contextlib
    import io

    from featurekit.cli.parser import parser

    words = step.told(_SOME_END)[1:]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            told = parser().parse_args(words)
    except UsageError as error:
        raise ConfigError(f"{where}: {error}") from None
    except SystemExit:
        raise ConfigError(
            f"{where}: `{' '.join(words)}` does no work; write a verb, as in run: validate"
        ) from None
    every = told.verb == "parity" and getattr(told, "every", None) is not None
    if told.verb in _ENDLESS or every:
        raise ConfigError(
            f"{where}: `featurekit {told.verb}` runs until it is stopped, and a step ends; run it "
            "as a service of its own"
        )


_ENDLESS = ("serve",)
"""Verbs that run until they are stopped."""
