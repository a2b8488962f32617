"""Turns a path at which nothing is into the end of an error: where it was looked for, and what was
probably meant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

_LOOKED_AT, _NAMED = 1000, 5
_SIGNS = "*?["


def no_file(written: str | Path, base: str | Path = ".") -> str:
    """That `written`, a path relative to `base`, is no file: the folder that was looked into, and
    the file in it that was probably meant, or those of its kind that are there."""
    path, folder = Path(written), Path(base).absolute()
    said = f"there is no file {str(written)!r} in {folder}"
    if path.is_absolute():
        said = f"there is no file {str(written)!r}"
    parent = folder / path.parent
    if not parent.is_dir():
        said += f": {no_folder(path.parent, base)}"
        return said if "; did you mean" in said else f"{said}{_elsewhere(path, folder, known=())}"
    known = [one.name for one in _entries(parent) if one.is_file()]
    close = get_close_matches(path.name, known, n=1, cutoff=0.6)
    if close:
        return f"{said}; did you mean {str(path.with_name(close[0]))!r}?"
    return said + _elsewhere(path, folder, known=[n for n in known if n.endswith(path.suffix)])


def no_folder(written: str | Path, base: str | Path = ".") -> str:
    """That `written`, a path relative to `base`, is no folder, and the one that was meant."""
    path, folder = Path(written), Path(base).absolute()
    where = "" if path.is_absolute() else f" in {folder}"
    said = f"there is no folder {str(written)!r}{where}"
    known = [one.name for one in _entries((folder / path).parent) if one.is_dir()]
    close = get_close_matches(path.name, known, n=1, cutoff=0.6)
    return f"{said}; did you mean {str(path.with_name(close[0]))!r}?" if close else said


def no_match(pattern: str, base: str | Path) -> str:
    """That no file matches a glob, and a glob beside it that matches some."""
    folder = Path(base).absolute()
    said = f"no file matches {pattern!r} in {folder}"
    parts = Path(pattern).parts
    plain = [i for i, part in enumerate(parts[:-1]) if not any(s in part for s in _SIGNS)]
    shorter = [Path(*parts[:i], *parts[i + 1 :]) for i in plain]
    kinds = [Path(pattern).with_suffix(end) for end in (".parquet", ".csv", ".csv.gz")]
    for one in [*kinds, *shorter]:
        if not one.is_absolute() and str(one) != pattern and _matches(folder, str(one)):
            return f"{said}; did you mean {str(one)!r}?"
    fixed = list(parts)[: next(i for i, p in enumerate(parts) if any(s in p for s in _SIGNS))]
    if fixed and not (folder / Path(*fixed)).is_dir():
        return f"{said}: {no_folder(Path(*fixed), base)}"
    return f"{said}; write a glob whose files are there"


def _elsewhere(path: Path, folder: Path, *, known: list[str] | tuple[str, ...]) -> str:
    """A file of the same name in a folder of this one, or the files that are known."""
    for inside in _entries(folder):
        if inside.is_dir() and (inside / path.name).is_file() and path.name:
            return f"; did you mean {str(Path(inside.name, path.name))!r}?"
    if not known:
        return "; write the path of a file that is there"
    more = ", …" if len(known) > _NAMED else ""
    shown = f"{', '.join(known[:_NAMED])}{more}"
    return f"; the folder has {shown}: write the path of a file that is there"


def _entries(folder: Path) -> Iterator[Path]:
    """What is in a folder by name, without hidden files, and no more than some; nothing where it
    cannot be read."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for number, one in enumerate(folder.iterdir()):
            if number >= _LOOKED_AT:
                break
            if not one.name.startswith("."):
                found.append(one)
    return iter(sorted(found))


def _matches(folder: Path, pattern: str) -> bool:
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        return next((True for p in folder.glob(pattern) if p.is_file()), False)
    return False
