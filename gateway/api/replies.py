"""The headers of good answers: ours, the caller's own limits, and those of OpenAI's that the provider sent."""

from __future__ import annotations

import re
from email.utils import formatdate

from gateway.api.http import HeaderLines
from gateway.ledger.limits import Headroom
from gateway.types import NANO_PER_USD, Model

# Source: https://platform.openai.com/docs/api-reference/debugging-requests (read 2026-11-21).
_KEPT = rb"openai-(?:organization|processing-ms|project|version)"
_LIMITS = rb"x-ratelimit-(?:limit|remaining|reset)-(?:requests|tokens)"
_LINES = rb"\r\n(?=((?:%b):[ -~]{0,255}\r\n))"
"""Each begins at the end of another, which is the quickest to search for, and ends where the next may begin."""
_kept_lines = re.compile(_LINES % _KEPT, re.IGNORECASE).findall
_kept_and_limit_lines = re.compile(_LINES % (_KEPT + b"|" + _LIMITS), re.IGNORECASE).findall


_REQUESTS, _TOKENS = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n" % (of, of, of)
    for of in (b"requests", b"tokens")
)
_MODES = {mode: b"x-gateway-limits-mode: %b\r\n" % mode.encode() for mode in ("exact", "local", "allow")}
_USAGE = re.compile(rb'"usage"\s*:\s*\{')


def provider_lines(head: bytes, *, limits: bool) -> bytes:
    """What apps may read of the provider's head; its rate limits only where the caller has none of our own.

    `head` is a response's status line and headers, each ending in CRLF.
    """
    return b"".join(_kept_and_limit_lines(head) if limits else _kept_lines(head))


def limit_lines(headroom: Headroom, freed_nano: int = 0) -> bytes:
    """`x-ratelimit-*` as OpenAI sends them, and what is left of the tightest budget.

    `freed_nano` is what the request did not cost of its hold, where that is known already.
    """
    lines = _MODES[headroom.mode]
    if (limit := headroom.limit_requests) is not None:
        left, reset_s = headroom.remaining_requests, headroom.reset_requests_s
        lines += _REQUESTS % (limit, max(0, left or 0), _duration(reset_s or 0.0))
    if (limit := headroom.limit_tokens) is not None:
        left, reset_s = headroom.remaining_tokens, headroom.reset_tokens_s
        lines += _TOKENS % (limit, max(0, left or 0), _duration(reset_s or 0.0))
    if headroom.budget is not None and headroom.budget_left_nano is not None:
        budget, left_usd = headroom.budget, usd(max(0, headroom.budget_left_nano + freed_nano))
        scope = budget.scope.encode("ascii", "replace")
        lines += b"x-gateway-budget: %b %b; left_usd=%b\r\n" % (scope, budget.per.encode(), left_usd)
    return lines


def retirement_headers(model: Model) -> HeaderLines:
    """`Deprecation` and `Sunset` of the model that was asked for, where its maker has named the days.

    Source: RFC 9745 and RFC 8594 (read 2026-11-21).
    """
    lines: HeaderLines = []
    if model.deprecated_at is not None:
        lines.append((b"deprecation", b"@%d" % model.deprecated_at))
    if model.retires_at is not None:
        lines.append((b"sunset", formatdate(model.retires_at, usegmt=True).encode()))
    return lines


def usd(nano: int) -> bytes:
    """Nano-USD as a decimal in dollars, without trailing zeros: 412_000 -> `0.000412`."""
    return (b"%d.%09d" % divmod(nano, NANO_PER_USD)).rstrip(b"0").rstrip(b".")


def with_cost(last: bytes, nano: int) -> bytes:
    """A stream's last bytes with the cost in their usage object, where they have one."""
    return _USAGE.sub(b'"usage":{"cost_usd":"%b",' % usd(nano), last, count=1)


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: `20ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % max(0, round(seconds * 1000))
    minutes, rest = divmod(round(seconds), 60)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
