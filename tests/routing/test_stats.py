"""Observations of deployments."""

from __future__ import annotations

import pytest
from clocks import SetClock

from gateway.routing.stats import FORGOTTEN_AFTER_S, Statistics


def test_the_first_observations_are_averaged_plainly() -> None:
    """The mean of a few is their mean."""
    statistics = Statistics(SetClock(50.0))
    for ttft_ms in (100, 200, 300):
        statistics.observe("p/m", ttft_ms=ttft_ms, tokens_per_s=50, output_tokens=10)
    seen = statistics.view()["p/m"]
    assert (seen.ttft_ms, seen.tokens_per_s, seen.output_tokens, seen.samples) == (pytest.approx(200), 50, 10, 3)


def test_later_ones_count_a_tenth() -> None:
    """A change shows after some observations, not after one."""
    statistics = Statistics(SetClock(50.0))
    for _ in range(50):
        statistics.observe("p/m", ttft_ms=100)
    statistics.observe("p/m", ttft_ms=200)
    assert statistics.view()["p/m"].ttft_ms == pytest.approx(110)


def test_the_error_rate_counts_successes_and_failures() -> None:
    """It rises with failures and falls with successes."""
    statistics = Statistics(SetClock(50.0))
    for failed in (False, True, False, True):
        statistics.observe("p/m", failed=failed)
    assert statistics.view()["p/m"].error_rate == pytest.approx(0.5)


def test_what_was_not_measured_changes_nothing() -> None:
    """A failure has no speed."""
    statistics = Statistics(SetClock(50.0))
    statistics.observe("p/m", ttft_ms=100, tokens_per_s=50, output_tokens=10)
    statistics.observe("p/m", failed=True)
    seen = statistics.view()["p/m"]
    assert (seen.ttft_ms, seen.tokens_per_s, seen.output_tokens) == (100, 50, 10)


def test_a_first_measurement_counts_whole_however_late() -> None:
    """Failures before it do not pull it towards zero."""
    statistics = Statistics(SetClock(50.0))
    for _ in range(20):
        statistics.observe("p/m", failed=True)
    statistics.observe("p/m", ttft_ms=100)
    assert statistics.view()["p/m"].ttft_ms == 100


def test_deployments_are_kept_apart() -> None:
    """One that was never observed is not in the view."""
    statistics = Statistics(SetClock(50.0))
    statistics.observe("p/a", ttft_ms=1)
    assert set(statistics.view()) == {"p/a"}


def test_what_nobody_called_for_long_is_forgotten() -> None:
    """It counts as unmeasured, and is tried again."""
    clock = SetClock(50.0)
    statistics = Statistics(clock)
    statistics.observe("p/quiet", ttft_ms=9000)
    clock.advance(FORGOTTEN_AFTER_S / 2)
    statistics.observe("p/busy", ttft_ms=1)
    clock.advance(FORGOTTEN_AFTER_S / 2)
    assert set(statistics.view()) == {"p/busy"}


def test_a_tokenizer_is_learned_within_reason() -> None:
    """Bytes to a token as the provider counts; what no tokenizer counts is a mistake of somebody's."""
    statistics = Statistics(SetClock(50.0))
    statistics.observe("p/m", bytes_per_token=2.5)
    statistics.observe("p/m", bytes_per_token=400.0)
    statistics.observe("p/m", bytes_per_token=0.01)
    statistics.observe("p/m", failed=True)
    assert statistics.view()["p/m"].bytes_per_token == 2.5


def test_what_plans_are_made_from_holds_for_a_moment() -> None:
    """Those of a busy moment share one view, which never changes; it is no older than 50 ms."""
    clock = SetClock(50.0)
    statistics = Statistics(clock)
    statistics.observe("p/m", ttft_ms=100)
    first = statistics.view()
    statistics.observe("p/m", ttft_ms=300)
    assert statistics.lately() is first
    clock.advance(0.06)
    later = statistics.lately()
    assert (first["p/m"].samples, later["p/m"].samples) == (1, 2)
    assert statistics.lately() is later is statistics.view()
    statistics.forget("p/m")
    assert "p/m" in later
    assert "p/m" not in statistics.view()
