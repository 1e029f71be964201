"""The headers of good answers: ours, the caller's own limits, and those of OpenAI's that the provider sent."""

from __future__ import annotations

import re
from email.utils import formatdate
from functools import lru_cache

from gateway.api.http import HeaderLines
from gateway.ledger.limits import Headroom, Terms
from gateway.money import usd
from gateway.types import Model

# Source: https://platform.openai.com/docs/api-reference/debugging-requests (read 2026-11-21).
_KEPT = rb"openai-(?:organization|processing-ms|project|version)"
_LIMITS = rb"x-ratelimit-(?:limit|remaining|reset)-(?:requests|tokens)"
_LINES = rb"\r\n(?=((?:%b):[ -~]{0,255}\r\n))"
"""Each begins at the end of another, which is the quickest to search for, and ends where the next may begin."""
_kept_lines = re.compile(_LINES % _KEPT, re.IGNORECASE).findall
_kept_and_limit_lines = re.compile(_LINES % (_KEPT + b"|" + _LIMITS), re.IGNORECASE).findall

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
    return _limit_lines_of(headroom.terms) % {
        b"requests": max(0, headroom.remaining_requests),
        b"tokens": max(0, headroom.remaining_tokens),
        b"usd": usd(max(0, headroom.budget_left_nano + freed_nano)).encode(),
    }


@lru_cache(256)
def _limit_lines_of(terms: Terms) -> bytes:
    """The lines of all that is granted under these terms, with `%` in place of what is left."""
    lines = b"x-gateway-limits-mode: %b\r\n" % terms.mode.encode()
    for of, limit, reset_s in (
        (b"requests", terms.limit_requests, terms.reset_requests_s),
        (b"tokens", terms.limit_tokens, terms.reset_tokens_s),
    ):
        if limit is not None:
            lines += b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %%(%b)d\r\n" % (of, limit, of, of)
            lines += b"x-ratelimit-reset-%b: %b\r\n" % (of, _duration(reset_s))
    if terms.budget is not None:
        whose = f"{terms.budget.scope} {terms.budget.per}".encode("ascii", "replace").replace(b"%", b"%%")
        lines += b"x-gateway-budget: %b; left_usd=%%(usd)b\r\n" % whose
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


def with_cost(last: bytes, nano: int) -> bytes:
    """A stream's last bytes with the cost in their usage object, where they have one."""
    return _USAGE.sub(b'"usage":{"cost_usd":"%b",' % usd(nano).encode(), last, count=1)


def _duration(seconds: float) -> bytes:
    """As OpenAI writes it: `20ms`, `1s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % max(0, round(seconds * 1000))
    minutes, rest = divmod(round(seconds), 60)
    return b"%dm%ds" % (minutes, rest) if minutes else b"%ds" % rest
