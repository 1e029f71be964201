"""The header lines of good answers."""

from __future__ import annotations

import pytest

from gateway.api.http import written
from gateway.api.replies import limit_lines, provider_lines
from gateway.ledger.limits import Budget, Headroom, Terms

_HEAD = (
    b"HTTP/1.1 200 OK\r\n"
    b"Content-Type: application/json\r\n"
    b"openai-version: 2020-10-01\r\n"
    b"Set-Cookie: session=secret\r\n"
    b"X-RateLimit-Remaining-Tokens: 1999500\r\n"
    b"x-openai-version: other\r\n"
    b"openai-processing-ms: \xff\r\n"
)


@pytest.mark.parametrize("header", [(b"x-split", b"a\r\nx-injected: b"), (b"x-split", b"a\nb"), (b"x\r", b"a")])
def test_a_header_with_a_line_break_is_refused(header: tuple[bytes, bytes]) -> None:
    """What would split the reply never becomes part of a head."""
    with pytest.raises(ValueError, match="line break"):
        written([(b"x-good", b"1"), header])


def test_only_known_headers_of_the_provider_are_passed_on() -> None:
    """Names are matched whole and in any case; cookies, unknown names and values beyond ASCII stay behind."""
    assert provider_lines(_HEAD, limits=True) == (
        b"openai-version: 2020-10-01\r\nX-RateLimit-Remaining-Tokens: 1999500\r\n"
    )


def test_the_providers_rate_limits_give_way_to_our_own() -> None:
    """A caller with limits of ours reads those, not the provider's."""
    assert provider_lines(_HEAD, limits=False) == b"openai-version: 2020-10-01\r\n"


def test_a_head_with_nothing_to_pass_on_adds_no_line() -> None:
    """No header of the provider's, no bytes."""
    assert provider_lines(b"HTTP/1.1 200 OK\r\ncontent-type: a\r\n", limits=True) == b""


_RATE, _OURS = b"X-RateLimit-Limit-Requests: 7\r\n", b"OpenAI-Version: 2020-10-01\r\n"


@pytest.mark.parametrize("lines", [(_RATE, _OURS), (_OURS, _RATE), (_OURS,), (_RATE,)])
def test_where_a_head_has_what_is_kept_does_not_matter(lines: tuple[bytes, ...]) -> None:
    """Behind anything, in any order."""
    head = b"HTTP/1.1 200 OK\r\nserver: x\r\n" + b"".join(lines) + b"via: y\r\n"
    assert provider_lines(head, limits=True) == b"".join(lines)
    assert provider_lines(head, limits=False) == (_OURS if _OURS in lines else b"")


@pytest.mark.parametrize(
    ("headroom", "lines"),
    [
        (Headroom(Terms(mode="local")), b"x-gateway-limits-mode: local\r\n"),
        (
            Headroom(Terms(limit_requests=60, reset_requests_s=0.25), remaining_requests=58),
            b"x-gateway-limits-mode: exact\r\n"
            b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 58\r\n"
            b"x-ratelimit-reset-requests: 250ms\r\n",
        ),
        (
            Headroom(Terms(limit_tokens=1000, reset_tokens_s=90.0), remaining_tokens=-5),
            b"x-gateway-limits-mode: exact\r\n"
            b"x-ratelimit-limit-tokens: 1000\r\nx-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1m30s\r\n",
        ),
        (
            Headroom(Terms(budget=Budget("b", 10**9, "day", scope="50%d")), hold_nano=7, budget_left_nano=1_500_000),
            b"x-gateway-limits-mode: exact\r\nx-gateway-budget: 50%d day; left_usd=0.0015005\r\n",
        ),
        (
            Headroom(Terms(budget=Budget("b", 10**9, "total")), budget_left_nano=-10_000),
            b"x-gateway-limits-mode: exact\r\nx-gateway-budget: key total; left_usd=0.00\r\n",
        ),
    ],
)
def test_only_what_is_limited_is_told_and_never_below_zero(headroom: Headroom, lines: bytes) -> None:
    """What was freed of the hold counts as left."""
    assert limit_lines(headroom, 500) == lines
