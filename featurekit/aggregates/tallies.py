"""Turns the inputs of a part of a window into a tally: its distinct values in order, counted.

A tally stands for the inputs in `over_tally`, and a merge of tallies for all of theirs, whatever
their grouping (A2). Four kinds serve the aggregates:

| kind    | the keys                                                 | beside each key           |
| ------- | -------------------------------------------------------- | ------------------------- |
| values  | the distinct inputs                                      |                           |
| counts  | the distinct inputs                                      | its count, and a text     |
| buckets | the buckets of `ApproxQuantile`                          | its count                 |
| codes   | the registers of `ApproxCountDistinct` with their ranks  |                           |

A number, an instant or a bool is its own key, in the order of values: -0.0 is just below 0.0, and
NaN is last. A text or bytes has a hash of 128 bits (BLAKE2b) as its key, in two halves.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from featurekit.aggregates import hyperloglog, quantiles
from featurekit.aggregates.base import TallyKind
from featurekit.core.types import EPOCH, MICROSECOND, Type

_HEAD = struct.Struct("<BI")
_COUNTED = 1
_MINUS_ZERO = -1  # the key of -0.0; that of 0.0 is 0
_SIGN = 2**63 - 1
_DAY = EPOCH.toordinal()

Array = Any
"""An array of NumPy, of int64 unless it is said otherwise."""


class Texts:
    """Texts as their bytes: the one at `starts[i]` up to `ends[i]` of `data` belongs to key i."""

    __slots__ = ("data", "ends", "starts")

    def __init__(self, data: bytes, starts: Array, ends: Array) -> None:
        self.data, self.starts, self.ends = data, starts, ends

    def take(self, places: Array) -> Texts:
        """The texts at some places."""
        return Texts(self.data, self.starts[places], self.ends[places])

    def __iter__(self) -> Any:
        data = self.data
        return (data[i:j] for i, j in zip(self.starts.tolist(), self.ends.tolist(), strict=True))


class Tally:
    """Keys in their order, each once. Without `counts`, each counts once; `seconds` are the second
    halves of hashes."""

    __slots__ = ("counts", "form", "keys", "seconds", "texts")

    def __init__(
        self,
        form: Form,
        keys: Array,
        counts: Array | None = None,
        seconds: Array | None = None,
        texts: Texts | None = None,
    ) -> None:
        self.form, self.keys, self.counts = form, keys, counts
        self.seconds, self.texts = seconds, texts

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def numbers(self) -> Array:
        """The count of each key."""
        return np.ones(len(self.keys), np.int64) if self.counts is None else self.counts

    def distinct(self) -> int:
        """How many distinct inputs; -0.0 and 0.0 are one."""
        both = self.form.float and _MINUS_ZERO in self.keys and 0 in self.keys
        return len(self.keys) - bool(both)

    def ordered(self) -> Ordered:
        """The inputs in their order, or their buckets."""
        return Ordered(self)

    def ranked(self, k: int | None = None) -> dict[Any, int]:
        """The distinct inputs with their counts, by count descending, then by value, NaN last; the
        first `k` of them. -0.0 is counted as 0.0."""
        keys, counts = self.keys, self.numbers
        if self.texts is not None:
            return self._ranked_texts(self.texts, counts, k)
        if self.form.float:
            keys, counts = _one_zero(keys, counts)
        order = np.argsort(-counts, kind="stable")[:k]
        return dict(zip(self.form.values(keys[order]), counts[order].tolist(), strict=True))

    def _ranked_texts(self, texts: Texts, counts: Array, k: int | None) -> dict[Any, int]:
        if k is not None and k < len(counts):
            least = np.partition(counts, len(counts) - k)[len(counts) - k]
            places = np.flatnonzero(counts >= least)
            texts, counts = texts.take(places), counts[places]
        read: list[Any] = list(texts)
        if self.form.name == "str":
            read = [raw.decode() for raw in read]
        by_value = sorted(range(len(read)), key=read.__getitem__)
        order = np.array(by_value, np.int64)
        order = order[np.argsort(-counts[order], kind="stable")][:k]
        return {read[i]: count for i, count in zip(order.tolist(), counts[order].tolist())}  # noqa: B905


class Ordered(Sequence[Any]):
    """The inputs of a tally in their order, each as often as it was counted."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.until = None if tally.counts is None else np.cumsum(tally.counts)

    def __len__(self) -> int:
        if self.until is None:
            return len(self.tally)
        return int(self.until[-1]) if len(self.until) else 0

    def __getitem__(self, place: Any) -> Any:
        i = place if place >= 0 else len(self) + place
        if self.until is not None:
            i = int(np.searchsorted(self.until, i, side="right"))
        form = self.tally.form
        key = self.tally.keys[i : i + 1]
        return int(key[0]) if form.kind == "buckets" else form.values(key)[0]


class Form:
    """What tallies of one kind are, for inputs of one type."""

    def __init__(self, kind: TallyKind, item: Type) -> None:
        self.kind, self.name = kind, item.name
        self.text = item.name in ("str", "bytes")
        self.float = item.name == "float"
        self.hashed = self.text and kind in ("values", "counts")
        self.counted = kind in ("counts", "buckets")
        narrow = kind in ("codes", "buckets") or item.name in ("bool", "date")
        self.dtype = np.dtype("<i4" if narrow else "<i8")

    def of(self, raw: Any) -> Tally:
        """The tally of some inputs as they are stored: an array, or a list of bytes."""
        if self.kind == "codes":
            return self._of_codes(raw)
        if self.hashed:
            return self._of_texts(raw)
        keys = quantiles.buckets(raw) if self.kind == "buckets" else self._keys(raw)
        if not self.counted:
            return Tally(self, np.unique(keys))
        found, counts = np.unique(keys, return_counts=True)
        return Tally(self, found, counts.astype(np.int64))

    def _keys(self, raw: Array) -> Array:
        if not self.float:
            return raw.astype(np.int64)
        bits = raw.view(np.int64)
        return np.where(bits < 0, bits ^ _SIGN, bits)

    def values(self, keys: Array) -> list[Any]:
        """The inputs that have these keys; of texts there are none."""
        match self.name:
            case "float":
                return _one_nan(np.where(keys < 0, keys ^ _SIGN, keys).view(np.float64).tolist())
            case "bool":
                return keys.astype(np.bool_).tolist()  # type: ignore[no-any-return]
            case "date":
                return [dt.date.fromordinal(day + _DAY) for day in keys.tolist()]
            case "datetime":
                return [EPOCH + us * MICROSECOND for us in keys.tolist()]
            case "timedelta":
                return [us * MICROSECOND for us in keys.tolist()]
        return keys.tolist()  # type: ignore[no-any-return]

    def _of_codes(self, raw: Any) -> Tally:
        if not self.text:
            whole = np.where(raw == 0, 0.0, raw).view(np.int64) if self.float else raw
            raw = [b"%d" % number for number in np.unique(whole).astype(np.int64).tolist()]
        return Tally(self, _highest(np.unique(hyperloglog.codes(raw))))

    def _of_texts(self, raw: Iterable[bytes]) -> Tally:
        counts: dict[bytes, int] = {}
        for one in raw:
            counts[one] = counts.get(one, 0) + 1
        halves = np.frombuffer(b"".join(map(hashed, counts)), "<i8").reshape(-1, 2)
        keys, seconds = halves[:, 0], halves[:, 1]
        if not self.counted:
            return self._one_order(keys, None, seconds, None)
        ends = np.cumsum([len(one) for one in counts], dtype=np.int64)
        starts = np.concatenate([ends[:0] if not len(ends) else [0], ends[:-1]]).astype(np.int64)
        texts = Texts(b"".join(counts), starts, ends)
        return self._one_order(keys, np.array([*counts.values()], np.int64), seconds, texts)

    def _one_order(
        self, keys: Array, counts: Array | None, seconds: Array | None, texts: Texts | None
    ) -> Tally:
        """The tally of keys in any order, of which some may be the same."""
        order = np.argsort(keys, kind="stable")
        ranked = keys[order]
        new = np.ones(len(keys), np.bool_)
        new[1:] = ranked[1:] != ranked[:-1]
        if seconds is not None:
            behind = seconds[order]
            if np.any((behind[1:] != behind[:-1]) & ~new[1:]):  # two inputs share the first half
                order = np.lexsort((seconds, keys))
                ranked, behind = keys[order], seconds[order]
                new[1:] = (ranked[1:] != ranked[:-1]) | (behind[1:] != behind[:-1])
            seconds = behind[new]
        firsts = np.flatnonzero(new)
        if counts is not None and len(keys):
            counts = np.add.reduceat(counts[order], firsts)
        if texts is not None:
            texts = texts.take(order[firsts])
        return Tally(self, ranked[firsts], counts, seconds, texts)

    def merged(self, tallies: Sequence[Tally]) -> Tally:
        """The tally of all inputs of some tallies, which may be of counts where this is of
        values."""
        if len(tallies) == 1 and tallies[0].form.kind == self.kind:
            return tallies[0]
        if not tallies:
            return self.of([] if self.text else np.zeros(0, np.float64 if self.float else np.int64))
        keys = np.concatenate([tally.keys for tally in tallies])
        if not self.counted and not self.hashed:
            keys = _distinct(keys)
            return Tally(self, _highest(keys) if self.kind == "codes" else keys)
        counts = np.concatenate([tally.numbers for tally in tallies]) if self.counted else None
        seconds = np.concatenate([t.seconds for t in tallies]) if self.hashed else None
        texts = _joined([t.texts for t in tallies]) if self.hashed and self.counted else None
        return self._one_order(keys, counts, seconds, texts)

    def encode(self, tally: Tally) -> bytes:
        """The bytes of a tally, which are equal for equal inputs."""
        counted = tally.counts is not None and bool((tally.counts != 1).any())
        parts = [
            _HEAD.pack(_COUNTED if counted else 0, len(tally)),
            tally.keys.astype(self.dtype).tobytes(),
        ]
        if tally.seconds is not None:
            parts.append(tally.seconds.astype("<i8").tobytes())
        if counted:
            assert tally.counts is not None
            parts.append(tally.counts.astype("<u4").tobytes())
        if tally.texts is not None:
            texts = tally.texts
            parts += [(texts.ends - texts.starts).astype("<u4").tobytes(), *texts]
        return b"".join(parts)

    def decode(self, data: memoryview) -> Tally:
        """The tally that `encode` wrote."""
        flags, n = _HEAD.unpack_from(data)
        at = _HEAD.size

        def column(dtype: Any) -> Array:
            nonlocal at
            found = np.frombuffer(data[at : at + n * dtype.itemsize], dtype)
            at += n * dtype.itemsize
            return found.astype(np.int64)

        keys = column(self.dtype)
        seconds = column(np.dtype("<i8")) if self.hashed else None
        counts = column(np.dtype("<u4")) if flags & _COUNTED else None
        texts = None
        if self.hashed and self.counted:
            lengths = column(np.dtype("<u4"))
            ends = np.cumsum(lengths)
            texts = Texts(bytes(data[at:]), ends - lengths, ends)
        return Tally(self, keys, counts, seconds, texts)


def joined(parts: Sequence[Any]) -> Any:
    """Inputs as they are stored, from several parts."""
    if isinstance(parts[0], list):
        return [raw for part in parts for raw in part]
    return np.concatenate(parts)


def hashed(raw: bytes) -> bytes:
    """The hash that stands for a text: no two texts are known that share one."""
    return hashlib.blake2b(raw, digest_size=16).digest()


def _distinct(keys: Array) -> Array:
    ranked = np.sort(keys, kind="stable")  # it makes use of the runs that are in order
    new = np.ones(len(ranked), np.bool_)
    new[1:] = ranked[1:] != ranked[:-1]
    return ranked[new]


def _highest(codes: Array) -> Array:
    """Of codes in their order, the one of each register with the greatest rank."""
    last = np.ones(len(codes), np.bool_)
    last[:-1] = codes[1:] // hyperloglog.CODE != codes[:-1] // hyperloglog.CODE
    return codes[last]


def _one_zero(keys: Array, counts: Array) -> tuple[Array, Array]:
    """The keys of floats in which -0.0 is 0.0."""
    i = int(np.searchsorted(keys, _MINUS_ZERO))
    if i == len(keys) or keys[i] != _MINUS_ZERO:
        return keys, counts
    keys, counts = keys.copy(), counts.copy()
    keys[i] = 0
    if i + 1 < len(keys) and keys[i + 1] == 0:
        counts[i + 1] += counts[i]
        return np.delete(keys, i), np.delete(counts, i)
    return keys, counts


def _one_nan(values: list[float]) -> list[float]:
    return [math.nan if v != v else v for v in values]


def _joined(parts: Sequence[Any]) -> Texts:
    at, starts, ends = 0, [], []
    for texts in parts:
        starts.append(texts.starts + at)
        ends.append(texts.ends + at)
        at += len(texts.data)
    data = b"".join(texts.data for texts in parts)
    return Texts(data, np.concatenate(starts), np.concatenate(ends))
