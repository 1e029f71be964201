"""The catalog's `policy:` list: what it may say, and how it is told what is wrong."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from policies import POLICIES, chain, compile_chain
from policies.cost import Cheapest
from policies.price import MaxCost
from policies.step_down import StepDown

EXAMPLES: dict[str, Any] = {
    "max_cost": {"usd": "0.05"},
    "region": ["eu"],
    "balanced": {"cost": 0.5, "latency": 0.3, "reliability": 0.2},
    "ordered": ["a", "b"],
    "prefer_provider": "openai",
    "step_down": {"when": "budget_left < 20%", "to": "fast"},
    "experiment": {"name": "size", "arms": {"a": {"models": ["a"]}, "b": {"weight": 2, "params": {"top_p": 0.5}}}},
    "canary": {"name": "next", "models": ["a"], "share": "5%"},
    "shadow": {"name": "next", "to": "p/a", "share": "10%", "budget": {"usd": "5", "per": "day"}},
}


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_can_be_named(name: str) -> None:
    """Each compiles under its own name, with arguments where it takes any."""
    (policy,) = compile_chain([{name: EXAMPLES[name]} if name in EXAMPLES else name])
    assert policy.name == name


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("cheapest", "policy is 'cheapest'; write a list, as in [healthy, cheapest]"),
        (["cheepest"], "policy[0]: unknown policy 'cheepest' — did you mean 'cheapest'? Known: "),
        (["zzz"], "policy[0]: unknown policy 'zzz'. Known: "),
        (["healthy", 3], "policy[1]: 3 is no policy; write a name"),
        ([{"region": "eu", "cheapest": None}], "policy[0]: {'region': 'eu', 'cheapest': None} is no policy"),
        ([{"cheapest": 1}], "policy[0]: cheapest: takes no arguments, got 1; write its bare name"),
        (["region"], "policy[0]: region: got None; write a name or a list of names, as in {region: [eu, us-east-1]}"),
        ([{"region": []}], "policy[0]: region: got []; write a name or a list of names"),
        ([{"balanced": {"speed": 1}}], "give weights for cost, latency, reliability"),
        ([{"balanced": {"cost": -1}}], "the weight of cost is -1; it must be a number from 0 on"),
        ([{"balanced": {"cost": True}}], "the weight of cost is True"),
        ([{"balanced": {"cost": float("nan")}}], "the weight of cost is nan"),
        ([{"balanced": {"cost": 0}}], "every weight is 0"),
        ([{"max_cost": {"usd": "lots"}}], "usd is 'lots', not an amount"),
        ([{"max_cost": {"usd": "inf"}}], "usd is 'inf', not an amount"),
        ([{"max_cost": {"usd": "0"}}], "usd is '0'; it must be above 0"),
        ([{"max_cost": {"usd": "0.0000000001"}}], "at most 9 decimals"),
        ([{"max_cost": "0.05"}], 'write {max_cost: {usd: "0.05"}}'),
        ([{"step_down": {"when": "broke", "to": "fast"}}], "`when` is 'broke'; write a share of the budget"),
        ([{"step_down": {"when": "budget_left < 120%", "to": "fast"}}], "between 0 and 100"),
        ([{"step_down": {"when": "budget_left < 20%"}}], "write {step_down: {when: 'budget_left < 20%', to: fast}}"),
        (["experiment"], "policy[0]: experiment: got None; write {experiment: {name: tone, arms: {"),
        ([{"experiment": {"name": "a b", "arms": {"a": {}, "b": {}}}}], "name is 'a b'; want up to 48 letters, digits"),
        ([{"experiment": {"name": "x", "arms": {"a": {}}}}], "arms must be a mapping of 2 to 16 arms"),
        ([{"experiment": {"name": "x", "arms": {"a": {"weight": 0}, "b": {}}}}], "the weight of arm 'a' is 0"),
        ([{"experiment": {"name": "x", "arms": {"a": {"params": {"model": "m"}}, "b": {}}}}], "must not change model"),
        ([{"experiment": {"name": "x", "arms": {"a": {"params": [1]}, "b": {}}}}], "must be request fields"),
        (
            [{"experiment": {"name": "x", "arms": {"a": {"models": []}, "b": {}}}}],
            "models is []; write a list",
        ),
        ([{"canary": {"name": "x", "models": "m", "share": 5}}], "share is 5; write a percentage above 0"),
        ([{"canary": {"name": "x", "models": "m", "share": "101%"}}], "share is '101%'"),
        ([{"canary": {"name": "x", "models": "m", "share": "5%", "latency": 0.5}}], "latency is 0.5; it must be"),
        ([{"canary": {"name": "x", "models": "m", "share": "5%", "stop": 1}}], "write {canary: {name: nano"),
        ([{"shadow": {"name": "x", "to": "m", "share": "5%"}}], "write {shadow: {name: next, to: gpt-5"),
        (
            [{"shadow": {"name": "x", "to": "m", "share": "5%", "budget": {"usd": "-1", "per": "day"}}}],
            "the budget's usd is '-1'; write US dollars above 0",
        ),
        (
            [{"shadow": {"name": "x", "to": "m", "share": "5%", "budget": {"usd": "1", "per": "year"}}}],
            "the budget's per is 'year'; write one of hour, day, month, total",
        ),
    ],
)
def test_a_bad_list_names_the_item_and_the_fix(items: Any, message: str) -> None:
    """The catalog's editor sees which item is wrong and what to write."""
    with pytest.raises(ValueError, match="policy") as error:
        compile_chain(items)
    assert message in str(error.value)


def test_arguments_arrive_in_exact_units() -> None:
    """Money becomes nano-USD, percent a share."""
    cap, low = compile_chain(
        [{"max_cost": {"usd": "0.000000001"}}, {"step_down": {"when": "budget_left<7.5%", "to": "x"}}]
    )
    assert isinstance(cap, MaxCost)
    assert cap.cap_nano == 1
    assert isinstance(low, StepDown)
    assert (low.below_share, low.to) == (0.075, "x")


def offer(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Pretends that an installed package offers a policy under this name."""
    entry = EntryPoint(name, "policies.cost:Cheapest", "tiergate.policies")
    monkeypatch.setattr(chain, "entry_points", lambda group: EntryPoints([entry]).select(group=group))
    chain.factories.cache_clear()


def test_installed_packages_add_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point's name can be used like ours."""
    offer(monkeypatch, "house_rule")
    try:
        assert chain.factories()["house_rule"] is Cheapest
    finally:
        chain.factories.cache_clear()


def test_a_package_cannot_take_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that would replace a rule of ours is refused by name."""
    offer(monkeypatch, "healthy")
    try:
        with pytest.raises(ValueError, match=r"policy 'healthy' of policies\.cost:Cheapest is already taken"):
            compile_chain(["healthy"])
    finally:
        chain.factories.cache_clear()
