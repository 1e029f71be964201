"""One deployment's circuit breaker.

pybreaker keeps the state, but never wraps a coroutine: it would judge the coroutine's making, not its outcome. It is
told of each outcome instead. Time is handed in, so pybreaker's own clock is not used either: it is never asked while
open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

import pybreaker

from gateway.errors import Verdict
from gateway.routing.window import WINDOW_S, Window

FAILURES_IN_A_ROW = 5
CALLS_TO_JUDGE = 20
FAILED_SHARE = 0.5
SLOW_SHARE = 0.8
FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 60.0
BELIEVED_S = 10.0
"""So long a call that went well here counts for more than what another replica says."""
JITTER = 0.2
TRIALS = 3
"""Calls that a half-open breaker lets through at a time."""
GOOD_TRIALS = 2
"""Successes that close it."""

State = Literal["closed", "open", "half_open"]
_STATES: Mapping[str, State] = {
    pybreaker.STATE_CLOSED: "closed",
    pybreaker.STATE_OPEN: "open",
    pybreaker.STATE_HALF_OPEN: "half_open",
}


class Breaker:
    """Opens after failures in a row, or where half of the recent calls failed or most of them began slowly; then lets a
    few trials through.

    Each opening lasts twice as long as the one before, until trials succeed. `clock` gives monotonic seconds, `chance`
    numbers in [0, 1) for the jitter; `moved` is called with the breaker and its old state after each change.
    """

    __slots__ = (
        "_chance",
        "_clock",
        "_failing",
        "_moved",
        "_openings",
        "_pybreaker",
        "_slow",
        "_told_for_s",
        "_went_well_at",
        "_window",
        "epoch",
        "lenient",
        "open_until",
        "reason",
        "state",
        "trials",
    )

    def __init__(
        self, clock: Callable[[], float], chance: Callable[[], float], moved: Callable[[Breaker, State], None]
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._moved = moved
        self._pybreaker = pybreaker.CircuitBreaker(
            fail_max=FAILURES_IN_A_ROW, success_threshold=GOOD_TRIALS, listeners=[_Listener(self)]
        )
        self._window = Window()
        self._failing = False
        """Whether pybreaker has counted a failure that a success must reset."""
        self._openings = 0
        """How often it opened since it was last closed."""
        self._slow = False
        """Whether it opened for slow starts, which a trial must then prove wrong."""
        self._told_for_s: float | None = None
        """For how long another replica's is open, while this one follows it."""
        self._went_well_at = -math.inf
        self.lenient = False
        """Whether an open one still admits calls that nobody else can serve: it is slow, or only said to fail."""
        self.state: State = "closed"
        self.epoch = 0
        """Counts changes of state: a call that was let in before the last one says nothing of what is now."""
        self.open_until = -math.inf
        self.trials = 0
        """Trials under way."""
        self.reason = ""
        """Of the last change."""

    @property
    def failures_in_a_row(self) -> int:
        return int(self._pybreaker.fail_counter)

    @property
    def told(self) -> bool:
        """Whether it follows another replica's."""
        return self._told_for_s is not None

    def lets_in(self, *, last_resort: bool = False) -> bool:
        """Whether a call may be made now; in the half-open state it takes a trial's place with it.

        `last_resort` is for a call that nobody else can serve.
        """
        if self.state == "closed":
            return True
        if self._clock() < self.open_until:
            return self.lenient and last_resort
        if self.state == "open":
            self.reason = "its time is over, trials begin"
            self._pybreaker.half_open()
        if self.trials >= TRIALS:
            return False
        self.trials += 1
        return True

    def judge(self, epoch: int, verdict: Verdict, slow: bool | None = None) -> None:
        """Takes the verdict of a call that was let in at `epoch`; neutral only hands a trial's place back.

        `slow` says whether a call that went well began slowly, None where that was not timed.
        """
        if epoch != self.epoch:
            return
        if self.state == "half_open":
            self.trials -= 1
        if verdict == "success":
            self._went_well_at = now = self._clock()
            if self.state == "open":
                return  # a last resort; what becomes of the breaker is for the trials to say
            self._window.add(now, False, slow)
            if slow and self._begins_slowly(now):
                return
            if self._failing or self.state == "half_open":
                self._failing = False
                self.reason = f"{GOOD_TRIALS} trials succeeded"
                self._pybreaker.call(_succeed)
        elif verdict == "failure":
            self._went_well_at = -math.inf
            if self.state != "open":
                self._fail()

    def follow(self, for_s: float, reason: str) -> None:
        """Opens a closed one for so long because another replica's is open, unless calls go well here."""
        if self.state == "closed" and self._clock() - self._went_well_at > BELIEVED_S:
            self.reason = f"another replica: {reason}"
            self._told_for_s = for_s
            self._pybreaker.open()

    def _fail(self) -> None:
        now = self._clock()
        self._window.add(now, True, None)
        self._failing = True
        if self.state == "half_open":
            self._fail_trial("a trial failed", slow=False)
            return
        self.reason = f"{FAILURES_IN_A_ROW} failures in a row"
        with suppress(_Failure, pybreaker.CircuitBreakerError):
            self._pybreaker.call(_fail)
        if self.state == "closed":
            calls, failures = self._window.totals(now)
            if calls >= CALLS_TO_JUDGE and failures >= calls * FAILED_SHARE:
                self.reason = f"{failures} of {calls} calls failed within {WINDOW_S:.0f} s"
                self._pybreaker.open()

    def _begins_slowly(self, now: float) -> bool:
        """Whether it opened, because of this slow start and those before it."""
        if self.state == "half_open":
            if self._slow:
                self._fail_trial("a trial began slowly", slow=True)
            return self._slow
        timed, slow = self._window.starts(now)
        if timed < CALLS_TO_JUDGE or slow < timed * SLOW_SHARE:
            return False
        self.reason = f"{slow} of {timed} streams began slowly within {WINDOW_S:.0f} s"
        self._slow = True
        self._pybreaker.open()
        return True

    def _fail_trial(self, reason: str, *, slow: bool) -> None:
        self.reason = reason
        self._slow = slow
        with suppress(_Failure, pybreaker.CircuitBreakerError):
            self._pybreaker.call(_fail)

    def _move(self, new: State) -> None:
        """Follows pybreaker into a new state."""
        old, self.state = self.state, new
        self.epoch += 1
        self.trials = 0
        self._failing = False
        self._window.clear()
        if new == "open":
            self.lenient = self._slow or self.told
            if self._told_for_s is not None:
                self.open_until = self._clock() + self._told_for_s
            else:
                for_s = min(FIRST_OPEN_S * 2**self._openings, LONGEST_OPEN_S)
                self.open_until = self._clock() + for_s * (1 - JITTER + 2 * JITTER * self._chance())
                self._openings = min(self._openings + 1, 16)
        else:
            self._told_for_s = None
            if new == "closed":
                self._openings = 0
                self._slow = False
        self._moved(self, old)


class _Listener(pybreaker.CircuitBreakerListener):
    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        self._breaker._move(_STATES[new_state.name])


class _Failure(Exception):
    """What pybreaker is shown where a call failed."""


def _succeed() -> None:
    """What pybreaker is shown where a call went well."""


def _fail() -> None:
    raise _Failure
