"""Turns a command line into the pipeline of its repo, whose steps are command lines, too."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from featurekit.cli.arguments import UsageError
from featurekit.cli.repo import repo_folder
from featurekit.errors import ConfigError
from featurekit.plugins.pipelines.pipeline import Pipeline, Step, pipeline_of

_SOME_END = "2026-01-01T00:00:00+00:00"


def described(arguments: Namespace) -> Pipeline:
    """The pipeline that the settings describe. ConfigError where there is no repo, or a step is no
    command line of featurekit."""
    from featurekit.project.config import FILE, find_repo, load_config

    folder = find_repo(repo_folder(arguments) or Path())
    config = load_config(folder)
    found = pipeline_of(config.featurekit.pipeline, config.project)
    for step in found.steps:
        if step.words[0] == "featurekit":
            _check(step, f"{folder / FILE}: featurekit.pipeline.steps: {step.name}")
    return found


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
