"""Chooses rows of a training set: parts by time or by entity, and samples.

A row's part depends on the row alone: on its instant, or on a hash of its join keys. So neither the
order of rows nor the machine changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from featurekit.core.calls import found, near
from featurekit.core.durations import Duration, duration_us
from featurekit.core.keys import entity_key_sql
from featurekit.core.sql import text_literal
from featurekit.core.timezones import to_utc_us
from featurekit.core.types import Instant, Type, as_written, instant
from featurekit.define.plan import Service
from featurekit.errors import ArgumentError, DataError
from featurekit.offline.frame import EntityFrame

_HASHES = 2**64
Rows = Mapping[str, Sequence[int]]
"""The numbers of the rows of each part, in their order."""


class Rule(Protocol):
    """What chooses rows; `about` is what a manifest says of it."""

    @property
    def about(self) -> Mapping[str, Any]: ...

    def rows(self, con: Any, frame: EntityFrame) -> Rows:
        """The rows of each part. DataError where a part has none."""
        ...


@dataclass(frozen=True, slots=True)
class PartOf:
    """Which rows of a training set another one has, and the files that all of its parts read."""

    about: Mapping[str, Any]
    files: dict[str, Any]

    def check(self, files: Mapping[str, Any]) -> None:
        """DataError where the part reads other files than the parts before it."""
        changed = sorted(n for n, read in files.items() if self.files.setdefault(n, read) != read)
        if changed:
            raise DataError(
                f"part {self.about['name']!r} of a training set: source {', '.join(changed)} has "
                "changed since another part was made; split it again"
            )


@dataclass(frozen=True, slots=True)
class _Cut:
    """Parts by predicates over the frame's table."""

    about: Mapping[str, Any]
    parts: Mapping[str, str]
    why: str

    def rows(self, con: Any, frame: EntityFrame) -> Rows:
        found = {}
        for name, predicate in self.parts.items():
            asked = f"SELECT __rid FROM {frame.table} WHERE {predicate} ORDER BY __rid"
            found[name] = [row for (row,) in con.execute(asked).fetchall()]
            if not found[name]:
                of = f"{frame.rows:,} rows{self._span(con, frame)}"
                raise DataError(f"split: no row is left for {name!r} of {of}; {self.why}")
        return found

    def _span(self, con: Any, frame: EntityFrame) -> str:
        low, high = con.execute(f"SELECT min(__t), max(__t) FROM {frame.table}").fetchall()[0]
        if low is None:
            return ""
        return f", which are of {instant(low).isoformat()} to {instant(high).isoformat()}"


def refuse_others(given: Mapping[str, Any], what: str) -> None:
    """ArgumentError where arguments are given that `what` does not take."""
    names = [f"{name}=" for name, value in given.items() if value is not None]
    if names:
        raise ArgumentError(f"split: {what} takes no {', '.join(names)}; leave it out")


def by_time(
    reach_us: int, timezone: str, borders: Mapping[str, Instant | None], gap: Duration | None
) -> Rule:
    """Parts between `valid_from` and `test_from`. `reach_us` is how far ahead the labels look."""
    written = {
        name.removesuffix("_from"): as_written(given, what=name)
        for name, given in borders.items()
        if given is not None
    }
    if not written:
        raise ArgumentError(
            'split: write where a part begins, as in valid_from="2011-08-01", '
            'test_from="2011-09-01", or by="entity" with test=0.1'
        )
    if len({at.tzinfo is None for at in written.values()}) > 1:
        raise ArgumentError(
            "split: one of valid_from and test_from has a zone and the other one has none; write "
            'both with an offset, as in "2011-09-01T00:00:00+01:00", or both without one'
        )
    at = {part: to_utc_us(one, timezone) for part, one in written.items()}
    if len(at) == 2 and at["valid"] >= at["test"]:
        raise ArgumentError(
            f"split: valid_from {written['valid'].isoformat()} is not before test_from "
            f"{written['test'].isoformat()}; exchange them, or write a later test_from"
        )
    gap_us = 0 if gap is None else duration_us(gap, what="gap", zero=True)
    parts, low = {}, ""
    for name, border in [("train", None), *at.items()]:
        low = "TRUE" if border is None else f"__t >= {border}"
        following = next((b for b in at.values() if border is None or b > border), None)
        if following is None:
            parts[name] = low
            continue
        parts[name] = f"{low} AND __t < {following} AND __t <= {following - reach_us - gap_us}"
    about = {"by": "time", "label_reach_us": reach_us, "gap_us": gap_us}
    about |= {f"{part}_from": instant(border).isoformat() for part, border in at.items()}
    return _Cut(about, parts, "write other borders, or a shorter gap")


def by_entity(
    service: Service, by: str, *, valid: float | None, test: float | None, seed: int
) -> Rule:
    """Parts by a hash of the join keys, or of the one that `by` names."""
    keys = _keys(service, by)
    shares = {n: _share(n, given) for n, given in (("test", test), ("valid", valid)) if given}
    if not shares:
        raise ArgumentError(f"split: by={by!r} wants shares of the entities, as in test=0.1")
    if sum(shares.values()) >= 1:
        raise ArgumentError(
            f"split: valid={valid!r} and test={test!r} leave no entity for train; write shares "
            "whose sum is below 1"
        )
    hashed = _hash_sql(seed, entity_key_sql(keys))
    parts, low = {}, Fraction(0)
    for name, share in shares.items():
        high = low + share
        ends = f"{int(low * _HASHES)} AND {int(high * _HASHES) - 1}"
        parts[name] = f"coalesce({hashed} BETWEEN {ends}, FALSE)"
        low = high
    ordered = {"train": f"coalesce({hashed} >= {int(low * _HASHES)}, TRUE)"}
    ordered |= {name: parts[name] for name in ("valid", "test") if name in parts}
    about = {"by": list(keys), "seed": seed, **{n: float(s) for n, s in shares.items()}}
    return _Cut(about, ordered, "write a larger share, or another seed")


@dataclass(frozen=True, slots=True)
class _Sample:
    about: Mapping[str, Any]
    hashed: str
    most: int | None
    n: int | None

    def rows(self, con: Any, frame: EntityFrame) -> Rows:
        where = "" if self.most is None else f"WHERE {self.hashed} < {self.most}"
        asked = f"SELECT {self.hashed} AS h, __rid FROM {frame.table} {where} ORDER BY ALL"
        pairs = con.execute(asked).fetchall()
        if self.n is not None and self.n > len(pairs):
            raise DataError(f"sample: {self.n:,} of {frame.rows:,} rows; write a smaller number")
        if not pairs:
            raise DataError(f"sample: none of {frame.rows:,} rows is chosen; write a larger share")
        chosen = [row for _, row in pairs]
        if self.n is not None:
            chosen = _first(pairs, self.n, frame)
        return {"sample": sorted(chosen)}


def by_sample(service: Service, n: int | None, fraction: float | None, seed: int) -> Rule:
    """Some rows, by a hash of their join keys and their instant."""
    if (n is None) == (fraction is None):
        raise ArgumentError("sample: write how many rows, as in sample(1000) or fraction=0.1")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 1):
        raise ArgumentError(f"sample: n is a number of rows from 1 on, found {n!r}")
    key = f"coalesce({entity_key_sql(service.join_keys)}, encode(''))" if service.join_keys else ""
    text = f"{key} || " if key else ""
    hashed = _hash_sql(seed, f"{text}encode('@' || __t)")
    most = None if fraction is None else int(_share("fraction", fraction) * _HASHES)
    about = {"by": "sample", "seed": seed, "n": n, "fraction": fraction}
    return _Sample({k: v for k, v in about.items() if v is not None}, hashed, most, n)


def taken(given: Any, frame: EntityFrame, rows: Sequence[int]) -> Any:
    """These rows of the frame that was given, as a frame; one of pandas keeps its index."""
    kind = type(given)
    if kind.__module__.startswith("pandas") and hasattr(given, "iloc"):
        return given.iloc[list(rows)]
    if kind.__module__.startswith("polars"):
        return given[list(rows)]
    return own_table(frame).take(list(rows))


def own_table(frame: EntityFrame) -> Any:
    """The frame's own columns, as they are carried."""
    import pyarrow.parquet as pq

    if frame.arrow is not None:
        return frame.arrow
    return pq.read_table(frame.path, partitioning=None)


def _first(pairs: Sequence[tuple[int, int]], n: int, frame: EntityFrame) -> list[int]:
    """The rows of the `n` least hashes. Rows of one entity and instant have one hash: of these, the
    values of their other columns decide, so that the order of rows does not."""
    last = pairs[n - 1][0]
    sure = [row for hashed, row in pairs if hashed < last]
    tied = [row for hashed, row in pairs if hashed == last]
    if len(sure) + len(tied) > n:
        content = own_table(frame).take(tied).to_pylist()
        ranked = sorted(zip(map(repr, content), tied, strict=True))
        tied = [row for _, row in ranked][: n - len(sure)]
    return [*sure, *tied]


def _keys(service: Service, by: str) -> dict[str, Type]:
    keys = service.join_keys
    if by != "entity":
        if by not in keys:
            known = ["time", "entity", *keys]
            raise ArgumentError(f"split: by is {by!r}, which is no join key; {near(by, known)}")
        return {by: keys[by]}
    if not keys:
        raise ArgumentError(f"split: service {service.name!r} has no join keys, so no entities")
    if any({p.name for p in view.row_keys} != keys.keys() for view in service.views):
        raise ArgumentError(
            f"split: the views are of different entities ({', '.join(keys)}); name the join key "
            f"whose rows are to stay together, as in by={next(iter(keys))!r}"
        )
    return keys


def _share(name: str, given: Any) -> Fraction:
    if isinstance(given, bool) or not isinstance(given, (int, float, Fraction)):
        raise ArgumentError(f"{name} is a share from 0 to 1, as in 0.1, found {found(given)}")
    if not 0 < given < 1:
        raise ArgumentError(f"{name} is a share above 0 and below 1, as in 0.1, found {given!r}")
    return Fraction(given)


def _hash_sql(seed: int, key: str) -> str:
    """64 bits of the MD5 of a seed and a key, as `buckets.bucket_of` takes them."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ArgumentError(f"seed is an int, found {found(seed)}; write seed=0")
    return f"md5_number_lower(encode({text_literal(f'{seed}:')}) || {key})"
