"""Usage times price, worked out by hand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.cost import (
    MAX_COUNT,
    affordable_output_tokens,
    cost_nano,
    estimate_usage,
    is_plausible,
    worst_case_nano,
)
from gateway.types import Cliff, OffPeak, Price, Rates, Usage

BASE = Rates(input=3_000_000, output=15_000_000, cache_read=300_000, cache_write_5m=3_750_000, cache_write_1h=6_000_000)
PLAIN = Price("r1", 0.0, BASE)
NIGHT = OffPeak(16 * 60 + 30, 30, Rates(1_000_000, 2_000_000))
"""16:30 to 00:30 UTC."""


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (Usage(), 0),
        (Usage(input=1), 3_000),
        (Usage(output=7), 105_000),
        (Usage(input=100, cache_read=1_000), 300_000 + 300_000),
        (Usage(cache_write_5m=10, cache_write_1h=1, output=2), 37_500 + 6_000 + 30_000),
        (Usage(output=100, reasoning=60), 1_500_000),
        (Usage(audio_in=2, audio_out=3), 6_000 + 45_000),
        (Usage(images=4, characters=5), 0),
    ],
)
def test_each_bucket_is_charged_once_at_its_own_rate(usage: Usage, nano: int) -> None:
    """Buckets are disjoint; what a row does not price apart costs what input or output costs."""
    assert cost_nano(usage, PLAIN, started_at=0.0) == nano


def test_the_sum_is_rounded_up_once() -> None:
    """$0.0375 per million is 37.5 nano-USD a token: two tokens are 75, one is 38."""
    cheap = Price("r2", 0.0, Rates(37_500, 37_500))
    assert cost_nano(Usage(input=1), cheap, started_at=0.0) == 38
    assert cost_nano(Usage(input=1, output=1), cheap, started_at=0.0) == 75


def test_what_is_priced_apart_costs_its_own_price() -> None:
    """Reasoning, audio, images and characters where the row names them."""
    rates = Rates(1_000, 2_000, reasoning=5_000, audio_in=7_000, audio_out=11_000, image=13_000, character=17_000)
    usage = Usage(input=1, output=3, reasoning=2, audio_in=1, audio_out=1, images=1, characters=1)
    assert cost_nano(usage, Price("r3", 0.0, rates), started_at=0.0) == 1 + 2 + 10 + 7 + 11 + 13 + 17


def test_a_price_of_zero_is_not_a_missing_price() -> None:
    """A row may give cache reads away."""
    rates = Rates(1_000_000, 1_000_000, cache_read=0)
    assert cost_nano(Usage(cache_read=1_000), Price("r4", 0.0, rates), started_at=0.0) == 0


@pytest.mark.parametrize(("prompt", "nano"), [(200_000, 200_000_000), (200_001, 400_002_000), (500_001, 1_500_003_000)])
def test_a_cliff_holds_for_the_whole_request_once_passed(prompt: int, nano: int) -> None:
    """At the threshold the base rates hold; above it every token costs the cliff's."""
    cliffs = (Cliff(500_000, Rates(3_000_000, 9)), Cliff(200_000, Rates(2_000_000, 9)))
    assert cost_nano(Usage(input=prompt), Price("r5", 0.0, Rates(1_000_000, 9), cliffs), started_at=0.0) == nano


def test_cached_input_counts_towards_a_cliff() -> None:
    """The cliff goes by all prompt tokens."""
    price = Price("r6", 0.0, Rates(1_000, 0, cache_read=1_000), (Cliff(10, Rates(5_000, 0, cache_read=5_000)),))
    assert cost_nano(Usage(input=5, cache_read=6), price, started_at=0.0) == 55


@pytest.mark.parametrize(
    ("minute", "nano"), [(989, 3_000), (990, 1_000), (1439, 1_000), (0, 1_000), (29, 1_000), (30, 3_000)]
)
def test_off_peak_goes_by_the_start_and_may_wrap_past_midnight(minute: int, nano: int) -> None:
    """The window begins at its first minute and ends before its last."""
    price = Price("r7", 0.0, BASE, off_peak=(NIGHT,))
    assert cost_nano(Usage(input=1), price, started_at=20_000 * 86_400 + minute * 60.0) == nano


def test_a_service_tier_is_a_row_of_its_own() -> None:
    """A tier the row does not know is charged the row's own rates."""
    price = Price("r8", 0.0, BASE, service_tiers={"flex": Price("r8", 0.0, Rates(1_500_000, 7_500_000))})
    assert cost_nano(Usage(input=2), price, started_at=0.0, service_tier="flex") == 3_000
    assert cost_nano(Usage(input=2), price, started_at=0.0, service_tier="default") == 6_000


def test_bytes_without_usage_are_four_to_a_token() -> None:
    """Rounded up."""
    assert estimate_usage(input_tokens=7, output_bytes=9) == Usage(input=7, output=3)


EVERYTHING = Price(
    "r9",
    0.0,
    BASE,
    cliffs=(Cliff(1_000, Rates(6_000_000, 22_500_000)),),
    service_tiers={"priority": Price("r9", 0.0, Rates(4_000_000, 30_000_000, audio_in=50_000_000))},
    off_peak=(NIGHT,),
)


@given(
    buckets=st.tuples(*[st.integers(0, 3_000)] * 7),
    minute=st.integers(0, 1439),
    tier=st.sampled_from([None, "priority", "flex"]),
)
def test_no_outcome_costs_more_than_the_worst_case(buckets: tuple[int, ...], minute: int, tier: str | None) -> None:
    """A hold covers every cliff, tier, hour and cache outcome."""
    read, write, hour, plain, audio, text, spoken = buckets
    usage = Usage(plain, read, write, hour, text, text // 2, audio, spoken)
    worst = worst_case_nano(EVERYTHING, input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens)
    assert cost_nano(usage, EVERYTHING, started_at=minute * 60.0, service_tier=tier) <= worst


@given(tokens=st.integers(0, 10**6), output=st.integers(1, 10**5), choices=st.integers(1, 8))
def test_a_hold_affords_the_output_it_was_made_for_and_no_more(tokens: int, output: int, choices: int) -> None:
    """`affordable_output_tokens` undoes `worst_case_nano`."""
    hold = worst_case_nano(PLAIN, input_tokens=tokens, output_tokens=output, choices=choices)
    assert affordable_output_tokens(PLAIN, hold, input_tokens=tokens, choices=choices) == output


@pytest.mark.parametrize("name", Usage.__struct_fields__)
def test_a_count_is_plausible_from_nothing_to_the_most(name: str) -> None:
    """Whichever count it is, and whatever the others are."""
    others = Usage(*[MAX_COUNT] * len(Usage.__struct_fields__))
    for usage in (Usage(), Usage(input=3, output=5), others):
        for plausible, counts in ((True, (0, 1, MAX_COUNT)), (False, (-1, -(2**40), MAX_COUNT + 1, 10**12))):
            for count in counts:
                assert is_plausible(msgspec.structs.replace(usage, **{name: count})) is plausible
