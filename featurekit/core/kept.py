"""Turns an object into a value made from it once, and finds that value again by the object's
identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Kept(Generic[K, T]):
    """A cache of values, each made from an object once and found by the object's identity. Hashing
    everything that a view holds takes longer than most questions to it. At `most` objects the cache
    is emptied."""

    def __init__(self, make: Callable[[K], T], *, most: int = 256) -> None:
        self._make, self._most = make, most
        self._made: dict[int, tuple[K, T]] = {}

    def __call__(self, key: K) -> T:
        found = self._made.get(id(key))  # an id is reused only after its object is gone
        if found is not None and found[0] is key:
            return found[1]
        made = self._make(key)
        if len(self._made) >= self._most:
            self._made.clear()
        self._made[id(key)] = key, made
        return made
