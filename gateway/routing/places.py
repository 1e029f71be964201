"""What is counted of each deployment, and of all that share its provider."""

from __future__ import annotations

import math

from gateway.routing.breaker import Breaker


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
        "ejected_until",
        "ejection_reason",
        "ejections",
        "failures",
        "full",
        "gateway_errors",
        "in_flight",
        "name",
        "provider",
        "rest_reason",
        "rests_until",
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
        self.ejected_until = -math.inf
        self.ejection_reason = ""
        self.full = False
        self.rests_until = -math.inf
        self.rest_reason = ""
        self.troubled = False
        """Whether admission needs a closer look."""

    def well(self, now: float) -> bool:
        """Whether its breaker is not open, and it neither rests nor is set aside."""
        return now >= self.breaker.open_until and now >= self.rests_until and now >= self.ejected_until
