"""Each order as a table of cases: who goes first."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_catalogs import NOW, candidate, context, deployment, needs, price, tier

from gateway.ledger.cost import cost_nano
from gateway.types import Cliff, Deployment, OffPeak, Price, Rates, Stats, Usage
from policies import compile_chain
from policies.cost import charge
from policies.rules import expected_output_tokens


def order(item: Any, *deployments: Deployment, **facts: Any) -> list[str]:
    """The names in the order in which the policy puts them."""
    (policy,) = compile_chain([item])
    asked = tier("fast", *deployments, default=facts.pop("default", None))
    wanted = facts.pop("needs", needs())
    decision = policy.apply([candidate(d, wanted) for d in deployments], context(wanted, tier=asked, **facts))
    assert not decision.dropped
    return [kept.deployment.name for kept in decision.kept]


DEAR = deployment("openai/dear", price(10, 10), model={"created_at": 30})
CHEAP = deployment("groq/cheap", price(1, 1), model={"created_at": 10})
UNPRICED = deployment("local/unpriced", model={"created_at": 20})


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("cheapest", ["groq/cheap", "openai/dear", "local/unpriced"]),
        ("newest", ["openai/dear", "local/unpriced", "groq/cheap"]),
        ("ordered", ["openai/dear", "groq/cheap", "local/unpriced"]),
        ({"ordered": ["unpriced", "openai"]}, ["local/unpriced", "openai/dear", "groq/cheap"]),
        ({"ordered": ["groq/cheap"]}, ["groq/cheap", "openai/dear", "local/unpriced"]),
        ({"prefer_provider": "local"}, ["local/unpriced", "openai/dear", "groq/cheap"]),
        ({"prefer_provider": ["groq", "local"]}, ["groq/cheap", "local/unpriced", "openai/dear"]),
        ({"step_down": {"when": "budget_left < 20%", "to": "x"}}, ["openai/dear", "groq/cheap", "local/unpriced"]),
    ],
)
def test_orders_that_follow_from_the_catalog(item: Any, expected: list[str]) -> None:
    """The first in the list is tried first; equals keep the catalog's order."""
    assert order(item, DEAR, CHEAP, UNPRICED) == expected


@pytest.mark.parametrize("default", ["cheap", "groq/cheap"])
def test_the_default_goes_first(default: str) -> None:
    """The default is named as a model or as a deployment; the rest stays."""
    assert order("default_first", DEAR, UNPRICED, CHEAP, default=default)[0] == "groq/cheap"


def test_without_a_default_nothing_moves() -> None:
    """A tier need not have one."""
    assert order("default_first", DEAR, CHEAP) == ["openai/dear", "groq/cheap"]


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "first"), [(100_000, 10, "a/cheap-input"), (10, 10_000, "b/cheap-output")]
)
def test_cheapest_goes_by_this_request(input_tokens: int, output_tokens: int, first: str) -> None:
    """A long prompt with a short answer is cheapest elsewhere than a short prompt with a long answer."""
    wanted = needs(input_tokens=input_tokens, output_tokens=output_tokens)
    made = (deployment("b/cheap-output", price(2, 4)), deployment("a/cheap-input", price(1, 8)))
    assert order("cheapest", *made, needs=wanted)[0] == first


def test_the_expected_output_is_learned_within_the_cap() -> None:
    """Experience counts once there is enough of it; before, the cap does, and without one a default."""
    learned = Stats(1, 1, 0, 700.9, 10)
    assert expected_output_tokens(None, None) == 256
    assert expected_output_tokens(4096, None) == 4096
    assert expected_output_tokens(4096, learned) == 700
    assert expected_output_tokens(100, learned) == 100
    assert expected_output_tokens(None, Stats(1, 1, 0, 700, 9)) == 256


rates = st.builds(Rates, input=st.integers(0, 10**9), output=st.integers(0, 10**9))
rows = st.builds(
    Price,
    price_id=st.just("p"),
    from_at=st.just(0.0),
    rates=rates,
    cliffs=st.lists(st.builds(Cliff, above_tokens=st.integers(0, 300_000), rates=rates), max_size=2).map(tuple),
    off_peak=st.lists(
        st.builds(OffPeak, start_minute=st.integers(0, 1439), end_minute=st.integers(0, 1439), rates=rates),
        max_size=2,
    ).map(tuple),
)


@given(rows, st.integers(0, 400_000), st.integers(0, 100_000), st.floats(NOW, NOW + 86_400))
def test_expectation_and_ledger_agree_on_cost(row: Price, input_tokens: int, output_tokens: int, at: float) -> None:
    """What is expected of so many tokens is what the ledger would book for them."""
    booked = cost_nano(Usage(input=input_tokens, output=output_tokens), row, started_at=at)
    assert charge(row, input_tokens, output_tokens, at) == booked


FAST = Stats(ttft_ms=100, tokens_per_s=100, error_rate=0.2, output_tokens=256, samples=50)
SLOW = Stats(ttft_ms=900, tokens_per_s=20, error_rate=0.0, output_tokens=256, samples=50)
FAILING = Stats(ttft_ms=0, tokens_per_s=0, error_rate=1.0, output_tokens=0, samples=3)


@pytest.mark.parametrize(
    ("item", "stats", "expected"),
    [
        ("fastest", {"openai/dear": SLOW, "groq/cheap": FAST}, ["groq/cheap", "openai/dear"]),
        ("fastest", {"openai/dear": FAST, "groq/cheap": SLOW}, ["openai/dear", "groq/cheap"]),
        ("fastest", {"openai/dear": FAST}, ["groq/cheap", "openai/dear"]),
        ("fastest", {"openai/dear": FAILING, "groq/cheap": SLOW}, ["groq/cheap", "openai/dear"]),
        ("reliable", {"openai/dear": FAST, "groq/cheap": SLOW}, ["groq/cheap", "openai/dear"]),
        ("reliable", {"openai/dear": FAST}, ["groq/cheap", "openai/dear"]),
        ({"balanced": {"cost": 1}}, {}, ["groq/cheap", "openai/dear"]),
        ({"balanced": {"latency": 1}}, {"openai/dear": FAST, "groq/cheap": SLOW}, ["openai/dear", "groq/cheap"]),
        ({"balanced": {"reliability": 1}}, {"openai/dear": FAST}, ["groq/cheap", "openai/dear"]),
        (
            {"balanced": {"cost": 0.4, "latency": 0.6}},
            {"openai/dear": FAST, "groq/cheap": SLOW},
            ["openai/dear", "groq/cheap"],
        ),
        (
            {"balanced": {"cost": 60, "latency": 40}},
            {"openai/dear": FAST, "groq/cheap": SLOW},
            ["groq/cheap", "openai/dear"],
        ),
        ("balanced", {}, ["groq/cheap", "openai/dear"]),
    ],
)
def test_orders_by_observation(item: Any, stats: dict[str, Stats], expected: list[str]) -> None:
    """Speed is the time to the whole answer; what was never measured is tried, what only failed is not."""
    assert order(item, DEAR, CHEAP, stats=stats) == expected


def test_the_fastest_depends_on_the_length_of_the_answer() -> None:
    """A quick first token wins short answers, a high speed long ones."""
    stats = {
        "openai/dear": Stats(ttft_ms=50, tokens_per_s=10, error_rate=0, output_tokens=0, samples=1),
        "groq/cheap": Stats(ttft_ms=1000, tokens_per_s=1000, error_rate=0, output_tokens=0, samples=1),
    }
    assert order("fastest", DEAR, CHEAP, stats=stats, needs=needs(output_tokens=5))[0] == "openai/dear"
    assert order("fastest", DEAR, CHEAP, stats=stats, needs=needs(output_tokens=500))[0] == "groq/cheap"


@pytest.mark.parametrize("item", ["random", "weighted"])
def test_lots_depend_on_the_seed_alone(item: str) -> None:
    """The same seed draws the same order, however the candidates were listed; other seeds draw others."""
    made = [deployment(f"p/m{i}") for i in range(6)]
    assert order(item, *made, seed=1) == order(item, *reversed(made), seed=1)
    assert len({tuple(order(item, *made, seed=seed)) for seed in range(20)}) > 10


def test_random_prefers_nobody() -> None:
    """Over many seeds each goes first about as often."""
    made = [deployment(f"p/m{i}") for i in range(4)]
    first = Counter(order("random", *made, seed=seed)[0] for seed in range(4000))
    assert all(850 < count < 1150 for count in first.values())


def test_weights_are_shares_of_the_traffic() -> None:
    """A weight of 3 beside 1 goes first three times out of four; a weight of 0 only stands by."""
    made = [deployment("p/three", weight=3), deployment("p/one", weight=1), deployment("p/none", weight=0)]
    orders = [order("weighted", *made, seed=seed) for seed in range(4000)]
    first = Counter(drawn[0] for drawn in orders)
    assert 2850 < first["p/three"] < 3150
    assert all(drawn[-1] == "p/none" for drawn in orders)


def cached(name: str, input_usd: float, cache_read_usd: float | None) -> Deployment:
    """A deployment whose cached input has a price of its own."""
    read = None if cache_read_usd is None else round(cache_read_usd * 1_000_000)
    return deployment(name, price(input_usd, 1, rates={"cache_read": read}))


@pytest.mark.parametrize(
    ("warm", "expected"),
    [
        (cached("p/warm", 2, 0.2), "p/warm"),
        (cached("p/warm", 20, 2), "p/other"),
        (cached("p/warm", 2, None), "p/other"),
        (deployment("p/warm"), "p/other"),
    ],
)
def test_a_warm_prompt_is_kept_while_that_is_cheaper(warm: Deployment, expected: str) -> None:
    """The session's deployment goes first if its cached prompt costs no more than anybody else's fresh one."""
    other = deployment("p/other", price(1, 1))
    assert order("sticky", other, warm, sticky="p/warm")[0] == expected


def test_without_a_session_nothing_sticks() -> None:
    """No deployment is warm at first, or the warm one is no candidate any more."""
    made = (deployment("p/other", price(1, 1)), cached("p/warm", 2, 0.2))
    assert order("sticky", *made) == ["p/other", "p/warm"]
    assert order("sticky", *made, sticky="p/gone") == ["p/other", "p/warm"]


@pytest.mark.parametrize("item", ["cheapest", "fastest", "balanced", "weighted", "ordered", "sticky"])
def test_orders_leave_their_arguments_alone(item: str) -> None:
    """A policy makes a new sequence."""
    (policy,) = compile_chain([item])
    candidates = [candidate(d) for d in (DEAR, CHEAP, UNPRICED)]
    before = list(candidates)
    policy.apply(candidates, context(tier=tier("fast"), sticky="local/unpriced"))
    assert candidates == before
