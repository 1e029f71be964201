"""Options in the body's `gateway` object and in headers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import CallerError
from gateway.routing.options import parse_options
from gateway.types import Capability, Options


def test_nothing_given_is_no_options() -> None:
    """Other headers are not looked at."""
    assert parse_options(None, {"authorization": "Bearer x", "content-type": "application/json"}) == Options()


def test_every_option_can_stand_in_the_body() -> None:
    """Money becomes nano-USD, capabilities a mask, tags pairs."""
    given = {
        "require": ["function_calling", "logprobs"],
        "prefer_provider": "anthropic",
        "policy": "fastest",
        "preset": "precise",
        "max_cost_usd": "0.000000001",
        "deadline_s": 2.5,
        "tags": {"team": "search"},
        "session": "s-1",
        "explain": True,
    }
    assert parse_options(given, {}) == Options(
        require=Capability.FUNCTION_CALLING.bit | Capability.LOGPROBS.bit,
        prefer_provider="anthropic",
        policy="fastest",
        preset="precise",
        max_cost_nano=1,
        deadline_s=2.5,
        tags=(("team", "search"),),
        session="s-1",
        explain=True,
    )


def test_every_option_can_stand_in_headers() -> None:
    """Headers say the same in text."""
    headers = {
        "x-gateway-require": "function_calling, logprobs",
        "x-gateway-prefer-provider": "anthropic",
        "x-gateway-policy": "fastest",
        "x-gateway-preset": "precise",
        "x-gateway-max-cost-usd": "0.05",
        "x-gateway-deadline-s": "2.5",
        "x-gateway-tags": "team=search, env=prod",
        "x-gateway-session": "s-1",
        "x-gateway-explain": "true",
    }
    assert parse_options(None, headers) == Options(
        require=Capability.FUNCTION_CALLING.bit | Capability.LOGPROBS.bit,
        prefer_provider="anthropic",
        policy="fastest",
        preset="precise",
        max_cost_nano=50_000_000,
        deadline_s=2.5,
        tags=(("team", "search"), ("env", "prod")),
        session="s-1",
        explain=True,
    )


def test_the_body_counts_over_headers() -> None:
    """What both name is the body's; what only one names is its own."""
    options = parse_options({"policy": "fastest"}, {"x-gateway-policy": "newest", "x-gateway-session": "s"})
    assert (options.policy, options.session) == ("fastest", "s")


@pytest.mark.parametrize(
    ("cost", "nano"), [(0.05, 50_000_000), (1, 1_000_000_000), ("0.1", 100_000_000), (1e-9, 1), ("9000000", 9 * 10**15)]
)
def test_costs_are_exact(cost: Any, nano: int) -> None:
    """A JSON number means the decimal that was written."""
    assert parse_options({"max_cost_usd": cost}, {}).max_cost_nano == nano


@pytest.mark.parametrize(
    ("gateway", "headers", "param", "message"),
    [
        ({"polcy": "x"}, {}, "gateway.polcy", "Unknown option 'gateway.polcy'. Options: deadline_s, explain,"),
        (None, {"x-gateway-polcy": "x"}, "x-gateway-polcy", "Unknown option 'x-gateway-polcy'"),
        ({"require": ["flying"]}, {}, "gateway.require", "Invalid enum value 'flying'"),
        (None, {"x-gateway-require": "flying"}, "x-gateway-require", "'flying'; known are audio_input, audio_output,"),
        ({"require": "logprobs"}, {}, "gateway.require", "Expected `array`, got `str`"),
        ({"policy": 1}, {}, "gateway.policy", "Expected `str | null`, got `int`"),
        ({"policy": ""}, {}, "gateway.policy", "length >= 1"),
        ({"max_cost_usd": 0}, {}, "gateway.max_cost_usd", "give US dollars above 0"),
        ({"max_cost_usd": -1}, {}, "gateway.max_cost_usd", "give US dollars above 0"),
        ({"max_cost_usd": "NaN"}, {}, "gateway.max_cost_usd", "give US dollars above 0"),
        ({"max_cost_usd": "Infinity"}, {}, "gateway.max_cost_usd", "give US dollars above 0"),
        ({"max_cost_usd": "cheap"}, {}, "gateway.max_cost_usd", "give US dollars above 0"),
        ({"max_cost_usd": 9_000_001}, {}, "gateway.max_cost_usd", "give US dollars above 0"),
        (None, {"x-gateway-max-cost-usd": "1e999"}, "x-gateway-max-cost-usd", "give US dollars above 0"),
        ({"max_cost_usd": "0.0000000009"}, {}, "gateway.max_cost_usd", "from 0.000000001 to 9,000,000"),
        ({"deadline_s": 0}, {}, "gateway.deadline_s", "> 0"),
        (None, {"x-gateway-deadline-s": "1_0"}, "x-gateway-deadline-s", "got `str`"),
        ({"deadline_s": 3601}, {}, "gateway.deadline_s", "<= 3600"),
        (None, {"x-gateway-deadline-s": "soon"}, "x-gateway-deadline-s", "got `str`"),
        (None, {"x-gateway-deadline-s": "nan"}, "x-gateway-deadline-s", "Expected"),
        (None, {"x-gateway-explain": "maybe"}, "x-gateway-explain", "Expected `bool`"),
        ({"tags": {"a": 1}}, {}, "gateway.tags", "Expected `str`, got `int`"),
        ({"tags": {"a": "b\nc"}}, {}, "gateway.tags", "printable"),
        ({"tags": {str(i): "x" for i in range(17)}}, {}, "gateway.tags", "length <= 16"),
        (None, {"x-gateway-tags": "=x"}, "x-gateway-tags", "length >= 1"),
        (None, {"x-gateway-tags": "a=b, team:search"}, "x-gateway-tags", "'team:search' is no tag; write NAME=VALUE"),
        ({"session": "s" * 257}, {}, "gateway.session", "length <= 256"),
    ],
)
def test_bad_options_are_refused_at_their_place(
    gateway: dict[str, Any] | None, headers: dict[str, str], param: str, message: str
) -> None:
    """The error names the field or header as the caller wrote it."""
    with pytest.raises(CallerError) as error:
        parse_options(gateway, headers)
    assert error.value.param == param
    assert message in error.value.message
