"""Turns a Feast repo into a featurekit repo, with a report of what came over.

`reading` has Feast parse the repo; `sources`, `views`, `on_demand` and `services` draft the
definitions in this order, and say in `told` what each means here; `rowwise` turns the functions of
on-demand views into functions of one row, which `compiling` tries; `writing` makes the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.files import whole
from featurekit.define.repo import load_repo
from featurekit.errors import ConfigError, DefinitionError, WriteError
from featurekit.plugins.feast.importing.draft import Draft, plain_name
from featurekit.plugins.feast.importing.on_demand import draft_on_demand
from featurekit.plugins.feast.importing.reading import read_feast
from featurekit.plugins.feast.importing.services import draft_services, note_shared_names
from featurekit.plugins.feast.importing.sources import draft_sources
from featurekit.plugins.feast.importing.told import Report
from featurekit.plugins.feast.importing.views import draft_entities, draft_views
from featurekit.plugins.feast.importing.writing import files_of, report_text

REPORT = "IMPORT.md"


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written: the files, and what is said of each definition. `faults` is what featurekit
    says of the written repo; None where it can be applied."""

    files: list[Path]
    report: Report
    faults: str | None


def import_feast(
    path: Path, folder: Path, progress: Callable[[str, int, int], None] = lambda *_: None
) -> Imported:
    """Write the definitions of the Feast repo in `path` into `folder`, which is new or empty.

    ConfigError where there is no Feast repo, or where the folder holds anything; DefinitionError
    where the repo cannot be loaded. Then nothing is written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there already and not empty; name a new folder")
    steps = (
        draft_sources, draft_entities, draft_views, note_shared_names, _apart, draft_on_demand,
        draft_services,
    )  # fmt: skip
    progress("import", 0, len(steps) + 2)
    draft = Draft(read_feast(path), Report(), folder)
    for number, step in enumerate(steps, 1):
        progress("import", number, len(steps) + 2)
        step(draft)
    _others(draft)
    files = files_of(draft)
    files[REPORT] = report_text(draft.report, str(path))
    progress("import", len(steps) + 1, len(steps) + 2)
    faults = _written(folder, files)
    progress("import", len(steps) + 2, len(steps) + 2)
    return Imported([folder / name for name in files], draft.report, faults)


def _apart(draft: Draft) -> None:
    """Reserve the functions' names for the features, and find on-demand views that have one name
    for two features: these are modules of their own."""
    views = draft.repo.contents.on_demand_feature_views
    names = Counter(f.name for view in views for f in view.features)
    draft.twice = {name for name, number in names.items() if number > 1}
    draft.taken |= {plain_name(name) for name in names}


def _others(draft: Draft) -> None:
    """What has no counterpart."""
    contents = draft.repo.contents
    for view in getattr(contents, "label_views", ()):
        draft.report.about("label view", view.name).lost(
            "labels that people write have no definition here",
            "give them as columns of the entity frame, or write a view with ahead=True "
            "(docs/train.md)",
        )
    for one in contents.permissions:
        draft.report.about("permission", one.name).lost(
            "who may do what is not said by definitions", "see docs/security.md"
        )


def _written(folder: Path, files: dict[str, str]) -> str | None:
    """Write the files, all of them or none; what is wrong with the repo that they are."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with whole(folder) as hidden:
            hidden.mkdir()
            for name, text in files.items():
                (hidden / name).write_text(text, encoding="utf-8")
    except WriteError:
        raise
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from None
    try:
        load_repo(folder)
    except DefinitionError as error:
        return str(error)
    return None
