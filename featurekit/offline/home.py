"""Where a training set is made: whom each computation tells of itself, and what its contract says
of the place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurekit.core.signing import PrivateKey

Telling = Callable[[Path | None], AbstractContextManager[Callable[[Mapping[str, Any]], None]]]


@dataclass(frozen=True, slots=True)
class Home:
    """The project's name, the folder of its definitions, and what gives the key that signs.

    `telling` makes what surrounds each computation, which goes into a file or not; what it gives is
    called with the manifest.
    """

    project: str = ""
    folder: Path | None = None
    private_key: Callable[[], PrivateKey | None] = lambda: None
    telling: Telling = lambda target: nullcontext(lambda manifest: None)
