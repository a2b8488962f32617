"""Makes DuckDB connections with the settings and macros that every query here relies on."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit import aggregates
from featurekit.aggregates import exact, since
from featurekit.aggregates.sql import Finisher
from featurekit.core.files import unwritten
from featurekit.core.openness import make_folder
from featurekit.core.sql import text_literal
from featurekit.language.python_calls import create_function
from featurekit.offline.instances import Session, take_instance

_SPILL, _EXCHANGE = "spill-", "exchange-"
_OLD_S = 7 * 86_400.0
_SLOW_OPTIMIZERS = ("projection_placement",)


def connect(state_dir: Path, *, memory_limit: str | None = None) -> Any:
    """A DuckDB connection for one piece of work in one thread, with the settings that every query
    here relies on; to be closed. It is as one to a new instance, which it may be.

    What does not fit into memory, or into `memory_limit` as in "4GB", goes to `state_dir`.
    """
    statements, finishers = _statements(), _finishers()
    limit = "RESET memory_limit"
    if memory_limit is not None:
        limit = f"SET memory_limit = {text_literal(memory_limit)}"
    with suppress(OSError):  # a repo that may only be read can spill nothing
        make_folder(state_dir)
        _remove_lost(state_dir)
    # Spilled data goes beside the repo, because /tmp may be in memory.
    spill = state_dir / _spill_name()
    instance = take_instance((statements, finishers), _new)
    try:
        instance.con.execute(f"SET temp_directory = {text_literal(str(spill))}; {limit}")
        # Setting the limit makes DuckDB give the memory back that it has freed.
        return Session(instance, spill, limit)
    except BaseException:
        instance.con.close()
        raise


def scratch_in(state_dir: Path) -> Path:
    """A new folder in the state folder for one piece of work, which removes it; where this process
    dies, one does a week later. WriteError where none can be made."""
    path = state_dir / f"{_EXCHANGE}{uuid.uuid4().hex}"
    try:
        make_folder(path)
        _remove_old(state_dir)
    except OSError as error:
        raise unwritten(path, error) from error
    return path


def _remove_old(state_dir: Path) -> None:
    """Remove what was exchanged by processes that died; workers may be on any machine, so only its
    age tells."""
    before = time.time() - _OLD_S
    for path in state_dir.glob(f"{_EXCHANGE}*"):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)


def _spill_name() -> str:
    return f"{_SPILL}{_here()}-{os.getpid()}-{uuid.uuid4().hex}"


def _new() -> Any:
    import duckdb

    con = duckdb.connect()
    prepare(con)
    return con


def state_of(con: Any) -> Path | None:
    """The state folder of a connection that `connect` made; None for any other."""
    spill = Path(con.execute("SELECT current_setting('temp_directory')").fetchall()[0][0] or "")
    return spill.parent if spill.name.startswith(_SPILL) else None


def _here() -> str:
    """The name of this machine, as a part of a file's name; with what tells numbers of processes
    apart that containers of one name have."""
    space = ""
    with suppress(OSError):
        space = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))  # noqa: PTH115
    return re.sub(r"\W", "_", socket.gethostname()) + space


def _remove_lost(state_dir: Path) -> None:
    """Remove what processes of this machine had spilled that died in the middle of it."""
    mine = re.compile(re.escape(f"{_SPILL}{_here()}-") + r"(\d+)-")
    with os.scandir(state_dir) as found:
        for entry in found:
            of = mine.match(entry.name)
            if of is not None and not _lives(int(of[1])):
                shutil.rmtree(entry.path, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        pass
    return True


def prepare(con: Any) -> None:
    """Give an instance of DuckDB, by its first connection, the settings (T2), the macros and the
    functions that every query here relies on."""
    for statement in _statements():
        con.execute(statement)
    _no_progress_bar(con)
    _no_slow_planning(con)
    for finisher in _finishers():
        create_function(
            con, finisher.name, finisher.function, list(finisher.takes), finisher.gives,
            type="arrow", null_handling="special",
        )  # fmt: skip


def _statements() -> tuple[str, ...]:
    """The settings, which are GLOBAL so that every connection to the instance has them, and the
    macros."""
    return (
        "SET GLOBAL TimeZone = 'UTC'",
        # For up to 64 labels DuckDB turns an ASOF join into an arg_max, which loses -0.0 inside
        # lists.
        "SET GLOBAL asof_loop_join_threshold = 0",
        # If a divisor is a constant 0, DuckDB divides while it plans, even in a branch that is
        # never taken.
        "SET GLOBAL error_on_division_by_zero = false",
        # Running sums rely on the order of sorted rows (window_plans).
        "SET GLOBAL preserve_insertion_order = true",
        # What DuckDB remembers of the files that it read would outlive a session (instances).
        "SET GLOBAL enable_external_file_cache = false",
        *exact.macros_sql(),
        *since.macros_sql(),
        # DuckDB's % takes the dividend's sign.
        "CREATE OR REPLACE MACRO fk_hop(x, h) AS x - ((x % h) + h) % h",
    )


def _finishers() -> frozenset[Finisher]:
    return frozenset(f for kind in aggregates.BY_NAME.values() for f in kind.finishers)


def _no_slow_planning(con: Any) -> None:
    """Turn off the optimizers whose time grows with a power of the number of columns.

    `projection_placement` weighs for each computed column of a join whether to compute it before or
    after, and goes through all of them again for each: 1.7 s for 120 columns, 29 s for 200, where
    the join itself takes milliseconds.
    """
    known = con.execute("SELECT name FROM duckdb_optimizers() ORDER BY name").fetchall()
    found = [name for (name,) in known if name in _SLOW_OPTIMIZERS]
    con.execute(f"SET disabled_optimizers = {text_literal(','.join(found))}")


def _no_progress_bar(con: Any) -> None:
    """Turn the progress bar off, which would write into a program's output.

    In a notebook without ipywidgets it is off, and DuckDB refuses every statement that sets it.
    """
    if con.execute("SELECT current_setting('enable_progress_bar')").fetchone()[0]:
        con.execute("SET enable_progress_bar = false")
