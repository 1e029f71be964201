"""What is counted of each deployment, and of all that share its provider."""

from __future__ import annotations

import math
from typing import Literal

from gateway.routing.breaker import Breaker


class Spell:
    """A time for which a deployment is not to be called."""

    __slots__ = ("kind", "reason", "until")

    def __init__(self, kind: Literal["resting", "ejected"]) -> None:
        self.kind: Literal["resting", "ejected"] = kind
        self.until = -math.inf
        """Monotonic seconds."""
        self.reason = ""


class Crowd:
    """All calls of a provider that are under way."""

    __slots__ = ("full", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self.full = False


class Place:
    """One deployment: its breaker, its cool-down and its calls."""

    __slots__ = (
        "breaker",
        "crowd",
        "ejection",
        "ejections",
        "failures",
        "full",
        "gateway_errors",
        "in_flight",
        "name",
        "provider",
        "rest",
        "successes",
        "troubled",
    )

    def __init__(self, name: str, provider: str, breaker: Breaker, crowd: Crowd) -> None:
        self.name = name
        self.provider = provider
        self.breaker = breaker
        self.crowd = crowd
        self.in_flight = 0
        self.successes = 0
        self.failures = 0
        self.gateway_errors = 0
        self.ejections = 0
        self.ejection = Spell("ejected")
        self.full = False
        self.rest = Spell("resting")
        self.troubled = False
        """Whether admission needs a closer look."""

    def well(self, now: float) -> bool:
        """Whether its breaker is not open, and it neither rests nor is set aside."""
        return now >= max(self.breaker.open_until, self.rest.until, self.ejection.until)
