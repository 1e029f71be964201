"""Calls, failures and slow starts of the last seconds, counted in slots so that counting costs next to nothing."""

from __future__ import annotations

from collections import deque

_SLOT_S = 3.0
_SLOTS = 10
WINDOW_S = _SLOT_S * _SLOTS


class _Slot:
    __slots__ = ("calls", "ends", "failures", "number", "slow", "timed")

    def __init__(self, number: int) -> None:
        self.number = number
        self.ends = (number + 1) * _SLOT_S
        self.calls = 0
        self.failures = 0
        self.timed = 0
        self.slow = 0


class Window:
    """How many calls ended within the last `WINDOW_S` seconds, and how many of them failed or began slowly."""

    __slots__ = ("_current", "_slots")

    def __init__(self) -> None:
        self._current = _Slot(-1)
        self._slots: deque[_Slot] = deque(maxlen=_SLOTS)

    def add(self, now: float, failed: bool, slow: bool | None) -> None:
        """Counts one call that ended at `now` (monotonic seconds); `slow` is None where its start was not timed."""
        current = self._current
        if now >= current.ends:
            current = self._current = _Slot(int(now / _SLOT_S))
            self._slots.append(current)
        current.calls += 1
        if failed:
            current.failures += 1
        if slow is not None:
            current.timed += 1
            if slow:
                current.slow += 1

    def totals(self, now: float) -> tuple[int, int]:
        """Calls and failures in the window that ends at `now`."""
        recent = self._recent(now)
        return sum(slot.calls for slot in recent), sum(slot.failures for slot in recent)

    def starts(self, now: float) -> tuple[int, int]:
        """Timed and slow starts in the window that ends at `now`."""
        recent = self._recent(now)
        return sum(slot.timed for slot in recent), sum(slot.slow for slot in recent)

    def _recent(self, now: float) -> list[_Slot]:
        oldest = int(now / _SLOT_S) - _SLOTS
        return [slot for slot in self._slots if slot.number > oldest]

    def clear(self) -> None:
        """Forgets everything."""
        self._slots.clear()
        self._current = _Slot(-1)
