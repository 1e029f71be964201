"""The headers of good answers: ours, the caller's own limits, and those of OpenAI's that the provider sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate

from gateway.api.http import HeaderLines
from gateway.ledger.limits import Headroom
from gateway.types import NANO_PER_USD, Model

# Source: https://platform.openai.com/docs/api-reference/debugging-requests (read 2026-11-21).
_KEPT = ("openai-organization", "openai-processing-ms", "openai-project", "openai-version")
_KEPT_LIMITS = tuple(
    f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")
)


_USAGE = re.compile(rb'"usage"\s*:\s*\{')


def provider_headers(headers: Mapping[str, str], *, limits: bool) -> HeaderLines:
    """What apps may read of the provider's head; its rate limits only where the caller has none of our own."""
    lines: HeaderLines = []
    for name in _KEPT + _KEPT_LIMITS if limits else _KEPT:
        value = headers.get(name)
        if value is not None and len(value) < 256 and value.isprintable():
            lines.append((name.encode(), value.encode("latin-1", "replace")))
    return lines


def limit_headers(headroom: Headroom) -> HeaderLines:
    """`x-ratelimit-*` as OpenAI sends them, and what is left of the tightest budget."""
    lines: HeaderLines = []
    for of, limit, remaining, reset_s in (
        (b"requests", headroom.limit_requests, headroom.remaining_requests, headroom.reset_requests_s),
        (b"tokens", headroom.limit_tokens, headroom.remaining_tokens, headroom.reset_tokens_s),
    ):
        if limit is None:
            continue
        lines.append((b"x-ratelimit-limit-" + of, b"%d" % limit))
        lines.append((b"x-ratelimit-remaining-" + of, b"%d" % max(0, remaining or 0)))
        lines.append((b"x-ratelimit-reset-" + of, _duration(reset_s or 0.0)))
    lines.append((b"x-gateway-limits-mode", headroom.mode.encode()))
    if headroom.budget is not None and headroom.budget_left_nano is not None:
        budget = headroom.budget
        left = f"{budget.scope} {budget.per}; left_usd={usd(max(0, headroom.budget_left_nano))}"
        lines.append((b"x-gateway-budget", left.encode("ascii", "replace")))
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


def usd(nano: int) -> str:
    """Nano-USD as a decimal string in dollars, without trailing zeros: 412_000 -> `0.000412`."""
    whole, rest = divmod(nano, NANO_PER_USD)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") if rest else str(whole)


def with_cost(last: bytes, nano: int) -> bytes:
    """A stream's last bytes with the cost in their usage object, where they have one."""
    return _USAGE.sub(b'"usage":{"cost_usd":"%b",' % usd(nano).encode(), last, count=1)


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: `20ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % max(0, round(seconds * 1000))
    minutes, rest = divmod(round(seconds), 60)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
