"""Tells on which versions of DuckDB every operator and aggregate was proven, by the release or
here.

What DuckDB computes, above all for NULL, changes even in its patch releases. `proven.json` is the
list of the release. `featurekit parity operators` proves another version on this machine and keeps
the proof in the state folder.
"""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from featurekit.core.timezones import tzdata_version
from featurekit.core.types import FLOAT
from featurekit.errors import UnprovenEngine

LIST = Path(__file__).with_name("proven.json")
SAMPLES: dict[str, tuple[dict[str, Any], ...]] = {
    "FirstN": ({"n": 2}, {"n": 2, "distinct": True}),
    "LastN": ({"n": 3}, {"n": 3, "distinct": True}, {"n": 3, "keep_none": True}),
    "Lag": ({"n": 1}, {"n": 2, "keep_none": True}),
    "LargestN": ({"n": 3},),
    "SmallestN": ({"n": 3},),
    "Distinct": ({}, {"top": 2}),
    "Histogram": ({"edges": (0, 0.1, 2, 1e6)}, {"edges": (-(2**53) - 1, 5e-324, 2**63 - 1)}),
    "TopK": ({"k": 2},),
    "Quantile": ({"q": 0.5}, {"q": 0.9}),
    "ApproxQuantile": ({"q": 0.5},),
    "Variance": ({"ddof": 1}, {"ddof": 0}),
    "StdDev": ({"ddof": 1}, {"ddof": 0}),
    "Skew": ({"ddof": 1}, {"ddof": 0}),
    "Kurtosis": ({"ddof": 1}, {"ddof": 0}),
    "Covariance": ({"ddof": 1}, {"ddof": 0}),
    "ExponentialDecay": ({"half_life": "5s"}, {"half_life": "3us"}),
    "TimeSince": ({"since": "last"}, {"since": "first"}),
}
"""The parameters of its own that each aggregate is proven with; one without any is not named."""

_said: set[str] = set()
_MOST_NAMED = 5


def duckdb_version() -> str:
    """The installed version of DuckDB; DuckDB itself is not loaded."""
    return _installed("duckdb")


@functools.cache
def _installed(name: str) -> str:
    # A version is read from the whole text of a package's metadata, which takes milliseconds.
    return version(name)


def library_versions() -> dict[str, str]:
    """The versions of the libraries that compute training sets, for manifests: DuckDB, Arrow,
    tzdata (F2)."""
    return {"duckdb": duckdb_version(), "arrow": _installed("pyarrow"), "tzdata": tzdata_version()}


def machine() -> str:
    """The platform for which a proof holds, as in "Linux x86_64 glibc 2.36, Python 3.11"."""
    kind = " ".join(p for p in (platform.system(), platform.machine(), *platform.libc_ver()) if p)
    return f"{kind}, Python {sys.version_info.major}.{sys.version_info.minor}"


def proven_versions() -> list[str]:
    """The versions of DuckDB that this release was proven on."""
    return list(json.loads(LIST.read_text(encoding="utf-8"))["duckdb"])


def proof_path(state_dir: Path) -> Path:
    """Where the proof of the installed DuckDB is kept in a state folder."""
    return state_dir / "proofs" / f"duckdb-{duckdb_version()}.json"


def proof(state_dir: Path) -> dict[str, Any] | None:
    """The proof of the installed DuckDB in a state folder. None if there is none, or if it is for
    other operators or another platform."""
    try:
        found: dict[str, Any] = json.loads(proof_path(state_dir).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = found.get("fingerprint") == fingerprint() and found.get("platform") == machine()
    return found if same else None


def warn_unproven(state_dir: Path) -> None:
    """Warn once per process if the installed DuckDB was proven neither by the release nor here, or
    failed its proof here."""
    message = _unproven(state_dir)
    if message is not None and message not in _said:
        _said.add(message)
        warnings.warn(message, UnprovenEngine, stacklevel=3)


def _unproven(state_dir: Path) -> str | None:
    known, here = proven_versions(), proof(state_dir)
    name = f"DuckDB {duckdb_version()}"
    if here is not None and not here["ok"]:
        failed = here["failed"]
        more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        return (
            f"{name} FAILED its proof here: {', '.join(failed[:_MOST_NAMED])}{more} do not give "
            "Python's bits, so that training data may differ from what is served; install DuckDB "
            f"{' or '.join(known)} (`featurekit parity operators` shows what differs)"
        )
    if here is not None or duckdb_version() in known:
        return None
    return (
        f"{name} is none of the versions that this featurekit was proven on ({', '.join(known)}); "
        "run `featurekit parity operators`, which proves every operator and aggregate here"
    )


@functools.cache
def fingerprint() -> str:
    """A hash of the SQL of every operator and aggregate; a proof is valid only for the hash it was
    made with."""
    digest = hashlib.sha256()
    for text in (*_operators(), *_aggregates()):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:16]


def _operators() -> Iterator[str]:
    from featurekit.language.ops import TABLE
    from featurekit.language.ops.table import EDGES

    for key, op in TABLE.items():
        yield repr((key, op.python, op.template(), op.steps))
        if op.literal_sql is None:
            continue
        for row in (*op.edges, *zip(*(EDGES[t] for t in op.params), strict=False)):
            for i in op.literals or range(len(op.params)):
                literals = [v if j == i else None for j, v in enumerate(row)]
                if op.check is None or op.check(*literals) is None:
                    yield op.template(literals)


def _aggregates() -> Iterator[str]:
    from featurekit.aggregates import BY_NAME, exact
    from featurekit.aggregates.sql import InputColumn
    from featurekit.errors import DefinitionError
    from featurekit.language.ops.table import EDGES

    yield from exact.macros_sql()
    floats = (
        exact.FloatColumn(10, (), True, True, 32),
        exact.FloatColumn(10, short=True),
        exact.FloatColumn(None, (1, 2), True),
    )
    lists = exact.FloatColumn(None, tuple(range(9)))
    for name, kind in BY_NAME.items():
        for params in SAMPLES.get(name, ({},)):
            one = kind("x", window="1d", **params)
            for type_ in EDGES:
                try:
                    one.result(type_)
                except DefinitionError:
                    continue
                for column in (*floats, lists) if type_ == FLOAT else (None,):
                    sql = one.sql(InputColumn("e.x", type_, "e.__o", column), "TRUE")
                    yield repr((name, str(type_), sql.parts, sql.value, sql.error, sql.helpers))
