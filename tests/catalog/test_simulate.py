"""Simulation: what another document makes of recorded decisions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from made_catalogs import CHAT, NOW, deployment, needs, price, snapshot, tier
from msgspec.structs import replace as changed

from gateway.catalog.simulate import Outcome, simulate
from gateway.catalog.snapshot import Snapshot
from gateway.errors import GatewayError
from gateway.routing.decision import Record, decode, encode, plan_again, recorded, recorded_refusal
from gateway.routing.plan import Planner
from gateway.types import Capability, Facts, Health, Options, Override, Stats

CHEAP = deployment("groq/small", price(0.1, 0.2), model={"input_tokens": 8_000})
MIDDLE = deployment("openai/middle", price(1, 2), model={"input_tokens": 100_000})
DEAR = deployment(
    "anthropic/large",
    price(5, 25),
    capabilities=[*CHAT, Capability.FUNCTION_CALLING],
    model={"input_tokens": 200_000},
)
BEFORE = snapshot(tier("fast", CHEAP, MIDDLE, DEAR), tier("smart", DEAR))


def record(name: str = "fast", *wanted: Capability, catalog: Snapshot = BEFORE, facts: Facts | None = None) -> Record:
    """A decision for 1,000 tokens in and 100 out."""
    planner, target = Planner(catalog), catalog.targets[name]
    asked, known = needs(*wanted, output_tokens=100), facts or Facts(NOW)
    made = planner.plan(name, target, asked, Options(), known)
    return recorded(planner, target, asked, Options(), known, made, explained=False)


def outcome(records: Sequence[Record], after: Snapshot, name: str = "fast") -> Outcome:
    return simulate(records, after, {}).by_tier[name]


def test_an_unchanged_document_moves_nobody() -> None:
    """No request moves, none is lost, and the cost is the same to the nano-USD."""
    records = [record(), record("smart"), record("fast", Capability.FUNCTION_CALLING), record("middle")]
    found = simulate(records, BEFORE, {})
    assert (found.requests, found.moved, found.unroutable) == (4, 0, 0)
    assert set(found.by_tier) == {"fast", "smart", "middle"}
    for result in found.by_tier.values():
        assert result.unchanged == result.requests
        assert result.cost_before_nano == result.cost_after_nano > 0
        assert (result.context_smaller, result.context_larger) == (0, 0)


def test_moves_are_counted_with_their_cost_and_context() -> None:
    """1,000 in and 100 out: $0.00012 at the cheap one, $0.0012 at the middle one, which reads more."""
    found = outcome([record(), record()], snapshot(tier("fast", MIDDLE, DEAR)))
    assert dict(found.moves) == {("groq/small", "openai/middle"): 2}
    assert (found.cost_before_nano, found.cost_after_nano) == (240_000, 2_400_000)
    assert (found.context_smaller, found.context_larger) == (0, 2)
    assert (found.unchanged, found.reordered) == (0, 0)


def test_other_fallbacks_are_not_a_move() -> None:
    """But they are told."""
    found = outcome([record()], snapshot(tier("fast", CHEAP, DEAR)))
    assert (found.reordered, found.moves.total(), found.unchanged) == (1, 0, 0)


def test_what_nobody_serves_any_more_is_told_with_its_reason() -> None:
    """By the error that the caller would get: no capable model, an unknown name, nothing healthy."""
    tools = record("fast", Capability.FUNCTION_CALLING)
    unwell = record(facts=Facts(NOW, health={"openai/middle": Health("open", NOW + 5)}))
    after = snapshot(tier("fast", MIDDLE))
    found = simulate([tools, unwell, record("smart"), record()], after, {})
    assert dict(found.by_tier["fast"].unroutable) == {
        ("anthropic/large", "no_capable_model"): 1,
        ("groq/small", "no_healthy_deployment"): 1,
    }
    assert dict(found.by_tier["smart"].unroutable) == {("anthropic/large", "model_not_found"): 1}
    assert "function_calling" in found.by_tier["fast"].examples["anthropic/large", "no_capable_model"]
    assert found.unroutable == 3


def test_what_was_refused_before_loses_nothing() -> None:
    """Refused again it is unchanged; served now it is a move, without a cost to compare."""
    planner, target = Planner(BEFORE), BEFORE.targets["fast"]
    wanted = needs(Capability.IMAGE_INPUT)
    with pytest.raises(GatewayError) as error:
        planner.plan("fast", target, wanted, Options(), Facts(NOW))
    refused = recorded_refusal(planner, "fast", target, wanted, Options(), Facts(NOW), error.value)
    assert (outcome([refused], BEFORE).unchanged, outcome([refused], BEFORE).unroutable.total()) == (1, 0)
    seeing = deployment("google/seeing", price(1, 1), capabilities=[*CHAT, Capability.IMAGE_INPUT])
    found = outcome([refused], snapshot(tier("fast", seeing)))
    assert dict(found.moves) == {("refused (no_capable_model)", "google/seeing"): 1}
    assert (found.cost_after_nano, found.unpriced) == (0, 0)


def test_one_tier_can_be_looked_at_alone() -> None:
    """The others do not count."""
    found = simulate([record(), record("smart")], snapshot(tier("fast", CHEAP, MIDDLE, DEAR)), {}, tier="fast")
    assert (found.requests, found.unroutable) == (1, 0)


def test_a_price_of_the_future_can_be_tried_today() -> None:
    """Recorded decisions are planned for the time that is asked for."""
    rising = replace(CHEAP, prices=(price(0.1, 0.2), price(9, 9, from_at=NOW + 100)))
    after = snapshot(tier("fast", rising, MIDDLE, DEAR))
    assert simulate([record()], after, {}).moved == 0
    assert simulate([record()], after, {}, at=NOW + 100).moved == 1


def test_unpriced_requests_are_in_neither_sum() -> None:
    """A comparison of what is known with what is not would mislead."""
    found = outcome([record()], snapshot(tier("fast", deployment("groq/small"))))
    assert (found.unpriced, found.cost_before_nano, found.cost_after_nano) == (1, 0, 0)


def test_each_record_is_planned_under_its_own_circumstances() -> None:
    """A provider without a key then has none in its simulation; unknown circumstances are those of the export."""
    keyless = snapshot(tier("fast", replace(CHEAP, provider=replace(CHEAP.provider, unavailable="no key")), MIDDLE))
    made = record(catalog=keyless)
    assert made.order == ["openai/middle"]
    after = snapshot(tier("fast", CHEAP, MIDDLE))
    assert simulate([made], after, {made.circumstances: {"groq": "no key"}}).moved == 0
    assert simulate([made], after, {"now": {"groq": "no key"}}).moved == 0
    assert simulate([made], after, {"now": {}}).moved == 1


def test_ten_thousand_decisions_are_reproduced() -> None:
    """Whatever they were made from, each plan comes out the same, and the same document moves none of them."""
    chance = random.Random(7)
    deployments = [
        deployment(f"p{n % 5}/m{n}", price(chance.uniform(0.1, 9), chance.uniform(0.1, 30)), weight=n)
        for n in range(20)
    ]
    policies = (
        ["healthy", "cheapest"],
        ["weighted"],
        ["healthy", {"balanced": {"cost": 0.5, "latency": 0.3, "reliability": 0.2}}],
        ["random", "sticky", {"step_down": {"when": "budget_left < 30%", "to": "t0"}}],
        ["fastest", "reliable"],
    )
    tiers = [
        tier(
            f"t{n}",
            *chance.sample(deployments, 8),
            policy=policy,
            overrides=(Override("tag:a=b", tuple(chance.sample(deployments, 3))),),
        )
        for n, policy in enumerate(policies)
    ]
    catalog = snapshot(*tiers)
    planner, names = Planner(catalog), list(catalog.targets)
    records = []
    for number in range(10_000):
        some = chance.sample(deployments, 4)
        facts = Facts(
            NOW + number * 8.64,
            seed=chance.getrandbits(32),
            health={d.name: Health("resting", NOW + chance.uniform(-9, 99_999)) for d in some[:1]},
            stats={d.name: Stats(*(chance.uniform(0, 900) for _ in range(4)), chance.randrange(99)) for d in some},
            budget_left_share=chance.choice([None, chance.random()]),
            sticky=chance.choice([None, some[3].name]),
            labels=frozenset(chance.sample(["tag:a=b", "key:k"], chance.randrange(3))),
        )
        options = Options(tags=(("a", "b"),)) if chance.random() < 0.1 else Options()
        wanted = needs(input_tokens=chance.randrange(50_000), output_tokens=chance.choice([None, 500]))
        tier_name = chance.choice(names)
        if catalog.targets[tier_name].kind != "tier":
            facts = changed(facts, health={})
        made = planner.plan(tier_name, catalog.targets[tier_name], wanted, options, facts)
        record = recorded(planner, catalog.targets[tier_name], wanted, options, facts, made, explained=False)
        kept = decode(encode(record))  # as the store gives it back
        assert plan_again(kept, Planner(catalog) if number % 100 == 0 else planner) == made
        records.append(kept)
    found = simulate(records, catalog, {})
    assert (found.requests, found.moved, found.unroutable) == (10_000, 0, 0)
    assert sum(result.unchanged for result in found.by_tier.values()) == 10_000
