"""Who may be called right now: breakers, cool-downs and room, and what each call says of the deployment it went to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from msgspec import Struct

from gateway.errors import Verdict
from gateway.routing.breaker import JITTER, LONGEST_OPEN_S, TRIALS, Breaker, State
from gateway.routing.places import Crowd, Place, Spell
from gateway.types import Health

What = Literal["open", "resting", "credential", "ejected"]
"""What replicas tell each other of a deployment, or for `credential` of a provider."""

DEFAULT_REST_S = 5.0
LONGEST_REST_S = 120.0
CREDENTIAL_REST_S = 300.0
LONGEST_CREDENTIAL_REST_S = 3600.0
EJECTION_S = 30.0
"""Times how often it was set aside lately."""
LONGEST_EJECTION_S = 300.0
EJECTIONS_FORGOTTEN_S = 600.0
_SAME_S = 0.5
"""Ends that lie no further apart are the same one, heard of twice."""
_LONGEST_S: Mapping[What, float] = {
    "open": LONGEST_OPEN_S * (1 + JITTER),
    "resting": LONGEST_REST_S,
    "credential": LONGEST_CREDENTIAL_REST_S,
    "ejected": LONGEST_EJECTION_S,
}
_NEVER = math.inf
_RATE_LIMITED = "rate limited"
_CREDENTIAL_RESTS = "the provider refuses its credential or quota"


@dataclass(frozen=True, slots=True)
class Transition:
    """A deployment's change of state, for metrics, alerts and other replicas."""

    deployment: str
    old: State
    new: State | Literal["resting", "ejected"]
    reason: str
    for_s: float | None = None
    """How long the new state lasts at least; None where that is open."""


class News(NamedTuple):
    """What other replicas should hear of a deployment; for `credential`, of all that its provider serves."""

    until: float
    """Monotonic seconds of this process."""
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How a deployment stands, for operators."""

    breaker: State
    failures_in_a_row: int
    in_flight: int
    ejections: int = 0
    """How often it was set aside lately."""
    ejection_ignored: bool = False
    """Whether it is set aside and may be called all the same, since too few of its peers are healthy."""


class Tally(NamedTuple):
    """The calls of a deployment that were judged since this process began, and those that failed."""

    calls: int
    failures: int
    gateway_errors: int
    """In a row, up to now: failures of reaching it, and what its gateway answers in its place (502, 503, 504)."""


class Permit(Struct, eq=False):
    """Leave to make one call. Give its verdict once, when the call is over in every respect; later ones are ignored."""

    _breakers: Breakers
    _place: Place
    _epoch: int
    """The breaker's when the call was let in."""
    _settled: bool = False

    def settle(self, verdict: Verdict, *, slow: bool | None = None, gateway_error: bool = False) -> None:
        """What the call says of its deployment: neutral where that is nothing (a caller left, a 429, a bad request).

        `slow` says whether a call that went well began slowly, None where that was not timed; `gateway_error` that a
        failed one did not get as far as the model's own server.
        """
        if self._settled:
            return
        self._settled = True
        place = self._place
        crowd = place.crowd
        place.in_flight -= 1
        crowd.in_flight -= 1
        if verdict == "success":
            place.successes += 1
            place.gateway_errors = 0
        elif verdict == "failure":
            place.failures += 1
            place.gateway_errors = place.gateway_errors + 1 if gateway_error else 0
        place.breaker.judge(self._epoch, verdict, slow)
        if place.troubled or crowd.full:
            self._breakers._make_room(place)


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
        self._places: dict[str, Place] = {}
        self._crowds: dict[str, Crowd] = {}
        """By provider."""
        self._peers: Mapping[str, Sequence[str]] = {}
        self._news: dict[tuple[str, What], News] = {}
        self.on_news: Callable[[], None] = lambda: None
        """Called when there is something to share."""
        self.on_refused: Callable[[str, float], None] = lambda provider, seconds: None
        """Called when a provider begins to refuse its credential or quota, with how long it rests at least."""
        self._credentials: dict[str, float] = {}
        """Until when a provider's credential rests."""
        self._troubled: dict[str, Place] = {}
        self._view: Mapping[str, Health] = {}
        self._view_ends = _NEVER

    def admit(
        self,
        deployment: str,
        concurrency: int | None = None,
        *,
        of_provider: int | None = None,
        despite_rest: bool = False,
    ) -> Permit | None:
        """A permit to call this deployment, or None while it may not be called.

        `concurrency` is the most calls that the deployment takes at a time, `of_provider` what its provider takes;
        `despite_rest` admits one that cools down or whose breaker is a last resort, since nobody else can serve the
        request.
        """
        place = self._places.get(deployment)
        if place is None:
            place = self._place(deployment)
        if concurrency is not None and place.in_flight >= concurrency:
            return None
        crowd = place.crowd
        if of_provider is not None and crowd.in_flight >= of_provider:
            return None
        if place.troubled:
            resting = self._clock() < place.rest.until and not despite_rest
            if resting or not place.breaker.lets_in(last_resort=despite_rest):
                return None
            self._changed(place)
        place.in_flight += 1
        crowd.in_flight += 1
        if place.in_flight == concurrency:
            place.full = True
            self._changed(place)
        if crowd.in_flight == of_provider:
            crowd.full = True
            self._rebuild()
        return Permit(self, place, place.breaker.epoch)

    def rest(self, deployment: str, seconds: float | None) -> None:
        """Cools a deployment down by what its Retry-After said; what makes no sense counts as the default."""
        if seconds is None or math.isnan(seconds) or seconds < 0:
            seconds = DEFAULT_REST_S
        seconds = min(seconds, LONGEST_REST_S)
        self._note(deployment, "resting", seconds, _RATE_LIMITED)
        place = self._place(deployment)
        self._set_aside(place, place.rest, seconds, _RATE_LIMITED)

    def rest_credential(self, provider: str, seconds: float | None) -> None:
        """Cools down all that is reached with a provider's credential, whose quota is spent or which was refused."""
        if seconds is None or math.isnan(seconds):
            seconds = CREDENTIAL_REST_S
        seconds = min(max(seconds, CREDENTIAL_REST_S), LONGEST_CREDENTIAL_REST_S)
        if self._credentials.get(provider, -math.inf) <= self._clock():
            self.on_refused(provider, seconds)
        self._note(provider, "credential", seconds, _CREDENTIAL_RESTS)
        self._rest_credential(provider, seconds)

    def eject(self, deployment: str, reason: str) -> None:
        """Sets an outlier aside, longer each time until it has done well for a while."""
        place = self._place(deployment)
        if self._clock() - place.ejection.until > EJECTIONS_FORGOTTEN_S:
            place.ejections = 0
        place.ejections += 1
        seconds = min(EJECTION_S * place.ejections, LONGEST_EJECTION_S)
        self._note(deployment, "ejected", seconds, reason)
        self._set_aside(place, place.ejection, seconds, reason)

    def hear(self, subject: str, what: What, seconds: float, reason: str) -> None:
        """Takes up what another replica found: it holds for so many seconds more. Hearing it again changes nothing.

        Rests and ejections hold here too. A breaker follows unless calls go well here, and stays a last resort, so that
        a replica that itself is cut off cannot stop all the others.
        """
        seconds = min(seconds, _LONGEST_S[what])
        left_s = max(0.0, seconds - _SAME_S)
        now = self._clock()
        if what == "credential":
            if now + left_s > self._credentials.get(subject, now):
                self._rest_credential(subject, seconds)
            return
        place = self._place(subject)
        if what == "open":
            if left_s > 0:
                place.breaker.follow(seconds, reason)
            return
        spell = place.rest if what == "resting" else place.ejection
        if now + left_s > max(spell.until, now):
            self._set_aside(place, spell, seconds, reason)

    def take_news(self) -> dict[tuple[str, What], News]:
        """What happened here since it was last asked for, by subject and kind."""
        news, self._news = self._news, {}
        return news

    def set_peers(self, peers: Mapping[str, Sequence[str]]) -> None:
        """For each deployment all that serve the same model, itself included; ejections are judged among them."""
        self._peers = peers
        self._rebuild()

    def tallies(self) -> dict[str, Tally]:
        """The calls of every deployment that were judged so far."""
        return {
            name: Tally(place.successes + place.failures, place.failures, place.gateway_errors)
            for name, place in self._places.items()
        }

    def ejected_until(self, deployment: str) -> float:
        """Until when it is set aside, monotonic seconds; in the past where it is not."""
        place = self._places.get(deployment)
        return -math.inf if place is None else place.ejection.until

    def well(self, deployment: str) -> bool:
        """Whether nothing is known against a deployment but that it may be full."""
        place = self._places.get(deployment)
        return place is None or place.well(self._clock())

    def view(self) -> Mapping[str, Health]:
        """What is known against deployments now. Made anew when something changes; what was given out never does."""
        if self._view_ends != _NEVER and self._view_ends <= self._clock():
            self._rebuild()
        return self._view

    def standings(self) -> dict[str, Standing]:
        """How every deployment called so far stands."""
        return {
            name: Standing(
                place.breaker.state,
                place.breaker.failures_in_a_row,
                place.in_flight,
                place.ejections,
                self._clock() < place.ejection.until and self._panics(name),
            )
            for name, place in self._places.items()
        }

    def _make_room(self, place: Place) -> None:
        """Takes note that a call of a troubled place, or of a full crowd, has ended."""
        if place.troubled:
            place.full = False
            self._changed(place)
        if place.crowd.full:
            place.crowd.full = False
            self._rebuild()

    def _place(self, deployment: str) -> Place:
        place = self._places.get(deployment)
        if place is None:
            breaker = Breaker(self._clock, self._chance, partial(self._moved, deployment))
            provider = deployment.partition("/")[0]
            crowd = self._crowds.setdefault(provider, Crowd())
            place = self._places[deployment] = Place(deployment, provider, breaker, crowd)
            left_s = self._credentials.get(place.provider, -math.inf) - self._clock()
            self._set_aside(place, place.rest, left_s, _CREDENTIAL_RESTS)
        return place

    def _moved(self, deployment: str, breaker: Breaker, old: State) -> None:
        self._changed(self._places[deployment])
        for_s = breaker.open_until - self._clock() if breaker.state == "open" else None
        if for_s is not None and not breaker.told:
            self._note(deployment, "open", for_s, breaker.reason)
        self._tell(Transition(deployment, old, breaker.state, breaker.reason, for_s))

    def _note(self, subject: str, what: What, seconds: float, reason: str) -> None:
        """Keeps what other replicas should hear; the longest counts."""
        until, known = self._clock() + seconds, self._news.get((subject, what))
        if known is None or known.until < until:
            self._news[subject, what] = News(until, reason)
            self.on_news()

    def _rest_credential(self, provider: str, seconds: float) -> None:
        self._credentials[provider] = max(self._credentials.get(provider, -math.inf), self._clock() + seconds)
        for place in self._places.values():
            if place.provider == provider:
                self._set_aside(place, place.rest, seconds, _CREDENTIAL_RESTS)

    def _panics(self, deployment: str) -> bool:
        """Whether fewer than half of those that serve the same model are healthy, so that none is set aside."""
        peers, now = self._peers.get(deployment, ()), self._clock()
        healthy = sum(1 for peer in peers if (place := self._places.get(peer)) is None or place.well(now))
        return healthy * 2 < len(peers)

    def _set_aside(self, place: Place, spell: Spell, seconds: float, reason: str) -> None:
        """Begins a spell, or makes it last longer."""
        now = self._clock()
        if seconds <= 0 or now + seconds <= spell.until:
            return
        began = spell.until <= now
        spell.until, spell.reason = now + seconds, reason
        self._changed(place)
        if began:
            self._tell(Transition(place.name, place.breaker.state, spell.kind, reason, seconds))

    def _tell(self, transition: Transition) -> None:
        for listener in self._listeners:
            listener(transition)

    def _changed(self, place: Place) -> None:
        place.troubled = place.full or place.breaker.state != "closed" or not place.well(self._clock())
        if place.troubled:
            self._troubled[place.name] = place
        else:
            self._troubled.pop(place.name, None)
        self._rebuild()

    def _rebuild(self) -> None:
        now, wall = self._clock(), self._wall()
        view: dict[str, Health] = {}
        ends = _NEVER
        for name, place in self._troubled.items():
            breaker = place.breaker
            until = max(breaker.open_until, place.rest.until)
            if until > now:
                ends = min(ends, until)
                if place.rest.until == until:
                    view[name] = Health("resting", wall + until - now, place.rest.reason)
                else:
                    view[name] = Health("open", wall + until - now, breaker.reason, breaker.lenient)
            elif place.full:
                view[name] = Health("full", None, f"{place.in_flight} in flight")
            elif breaker.state == "half_open" and breaker.trials >= TRIALS:
                view[name] = Health("half_open", None, f"{breaker.trials} trials in flight")
            elif place.ejection.until > now:
                ends = min(ends, place.ejection.until)
                if not self._panics(name):
                    view[name] = Health("ejected", wall + place.ejection.until - now, place.ejection.reason)
        for provider, crowd in self._crowds.items():
            if crowd.full:
                full = Health("full", None, f"{crowd.in_flight} in flight at {provider}")
                for name, place in self._places.items():
                    if place.crowd is crowd:
                        view.setdefault(name, full)
        self._view = view
        self._view_ends = ends
