"""Writes the catalogue: a folder of pages that need nothing from elsewhere, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from featurekit.core.attributes import Named
from featurekit.core.page import CATALOG_MARK, Html, base_css, joined
from featurekit.core.screen import Progress
from featurekit.core.version import VERSION
from featurekit.errors import ConfigError
from featurekit.project.lineage.picture import css
from featurekit.project.project import Project
from featurekit.project.site.gathered import Asked, Gathered, gather, words_of
from featurekit.project.site.pages import ROOT, Page, feature_pages, other_pages
from featurekit.project.site.parts import asset, fill

_KINDS = {
    "service": "Services",
    "view": "Views",
    "source": "Sources",
    "entity": "Entities",
}
_SHORT = 200


@dataclass(frozen=True, slots=True)
class Site(Named):
    """A catalogue that was written: its folder, how many things of each kind it has, and its size
    in bytes. `notes` say of which views the values were not looked at, and why."""

    folder: Path
    things: dict[str, int]
    bytes: int
    notes: tuple[str, ...] = ()


def write_site(
    project: Project, folder: Path, asked: Asked, progress: Progress = lambda *_: None
) -> Site:
    """Write the catalogue of a project into a folder, in the place of the one that is there.

    ConfigError, with nothing written, where the folder holds something else, or cannot be written.
    """
    folder = folder.absolute()
    _check(folder)
    found = gather(project, asked, progress)
    hidden = folder.with_name(f".{folder.name}.new-{os.getpid()}")
    try:
        shutil.rmtree(hidden, ignore_errors=True)
        size = _write(found, hidden, progress)
        _replace(folder, hidden)
    except OSError as error:
        raise ConfigError(
            f"-o {folder} cannot be written: {error.strerror or error}; nothing there was changed"
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    things = Counter(item.kind for item in found.items.values())
    notes = tuple(f"view {n!r}: {one.why_not}" for n, one in found.looked.items() if one.why_not)
    return Site(folder, dict(things), size, notes)


def _check(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CATALOG_MARK).is_file():
        raise ConfigError(
            f"-o {folder} holds something that is no catalogue, and would be replaced; name a new "
            "or an empty folder, as in -o site"
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"-o {folder} is a file; name a folder, as in -o site")
    if not folder.parent.is_dir():
        raise ConfigError(
            f"-o {folder}: the folder {folder.parent} does not exist; make it, or write another "
            "path"
        )


def _replace(folder: Path, hidden: Path) -> None:
    """Put the new folder into the place of the old one."""
    old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    try:
        hidden.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(found: Gathered, folder: Path, progress: Progress) -> int:
    """Write all files; their size in bytes."""
    folder.mkdir(mode=0o755)
    for name in {page.partition("/")[0] for page in found.pages.all()}:
        (folder / name).mkdir()
    size, total = 0, len(found.items)
    for number, (name, text) in enumerate(_files(found)):
        data = text.encode("utf-8")
        (folder / name).write_bytes(data)
        size += len(data)
        progress("pages", min(number + 1, total), total)
    return size


def _files(found: Gathered) -> Iterator[tuple[str, str]]:
    """Every file of the catalogue, with its text."""
    yield CATALOG_MARK, json.dumps({"project": found.name, "featurekit": VERSION})
    yield "site.css", base_css() + css() + asset("site.css")
    yield "site.js", asset("site.js")
    yield "search.js", search_js(found)
    yield "index.html", _document(found, Page(found.name, [], _index(found)), root="")
    for pages in (feature_pages(found), other_pages(found)):
        for name, page in pages:
            yield name, _document(found, page, root=ROOT)


def search_js(found: Gathered) -> str:
    """What the search reads: for each thing its kind, name, page, type, owner, description and
    further words."""
    rows = [
        [
            item.kind,
            item.name,
            found.pages.of(kind, item.name),
            item.type,
            item.owner,
            _one_line(item.description),
            words_of(item),
        ]
        for (kind, _), item in found.items.items()
    ]
    return f"window.CATALOGUE = {json.dumps(rows, separators=(',', ':'))};\n"


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHORT else f"{words[: _SHORT - 1]}…"


def _document(found: Gathered, page: Page, *, root: str) -> str:
    index = not root
    return fill(
        "document",
        title=page.title if index else f"{page.title} – {found.name}",
        root=root,
        scripts=fill("scripts") if index else Html(),
        above=joined(fill("above", to=to, name=name) for to, name in page.above),
        search=Html() if index else fill("small-search", root=root),
        content=page.content,
        version=VERSION,
        iso=found.made_at.isoformat(),
        when=found.made_at.strftime("%Y-%m-%d %H:%M UTC"),
    )


def _index(found: Gathered) -> Html:
    counts = Counter(item.kind for item in found.items.values())
    plural = {"feature": "features", **{k: t.lower() for k, t in _KINDS.items()}}
    sections = []
    for kind, title in _KINDS.items():
        cards = [
            fill(
                "card",
                to=found.pages.of(kind, item.name),
                name=item.name,
                type=item.type,
                description=_one_line(item.description),
            )
            for (of_kind, _), item in found.items.items()
            if of_kind == kind
        ]
        if cards:
            sections.append(fill("listing", id=kind, title=title, cards=joined(cards)))
    said = ", ".join(f"{n:,} {plural[k] if n != 1 else k}" for k, n in counts.items())
    return fill("index", project=found.name, counts=f"{said}.", sections=joined(sections))
