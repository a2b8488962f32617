"""The folder in which several workers count: read by a scrape, and folded when a process is gone.

prometheus_client gives each process files of its own and adds them up at each scrape. Those of
processes that are gone become one, or a worker that starts and fails without end would fill the
folder. A scrape sees the folder before or after that, never between.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from prometheus_client.mmap_dict import MmapedDict

from featurekit.core.files import locked
from featurekit.server.failures import Told

_LOCK = ".lock"
_GONE = 0
"""What stands for all processes that are gone in the names of files; no process has that number."""
_PATIENCE_S = 5.0
_DAMAGED = (RuntimeError, ValueError, struct.error)
"""What prometheus_client raises for a file that was cut off."""


def summed(folder: str) -> bytes:
    """The metrics of all processes, as Prometheus reads them."""
    with locked(Path(folder) / _LOCK, wait_s=_PATIENCE_S) as held:
        if held is None:
            raise Told("other scrapes are under way; ask again")
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, folder)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def fold(pid: int, folder: str) -> bool:
    """Add what a process that is gone has counted to that of others, and forget what it said of
    itself, as how many pushes wait in it; whether that was done. Where it was not, its files are
    as they were."""
    with locked(Path(folder) / _LOCK, wait_s=_PATIENCE_S) as held:
        if held is None:
            return False
        for file in Path(folder).glob(f"*_{pid}.db"):
            if not file.name.startswith("gauge_live"):
                with suppress(*_DAMAGED):  # what can be read of it is added
                    _add(file, file.with_name(file.name.replace(f"_{pid}.db", f"_{_GONE}.db")))
            file.unlink()
    return True


def _add(file: Path, to: Path) -> None:
    latest = file.name.startswith("gauge_mostrecent")
    made: Any = MmapedDict(str(to))  # type: ignore[no-untyped-call]
    try:
        for key, value, at, _ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
            json.loads(key)  # ValueError for what is none, which would stay in the folded file
            before, before_at = made.read_value(key)
            if latest:
                value, at = max((before_at, before), (at, value))[::-1]
            else:
                value += before
            made.write_value(key, value, at)
    finally:
        made.close()
