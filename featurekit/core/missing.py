"""Turns a path at which nothing is into the end of an error: where it was looked for, and what was
probably meant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

_LOOKED_AT, _NAMED = 1000, 5
_SIGNS = "*?["
_ENDINGS = (".parquet", ".csv", ".csv.gz")


def no_file(written: str | Path, base: str | Path = ".") -> str:
    """That `written`, a path relative to `base`, is no file: the folder that was looked into, and
    the file that was probably meant, or those of its kind that are there."""
    path, folder = Path(written), Path(base).absolute()
    parent = folder / path.parent
    missing = "" if _is_dir(parent) else f": there is no folder {str(path.parent)!r} there"
    said = f"there is no file {str(written)!r}{_in(path, folder)}{missing}"
    names = [one.name for one in _entries(parent) if one.is_file()]
    near = _named_so(path.name, folder) or _close(path, names)
    if near is not None:
        return f"{said}; did you mean {str(near)!r}?"
    known = [name for name in names if name.endswith(path.suffix)]
    if not known:
        return f"{said}; write the path of a file that is there"
    more = ", …" if len(known) > _NAMED else ""
    shown = f"{', '.join(known[:_NAMED])}{more}"
    return f"{said}; the folder has {shown}: write the path of a file that is there"


def no_folder(written: str | Path, base: str | Path = ".") -> str:
    """That `written`, a path relative to `base`, is no folder, and the one that was meant."""
    path, folder = Path(written), Path(base).absolute()
    said = f"there is no folder {str(written)!r}{_in(path, folder)}"
    near = _near_folder(path, folder)
    return said if near is None else f"{said}; did you mean {str(near)!r}?"


def no_match(pattern: str, base: str | Path) -> str:
    """That no file matches a glob, and a glob beside it that matches some."""
    folder, parts = Path(base).absolute(), Path(pattern).parts
    said = f"no file matches {pattern!r}{_in(Path(pattern), folder)}"
    for one in _beside(parts, folder):
        if not one.is_absolute() and str(one) != pattern and _matches(folder, str(one)):
            return f"{said}; did you mean {str(one)!r}?"
    return f"{said}; write a glob whose files are there"


def _beside(parts: Sequence[str], folder: Path) -> Iterator[Path]:
    """Globs that differ in one thing: the ending, the name of the first folder, a folder less."""
    whole = Path(*parts)
    yield from (whole.with_suffix(ending) for ending in _ENDINGS if whole.suffix)
    plain = [i for i, part in enumerate(parts[:-1]) if not any(s in part for s in _SIGNS)]
    if plain[:1] == [0]:
        near = _near_folder(Path(parts[0]), folder)
        if near is not None:
            yield Path(near, *parts[1:])
    yield from (Path(*parts[:i], *parts[i + 1 :]) for i in plain)


def _in(path: Path, folder: Path) -> str:
    return "" if path.is_absolute() else f" in {folder}"


def _close(path: Path, names: Sequence[str]) -> Path | None:
    close = get_close_matches(path.name, names, n=1, cutoff=0.6)
    return path.with_name(close[0]) if close else None


def _near_folder(path: Path, folder: Path) -> Path | None:
    """The folder whose name is nearest, beside the place where none is."""
    return _close(path, [one.name for one in _entries((folder / path).parent) if one.is_dir()])


def _named_so(name: str, folder: Path) -> Path | None:
    """A file of this name in a folder of this one."""
    for inside in _entries(folder):
        if name and inside.is_dir() and name in (one.name for one in _entries(inside)):
            return Path(inside.name, name)
    return None


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, by name, without hidden files, and no more than some; nothing where it
    cannot be read."""
    found = []
    with contextlib.suppress(OSError, ValueError):
        for number, one in enumerate(folder.iterdir()):
            if number >= _LOOKED_AT:
                break
            if not one.name.startswith("."):
                found.append(one)
    return sorted(found)


def _is_dir(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return path.is_dir()
    return False


def _matches(folder: Path, pattern: str) -> bool:
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        return any(path.is_file() for path in folder.glob(pattern))
    return False
