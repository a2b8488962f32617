"""Makes DuckDB connections with the settings and macros that every query here relies on."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit import aggregates
from featurekit.aggregates import exact, since
from featurekit.core.openness import make_folder
from featurekit.core.sql import text_literal
from featurekit.language.python_calls import create_function


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
    # Spilled data goes beside the repo, because /tmp may be in memory.
    spill = str(state_dir / f"spill-{uuid.uuid4().hex}")
    con.execute(f"SET temp_directory = {text_literal(spill)}")
    if memory_limit is not None:
        con.execute(f"SET memory_limit = {text_literal(memory_limit)}")
    return con


def prepare(con: Any) -> None:
    """Give a connection the settings (T2) and the macros that every query here relies on."""
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")  # it would write into a program's output
    # For up to 64 labels DuckDB turns an ASOF join into an arg_max, which loses -0.0 inside lists.
    con.execute("SET asof_loop_join_threshold = 0")
    # If a divisor is a constant 0, DuckDB divides while it plans, even in a branch that is never
    # taken.
    con.execute("SET error_on_division_by_zero = false")
    # Running sums rely on the order of sorted rows (window_plans).
    con.execute("SET preserve_insertion_order = true")
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
