"""Who may be called right now: breakers, cool-downs and room, and what each call says of the deployment it went to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from gateway.errors import Verdict
from gateway.routing.breaker import TRIALS, Breaker, State
from gateway.types import Health

DEFAULT_REST_S = 5.0
LONGEST_REST_S = 120.0
CREDENTIAL_REST_S = 300.0
LONGEST_CREDENTIAL_REST_S = 3600.0
_CREDENTIAL_RESTS = "the provider refuses its credential or quota"


@dataclass(frozen=True, slots=True)
class Transition:
    """A deployment's change of state, for metrics, alerts and other replicas."""

    deployment: str
    old: State
    new: State | Literal["resting"]
    reason: str
    for_s: float | None = None
    """How long the new state lasts at least; None where that is open."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a deployment stands, for operators."""

    breaker: State
    failures_in_a_row: int
    in_flight: int


class Permit:
    """Leave to make one call. Give its verdict once, when the call is over in every respect; later ones are ignored."""

    __slots__ = ("_breakers", "_epoch", "_place", "_settled")

    def __init__(self, breakers: Breakers, place: _Place) -> None:
        self._breakers = breakers
        self._place = place
        self._epoch = place.breaker.epoch
        self._settled = False

    def settle(self, verdict: Verdict) -> None:
        """What the call says of its deployment: neutral where that is nothing (a caller left, a 429, a bad request)."""
        if not self._settled:
            self._settled = True
            self._breakers._settle(self._place, self._epoch, verdict)


class Breakers:
    """The health of every deployment, as this process knows it.

    `clock` gives monotonic seconds, `wall` seconds since the epoch, `chance` numbers in [0, 1) for the jitter.
    Listeners are called in the middle of a request: they must neither block nor raise.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wall: Callable[[], float],
        chance: Callable[[], float],
        listeners: Sequence[Callable[[Transition], None]] = (),
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._chance = chance
        self._listeners = tuple(listeners)
        self._places: dict[str, _Place] = {}
        self._credentials: dict[str, float] = {}
        """Until when a provider's credential rests."""
        self._troubled: dict[str, _Place] = {}
        self._view: Mapping[str, Health] = {}
        self._view_ends = math.inf

    def admit(self, deployment: str, concurrency: int | None = None, *, despite_rest: bool = False) -> Permit | None:
        """A permit to call this deployment, or None while it may not be called.

        `concurrency` is the most calls that the deployment takes at a time; `despite_rest` admits one that cools down,
        since nobody else can serve the request.
        """
        place = self._places.get(deployment)
        if place is None:
            place = self._place(deployment)
        if concurrency is not None and place.in_flight >= concurrency:
            return None
        if place.troubled:
            resting = self._clock() < place.rests_until and not despite_rest
            if resting or not place.breaker.lets_in():
                return None
            self._changed(place)
        place.in_flight += 1
        if place.in_flight == concurrency:
            place.full = True
            self._changed(place)
        return Permit(self, place)

    def rest(self, deployment: str, seconds: float | None) -> None:
        """Cools a deployment down by what its Retry-After said; what makes no sense counts as the default."""
        if seconds is None or math.isnan(seconds) or seconds < 0:
            seconds = DEFAULT_REST_S
        self._rest(self._place(deployment), min(seconds, LONGEST_REST_S), "rate limited")

    def rest_credential(self, provider: str, seconds: float | None) -> None:
        """Cools down all that is reached with a provider's credential, whose quota is spent or which was refused."""
        if seconds is None or math.isnan(seconds):
            seconds = CREDENTIAL_REST_S
        seconds = min(max(seconds, CREDENTIAL_REST_S), LONGEST_CREDENTIAL_REST_S)
        self._credentials[provider] = max(self._credentials.get(provider, -math.inf), self._clock() + seconds)
        for place in self._places.values():
            if place.provider == provider:
                self._rest(place, seconds, _CREDENTIAL_RESTS)

    def view(self) -> Mapping[str, Health]:
        """What is known against deployments now. Made anew when something changes; what was given out never does."""
        if self._view_ends <= self._clock():
            self._rebuild()
        return self._view

    def standings(self) -> dict[str, Standing]:
        """How every deployment called so far stands."""
        return {
            name: Standing(place.breaker.state, place.breaker.failures_in_a_row, place.in_flight)
            for name, place in self._places.items()
        }

    def _settle(self, place: _Place, epoch: int, verdict: Verdict) -> None:
        place.in_flight -= 1
        place.breaker.judge(epoch, verdict)
        if place.troubled:
            place.full = False
            self._changed(place)

    def _place(self, deployment: str) -> _Place:
        place = self._places.get(deployment)
        if place is None:
            breaker = Breaker(self._clock, self._chance, partial(self._moved, deployment))
            place = self._places[deployment] = _Place(deployment, breaker)
            left_s = self._credentials.get(place.provider, -math.inf) - self._clock()
            self._rest(place, left_s, _CREDENTIAL_RESTS)
        return place

    def _moved(self, deployment: str, breaker: Breaker, old: State) -> None:
        self._changed(self._places[deployment])
        for_s = breaker.open_until - self._clock() if breaker.state == "open" else None
        self._tell(Transition(deployment, old, breaker.state, breaker.reason, for_s))

    def _rest(self, place: _Place, seconds: float, reason: str) -> None:
        now = self._clock()
        if seconds <= 0 or now + seconds <= place.rests_until:
            return
        began = place.rests_until <= now
        place.rests_until = now + seconds
        place.rest_reason = reason
        self._changed(place)
        if began:
            self._tell(Transition(place.name, place.breaker.state, "resting", reason, seconds))

    def _tell(self, transition: Transition) -> None:
        for listener in self._listeners:
            listener(transition)

    def _changed(self, place: _Place) -> None:
        place.troubled = place.full or place.breaker.state != "closed" or self._clock() < place.rests_until
        if place.troubled:
            self._troubled[place.name] = place
        else:
            self._troubled.pop(place.name, None)
        self._rebuild()

    def _rebuild(self) -> None:
        now, wall = self._clock(), self._wall()
        view: dict[str, Health] = {}
        ends = math.inf
        for name, place in self._troubled.items():
            breaker = place.breaker
            until = max(breaker.open_until, place.rests_until)
            if until > now:
                ends = min(ends, until)
                if place.rests_until == until:
                    view[name] = Health("resting", wall + until - now, place.rest_reason)
                else:
                    view[name] = Health("open", wall + until - now, breaker.reason)
            elif place.full:
                view[name] = Health("full", None, f"{place.in_flight} in flight")
            elif breaker.state == "half_open" and breaker.trials >= TRIALS:
                view[name] = Health("half_open", None, f"{breaker.trials} trials in flight")
        self._view = view
        self._view_ends = ends


class _Place:
    """One deployment: its breaker, its cool-down and its calls."""

    __slots__ = ("breaker", "full", "in_flight", "name", "provider", "rest_reason", "rests_until", "troubled")

    def __init__(self, name: str, breaker: Breaker) -> None:
        self.name = name
        self.provider = name.partition("/")[0]
        self.breaker = breaker
        self.in_flight = 0
        self.full = False
        self.rests_until = -math.inf
        self.rest_reason = ""
        self.troubled = False
        """Whether admission needs a closer look."""
