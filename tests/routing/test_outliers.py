"""Outliers among the deployments of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from clocks import SetClock

from gateway.routing.health import Breakers, Tally, Transition
from gateway.routing.outliers import Outliers, outliers

WALL = 1_790_000_000.0
FIVE = tuple(f"p{n}/m" for n in range(5))


def rates(*failures: int, calls: int = 1000) -> dict[str, Tally]:
    return {f"p{n}/m": Tally(calls, failed, 0) for n, failed in enumerate(failures)}


@pytest.mark.parametrize(
    ("tallies", "found"),
    [
        (rates(0, 0, 0, 0, 400), ["p4/m"]),
        (rates(10, 20, 15, 12, 300), ["p4/m"]),
        (rates(0, 0, 0, 0, 40), []),  # two deviations, and four points below the mean at most
        (rates(300, 300, 300, 300, 300), []),
        (rates(0, 0, 0, 400), []),  # too few to tell what is usual
        (rates(0, 0, 0, 0, 40, calls=99), []),
        (rates(0, 0, 0, 0, 0, 0, 0, 500, 900), ["p8/m"]),  # the worst widens the spread for the second
        ({}, []),
    ],
)
def test_success_rates_are_compared(tallies: Mapping[str, Tally], found: list[str]) -> None:
    """Below the mean less 1.9 deviations, from five peers and a hundred calls each on."""
    assert list(outliers(tallies)) == found


def test_gateway_errors_need_no_comparison() -> None:
    """Five in a row are enough, however few the peers and calls."""
    tallies = {"a/m": Tally(5, 5, 5), "b/m": Tally(6, 6, 6), "c/m": Tally(90, 4, 4)}
    assert outliers(tallies) == {"b/m": "6 gateway errors in a row", "a/m": "5 gateway errors in a row"}


class Bench:
    """Breakers and their outliers, with a set clock and deployments of one model."""

    def __init__(self, names: tuple[str, ...] = FIVE) -> None:
        self.clock = SetClock(1000.0)
        self.transitions: list[Transition] = []
        self.breakers = Breakers(self.clock, lambda: WALL + self.clock(), lambda: 0.5, [self.transitions.append])
        self.snapshot: Any = None
        self.serve(names)
        self.outliers = Outliers(self.breakers, lambda: self.snapshot, self.clock)
        self.outliers.look()

    def serve(self, names: tuple[str, ...]) -> None:
        provider, model = SimpleNamespace(unavailable=None), SimpleNamespace(name="m", status="enabled")
        self.snapshot = SimpleNamespace(deployments={n: SimpleNamespace(provider=provider, model=model) for n in names})

    def calls(self, name: str, *, good: int = 0, bad: int = 0, gateway_errors: int = 0) -> None:
        """So many calls; the bad ones spread out, so that no breaker opens for them."""
        for number in range(good):
            self.call(name, "success")
            if (number + 1) * bad // good > number * bad // good:
                self.call(name, "failure")
        for _ in range(gateway_errors):
            self.call(name, "failure", gateway_error=True)

    def call(self, name: str, verdict: Any, *, gateway_error: bool = False) -> None:
        permit = self.breakers.admit(name)
        if permit is not None:
            permit.settle(verdict, gateway_error=gateway_error)

    def ejected(self) -> list[str]:
        return sorted(name for name, health in self.breakers.view().items() if health.state == "ejected")


def test_an_outlier_is_set_aside_and_comes_back() -> None:
    """For 30 seconds, said in words, and what it did before does not count again."""
    bench = Bench()
    for name in FIVE:
        bench.calls(name, good=200, bad=80 if name == FIVE[2] else 0)
    bench.outliers.look()
    assert bench.ejected() == [FIVE[2]]
    health = bench.breakers.view()[FIVE[2]]
    assert health.until_at == pytest.approx(WALL + 1030)
    assert health.detail == "71.4% of its calls succeed, of all 5 peers' 94.3%"
    assert [(t.deployment, t.new) for t in bench.transitions] == [(FIVE[2], "ejected")]
    for _ in range(29):
        bench.clock.advance(1)
        bench.outliers.look()
    assert bench.ejected() == [FIVE[2]]
    bench.clock.advance(1.1)
    for _ in range(5):
        bench.outliers.look()
        assert bench.ejected() == []


def test_each_time_it_stays_away_longer() -> None:
    """30, 60, 90 seconds; after ten minutes without it begins anew."""
    bench = Bench(("a/m", "b/m"))
    bench.calls("a/m", good=1)
    away = []
    for pause_s in (0, 0, 0, 700):
        bench.clock.advance(pause_s)
        bench.outliers.look()
        bench.calls("b/m", good=2)  # closes the breaker, if it is half open
        bench.calls("b/m", gateway_errors=5)
        bench.outliers.look()
        assert bench.ejected() == []  # its breaker is open, which says more
        (until_at,) = [bench.breakers.ejected_until("b/m")]
        away.append(until_at - bench.clock())
        bench.clock.advance(until_at - bench.clock() + 0.1)
        bench.outliers.look()
    assert away == pytest.approx([30, 60, 90, 30])


def test_at_most_half_are_away_and_never_the_last() -> None:
    """Whatever they do, somebody is left to be asked."""
    bench = Bench()
    for name in FIVE:
        bench.calls(name, gateway_errors=5)
    bench.outliers.look()
    assert bench.breakers.standings()[FIVE[0]].ejections == 0  # nobody was well any more: all breakers are open
    bench = Bench()
    for name in FIVE[:4]:
        bench.calls(name, gateway_errors=5)
    bench.outliers.look()
    assert sum(standing.ejections for standing in bench.breakers.standings().values()) == 2
    bench = Bench(("a/m", "b/m"))
    bench.calls("a/m", gateway_errors=5)
    bench.calls("b/m", good=1)
    bench.outliers.look()
    bench.calls("b/m", gateway_errors=5)
    bench.outliers.look()
    assert {n: s.ejections for n, s in bench.breakers.standings().items()} == {"a/m": 1, "b/m": 0}
    bench = Bench(("a/m",))
    bench.calls("a/m", gateway_errors=5)
    bench.outliers.look()
    assert bench.breakers.standings()["a/m"].ejections == 0


def test_a_panic_ignores_who_is_set_aside() -> None:
    """With fewer than half of them healthy, the ejected serve again until there are more."""
    bench = Bench(("a/m", "b/m", "c/m"))
    bench.breakers.eject("a/m", "because")
    assert bench.ejected() == ["a/m"]
    bench.breakers.rest("b/m", 10)
    assert bench.ejected() == []
    assert bench.breakers.standings()["a/m"].ejection_ignored
    assert bench.breakers.view()["b/m"].state == "resting"
    bench.clock.advance(10.1)
    assert bench.ejected() == ["a/m"]
    assert not bench.breakers.standings()["a/m"].ejection_ignored


@pytest.mark.parametrize("change", [lambda b: b.serve(("x/m", "y/m")), lambda b: b.serve(())])
def test_peers_are_those_of_the_catalog_in_force(change: Callable[[Bench], None]) -> None:
    """A deployment that left the catalog is not looked at any more."""
    bench = Bench()
    change(bench)
    bench.calls(FIVE[0], gateway_errors=5)
    bench.outliers.look()
    assert bench.breakers.standings()[FIVE[0]].ejections == 0


def test_what_lies_back_is_forgotten() -> None:
    """Success rates are those of two minutes."""
    bench = Bench()
    for name in FIVE:
        bench.calls(name, good=200, bad=80 if name == FIVE[0] else 0)
    for _ in range(14):
        bench.clock.advance(10)
        bench.calls(FIVE[1], good=1)
        bench.outliers._recent(FIVE[0], bench.breakers.tallies()[FIVE[0]], bench.clock())
    assert bench.outliers._recent(FIVE[0], bench.breakers.tallies()[FIVE[0]], bench.clock()).calls == 0
