"""Turns the inputs of a part of a window into a tally: keys of values, and how often each occurs.

A tally stands for the inputs in `over_tally`, and several together stand for all of theirs,
whatever their grouping (A2). Four kinds serve the aggregates:

| kind    | the keys                                                 | beside each key           |
| ------- | -------------------------------------------------------- | ------------------------- |
| values  | the distinct inputs                                      |                           |
| counts  | the distinct inputs                                      | its count, and a text     |
| buckets | the buckets of `ApproxQuantile`                          | its count                 |
| codes   | the registers of `ApproxCountDistinct` with their ranks  |                           |

A number, an instant or a bool is its own key, in the order of values: -0.0 is just below 0.0, and
NaN is last. A text or bytes has a hash of 128 bits (BLAKE2b) as its key, in two halves.

What is stored is in the order of its keys, each once. What is only asked is put side by side as it
comes, since an answer rarely needs all of it in order.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import struct
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from featurekit.aggregates import hyperloglog, quantiles
from featurekit.aggregates.tally import TallyKind
from featurekit.core.types import EPOCH, MICROSECOND, Type

_HEAD = struct.Struct("<BI")
_WIDE, _NUMBER = np.dtype("<i8"), np.dtype("<u4")
_COUNTED = 1
_MINUS_ZERO = -1  # the key of -0.0; that of 0.0 is 0
_SIGN = 2**63 - 1
_HALF = np.uint64(32)
_FEW = 256
"""Fewer texts than this are taken from where they lie."""
_PAUSED = 4_096
"""Steps over so many texts, or more, take a millisecond or so, and others have their turn between
them."""
_FACTORS = [np.uint64(f) for f in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)]
_DAY = EPOCH.toordinal()

Array = Any
"""An array of NumPy, of int64 unless it is said otherwise."""


class Texts:
    """The texts of a tally's rows: their lengths, and the bytes of the first `rows[0]` of them in
    `data[0]`, and so on."""

    __slots__ = ("data", "lengths", "rows")

    def __init__(self, data: Sequence[memoryview], rows: Sequence[int], lengths: Array) -> None:
        self.data, self.rows, self.lengths = data, rows, lengths

    def pick(self, places: Array) -> list[bytes]:
        """The texts at some places."""
        ends = np.cumsum(self.lengths, dtype=np.int64)
        firsts = np.concatenate([[0], np.cumsum(self.rows, dtype=np.int64)])
        begins = np.concatenate([[0], ends])[firsts]
        which: Array = np.searchsorted(firsts, places, side="right") - 1
        until = ends[places] - begins[which]
        since = until - self.lengths[places]
        spans = zip(which.tolist(), since.tolist(), until.tolist(), strict=True)
        if len(places) < _FEW:
            return [bytes(self.data[p][i:j]) for p, i, j in spans]
        data = [bytes(one) for one in self.data]
        return [data[p][i:j] for p, i, j in spans]

    def take(self, places: Array) -> Texts:
        """The texts at some places, as texts of that many rows."""
        data = memoryview(b"".join(self.pick(places)))
        return Texts([data], [len(places)], self.lengths[places])


class Tally:
    """Rows of a key and what is beside it. Without `counts`, each row counts once; `seconds` are
    the second halves of hashes."""

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
        """The count of each row."""
        return np.ones(len(self.keys), np.int64) if self.counts is None else self.counts

    def distinct(self) -> int:
        """How many distinct inputs; -0.0 and 0.0 are one."""
        of = _representatives(self.one_zero(), self.seconds)
        return int(np.count_nonzero(of == np.arange(len(of))))

    def ordered(self) -> Ordered:
        """The inputs in their order, or their buckets."""
        return Ordered(self)

    def ranked(self, k: int | None = None) -> dict[Any, int]:
        """The distinct inputs with their counts, by count descending, then by value, NaN last; the
        first `k` of them. -0.0 is counted as 0.0."""
        keys = self.one_zero()
        of = _representatives(keys, self.seconds)
        rows = np.flatnonzero(of == np.arange(len(of)))
        if self.counts is None:
            counts = np.bincount(of, minlength=len(of))[rows]
        else:  # as doubles, which are exact: no window has 2**53 events
            counts = np.bincount(of, self.counts, minlength=len(of))[rows].astype(np.int64)
        if k is not None and k < len(rows):
            least = np.partition(counts, len(rows) - k)[len(rows) - k]
            chosen = np.flatnonzero(counts >= least)
            rows, counts = rows[chosen], counts[chosen]
        if self.texts is None:
            order = np.argsort(keys[rows], kind="stable")
            order = order[np.argsort(-counts[order], kind="stable")][:k]
            values = self.form.values(keys[rows[order]])
            return dict(zip(values, counts[order].tolist(), strict=True))
        n = len(rows)
        _let_others(n)
        read = self.texts.pick(rows)
        _let_others(n)
        order = _by_value(read)
        order = order[np.argsort(-counts[order], kind="stable")][:k]
        values = [read[i] for i in order.tolist()]
        if self.form.name == "str":
            _let_others(n)
            values = [raw.decode() for raw in values]
        _let_others(n)
        return dict(zip(values, counts[order].tolist(), strict=True))

    def counted(self, ends: int | None = None) -> list[tuple[Any, int]]:
        """The inputs by value with their counts, -0.0 before 0.0, NaN last; one input may stand
        there several times in succession. With `ends`, the first so many rows or, where it is
        negative, the last."""
        part = slice(None, ends) if ends is None or ends > 0 else slice(ends, None)
        if self.texts is None:
            order = np.argsort(self.keys, kind="stable")[part]
            values = self.form.values(self.keys[order])
        else:
            read = self.texts.pick(np.arange(len(self.keys)))
            _let_others(len(read))
            order = _by_value(read)[part]
            values = [read[i] for i in order.tolist()]
            if self.form.name == "str":
                values = [raw.decode() for raw in values]
        return list(zip(values, self.numbers[order].tolist(), strict=True))

    def one_zero(self) -> Array:
        """The keys, that of 0.0 for -0.0."""
        if not self.form.float:
            return self.keys
        return np.where(self.keys == _MINUS_ZERO, 0, self.keys)


class Ordered(Sequence[Any]):
    """The inputs of a tally in their order, each as often as it was counted."""

    def __init__(self, tally: Tally) -> None:
        self.form, self.until = tally.form, None
        if tally.counts is None:
            self.keys = np.sort(tally.keys, kind="stable")
            return
        order = np.argsort(tally.keys, kind="stable")
        self.keys = tally.keys[order]
        self.until = np.cumsum(tally.counts[order])

    def __len__(self) -> int:
        if self.until is None:
            return len(self.keys)
        return int(self.until[-1]) if len(self.until) else 0

    def __getitem__(self, place: Any) -> Any:
        i = place if place >= 0 else len(self) + place
        if self.until is not None:
            i = int(np.searchsorted(self.until, i, side="right"))
        key = self.keys[i : i + 1]
        return int(key[0]) if self.form.kind == "buckets" else self.form.values(key)[0]


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
        """The rows of some inputs as they are stored: an array, or a list of bytes."""
        if self.kind == "codes":
            return Tally(self, hyperloglog.codes(raw if self.text else self._canonical(raw)))
        if self.hashed:
            return self._of_texts(raw)
        return Tally(self, quantiles.buckets(raw) if self.kind == "buckets" else self._keys(raw))

    def _keys(self, raw: Array) -> Array:
        if not self.float:
            return raw.astype(np.int64)
        bits = raw.view(np.int64)
        return np.where(bits < 0, bits ^ _SIGN, bits)

    def _canonical(self, raw: Array) -> list[bytes]:
        whole = np.where(raw == 0, 0.0, raw).view(np.int64) if self.float else raw
        return [b"%d" % number for number in {*whole.tolist()}]

    def values(self, keys: Array) -> list[Any]:
        """The inputs that have these keys, which are no hashes."""
        match self.name:
            case "float":
                doubles = np.where(keys < 0, keys ^ _SIGN, keys).view(np.float64).tolist()
                return [math.nan if v != v else v for v in doubles]
            case "bool":
                return keys.astype(np.bool_).tolist()  # type: ignore[no-any-return]
            case "date":
                return [dt.date.fromordinal(day + _DAY) for day in keys.tolist()]
            case "datetime":
                return [EPOCH + us * MICROSECOND for us in keys.tolist()]
            case "timedelta":
                return [us * MICROSECOND for us in keys.tolist()]
        return keys.tolist()  # type: ignore[no-any-return]

    def _of_texts(self, raw: Iterable[bytes]) -> Tally:
        found = Counter(raw)
        halves = np.frombuffer(b"".join(map(hashed, found)), "<i8").reshape(-1, 2)
        if not self.counted:
            return Tally(self, halves[:, 0], None, halves[:, 1])
        lengths = np.array([len(one) for one in found], np.int64)
        texts = Texts([memoryview(b"".join(found))], [len(found)], lengths)
        counts = np.array([*found.values()], np.int64)
        return Tally(self, halves[:, 0], counts, halves[:, 1], texts)

    def together(self, tallies: Sequence[Tally]) -> Tally:
        """The rows of some tallies side by side. They may be of counts where this is of values."""
        if not tallies:
            return self.of([] if self.text else np.zeros(0))
        keys = _column([t.keys for t in tallies])
        counts = seconds = texts = None
        if self.counted and any(t.counts is not None for t in tallies):
            counts = _column([t.numbers for t in tallies])
        if self.hashed:
            seconds = _column([t.seconds for t in tallies])
            every = [t.texts for t in tallies if t.texts is not None]
            if self.counted:
                data, rows = [d for t in every for d in t.data], [n for t in every for n in t.rows]
                texts = Texts(data, rows, _column([t.lengths for t in every]))
        return Tally(self, keys, counts, seconds, texts)

    def merged(self, tallies: Sequence[Tally]) -> Tally:
        """The tally of all inputs of some tallies, with every key once and in order: the same for
        the same inputs."""
        rows = self.together(tallies)
        keys, seconds = rows.keys, rows.seconds
        order = np.argsort(keys, kind="stable")
        ranked = keys[order]
        new = np.ones(len(keys), np.bool_)
        new[1:] = ranked[1:] != ranked[:-1]
        if seconds is not None:
            behind = seconds[order]
            if np.any((behind[1:] != behind[:-1]) & ~new[1:]):  # two texts share the first half
                order = np.lexsort((seconds, keys))
                ranked, behind = keys[order], seconds[order]
                new[1:] = (ranked[1:] != ranked[:-1]) | (behind[1:] != behind[:-1])
            seconds = behind[new]
        firsts = np.flatnonzero(new)
        counts = None
        if self.counted and len(keys):
            counts = np.add.reduceat(rows.numbers[order], firsts)
        texts = None if rows.texts is None else rows.texts.take(order[firsts])
        keys = ranked[firsts]
        return Tally(self, _highest(keys) if self.kind == "codes" else keys, counts, seconds, texts)

    def encode(self, tally: Tally) -> bytes:
        """The bytes of a tally that `merged` made, which are equal for equal inputs."""
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
            parts += [tally.texts.lengths.astype("<u4").tobytes(), *tally.texts.data]
        return b"".join(parts)

    def decode(self, data: memoryview) -> Tally:
        """The tally that `encode` wrote, as a view of its bytes."""
        flags, n = _HEAD.unpack_from(data)
        counted, texts = bool(flags & _COUNTED), self.hashed and self.counted
        dtypes = [self.dtype, _WIDE, _NUMBER, _NUMBER]
        there = [True, self.hashed, counted, texts]
        columns: list[Array | None] = []
        at = _HEAD.size
        for dtype, is_there in zip(dtypes, there, strict=True):
            columns.append(np.frombuffer(data, dtype, n, at) if is_there else None)
            at += n * dtype.itemsize if is_there else 0
        keys, seconds, counts, lengths = columns
        found = None if lengths is None else Texts([data[at:]], [n], lengths)
        return Tally(self, keys, counts, seconds, found)


def joined(parts: Sequence[Any]) -> Any:
    """Inputs as they are stored, from several parts."""
    if isinstance(parts[0], list):
        return [raw for part in parts for raw in part]
    return np.concatenate(parts)


def _let_others(rows: int) -> None:
    """Let a thread that waits for the interpreter have it, after a step over so many texts.

    Otherwise it would wait for the switch interval, five milliseconds, and then for the end of a
    call that no other thread can interrupt. A sleep of 0 would take the interpreter back at once.
    """
    if rows >= _PAUSED:
        time.sleep(1e-6)


def hashed(raw: bytes) -> bytes:
    """The hash that stands for a text: no two texts are known that share one."""
    return hashlib.blake2b(raw, digest_size=16).digest()


def _by_value(texts: list[bytes]) -> Array:
    """The places of texts in the order of their bytes, which is that of a str too.

    NumPy orders them by the first eight bytes that may differ, and lets other threads run
    meanwhile: one sort of all would hold up an event loop. Only equal ones are compared in full.
    """
    low, high = min(texts, default=b""), max(texts, default=b"")
    _let_others(len(texts))
    pairs = enumerate(zip(low, high, strict=False))
    same = next((i for i, (one, other) in pairs if one != other), len(low))
    heads = b"".join([text[same : same + 8].ljust(8, b"\0") for text in texts])
    first = np.frombuffer(heads, ">u8").astype(np.uint64)
    order = np.argsort(first, kind="stable")
    ranked = first[order]
    edges = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1], [True]]))
    firsts = np.flatnonzero(np.diff(edges) > 1)
    for i, j in zip(edges[firsts].tolist(), edges[firsts + 1].tolist(), strict=True):
        order[i:j] = sorted(order[i:j].tolist(), key=texts.__getitem__)
    return order


def _column(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts).astype(np.int64, copy=False)


def _representatives(keys: Array, seconds: Array | None) -> Array:
    """For each row the one that represents all rows of its key.

    Every row writes its number to the place that its key hashes to. Rows that read back the number
    of a row of another key share the place with it, and try again by another hash. Keys that were
    chosen to share every place are left to a dict.
    """
    found: Array = np.zeros(len(keys), np.int32)
    rows = np.arange(len(keys), dtype=np.int32)
    asked, behind = keys, seconds
    for factor in (None, *_FACTORS):
        if not len(rows):
            return found
        bits = max(10, (2 * len(rows)).bit_length())
        if factor is None:
            places = _in_order(asked, bits, hashed=seconds is not None)
            if places is None:
                continue
        else:
            mixed = (asked if behind is None else asked ^ behind).view(np.uint64)
            places = (mixed ^ mixed >> _HALF) * factor >> np.uint64(64 - bits)
        table = np.empty(1 << bits, np.int32)
        table[places] = rows
        last = table[places]
        same = keys[last] == asked
        if seconds is not None:
            same &= seconds[last] == behind
        found[rows] = last
        left = np.flatnonzero(~same)
        rows, asked = rows[left], asked[left]
        behind = None if behind is None else behind[left]
    others = [0] * len(rows) if behind is None else behind.tolist()
    pairs = zip(asked.tolist(), others, strict=True)
    known: dict[tuple[int, int], int] = {}
    found[rows] = [known.setdefault(p, row) for p, row in zip(pairs, rows.tolist(), strict=True)]
    return found


def _in_order(keys: Array, bits: int, *, hashed: bool) -> Array | None:
    """Places in the order of the keys, which are found faster, for keys that these keep apart;
    None for others."""
    if hashed:
        return keys.view(np.uint64) >> np.uint64(64 - bits)
    low, high = int(keys.min()), int(keys.max())
    return keys - low if high - low < 1 << bits else None


def _highest(codes: Array) -> Array:
    """Of codes in their order, the one of each register with the greatest rank."""
    last = np.ones(len(codes), np.bool_)
    last[:-1] = codes[1:] // hyperloglog.CODE != codes[:-1] // hyperloglog.CODE
    return codes[last]
