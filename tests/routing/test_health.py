"""Breakers, cool-downs and room, with a clock that stands still until told."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from clocks import SetClock

from gateway.routing.health import Breakers, Permit, Standing, Transition
from gateway.types import Health

NAME = "openai/gpt-5-mini"
OTHER = "anthropic/claude-haiku-4-5"
WALL = 1_790_000_000.0


class Bench:
    """Breakers with a set clock, no jitter and a record of their transitions."""

    def __init__(self, chance: float = 0.5) -> None:
        self.clock = SetClock(1000.0)
        self.transitions: list[Transition] = []
        self.breakers = Breakers(self.clock, lambda: WALL + self.clock(), lambda: chance, [self.transitions.append])

    def admit(self, name: str = NAME, concurrency: int | None = None) -> Permit | None:
        return self.breakers.admit(name, concurrency)

    def permit(self, name: str = NAME) -> Permit:
        """A permit that must be given."""
        permit = self.breakers.admit(name)
        assert permit is not None
        return permit

    def calls(self, verdict: str, count: int, name: str = NAME) -> int:
        """How many of so many calls in a row were let in; each ends with this verdict."""
        made = 0
        for _ in range(count):
            if (permit := self.breakers.admit(name)) is not None:
                permit.settle(verdict)  # type: ignore[arg-type]
                made += 1
        return made

    def moves(self) -> list[str]:
        return [f"{t.old}>{t.new}" for t in self.transitions]

    def against(self, name: str = NAME) -> Health | None:
        return self.breakers.view().get(name)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Fresh breakers, all closed."""
    made = Bench()
    yield made
    assert all(standing.in_flight >= 0 for standing in made.breakers.standings().values())


def test_five_failures_in_a_row_open_it(bench: Bench) -> None:
    """D25: a provider that only fails is left alone after a handful of calls."""
    assert bench.calls("failure", 100) == 5
    assert bench.against() == Health("open", WALL + 1005.0, "5 failures in a row")
    assert bench.against(OTHER) is None
    assert bench.calls("success", 3, OTHER) == 3


def test_a_success_in_between_starts_the_count_anew(bench: Bench) -> None:
    """Only failures in a row count as such."""
    for _ in range(3):
        assert bench.calls("failure", 4) == 4
        assert bench.calls("success", 1) == 1
    assert bench.against() is None


def test_half_of_twenty_calls_failing_opens_it(bench: Bench) -> None:
    """D25: a deployment that fails every other call opens, though never five in a row."""
    made = sum(bench.calls("success", 1) + bench.calls("failure", 1) for _ in range(50))
    assert made == 20
    assert bench.transitions[0].reason == "10 of 20 calls failed within 30 s"


def test_the_window_forgets(bench: Bench) -> None:
    """Failures of more than half a minute ago do not count."""
    for _ in range(9):
        bench.calls("success", 1)
        bench.calls("failure", 1)
    bench.clock.advance(31)
    bench.calls("success", 1)
    assert bench.calls("failure", 2) == 2
    assert bench.against() is None


def test_three_trials_at_a_time_while_half_open(bench: Bench) -> None:
    """D33: of fifty calls at once at a half-open breaker, three reach the provider."""
    bench.calls("failure", 5)
    bench.clock.advance(5)
    assert bench.against() is None  # so that a plan may choose it
    permits = [permit for _ in range(50) if (permit := bench.admit()) is not None]
    assert len(permits) == 3
    assert bench.against() == Health("half_open", None, "3 trials in flight")
    permits[0].settle("neutral")
    assert bench.against() is None
    assert bench.admit() is not None
    assert bench.admit() is None


def test_two_good_trials_close_it(bench: Bench) -> None:
    """One is not enough."""
    bench.calls("failure", 5)
    bench.clock.advance(5)
    bench.permit().settle("success")
    assert bench.breakers.standings()[NAME].breaker == "half_open"
    bench.permit().settle("success")
    assert bench.breakers.standings()[NAME].breaker == "closed"
    assert bench.moves() == ["closed>open", "open>half_open", "half_open>closed"]
    assert bench.calls("failure", 4) == 4
    assert bench.against() is None


def test_each_failed_trial_doubles_the_time(bench: Bench) -> None:
    """D25: 5, 10, 20, 40, 60 and 60 seconds; at most three probes in each."""
    bench.calls("failure", 5)
    times = []
    for _ in range(6):
        opened = bench.transitions[-1]
        assert opened.new == "open"
        assert opened.for_s is not None
        times.append(opened.for_s)
        bench.clock.advance(opened.for_s - 0.001)
        assert bench.admit() is None
        bench.clock.advance(0.002)
        assert bench.calls("failure", 10) == 1
    assert times == pytest.approx([5, 10, 20, 40, 60, 60])


@pytest.mark.parametrize(("chance", "for_s"), [(0.0, 4.0), (0.999999, 6.0)])
def test_jitter_spreads_the_time_by_a_fifth(chance: float, for_s: float) -> None:
    """Replicas do not all come back at once."""
    bench = Bench(chance)
    bench.calls("failure", 5)
    assert bench.transitions[0].for_s == pytest.approx(for_s, rel=1e-4)


def test_after_closing_the_time_starts_small_again(bench: Bench) -> None:
    """A recovery forgets how often it opened before."""
    bench.calls("failure", 5)
    bench.clock.advance(5)
    bench.calls("failure", 1)
    bench.clock.advance(10)
    bench.calls("success", 2)
    bench.calls("failure", 5)
    assert bench.transitions[-1].for_s == pytest.approx(5)


def test_after_closing_old_failures_do_not_count(bench: Bench) -> None:
    """A recovery forgets what was counted before it, so one failure does not undo it."""
    for _ in range(10):
        bench.calls("success", 1)
        bench.calls("failure", 1)
    bench.clock.advance(5)
    bench.calls("success", 2)
    assert bench.calls("failure", 2) == 2
    assert bench.moves() == ["closed>open", "open>half_open", "half_open>closed"]


def test_departed_callers_are_no_failures(bench: Bench) -> None:
    """D34: five hundred callers leaving in a row say nothing of the deployment."""
    assert bench.calls("neutral", 500) == 500
    standing = bench.breakers.standings()[NAME]
    assert (standing.breaker, standing.failures_in_a_row, standing.in_flight) == ("closed", 0, 0)
    assert bench.transitions == []


def test_neutral_verdicts_do_not_break_a_row_of_failures(bench: Bench) -> None:
    """They leave the state as it is, both ways."""
    bench.calls("failure", 4)
    bench.calls("neutral", 10)
    assert bench.calls("failure", 1) == 1
    assert bench.moves() == ["closed>open"]


def test_a_verdict_is_given_once(bench: Bench) -> None:
    """What comes second is ignored, so every way out of a call may settle it."""
    permit = bench.permit()
    permit.settle("neutral")
    for _ in range(10):
        permit.settle("failure")
    assert bench.breakers.standings()[NAME].failures_in_a_row == 0
    assert bench.breakers.standings()[NAME].in_flight == 0


def test_verdicts_from_before_a_change_do_not_count(bench: Bench) -> None:
    """A stream from before the outage neither closes the breaker by ending well nor reopens it by ending badly."""
    old = [bench.permit() for _ in range(12)]
    bench.calls("failure", 5)
    for permit in old[:4]:
        permit.settle("success")
    assert bench.against() is not None
    bench.clock.advance(5)
    trial = bench.permit()
    for permit in old[4:8]:
        permit.settle("failure")
    assert bench.breakers.standings()[NAME].breaker == "half_open"
    trial.settle("success")
    bench.permit().settle("success")
    for permit in old[8:]:
        permit.settle("failure")
    assert bench.breakers.standings()[NAME] == Standing("closed", 0, 0)


def test_a_rate_limit_rests_the_deployment_and_no_other(bench: Bench) -> None:
    """D27: no call for as long as Retry-After said; the breaker stays closed and others serve."""
    bench.permit().settle("neutral")
    bench.breakers.rest(NAME, 3.0)
    bench.clock.advance(2.999)
    assert bench.admit() is None
    assert bench.against() == Health("resting", WALL + 1003.0, "rate limited")
    assert bench.admit(OTHER) is not None
    assert bench.breakers.standings()[NAME].breaker == "closed"
    bench.clock.advance(0.002)
    assert bench.against() is None
    assert bench.admit() is not None


@pytest.mark.parametrize(
    ("seconds", "rests_s"),
    [(0.25, 0.25), (120, 120), (121, 120), (1e9, 120), (math.inf, 120), (-1, 5), (math.nan, 5), (None, 5), (0, 0)],
)
def test_odd_retry_after_values_are_clamped(bench: Bench, seconds: float | None, rests_s: float) -> None:
    """D28: whatever the header said, the rest is within two minutes."""
    bench.breakers.rest(NAME, seconds)
    bench.clock.advance(rests_s - 0.001)
    assert (bench.admit() is None) is (rests_s > 0)
    bench.clock.advance(0.002)
    assert bench.admit() is not None


def test_a_shorter_rest_does_not_cut_a_longer_one(bench: Bench) -> None:
    """Many answers come back at once; the longest holds, and is told once."""
    bench.breakers.rest(NAME, 10)
    bench.breakers.rest(NAME, 30)
    bench.breakers.rest(NAME, 3)
    bench.clock.advance(29)
    assert bench.admit() is None
    assert bench.moves() == ["closed>resting"]


def test_a_spent_quota_rests_all_of_the_credential(bench: Bench) -> None:
    """D29: nothing goes out on the credential for five minutes, also to deployments not called before; one alert."""
    bench.calls("success", 1)
    bench.calls("success", 1, OTHER)
    bench.breakers.rest_credential("openai", 1)
    bench.breakers.rest_credential("openai", 1)
    bench.clock.advance(299)
    assert bench.admit() is None
    assert bench.admit("openai/gpt-5") is None
    assert bench.admit(OTHER) is not None
    assert [t.deployment for t in bench.transitions].count(NAME) == 1
    bench.clock.advance(2)
    assert bench.admit() is not None
    assert bench.admit("openai/gpt-5") is not None


@pytest.mark.parametrize("seconds", [None, math.nan, -5, 0])
def test_a_credential_rests_at_least_five_minutes(bench: Bench, seconds: float | None) -> None:
    """Quotas do not come back sooner."""
    bench.calls("success", 1)
    bench.breakers.rest_credential("openai", seconds)
    assert bench.against() == Health("resting", WALL + 1300.0, "the provider refuses its credential or quota")


def test_a_full_deployment_admits_no_more(bench: Bench) -> None:
    """At its concurrency it shows as full, until a call ends."""
    permits = [bench.admit(concurrency=2), bench.admit(concurrency=2)]
    assert None not in permits
    assert bench.admit(concurrency=2) is None
    assert bench.against() == Health("full", None, "2 in flight")
    assert permits[0] is not None
    permits[0].settle("success")
    assert bench.against() is None
    assert bench.admit(concurrency=2) is not None


def test_a_refusal_for_room_takes_no_trial(bench: Bench) -> None:
    """A half-open breaker keeps its trials for calls that are made."""
    bench.calls("failure", 5)
    bench.clock.advance(5)
    first = bench.admit(concurrency=1)
    assert first is not None
    for _ in range(5):
        assert bench.admit(concurrency=1) is None
    first.settle("success")
    second = bench.admit(concurrency=1)
    assert second is not None
    second.settle("success")
    assert bench.breakers.standings()[NAME].breaker == "closed"


def test_a_view_once_given_does_not_change(bench: Bench) -> None:
    """A plan is made from one view, and its record keeps it."""
    bench.breakers.rest(NAME, 3)
    before = bench.breakers.view()
    bench.breakers.rest(OTHER, 3)
    assert set(before) == {NAME}
    assert set(bench.breakers.view()) == {NAME, OTHER}


def slow_calls(bench: Bench, count: int, *, slow: bool) -> int:
    """How many of so many calls in a row were let in; all end well, and begin slowly or not."""
    made = 0
    for _ in range(count):
        if (permit := bench.admit()) is not None:
            permit.settle("success", slow=slow)
            made += 1
    return made


def test_mostly_slow_streams_open_it(bench: Bench) -> None:
    """From twenty timed ones on; four in five are enough, and what was not timed does not count."""
    slow_calls(bench, 4, slow=False)
    assert bench.calls("success", 30) == 30
    assert slow_calls(bench, 100, slow=True) == 16
    assert bench.transitions[0].reason == "16 of 20 streams began slowly within 30 s"
    assert bench.against() == Health("open", WALL + 1005.0, bench.transitions[0].reason, last_resort=True)


def test_fewer_slow_streams_do_not(bench: Bench) -> None:
    """Three of four may be slow for ever."""
    for _ in range(30):
        slow_calls(bench, 1, slow=False)
        assert slow_calls(bench, 3, slow=True) == 3
    assert bench.against() is None


def test_a_slow_trial_keeps_a_slow_one_open(bench: Bench) -> None:
    """Quick trials close it; a slow one only matters where slowness opened it."""
    slow_calls(bench, 20, slow=True)
    bench.clock.advance(5)
    assert slow_calls(bench, 5, slow=True) == 1
    assert bench.transitions[-1].reason == "a trial began slowly"
    assert bench.transitions[-1].for_s == pytest.approx(10)
    bench.clock.advance(10)
    slow_calls(bench, 2, slow=False)
    assert bench.breakers.standings()[NAME].breaker == "closed"
    bench.calls("failure", 5)
    bench.clock.advance(5)
    slow_calls(bench, 2, slow=True)
    assert bench.breakers.standings()[NAME].breaker == "closed"


def test_a_slow_one_is_a_last_resort(bench: Bench) -> None:
    """Who has nobody else is served, and that changes nothing; a failing one refuses all the same."""
    slow_calls(bench, 20, slow=True)
    assert bench.admit() is None
    for verdict in ("success", "failure", "neutral"):
        permit = bench.breakers.admit(NAME, despite_rest=True)
        assert permit is not None
        permit.settle(verdict, slow=True)  # type: ignore[arg-type]
    assert bench.moves() == ["closed>open"]
    bench.clock.advance(5)
    bench.calls("failure", 1)
    assert bench.against() == Health("open", WALL + 1015.0, "a trial failed")
    assert bench.breakers.admit(NAME, despite_rest=True) is None


def test_a_provider_may_have_a_limit_of_its_own(bench: Bench) -> None:
    """All of its deployments together; others are not touched, and room shows as soon as there is some."""
    sibling = "openai/gpt-5"
    permits = [bench.breakers.admit(NAME, of_provider=2), bench.breakers.admit(sibling, of_provider=2)]
    assert None not in permits
    assert bench.breakers.admit(NAME, of_provider=2) is None
    assert bench.against() == bench.against(sibling) == Health("full", None, "2 in flight at openai")
    assert bench.breakers.admit(OTHER, of_provider=2) is not None
    assert permits[0] is not None
    permits[0].settle("neutral")
    assert bench.breakers.view() == {}
    assert bench.breakers.admit(sibling, of_provider=2) is not None
