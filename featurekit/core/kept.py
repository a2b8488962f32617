"""What is made of an object once and found by the object itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from featurekit.define.plan import View

T = TypeVar("T")


class PerView(Generic[T]):
    """What is made of a view once, and then found by the view itself: to hash all that it holds
    takes longer than most of what is asked for."""

    def __init__(self, make: Callable[[View], T], *, most: int = 256) -> None:
        self._make, self._most = make, most
        self._made: dict[int, tuple[View, T]] = {}

    def __call__(self, view: View) -> T:
        found = self._made.get(id(view))  # an id is another's only when its view is gone
        if found is not None and found[0] is view:
            return found[1]
        made = self._make(view)
        if len(self._made) >= self._most:
            self._made.clear()
        self._made[id(view)] = view, made
        return made
