"""Where kept profiles lie: in the state folder, or as objects of S3.

A file or an object has what one reading of a log added, and is never changed. Objects are numbered,
and each is made only where its number is free. So of two processes that read the same objects one
is overtaken by the other, whatever machine it runs on, and no lock is left behind by a dead one.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from featurekit.core.files import held_folder, sync_folder, write_whole
from featurekit.errors import ConfigError, DataError, OnlineError
from featurekit.sources.check import first_line
from featurekit.sources.object_store import without_credentials

FORMAT = 1
_ABOUT = "about.json"
_NUMBERED = re.compile(r"[0-9]{20}\.profile")


class Overtaken(OnlineError):
    """Another process added to the same profiles since they were read; nothing was added."""


class ProfilePlace(Protocol):
    """Where profiles are kept, by names that end in `.profile`."""

    shared: bool
    """Whether other machines keep theirs in it, too. Then names are in the order in which they were
    added, and one whose reading replaces others replaces all that come before it."""

    def shown(self, name: str) -> str:
        """A name as an error tells it, or with "" the place."""

    def exists(self) -> bool:
        """Whether profiles may be there."""

    def held(self) -> Any:
        """A context in which no other process of this machine adds or removes any."""

    def claim(self, secret: str) -> None:
        """Say under which secret entities are hashed, by its name. DataError where it was another
        one before."""

    def names(self) -> list[str]:
        """What is there now, sorted."""

    def get(self, name: str) -> bytes:
        """The bytes of a name. FileNotFoundError where it is gone."""

    def add(self, data: bytes) -> None:
        """Add what was made of the last `names`. It is there whole and for good when this returns.
        Overtaken where somebody else added something meanwhile."""

    def remove(self, name: str) -> None:
        """Remove a name, which may be gone."""


def profiles_folder(state_dir: Path) -> Path:
    """Where profiles are kept in a state folder."""
    return state_dir / "profiles"


class ProfileFolder:
    """Profiles in a state folder; see `ProfilePlace`. Only who holds it writes."""

    shared = False

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.folder = profiles_folder(state_dir)

    def shown(self, name: str) -> str:
        return str(self.folder / name)

    def exists(self) -> bool:
        return self.folder.exists()

    def held(self) -> Any:
        return held_folder(profiles_folder(self._state_dir))

    def claim(self, secret: str) -> None:
        """The secret lies in the same state folder."""

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.profile"))

    def get(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def add(self, data: bytes) -> None:
        write_whole(self.folder / f"{uuid.uuid4().hex}.profile", data, durable=True)
        sync_folder(str(self.folder))

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)


class ProfileObjects:
    """Profiles as objects below a URL of S3; see `ProfilePlace`. What was read is kept in memory,
    for an object is never changed. ConfigError where s3fs is not installed."""

    shared = True

    def __init__(self, url: str, state_dir: Path) -> None:
        self.url = url.rstrip("/")
        self._state_dir = state_dir
        self._read: dict[str, bytes] = {}
        self._last = 0
        try:
            import fsspec

            with self._told("opened"):
                self._files: Any = fsspec.filesystem("s3", use_listings_cache=False)
        except ImportError:
            raise ConfigError(
                f"profiles are kept in {self.url}, and s3fs is not installed; "
                "pip install 'featurekit[s3]'"
            ) from None

    def shown(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    def exists(self) -> bool:
        return True

    def held(self) -> Any:
        return held_folder(profiles_folder(self._state_dir))

    def claim(self, secret: str) -> None:
        mine = {"format": FORMAT, "secret": secret}
        data = json.dumps(mine).encode()
        if self._create(_ABOUT, data):
            if self._create(_ABOUT, data):
                self.remove(_ABOUT)
                raise ConfigError(
                    f"{self.url} is in a store that writes over an object which was to be new, so "
                    "two processes would count rows twice there; keep profiles in another store, "
                    "or in the state folder"
                )
            return
        with self._told("read"):
            found = self._files.cat_file(self.shown(_ABOUT))
        try:
            same = json.loads(found) == mine
        except ValueError:
            same = False
        if not same:
            raise DataError(
                f"the profiles in {self.url} were made with another forget.key than that of "
                f"{self._state_dir}: copy the file of the machine that made them to here, or name "
                "another folder"
            )

    def names(self) -> list[str]:
        try:
            with self._told("listed"):
                self._files.invalidate_cache()
                found = self._files.ls(self.url, detail=False)
        except FileNotFoundError:
            found = []
        names = sorted(path.rpartition("/")[2] for path in found)
        names = [name for name in names if _NUMBERED.fullmatch(name)]
        self._last = int(names[-1].partition(".")[0]) if names else 0
        self._read = {name: self._read[name] for name in names if name in self._read}
        return names

    def get(self, name: str) -> bytes:
        if name not in self._read:
            with self._told("read"):
                self._read[name] = self._files.cat_file(self.shown(name))
        return self._read[name]

    def add(self, data: bytes) -> None:
        name = f"{self._last + 1:020d}.profile"
        if not self._create(name, data):
            raise Overtaken(
                f"another process added to the profiles in {self.url} meanwhile; run this again"
            )
        self._last += 1
        self._read[name] = data

    def remove(self, name: str) -> None:
        try:
            with self._told("removed from"):
                self._files.rm_file(self.shown(name))
        except FileNotFoundError:
            pass

    def _create(self, name: str, data: bytes) -> bool:
        """Make an object; False where it is there."""
        try:
            with self._told("written"):
                self._files.pipe_file(self.shown(name), data, mode="create")
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise DataError(f"{self.url} cannot be written: there is no such bucket") from None
        return True

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """DataError for what the library or the store says, but that an object is there or not."""
        try:
            yield
        except (ImportError, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            # Each library decides for itself what it raises: the errors of S3 have three roots.
            if "ConditionalRequestConflict" in str(error):  # another process makes it right now
                raise FileExistsError from None
            said = without_credentials(first_line(error)) or type(error).__name__
            raise DataError(f"{self.url} cannot be {what} ({said})") from None
