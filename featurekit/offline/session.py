"""A DuckDB connection in the session that every query here relies on."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from featurekit import aggregates
from featurekit.aggregates import exact, since
from featurekit.core.sql import text_literal
from featurekit.language.python_calls import create_function


def connect(state_dir: Path, *, memory_limit: str | None = None) -> Any:
    """A DuckDB of its own for one piece of work, in the session that every query here relies on.
    What does not fit into memory, or into `memory_limit` as in "4GB", goes to `state_dir`.

    Never a cursor: a function that one cursor registered is freed when that cursor closes, while
    the others still find its name.
    """
    import duckdb

    con = duckdb.connect()
    prepare(con)
    with suppress(OSError):  # a repo that may only be read can spill nothing
        state_dir.mkdir(parents=True, exist_ok=True)
    # What does not fit into memory goes beside the repo: /tmp may be memory, too.
    spill = str(state_dir / f"spill-{uuid.uuid4().hex}")
    con.execute(f"SET temp_directory = {text_literal(spill)}")
    if memory_limit is not None:
        con.execute(f"SET memory_limit = {text_literal(memory_limit)}")
    return con


def prepare(con: Any) -> None:
    """Give a connection the session that every query here relies on (T2) and the macros."""
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")  # it would write into a program's output
    # For up to 64 labels DuckDB makes an ASOF join an arg_max, and that loses -0.0 inside lists.
    con.execute("SET asof_loop_join_threshold = 0")
    # Where a divisor is a constant 0, DuckDB divides while it plans, whatever branch it is in.
    con.execute("SET error_on_division_by_zero = false")
    # Running sums go over sorted rows in their order (window_plans).
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
