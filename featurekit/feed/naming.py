"""Finds contracts and manifests of training sets that name an entity: files of their owners, which
are signed or hashed, so that nobody else can take anything out of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit.offline.manifest import MANIFEST

_BEGINS = b'{"contract":'
"""How every contract begins, whatever its file is called."""
_MOST_BYTES = 256 * 1024 * 1024


def naming(folder: Path, state_dir: Path, values: Collection[Any]) -> tuple[str, ...]:
    """The contracts and manifests below a folder, but for the state folder, that have one of the
    values: among the frequent or extreme values of a profile, the classes of a label, or in the
    first event on which a transform erred."""
    return tuple(
        str(path)
        for path in sorted(folder.rglob("*"))
        if not path.is_relative_to(state_dir) and _is_paper(path) and names_one_of(path, values)
    )


def _is_paper(path: Path) -> bool:
    """Whether a file is a manifest, by its name, or a contract, by its first bytes."""
    if path.name.endswith(MANIFEST):
        return True
    with suppress(OSError):  # it is gone meanwhile, or not for this user
        if path.is_file():  # nothing waits for a pipe
            with path.open("rb") as file:
                return file.read(len(_BEGINS)) == _BEGINS
    return False


def names_one_of(path: Path, values: Collection[Any]) -> bool:
    """Whether a contract or a manifest has one of the values, where a row's values stand."""
    return not {str(value) for value in values}.isdisjoint(map(str, _values(path)))


def _values(path: Path) -> Iterator[Any]:
    """What a file has of the values of rows; nothing where it is no contract or manifest."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        if path.stat().st_size > _MOST_BYTES:
            return
        said = json.loads(path.read_bytes())
        body = said.get("contract", {})
        for column in body.get("profile", {}).get("columns", {}).values():
            yield from (value for value, _ in column.get("top") or ())
            numbers = column.get("numbers") or {}
            yield from (numbers.get("least"), numbers.get("greatest"))
        yield from _of_manifest(body.get("manifest", said))


def _of_manifest(said: dict[str, Any]) -> Iterable[Any]:
    for found in said.get("errors", {}).get("transforms", {}).values():
        yield from found.get("first", {}).values()
    for label in said.get("label_columns", {}).values():
        yield from (one["value"] for one in label.get("classes", ()))
