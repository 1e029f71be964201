"""What a request without a candidate is told."""

from __future__ import annotations

from typing import Any

import pytest
from made_catalogs import CHAT, NOW, deployment, needs, plan, price, snapshot, tier

from gateway.errors import GatewayError, Kind
from gateway.types import (
    Capability,
    Health,
)

C = Capability
CHEAP = deployment("groq/small", price(0.1, 0.2))
MIDDLE = deployment("openai/middle", price(1, 2), capabilities=[*CHAT, C.FUNCTION_CALLING])
DEAR = deployment("anthropic/large", price(5, 25), capabilities=[*CHAT, C.FUNCTION_CALLING, C.IMAGE_INPUT])
FAST = tier("fast", DEAR, CHEAP, MIDDLE)


def refused(*args: Any, **rest: Any) -> GatewayError:
    with pytest.raises(GatewayError) as error:
        plan(*args, **rest)
    return error.value


def test_what_nobody_can_do_is_refused_with_what_each_lacks() -> None:
    """400, naming the needs and the candidates."""
    error = refused(FAST, wanted=needs(C.FUNCTION_CALLING, C.LOGPROBS, input_tokens=2500))
    assert (error.kind, error.status, error.param) == (Kind.NO_CANDIDATE, 400, "model")
    assert "needs function_calling, logprobs for about 2,500 input tokens" in error.message
    assert "openai/middle: lacks logprobs" in error.message
    assert "groq/small: lacks function_calling, logprobs" in error.message
    assert error.details["needs"] == ["function_calling", "logprobs"]
    assert {c["deployment"] for c in error.details["candidates"]} == {CHEAP.name, MIDDLE.name, DEAR.name}


def test_what_a_request_met_with_is_told_before_providers_without_keys() -> None:
    """However many of these there are: on a fresh installation they are nearly all."""
    keyless = [deployment(f"openai/m{n}", unavailable="no key: set OPENAI_API_KEY") for n in range(12)]
    error = refused(tier("fast", *keyless, CHEAP), wanted=needs(C.FUNCTION_CALLING))
    assert error.kind is Kind.NO_CANDIDATE
    assert "groq/small: lacks function_calling" in error.message
    assert error.details["candidates"][0]["deployment"] == CHEAP.name


def test_what_nobody_can_do_now_says_when() -> None:
    """503 with the soonest end of those that are capable."""
    health = {
        CHEAP.name: Health("open", NOW + 1),  # not capable, so its end does not matter
        MIDDLE.name: Health("open", NOW + 9),
        DEAR.name: Health("open", NOW + 7.5, "5 failures in a row"),
    }
    error = refused(FAST, wanted=needs(C.FUNCTION_CALLING), health=health)
    assert (error.kind, error.status, error.retry_after_s) == (Kind.NONE_HEALTHY, 503, 7.5)
    assert "anthropic/large: breaker open (5 failures in a row), for 7.5 s more" in error.message


def test_where_only_room_is_missing_one_comes_back_soon() -> None:
    """A full deployment has no known end."""
    assert refused(FAST, "small", health={CHEAP.name: Health("full")}).retry_after_s == 1.0


def test_a_tier_without_a_usable_provider_is_the_operators_to_mend() -> None:
    """503, and no use in coming back; the reason is told."""
    error = refused(tier("fast", deployment("openai/a", unavailable="no key: set OPENAI_API_KEY")))
    assert (error.kind, error.code, error.retryable) == (Kind.NONE_HEALTHY, "no_usable_deployment", False)
    assert "provider openai cannot be used: no key: set OPENAI_API_KEY" in error.message


def test_a_tier_of_nothing_says_so() -> None:
    """An empty match is no crash."""
    assert "it has no deployment" in refused(tier("fast")).message


def test_long_lists_are_cut() -> None:
    """An error is read by people."""
    error = refused(tier("fast", *(deployment(f"p/m{i}") for i in range(50))), wanted=needs(C.LOGPROBS))
    assert "and 40 more" in error.message
    assert len(error.details["candidates"]) == 10


def test_models_that_a_key_may_not_use_are_not_named() -> None:
    """403 where other rights would help; otherwise the refusal speaks of the allowed ones only."""
    allowed = frozenset({"small"})
    others_could = refused(FAST, wanted=needs(C.FUNCTION_CALLING), allowed_models=allowed)
    nobody_could = refused(FAST, wanted=needs(C.LOGPROBS), allowed_models=allowed)
    assert (others_could.kind, others_could.status) == (Kind.FORBIDDEN, 403)
    assert nobody_could.kind is Kind.NO_CANDIDATE
    assert "groq/small: lacks logprobs" in nobody_could.message
    for error in (others_could, nobody_could):
        assert "large" not in error.message
        assert "large" not in str(error.details)


@pytest.mark.parametrize(
    ("name", "tiers", "models", "permitted"),
    [
        ("fast", frozenset({"fast"}), None, True),
        ("fast@openai", frozenset({"fast"}), None, True),
        ("smart", frozenset({"fast"}), None, False),
        ("large", frozenset({"fast"}), None, False),
        ("anthropic/large", frozenset({"fast"}), None, False),
        ("small", frozenset({"fast"}), None, True),
        ("groq/small", frozenset({"fast"}), None, True),
        ("large", frozenset({"fast"}), frozenset({"large"}), True),
        ("large", frozenset[str](), None, False),
        ("fast", frozenset({"gone"}), None, False),
        ("smart", None, None, True),
    ],
)
def test_a_key_limited_to_tiers_stays_within_them(
    name: str, tiers: frozenset[str] | None, models: frozenset[str] | None, permitted: bool
) -> None:
    """Naming a model does not lead around the tiers: it must be in one of them, or on the key's own list."""
    catalog = snapshot(tier("smart", DEAR), tier("fast", CHEAP, MIDDLE))
    if permitted:
        assert plan(catalog, name, allowed_tiers=tiers, allowed_models=models, listed_models=models).candidates
    else:
        assert (
            refused(catalog, name, allowed_tiers=tiers, allowed_models=models, listed_models=models).kind
            is Kind.FORBIDDEN
        )
