"""The store's verdict on a reservation, as what a caller is told; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gateway.errors import CallerError, GatewayError, GatewayUnavailable, Kind
from gateway.ledger.limits import Headroom, Limits, Terms, Window, resets_at
from gateway.money import usd

CAP_WORDS = {
    "rpm": "requests per minute",
    "tpm": "tokens per minute",
    "concurrency": "requests at the same time",
}


def refusal(
    verdict: tuple[Any, ...], limits: Limits, windows: tuple[Window, ...], least: tuple[int, int], at: float
) -> GatewayError:
    """The error for any verdict that refuses; `least` is what the attempt needed, nano-USD and tokens of answer."""
    match verdict[0]:
        case "DENY":
            _, number, held, posted, limit = verdict
            return _spent(limits, windows, number - 1, limit - held - posted, least, at)
        case "RATE":
            _, kind, number, retry_ms = verdict
            return _limited(limits, kind, number - 1, retry_ms)
        case "SKEW":
            return unavailable("this machine's clock is more than five minutes off the store's")
        case "NOLIM":
            return unavailable("the store does not know the limits of this key")
        case _:
            return unavailable("this attempt has ended already")


def unavailable(why: str) -> GatewayUnavailable:
    """The error for a ledger that cannot take the request now."""
    return GatewayUnavailable(
        Kind.LEDGER_DOWN, f"The gateway cannot book this request now: {why}. Try again later.", retry_after_s=1.0
    )


def headroom(verdict: tuple[Any, ...], limits: Limits, output_cap_tokens: int | None) -> Headroom:
    """What an OK verdict leaves."""
    _, hold, tight, left, r_limit, r_left, r_ms, t_limit, t_left, t_ms = verdict
    terms = Terms(
        limit_requests=r_limit or None,
        reset_requests_s=r_ms / 1000,
        limit_tokens=t_limit or None,
        reset_tokens_s=t_ms / 1000,
        budget=limits.budgets[tight - 1] if tight else None,
    )
    return Headroom(terms, hold, output_cap_tokens, r_left, t_left, left)


def _spent(
    limits: Limits, windows: tuple[Window, ...], index: int, left_nano: int, least: tuple[int, int], at: float
) -> CallerError:
    budget = limits.budgets[index]
    period = windows[index].counter.rsplit(":", 1)[1]
    reset = resets_at(budget, at)
    until = datetime.fromtimestamp(reset, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if reset else None
    per = "" if budget.per == "total" else f" per {budget.per}"
    what = f"The {budget.scope}'s budget of ${usd(budget.limit_nano)}{per}"
    need_nano, tokens = least
    answer = f"{tokens:,} token{'' if tokens == 1 else 's'} of answer"
    why = f"has ${usd(max(0, left_nano))} left, and this request may cost ${usd(need_nano)} with {answer}"
    hint = f" It starts anew at {until}." if until else ""
    return CallerError(
        Kind.BUDGET_SPENT,
        f"You exceeded your current quota. {what} {why}.{hint}",
        retryable=False,
        details={"budget": budget.id, "window": period, "resets_at": until},
    )


def _limited(limits: Limits, kind: str, index: int, retry_ms: int) -> CallerError:
    caps = {"rpm": limits.rpm, "tpm": limits.tpm, "concurrency": limits.concurrency}[kind]
    retry_s = retry_ms / 1000
    return CallerError(
        Kind.RATE_LIMIT,
        f"Rate limit reached: {caps[index].limit} {CAP_WORDS[kind]}. Please try again in {retry_s:.3f}s.",
        retry_after_s=retry_s,
        details={"limit": kind},
    )
