"""Makes DuckDB connections with the settings and macros that every query here relies on."""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit import aggregates
from featurekit.aggregates import exact, since
from featurekit.core.openness import make_folder
from featurekit.core.sql import text_literal
from featurekit.language.python_calls import create_function

_SPILL = "spill-"
_SLOW_OPTIMIZERS = ("projection_placement",)


def connect(state_dir: Path, *, memory_limit: str | None = None) -> Any:
    """A DuckDB of its own for one piece of work, with the settings that every query here relies on.

    What does not fit into memory, or into `memory_limit` as in "4GB", goes to `state_dir`. It is
    never a cursor: if one cursor registers a function and closes, the function is freed, but the
    other cursors still find its name.
    """
    import duckdb

    con = duckdb.connect()
    prepare(con)
    with suppress(OSError):  # a repo that may only be read can spill nothing
        make_folder(state_dir)
        _remove_lost(state_dir)
    # Spilled data goes beside the repo, because /tmp may be in memory.
    spill = str(state_dir / f"{_SPILL}{_here()}-{os.getpid()}-{uuid.uuid4().hex}")
    con.execute(f"SET temp_directory = {text_literal(spill)}")
    if memory_limit is not None:
        con.execute(f"SET memory_limit = {text_literal(memory_limit)}")
    return con


def state_of(con: Any) -> Path | None:
    """The state folder of a connection that `connect` made; None for any other."""
    spill = Path(con.execute("SELECT current_setting('temp_directory')").fetchall()[0][0] or "")
    return spill.parent if spill.name.startswith(_SPILL) else None


def _here() -> str:
    """The name of this machine, as a part of a file's name."""
    return re.sub(r"\W", "_", socket.gethostname())


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
    """Give a connection the settings (T2) and the macros that every query here relies on."""
    con.execute("SET TimeZone = 'UTC'")
    _no_progress_bar(con)
    # For up to 64 labels DuckDB turns an ASOF join into an arg_max, which loses -0.0 inside lists.
    con.execute("SET asof_loop_join_threshold = 0")
    # If a divisor is a constant 0, DuckDB divides while it plans, even in a branch that is never
    # taken.
    con.execute("SET error_on_division_by_zero = false")
    # Running sums rely on the order of sorted rows (window_plans).
    con.execute("SET preserve_insertion_order = true")
    _no_slow_planning(con)
    for macro in (*exact.macros_sql(), *since.macros_sql()):
        con.execute(macro)
    con.execute(
        "CREATE OR REPLACE TEMP MACRO fk_hop(x, h) AS x - ((x % h) + h) % h"
    )  # DuckDB's % takes the dividend's sign
    for finisher in {f for kind in aggregates.BY_NAME.values() for f in kind.finishers}:
        create_function(
            con, finisher.name, finisher.function, list(finisher.takes), finisher.gives,
            type="arrow", null_handling="special",
        )  # fmt: skip


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
