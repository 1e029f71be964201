"""Plans: who is tried, in which order, who is not and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from made_catalogs import CHAT, NOW, deployment, needs, plan, price, snapshot, tier

from gateway.errors import CallerError, RoutingError
from gateway.routing.plan import Planner
from gateway.types import (
    Capability,
    Facts,
    Health,
    Options,
    Override,
    Plan,
    Stats,
    Tier,
)
from policies.base import Context, Decision

C = Capability
CHEAP = deployment("groq/small", price(0.1, 0.2))
MIDDLE = deployment("openai/middle", price(1, 2), capabilities=[*CHAT, C.FUNCTION_CALLING])
DEAR = deployment("anthropic/large", price(5, 25), capabilities=[*CHAT, C.FUNCTION_CALLING, C.IMAGE_INPUT])
FAST = tier("fast", DEAR, CHEAP, MIDDLE)


def order(made: Plan) -> list[str]:
    return [candidate.deployment.model.name for candidate in made.candidates]


def test_the_cheapest_capable_one_goes_first() -> None:
    """Those that lack something are not behind the others but absent."""
    assert order(plan(FAST)) == ["small", "middle", "large"]
    assert order(plan(FAST, wanted=needs(C.FUNCTION_CALLING))) == ["middle", "large"]
    assert order(plan(FAST, options=Options(require=C.IMAGE_INPUT.bit))) == ["large"]


def test_candidates_carry_the_expected_cost() -> None:
    """1,000 tokens in and 100 out at $1 and $2 a million, the output for each choice."""
    one = plan(FAST, "middle", needs(input_tokens=1000, output_tokens=100))
    three = plan(FAST, "middle", needs(input_tokens=1000, output_tokens=100, choices=3))
    assert [c.expected_nano for c in one.candidates] == [1_200_000]
    assert [c.expected_nano for c in three.candidates] == [1_600_000]


def test_learned_lengths_change_the_expectation() -> None:
    """A model that is known to answer at length is dearer than its prices say."""
    wordy = {CHEAP.name: Stats(1, 1, 0, 100_000, 50)}
    assert order(plan(FAST, stats=wordy)) == ["middle", "large", "small"]


def test_a_learned_tokenizer_changes_the_expectation() -> None:
    """Of the cost alone: a prompt whose bytes are known costs what its provider's tokens cost."""
    wanted = msgspec.structs.replace(needs(input_tokens=1001, output_tokens=100), text_bytes=4000)
    learned = {MIDDLE.name: Stats(1, 1, 0, 0, 1, bytes_per_token=2.0)}
    made = plan(FAST, "middle", wanted, stats=learned)
    assert [c.expected_nano for c in made.candidates] == [2_001_000 + 200_000]
    capped = plan(FAST, "middle", wanted, options=Options(max_cost_nano=2_300_000), stats=learned)
    assert [c.expected_nano for c in capped.candidates] == [2_201_000]
    with pytest.raises(RoutingError):
        plan(FAST, "middle", wanted, options=Options(max_cost_nano=2_100_000), stats=learned)


def test_unhealthy_ones_are_left_out() -> None:
    """The rest serves."""
    assert order(plan(FAST, health={CHEAP.name: Health("open", NOW + 5)})) == ["middle", "large"]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("fast@anthropic", Options(), ["large", "small", "middle"]),
        ("fast", Options(prefer_provider="openai"), ["middle", "small", "large"]),
        ("fast@anthropic", Options(prefer_provider="openai"), ["middle", "large", "small"]),
        ("fast", Options(policy="ordered"), ["large", "small", "middle"]),
        ("fast", Options(policy="newest", prefer_provider="openai"), ["middle", "small", "large"]),
    ],
)
def test_wishes_reorder_and_never_drop(name: str, options: Options, expected: list[str]) -> None:
    """A preferred provider or policy decides who is first; the others remain to fall back on."""
    assert order(plan(FAST, name, options=options)) == expected


def test_a_wished_policy_leaves_the_tiers_filters_in_force() -> None:
    """Asking for another order does not lead out of the region."""
    eu = tier("fast", replace(CHEAP, region="us"), replace(MIDDLE, region="eu"), policy=[{"region": "eu"}])
    assert order(plan(eu, options=Options(policy="cheapest"))) == ["middle"]


@pytest.mark.parametrize("name", ["fastset", "region", "step_down"])
def test_an_unusable_policy_is_the_callers_error(name: str) -> None:
    """Unknown ones and those that need arguments are refused at their place."""
    with pytest.raises(CallerError, match=r"Invalid value for 'gateway\.policy'") as error:
        plan(FAST, options=Options(policy=name))
    assert error.value.param == "gateway.policy"
    assert ("only the catalog" in error.value.message) is (name != "fastset")


def test_healthy_may_be_placed_in_the_chain() -> None:
    """It runs once, where the chain says; without a place, before the chain."""
    placed = plan(tier("fast", CHEAP, policy=["cheapest", "healthy"]), explain=True)
    unplaced = plan(tier("fast", CHEAP, policy=["cheapest"]), explain=True)
    for made, expected in ((placed, ["cheapest", "healthy"]), (unplaced, ["healthy", "cheapest"])):
        assert [s.partition(":")[0] for s in made.steps if s.startswith(("healthy", "cheapest"))] == expected


def test_budgets_use_priced_deployments_only() -> None:
    """What cannot be charged must not be chosen for a caller with a budget."""
    mixed = tier("fast", deployment("local/free"), CHEAP)
    assert order(plan(mixed)) == ["small", "free"]
    assert order(plan(mixed, priced_only=True)) == ["small"]


def test_a_price_takes_effect_at_its_time_in_a_running_gateway() -> None:
    """What is remembered of a catalog ends with the next price row."""
    rising = deployment("openai/rising", price(0.01, 0.01), price(100, 100, from_at=NOW + 10))
    catalog = snapshot(tier("fast", rising, CHEAP))
    planner = Planner(catalog)
    orders = [
        order(planner.plan("fast", catalog.targets["fast"], needs(), Options(), Facts(now)))
        for now in (NOW, NOW + 9.9, NOW + 10, NOW)
    ]
    assert orders == [["rising", "small"], ["rising", "small"], ["small", "rising"], ["rising", "small"]]


def test_stand_ins_serve_only_where_nothing_else_is_usable() -> None:
    """The sandbox answers as long as no provider has a key, and not while one is merely unwell or not capable."""
    sandbox = deployment("sandbox/small", price(0, 0), capabilities=[*CHAT, C.FUNCTION_CALLING])
    no_key = tier("fast", deployment("openai/a", unavailable="no key"), fallback=(sandbox,))
    unwell = tier("fast", deployment("openai/a"), fallback=(sandbox,))
    assert [c.deployment.name for c in plan(no_key).candidates] == ["sandbox/small"]
    assert [c.deployment.name for c in plan(unwell).candidates] == ["openai/a"]
    with pytest.raises(RoutingError):
        plan(unwell, health={"openai/a": Health("open", NOW + 5)})
    with pytest.raises(RoutingError):
        plan(unwell, wanted=needs(C.FUNCTION_CALLING))


OVERRIDDEN = tier(
    "fast",
    CHEAP,
    overrides=(Override("key:batch", (MIDDLE,)), Override("tag:team=legal", (DEAR,))),
)


@pytest.mark.parametrize(
    ("labels", "tags", "expected"),
    [
        (frozenset[str](), (), "small"),
        (frozenset({"key:other", "tag:team=art"}), (), "small"),
        (frozenset({"key:batch"}), (), "middle"),
        (frozenset({"tag:team=legal"}), (), "large"),
        (frozenset({"key:batch", "tag:team=legal"}), (), "middle"),
        (frozenset[str](), (("team", "legal"),), "large"),
    ],
)
def test_a_key_or_tag_has_its_own_models_in_a_tier(
    labels: frozenset[str], tags: tuple[tuple[str, str], ...], expected: str
) -> None:
    """The first override that applies counts; tags may come from the key or the request."""
    assert order(plan(OVERRIDDEN, options=Options(tags=tags), labels=labels)) == [expected]


LOW = {"when": "budget_left < 20%", "to": "fast"}
STEPPED = snapshot(tier("smart", DEAR, policy=["healthy", {"step_down": LOW}]), FAST)


@pytest.mark.parametrize(
    ("share", "served"), [(None, "smart"), (1.0, "smart"), (0.2, "smart"), (0.1999, "fast"), (0.0, "fast")]
)
def test_a_low_budget_steps_down(share: float | None, served: str) -> None:
    """The plan names the tier that serves; without a budget nothing is low."""
    made = plan(STEPPED, "smart", budget_left_share=share)
    assert (made.alias, made.tier) == ("smart", served)


def test_steps_down_end_somewhere() -> None:
    """Tiers that name each other do not go round for ever; a step to nowhere is none."""
    back = {"when": "budget_left < 20%", "to": "smart"}
    circle = snapshot(
        tier("smart", DEAR, policy=[{"step_down": LOW}]), tier("fast", CHEAP, policy=[{"step_down": back}])
    )
    nowhere = tier("fast", CHEAP, policy=[{"step_down": {**LOW, "to": "gone"}}])
    assert plan(circle, "smart", budget_left_share=0.1).tier == "fast"
    assert plan(nowhere, budget_left_share=0.1).tier == "fast"


class Forgetful:
    """A plugin's filter that does not say what it dropped."""

    name = "forgetful"

    def apply(self, candidates: Any, context: Context) -> Decision:
        return Decision(candidates[1:])


def test_a_plugin_that_forgets_reasons_is_named() -> None:
    """Even then every deployment is accounted for."""
    made = plan(Tier("fast", (CHEAP, MIDDLE), (Forgetful(),)), explain=True)
    (drop,) = made.dropped
    assert (drop.deployment, drop.rule, drop.reason) == (CHEAP.name, "forgetful", "dropped without a reason")
