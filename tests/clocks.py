"""A clock for tests."""

from __future__ import annotations


class SetClock:
    """A clock that moves only when told to."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds
