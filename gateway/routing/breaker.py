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
FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 60.0
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
    """Opens after failures in a row, or where half of the recent calls failed; then lets a few trials through.

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
        "_window",
        "epoch",
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

    def lets_in(self) -> bool:
        """Whether a call may be made now; in the half-open state it takes a trial's place with it."""
        if self.state == "closed":
            return True
        if self._clock() < self.open_until:
            return False
        if self.state == "open":
            self.reason = "its time is over, trials begin"
            self._pybreaker.half_open()
        if self.trials >= TRIALS:
            return False
        self.trials += 1
        return True

    def judge(self, epoch: int, verdict: Verdict) -> None:
        """Takes the verdict of a call that was let in at `epoch`; neutral only hands a trial's place back."""
        if epoch != self.epoch:
            return
        if self.state == "half_open":
            self.trials -= 1
        if verdict == "success":
            self._window.add(self._clock(), failed=False)
            if self._failing or self.state == "half_open":
                self._failing = False
                self.reason = f"{GOOD_TRIALS} trials succeeded"
                self._pybreaker.call(_succeed)
        elif verdict == "failure":
            self._fail()

    def _fail(self) -> None:
        now = self._clock()
        self._window.add(now, failed=True)
        self._failing = True
        self.reason = "a trial failed" if self.state == "half_open" else f"{FAILURES_IN_A_ROW} failures in a row"
        with suppress(_Failure, pybreaker.CircuitBreakerError):
            self._pybreaker.call(_fail)
        if self.state == "closed":
            calls, failures = self._window.totals(now)
            if calls >= CALLS_TO_JUDGE and failures >= calls * FAILED_SHARE:
                self.reason = f"{failures} of {calls} calls failed within {WINDOW_S:.0f} s"
                self._pybreaker.open()

    def _move(self, new: State) -> None:
        """Follows pybreaker into a new state."""
        old, self.state = self.state, new
        self.epoch += 1
        self.trials = 0
        self._failing = False
        self._window.clear()
        if new == "open":
            for_s = min(FIRST_OPEN_S * 2**self._openings, LONGEST_OPEN_S)
            self.open_until = self._clock() + for_s * (1 - JITTER + 2 * JITTER * self._chance())
            self._openings = min(self._openings + 1, 16)
        elif new == "closed":
            self._openings = 0
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
