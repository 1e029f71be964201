"""What was seen lately and makes later plans better: who serves a session, how much of a budget is left."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """A bounded memory of this process: what was put more than `kept_s` ago is forgotten, and the oldest beyond `most`.

    `clock` gives monotonic seconds.
    """

    __slots__ = ("_clock", "_kept_s", "_most", "_values")

    def __init__(self, clock: Callable[[], float], kept_s: float, most: int = 50_000) -> None:
        self._clock = clock
        self._kept_s = kept_s
        self._most = most
        self._values: dict[K, tuple[float, V]] = {}
        """In the order in which they were put, so the first is the oldest."""

    def put(self, key: K, value: V) -> None:
        """Remembers a value in place of the one before."""
        self._values.pop(key, None)
        if len(self._values) >= self._most:
            del self._values[next(iter(self._values))]
        self._values[key] = (self._clock() + self._kept_s, value)

    def get(self, key: K) -> V | None:
        """The value last put, if that was lately."""
        kept = self._values.get(key)
        if kept is None:
            return None
        if kept[0] <= self._clock():
            del self._values[key]
            return None
        return kept[1]
