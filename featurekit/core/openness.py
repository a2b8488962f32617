"""Says who may open the files and folders that are made: in a state folder this user alone, or a
group; elsewhere as the umask says.

A state folder holds events, keys of entities and the secret of who was forgotten. It is declared by
whoever knows it; whoever makes something asks here.
"""

# Paths are strings here, and functions take descriptors, too: pushes wait for them.
# ruff: noqa: PTH101, PTH116

from __future__ import annotations

import contextlib
import functools
import os
import stat
from pathlib import Path

from featurekit.errors import ConfigError

_FOLDER, _FILE = 0o700, 0o600
_GROUP_FOLDER, _GROUP_FILE = 0o2770, 0o660
_declared: dict[str, int | None] = {}
"""The state folders of this process, each with the number of its group; None without one."""


def declare(folder: Path, group: str | None) -> None:
    """Say that `folder`, once it is made, is for this user alone or for `group`. One that is there
    and open to more is closed.

    ConfigError where this machine has no such group, or this user may not give it the folder.
    """
    path = os.path.realpath(folder)
    _declared[path] = None if group is None else _number(group)
    with contextlib.suppress(OSError):  # it is not there, or lies where nothing can be changed
        found = os.stat(path)
        if found.st_uid != os.geteuid():
            return
        shared = found.st_mode & stat.S_ISGID and found.st_mode & stat.S_IWGRP
        if group is not None or (found.st_mode & 0o077 and not shared):
            _close(path, path)


def make_folder(path: Path) -> None:
    """Make a folder and those above it; one that is there is no error. In a state folder each is as
    open as that one."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        root = _root(os.fspath(one))
        if root is not None:
            _close(os.fspath(one), root)


def opened(path: str | os.PathLike[str], flags: int, mode: int = 0o666) -> int:
    """As `os.open`; a file that this makes, and one of this user's, is as open as its folder."""
    file = os.open(path, flags, mode)
    if flags & os.O_CREAT:
        try:
            close_file(file, path)
        except BaseException:
            os.close(file)
            raise
    return file


def close_file(file: int | str, path: str | os.PathLike[str]) -> None:
    """Make `file`, which lies at `path` or is to lie there, as open as what is there already, and
    in a state folder as that one."""
    name = os.fspath(path)
    found = os.stat(file)
    if found.st_uid != os.geteuid():
        return
    wanted, group = stat.S_IMODE(found.st_mode), found.st_gid
    root = _root(name)
    if root is not None:
        number = _declared[root]
        wanted = _FILE if number is None else _GROUP_FILE
        group = found.st_gid if number is None else number
    else:
        with contextlib.suppress(OSError):
            there = os.stat(name)
            wanted, group = stat.S_IMODE(there.st_mode), there.st_gid
    if group != found.st_gid:
        with contextlib.suppress(PermissionError):
            os.chown(file, -1, group)
    if wanted != stat.S_IMODE(found.st_mode):
        os.chmod(file, wanted)


def close_tree(folder: Path) -> None:
    """Make what another program has made in a folder as open as the state folder in which that
    lies."""
    root = _root(os.fspath(folder))
    if root is None:
        return
    for one in [folder, *folder.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):
            if one.is_dir():
                _close(os.fspath(one), root)
            elif one.is_file():
                close_file(os.fspath(one), one)


def group_of(folder: Path) -> int | None:
    """The number of the group that a folder is open to; None where it is open to this user alone,
    or is in no state folder."""
    root = _root(os.fspath(folder))
    return None if root is None else _declared[root]


def _root(name: str) -> str | None:
    """The state folder in which a path lies."""
    if not _declared:
        return None
    folder, last = os.path.split(name)
    path = f"{_real(folder)}/{last}"
    inside = (r for r in _declared if path == r or path.startswith(f"{r}/"))
    return max(inside, key=len, default=None)


@functools.lru_cache(maxsize=256)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _close(path: str, root: str) -> None:
    if os.stat(path).st_uid != os.geteuid():
        return
    number = _declared[root]
    if number is not None:
        try:
            os.chown(path, -1, number)
        except PermissionError:
            raise ConfigError(
                f"{path} cannot be given to the group of `group:` in feature_store.yaml; this user "
                "has to be one of it"
            ) from None
    os.chmod(path, _FOLDER if number is None else _GROUP_FOLDER)


def _number(group: str) -> int:
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(
            f"`group: {group}` in feature_store.yaml: this machine has no such group"
        ) from None
