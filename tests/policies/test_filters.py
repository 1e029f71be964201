"""Each filter as a table of cases: what it lets pass, and the reason it gives."""

from __future__ import annotations

from typing import Any

import pytest
from made_catalogs import CHAT, NOW, candidate, context, deployment, needs, price

from gateway.types import Capability, Deployment, Health, Options, mask_of
from policies.access import Allowed
from policies.base import Context, Policy
from policies.capability import Capable
from policies.context import Fits
from policies.health import Healthy
from policies.price import MaxCost, PriceKnown
from policies.region import Region
from policies.status import InUse

ONE_CENT = 10_000_000


def reason(rule: Policy, made: Deployment, given: Context) -> str | None:
    """The reason for which the rule drops the deployment; None where it is kept."""
    decision = rule.apply([candidate(made, given.needs)], given)
    assert len(decision.kept) + len(decision.dropped) == 1
    for drop in decision.dropped:
        assert (drop.deployment, drop.rule) == (made.name, rule.name)
        return drop.reason
    return None


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (deployment("openai/a"), None),
        (deployment("openai/a", model={"status": "deprecated"}), None),
        (deployment("openai/a", model={"status": "deprecated", "retires_at": NOW + 1}), None),
        (deployment("openai/a", model={"status": "deprecated", "retires_at": NOW}), "was retired on 2026-09-21"),
        (deployment("openai/a", model={"status": "pending"}), "model a is pending"),
        (deployment("openai/a", model={"status": "disabled"}), "model a is disabled"),
        (deployment("openai/a", unavailable="no key: set K"), "provider openai cannot be used: no key: set K"),
    ],
)
def test_only_enabled_models_of_usable_providers_are_in_use(made: Deployment, expected: str | None) -> None:
    """A deployment needs an enabled model that has not retired and a provider that can be reached."""
    found = reason(InUse(), made, context())
    assert found is None if expected is None else expected in str(found)


@pytest.mark.parametrize(
    ("offered", "wanted", "required", "expected"),
    [
        (CHAT, [Capability.STREAMING], [], None),
        (CHAT, [Capability.FUNCTION_CALLING], [], "lacks function_calling"),
        (CHAT, [Capability.IMAGE_INPUT, Capability.LOGPROBS], [], "lacks image_input, logprobs"),
        (CHAT, [], [Capability.CODE_GENERATION], "lacks code_generation"),
        ([Capability.STRUCTURED_OUTPUT], [Capability.JSON_MODE], [], None),
        ([Capability.JSON_MODE], [Capability.STRUCTURED_OUTPUT], [], "lacks structured_output"),
        ([Capability.STREAMING], [Capability.TEXT_OUTPUT], [], None),
    ],
)
def test_a_candidate_must_have_every_needed_capability(
    offered: list[Capability], wanted: list[Capability], required: list[Capability], expected: str | None
) -> None:
    """What the body implies and what the caller requires both count; what follows from others needs no listing."""
    made = deployment("openai/a", capabilities=offered)
    given = context(needs(*wanted), options=Options(require=mask_of(required)))
    assert reason(Capable(), made, given) == expected


def test_a_speech_model_does_not_answer_chats() -> None:
    """Text output follows from being a chat model only."""
    made = deployment("openai/tts", capabilities=[Capability.AUDIO_OUTPUT], model={"category": "speech"})
    assert reason(Capable(), made, context(needs(Capability.TEXT_OUTPUT))) == "lacks text_output"


@pytest.mark.parametrize(
    ("limits", "wanted", "expected"),
    [
        ({}, needs(input_tokens=10**9, output_tokens=10**9), None),
        ({"input_tokens": 1000}, needs(input_tokens=1000), None),
        ({"input_tokens": 1000}, needs(input_tokens=1001), "prompt of about 1,001 tokens exceeds its context of 1,000"),
        ({"output_tokens": 64}, needs(output_tokens=64), None),
        ({"output_tokens": 64}, needs(), None),
        ({"output_tokens": 64}, needs(output_tokens=65), "65 output tokens asked, it writes at most 64"),
    ],
)
def test_prompt_and_answer_must_fit(limits: dict[str, int], wanted: Any, expected: str | None) -> None:
    """Unknown limits do not refuse; known ones do, naming both numbers."""
    assert reason(Fits(), deployment("openai/a", model=limits), context(wanted)) == expected


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, None),
        (frozenset({"a"}), None),
        (frozenset({"openai/a"}), None),
        (frozenset({"b"}), "this key may not use model a"),
        (frozenset[str](), "this key may not use model a"),
    ],
)
def test_a_key_with_a_list_uses_only_what_is_on_it(allowed: frozenset[str] | None, expected: str | None) -> None:
    """Models may be listed by their own name or as one provider's."""
    assert reason(Allowed(), deployment("openai/a"), context(allowed_models=allowed)) == expected


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (None, None),
        (Health("open", NOW + 2.5, "5 failures in a row"), "breaker open (5 failures in a row), for 2.5 s more"),
        (Health("resting", NOW), None),
        (Health("full", None, "8 in flight"), "at its limit of concurrent requests (8 in flight)"),
        (Health("half_open"), "breaker half open, its trials are under way"),
    ],
)
def test_what_has_something_against_it_is_not_healthy(health: Health | None, expected: str | None) -> None:
    """Only what is in the view and has not run out counts."""
    view = {"openai/b": Health("open")} | ({"openai/a": health} if health else {})
    assert reason(Healthy(), deployment("openai/a"), context(health=view)) == expected


def test_what_cools_down_is_not_healthy_while_another_is() -> None:
    """A rest moves traffic elsewhere."""
    resting, other = deployment("openai/a"), deployment("openai/b")
    decision = Healthy().apply(
        [candidate(resting), candidate(other)], context(health={"openai/a": Health("resting", NOW + 3)})
    )
    assert [c.deployment.name for c in decision.kept] == ["openai/b"]
    assert [(d.deployment, d.reason) for d in decision.dropped] == [("openai/a", "cooling down, for 3.0 s more")]


def test_where_all_that_is_left_cools_down_the_first_to_be_back_is_asked() -> None:
    """A rest steers and does not refuse; an open breaker does."""
    health = {
        "openai/a": Health("resting", NOW + 9),
        "openai/b": Health("open", NOW + 1),
        "openai/c": Health("resting", NOW + 3),
    }
    decision = Healthy().apply([candidate(deployment(name)) for name in health], context(health=health))
    assert [c.deployment.name for c in decision.kept] == ["openai/c", "openai/a"]
    assert [d.deployment for d in decision.dropped] == ["openai/b"]


def test_who_is_set_aside_or_slow_is_a_last_resort_too() -> None:
    """They are dropped while there is anybody else, and say why."""
    health = {
        "openai/a": Health("ejected", NOW + 9, "5 gateway errors in a row"),
        "openai/b": Health("open", NOW + 1, "16 of 20 streams began slowly within 30 s", last_resort=True),
    }
    both = [candidate(deployment(name)) for name in health]
    decision = Healthy().apply([*both, candidate(deployment("openai/c"))], context(health=health))
    assert [c.deployment.name for c in decision.kept] == ["openai/c"]
    assert decision.dropped[0].reason == "set aside as an outlier (5 gateway errors in a row), for 9.0 s more"
    decision = Healthy().apply(both, context(health=health))
    assert [c.deployment.name for c in decision.kept] == ["openai/b", "openai/a"]


@pytest.mark.parametrize(
    ("always", "priced_only", "priced", "kept"),
    [
        (False, False, False, True),
        (False, True, False, False),
        (False, True, True, True),
        (True, False, False, False),
        (True, False, True, True),
    ],
)
def test_an_unknown_price_is_never_free(always: bool, priced_only: bool, priced: bool, kept: bool) -> None:
    """Callers with a budget, and tiers that say so, use priced deployments only."""
    made = deployment("openai/a", *([price(1, 2)] if priced else []))
    assert (reason(PriceKnown(always=always), made, context(priced_only=priced_only)) is None) is kept


def test_a_price_that_begins_later_is_not_known_yet() -> None:
    """Rows count from their date on."""
    made = deployment("openai/a", price(1, 2, from_at=NOW + 1))
    assert reason(PriceKnown(), made, context()) == "no price in force"


@pytest.mark.parametrize(
    ("tier_cap", "caller_cap", "output_tokens", "expected"),
    [
        (None, None, None, None),
        (ONE_CENT, None, 1000, None),  # 1,000 in and 1,000 out at $1 and $9 a million is one cent
        (None, ONE_CENT, 1000, None),
        (None, ONE_CENT, 1001, "about $0.010009 is more than the cap of $0.01"),
        (ONE_CENT, 2 * ONE_CENT, 1001, "about $0.010009 is more than the cap of $0.01"),
        (None, 3_303_999, None, "about $0.003304 is more than the cap of $0.003303999"),
        (None, 3_304_000, None, None),
    ],
)
def test_a_cap_prices_the_whole_allowed_output(
    tier_cap: int | None, caller_cap: int | None, output_tokens: int | None, expected: str | None
) -> None:
    """The lower of both caps holds; without a cap on the output the expected length is priced."""
    given = context(needs(output_tokens=output_tokens), options=Options(max_cost_nano=caller_cap))
    assert reason(MaxCost(tier_cap), deployment("openai/a", price(1, 9)), given) == expected


def test_a_cap_counts_every_choice() -> None:
    """n > 1 multiplies the output."""
    given = context(needs(output_tokens=500, choices=3), options=Options(max_cost_nano=ONE_CENT))
    found = reason(MaxCost(), deployment("openai/a", price(1, 9)), given)
    assert found == "about $0.0145 is more than the cap of $0.01"


def test_a_cap_excludes_what_has_no_price() -> None:
    """What cannot be priced cannot be held against a cap."""
    given = context(options=Options(max_cost_nano=ONE_CENT))
    assert "no price in force" in str(reason(MaxCost(), deployment("openai/a"), given))


@pytest.mark.parametrize(
    ("region", "regions", "expected"),
    [
        ("eu", ("eu",), None),
        ("EU-West-1", ("eu",), None),
        ("eu-west-1", ("us", "eu-west"), None),
        ("europe", ("eu",), "region europe is not within eu"),
        ("us-east-1", ("eu", "ch"), "region us-east-1 is not within eu or ch"),
        (None, ("eu",), "its region is not known, eu is demanded"),
    ],
)
def test_data_stays_within_the_named_regions(
    region: str | None, regions: tuple[str, ...], expected: str | None
) -> None:
    """A region holds its parts; an unknown place is outside."""
    assert reason(Region(regions), deployment("openai/a", region=region), context()) == expected
