"""What a provider's refusal means: from status, code and error type to a kind, and how long to wait.

Providers wrap their errors in different ways; `read_problem` finds the parts wherever they stand, `failure` judges.
A provider's own words reach the caller only where the caller can mend the request, and only masked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from adapters.base import NOT_JSON
from gateway.errors import Kind, UpstreamError, masked


@dataclass(frozen=True, slots=True)
class Problem:
    """A provider's error, taken out of its wrapping. Everything in it is the provider's, hence not to be trusted."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    param: str | None = None
    marks: frozenset[str] = frozenset()
    """Every code-like word of the error (codes, types, reasons) in lower case; what the tables below look for."""
    retry_after_s: float | None = None
    reset_at_ms: object = None
    """OpenRouter's `metadata.headers["X-RateLimit-Reset"]`: when its limit opens again, in epoch milliseconds."""


# Codes and types by which providers name a kind, whatever the status; in lower case.
_BY_MARK: Mapping[str, Kind] = {
    "context_length_exceeded": Kind.CONTEXT_TOO_LONG,
    "context_window_exceeded": Kind.CONTEXT_TOO_LONG,
    "exceed_context_size_error": Kind.CONTEXT_TOO_LONG,  # llama.cpp
    "too_many_tokens": Kind.CONTEXT_TOO_LONG,
    "too_many_prompt_tokens": Kind.CONTEXT_TOO_LONG,  # Perplexity
    "content_filter": Kind.CONTENT_FILTERED,
    "content_policy_violation": Kind.CONTENT_FILTERED,
    "responsibleaipolicyviolation": Kind.CONTENT_FILTERED,
    "insufficient_quota": Kind.PROVIDER_QUOTA,
    "billing_hard_limit_reached": Kind.PROVIDER_QUOTA,
    "billing_not_active": Kind.PROVIDER_QUOTA,
    "billing_error": Kind.PROVIDER_QUOTA,
    "insufficient_balance": Kind.PROVIDER_QUOTA,
    "invalid_api_key": Kind.OUR_KEY_REFUSED,
    "api_key_invalid": Kind.OUR_KEY_REFUSED,
    "authentication_error": Kind.OUR_KEY_REFUSED,
    "account_deactivated": Kind.OUR_KEY_REFUSED,
    "model_not_found": Kind.UPSTREAM_MODEL_MISSING,
    "invalid_model": Kind.UPSTREAM_MODEL_MISSING,  # Mistral, a 400
    "model_decommissioned": Kind.UPSTREAM_MODEL_MISSING,
    "deploymentnotfound": Kind.UPSTREAM_MODEL_MISSING,
    "rate_limit_exceeded": Kind.RATE_LIMITED,
    "rate_limit_error": Kind.RATE_LIMITED,
    "ratelimitreached": Kind.RATE_LIMITED,
    "resource_exhausted": Kind.RATE_LIMITED,
    "overloaded_error": Kind.OVERLOADED,
    "server_overloaded": Kind.OVERLOADED,
    "capacity_exceeded": Kind.OVERLOADED,
    "unavailable": Kind.OVERLOADED,
}

_BY_STATUS: Mapping[int, Kind] = {
    401: Kind.OUR_KEY_REFUSED,
    402: Kind.PROVIDER_QUOTA,
    403: Kind.OUR_KEY_REFUSED,
    404: Kind.UPSTREAM_MODEL_MISSING,
    408: Kind.TIMED_OUT,
    409: Kind.CONFLICT,
    425: Kind.CONFLICT,
    429: Kind.RATE_LIMITED,
    498: Kind.OVERLOADED,  # Groq: flex capacity exceeded
    503: Kind.OVERLOADED,
    504: Kind.TIMED_OUT,
    529: Kind.OVERLOADED,
}

_WORDS: Mapping[Kind, str] = {
    Kind.CONTEXT_TOO_LONG: "The request is longer than the model's context.",
    Kind.CONTENT_FILTERED: "The provider's content filter refused the request.",
    Kind.PROVIDER_QUOTA: "The gateway's quota at the provider is spent.",
    Kind.OUR_KEY_REFUSED: "The provider refused the gateway's credentials.",
    Kind.UPSTREAM_MODEL_MISSING: "The provider does not know the model that the catalog names.",
    Kind.RATE_LIMITED: "The provider's rate limit is reached.",
    Kind.OVERLOADED: "The provider is overloaded.",
    Kind.TIMED_OUT: "The provider gave up for lack of time.",
    Kind.CONFLICT: "The provider could not take the request just now.",
    Kind.BROKEN: "The provider failed.",
    Kind.REJECTED: "The provider rejected the request.",
}
_MENDABLE = frozenset({Kind.REJECTED, Kind.CONTEXT_TOO_LONG, Kind.CONTENT_FILTERED})
_UNBILLED_5XX = frozenset({503, 529})

# The one place where words decide, because some providers tell it in no other way. A miss costs a fallback, no more.
# The context sentence is OpenAI's own, which DeepSeek, vLLM, Together and OpenRouter repeat under a general code; the
# key sentence is how xAI tells of a bad key under status 400.
_BY_SENTENCE: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"(?i)\bmaximum (?:context|prompt) length\b"), Kind.CONTEXT_TOO_LONG),
    (re.compile(r"(?i)^(?:incorrect|invalid) api key\b"), Kind.OUR_KEY_REFUSED),
)


def failure(status: int, headers: Mapping[str, str], problem: Problem, kind: Kind | None = None) -> UpstreamError:
    """The error that a status and an error body amount to. Status 200 is an error told within an answer that had begun.

    `kind` is the adapter's own judgement, where it knows better than the tables.
    """
    kind = kind or _kind(status, problem)
    message = _WORDS[kind]
    if kind in _MENDABLE and problem.message:
        message = masked(problem.message)
    code = problem.code if kind is Kind.REJECTED and not _status_like(problem.code) else None
    return UpstreamError(
        kind,
        message,
        upstream_status=status,
        billed=status < 400 or status == 408 or (status >= 500 and status not in _UNBILLED_5XX),
        param=masked(problem.param, 200) if kind in _MENDABLE and problem.param else None,
        code=masked(code, 100) if code else None,
        status=status if kind is Kind.REJECTED and 400 <= status < 500 else None,
        retry_after_s=_first(
            retry_after_s(headers), problem.retry_after_s, seconds_until(problem.reset_at_ms, headers)
        ),
    )


def _kind(status: int, problem: Problem) -> Kind:
    named = next((kind for mark, kind in _BY_MARK.items() if mark in problem.marks), None)
    if (
        status == 413 and named is Kind.RATE_LIMITED
    ):  # Groq: more tokens than its limit takes in a minute; waiting is vain
        return Kind.CONTEXT_TOO_LONG
    if named is not None and (status < 500 or named in _MENDABLE or named is Kind.OVERLOADED):
        return named
    if status < 400:
        status = _status_like(problem.code) or 500
    if status in (400, 413, 422):
        for sentence, kind in _BY_SENTENCE:
            if sentence.search(problem.message):
                return kind
    return _BY_STATUS.get(status) or (Kind.REJECTED if 400 <= status < 500 else Kind.BROKEN)


def _status_like(code: str | None) -> int:
    """The HTTP status that some providers put in `code`; 0 where it is none."""
    return int(code) if code is not None and re.fullmatch(r"[45]\d\d", code) else 0


# ------------------------------------------------------------------------------------------------------------- reading


def read_problem(body: bytes | Mapping[str, Any]) -> Problem:
    """The error in an answer's body, JSON or already decoded; an empty Problem where none can be found.

    Shapes: `{"error":{message,type,param,code}}`, `{"error":"…"}`, `{message,type,code,…}`, `{"detail":"…"|{…}|[…]}`,
    and a list of one of these.
    """
    if isinstance(body, bytes):
        try:
            value = msgspec.json.decode(body)
        except NOT_JSON:
            return Problem()
    else:
        value = body
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, Mapping):
        return Problem()
    inner = value.get("error", value.get("detail", value))
    if isinstance(inner, str):
        return _problem(value, message=inner)
    if isinstance(inner, list):  # FastAPI's validation errors
        parts = [item for item in inner if isinstance(item, Mapping)]
        message = "; ".join(str(part.get("msg") or part.get("message") or "") for part in parts)
        return Problem(message=message)
    return _problem(inner) if isinstance(inner, Mapping) else Problem()


def _problem(error: Mapping[str, Any], message: str | None = None) -> Problem:
    metadata = _mapping(error.get("metadata"))
    words = [error.get(name) for name in ("code", "type", "status", "reason", "error_type")]
    words.append(_mapping(error.get("innererror")).get("code"))
    words += [_mapping(detail).get("reason") for detail in _items(error.get("details"))]
    if "flagged_input" in metadata:  # OpenRouter's moderation, a 403
        words.append("content_filter")
    return Problem(
        message=message if message is not None else _text(error.get("message")) or "",
        type=_text(error.get("type")),
        code=_text(error.get("code")),
        param=_text(error.get("param")),
        marks=frozenset(word.lower() for word in words if isinstance(word, str)),
        retry_after_s=_retry_info_s(error),
        reset_at_ms=_mapping(metadata.get("headers")).get("X-RateLimit-Reset"),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


# ------------------------------------------------------------------------------------------------------------- waiting


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `retry-after-ms` or `retry-after` (seconds, or a date counted from the answer's own `date`).

    None where neither is usable; a date in the past counts as 0.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    return seconds if seconds is not None else _until_s(text, headers)


def seconds_until(epoch_ms: object, headers: Mapping[str, str]) -> float | None:
    """Seconds from the answer's `date` header to a moment in epoch milliseconds; None where either is unusable."""
    moment_ms = _number(str(epoch_ms)) if isinstance(epoch_ms, str | int | float) else None
    sent = _date(headers.get("date"))
    return None if moment_ms is None or sent is None else max(moment_ms / 1000 - sent, 0.0)


def duration_s(text: object) -> float | None:
    """Seconds of a duration such as `34s`, `1.5s`, `250ms` or `1m30s`; None where it is none."""
    if not isinstance(text, str) or not (hit := _DURATION.fullmatch(text.strip())) or not any(hit.groups()):
        return None
    hours, minutes, seconds, milliseconds = (float(group or 0) for group in hit.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


_DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?")
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,15})?")


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if text.isascii() and _NUMBER.fullmatch(text) else None


def _until_s(text: str | None, headers: Mapping[str, str]) -> float | None:
    then, sent = _date(text), _date(headers.get("date"))
    return None if then is None or sent is None else max(then - sent, 0.0)


def _date(text: str | None) -> float | None:
    if not text or len(text) > 64:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _retry_info_s(error: Mapping[str, Any]) -> float | None:
    """Google's RetryInfo among the error's details.

    `{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}`
    """
    for detail in _items(error.get("details")):
        if str(_mapping(detail).get("@type", "")).endswith("google.rpc.RetryInfo"):
            return duration_s(detail.get("retryDelay"))
    return None


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
