"""Experiments, canaries and shadows: who is in which arm, who goes first, when a canary must stop."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from made_catalogs import candidate, context, deployment, plan, price, tier

from gateway.types import Stats
from policies import compile_chain
from policies.canary import Canary
from policies.trial import Trial

OLD = deployment("openai/old", price(1, 1))
NEW = deployment("openai/new", price(2, 2))
NEW_TOO = deployment("azure/new", price(3, 3))
ALL = (OLD, NEW, NEW_TOO)
HALVES = {"experiment": {"name": "size", "arms": {"a": {"models": ["old"]}, "b": {"models": ["new"]}}}}
CANARY = {"canary": {"name": "next", "models": ["new"], "share": "10%", "least": 20}}
SHADOW = {"shadow": {"name": "try", "to": "new", "share": "25%", "budget": {"usd": "0.5", "per": "day"}}}


def trial(item: Any) -> Any:
    (made,) = compile_chain([item])
    assert isinstance(made, Trial)
    return made


def arm_of(item: Any, **facts: Any) -> str | None:
    arm = trial(item).arm(context(tier=tier("fast", *ALL), **facts))
    return None if arm is None else arm.name


def order(item: Any, **facts: Any) -> list[str]:
    decision = trial(item).apply([candidate(d) for d in ALL], context(tier=tier("fast", *ALL), **facts))
    assert not decision.dropped
    return [kept.deployment.name for kept in decision.kept]


def shares(item: Any, count: int = 20_000, **facts: Any) -> dict[str | None, float]:
    made, asked = trial(item), tier("fast", *ALL)
    arms = Counter(
        None if (arm := made.arm(context(tier=asked, seed=seed, **facts))) is None else arm.name
        for seed in range(count)
    )
    return {name: number / count for name, number in arms.items()}


def test_arms_get_their_weights() -> None:
    """Of many requests; an arm's weight is relative."""
    thirds = {"experiment": {"name": "x", "arms": {"a": {"weight": 1}, "b": {"weight": 2}}}}
    assert shares(HALVES) == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.02)
    assert shares(thirds) == pytest.approx({"a": 1 / 3, "b": 2 / 3}, abs=0.02)
    assert shares(CANARY) == pytest.approx({"canary": 0.1, "rest": 0.9}, abs=0.01)
    assert shares(SHADOW) == pytest.approx({"primary": 0.25, None: 0.75}, abs=0.02)


def test_a_session_or_user_stays_in_its_arm() -> None:
    """Whatever the request's own seed; and different ones are in different arms."""
    for subject in range(50):
        assert len({arm_of(HALVES, seed=seed, subject=subject) for seed in range(20)}) == 1
    assert {arm_of(HALVES, subject=subject) for subject in range(50)} == {"a", "b"}


def test_experiments_draw_apart() -> None:
    """Being in the first arm of one says nothing of another's."""
    other = {"experiment": {**HALVES["experiment"], "name": "other"}}
    pairs = Counter((arm_of(HALVES, subject=n), arm_of(other, subject=n)) for n in range(4000))
    assert all(count / 4000 == pytest.approx(0.25, abs=0.04) for count in pairs.values())
    assert len(pairs) == 4


def test_an_arms_models_go_first() -> None:
    """The others stay to fall back on; each group keeps its order."""
    orders = {arm_of(HALVES, seed=seed): order(HALVES, seed=seed) for seed in range(50)}
    assert orders == {
        "a": ["openai/old", "openai/new", "azure/new"],
        "b": ["openai/new", "azure/new", "openai/old"],
    }


def test_an_arm_of_parameters_alone_moves_nobody() -> None:
    """Both arms ask the same models."""
    warm = {"experiment": {"name": "tone", "arms": {"plain": {}, "warm": {"params": {"temperature": 1.0}}}}}
    assert {tuple(order(warm, seed=seed)) for seed in range(20)} == {("openai/old", "openai/new", "azure/new")}
    arms = {trial(warm).arm(context(tier=tier("fast"), seed=seed)).name for seed in range(20)}
    assert arms == {"plain", "warm"}


def test_the_canary_goes_first_for_its_share_and_last_for_the_rest() -> None:
    """Even where it is the cheapest."""
    orders = {arm_of(CANARY, seed=seed): order(CANARY, seed=seed) for seed in range(200)}
    assert orders == {
        "canary": ["openai/new", "azure/new", "openai/old"],
        "rest": ["openai/old", "openai/new", "azure/new"],
    }


def stats(*, errors: float = 0.0, ms: float = 100.0, samples: int = 100) -> Stats:
    return Stats(ms, 10.0, errors, 100.0, samples)


WELL = {"openai/old": stats()}


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({}, None),
        ({"openai/new": stats()}, None),
        ({**WELL, "openai/new": stats(errors=0.2, ms=200)}, None),
        ({**WELL, "openai/new": stats(errors=0.21)}, "error rate 21%, the rest's is 0%"),
        ({**WELL, "openai/new": stats(errors=0.9, samples=19)}, None),
        ({**WELL, "openai/new": stats(errors=0.9, samples=10), "azure/new": stats(errors=0.9, samples=10)}, "90%"),
        ({"openai/old": stats(errors=0.5), "openai/new": stats(errors=0.6)}, None),
        ({"openai/new": stats(errors=0.9)}, "error rate 90%, the rest's is 0%"),
        ({**WELL, "openai/new": stats(ms=201)}, "201 ms to the first event, the rest takes 100 ms"),
        ({"openai/new": stats(ms=9000)}, None),
        ({**WELL, "openai/new": stats(ms=900, samples=1), "azure/new": stats(samples=999)}, None),
    ],
)
def test_a_canary_that_does_worse_stops(known: dict[str, Stats], reason: str | None) -> None:
    """Beyond its bounds against the rest, after enough calls; all its deployments count together."""
    found = trial(CANARY).regressed(known, ALL)
    assert (found is None) == (reason is None)
    assert reason is None or reason in found
    share = shares(CANARY, 500, stats=known).get("canary", 0.0)
    assert (share > 0) == (reason is None)


def test_a_stopped_canary_stays_stopped_whatever_is_known_of_it() -> None:
    """Its mark stands in the facts; a changed definition is another canary."""
    canary, changed = trial(CANARY), trial({"canary": {**CANARY["canary"], "share": "20%"}})
    assert isinstance(canary, Canary)
    assert canary.mark != changed.mark
    assert shares(CANARY, 500, stopped=frozenset({canary.mark})) == {"rest": 1.0}
    assert shares(CANARY, 500, stopped=frozenset({changed.mark}))["canary"] > 0


def test_a_shadow_leaves_the_plan_alone() -> None:
    """What it says is thrown away; the request is marked so that both sides can be compared."""
    assert order(SHADOW) == ["openai/old", "openai/new", "azure/new"]
    arm = next(arm for seed in range(99) if (arm := trial(SHADOW).arm(context(tier=tier("f"), seed=seed))))
    assert (arm.tag, arm.copy.to, arm.copy.arm.tag) == (
        ("experiment:try", "primary"),
        "new",
        ("experiment:try", "shadow"),
    )
    assert (arm.copy.budget_nano, arm.copy.per) == (500_000_000, "day")


def test_plans_tell_the_arms() -> None:
    """In each of the tier's experiments; a tier without any has none."""
    fast = tier("fast", *ALL, policy=["cheapest", HALVES, CANARY])
    made = plan(fast, subject=1)
    assert [arm.experiment for arm in made.arms] == ["size", "next"]
    assert plan(tier("fast", *ALL)).arms == ()
    assert plan(fast, "openai/new").arms == ()
