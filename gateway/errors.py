"""The error tree, and one table that says of each kind how it is answered, logged, judged and retried.

Branches say who can act: `CallerError` the app, `RoutingError` nobody able right now, `UpstreamError` the provider,
`GatewayUnavailable` us. Messages are ours; a provider's own words reach callers only through `masked()`.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Verdict = Literal["success", "failure", "neutral"]


class Kind(StrEnum):
    """Every way in which a request can fail. The table `SPECS` has a row for each."""

    # the caller's
    BAD_REQUEST = "bad_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    UNKNOWN_MODEL = "unknown_model"
    MODEL_DISABLED = "model_disabled"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA = "unsupported_media"
    BUDGET_SPENT = "budget_spent"
    RATE_LIMIT = "rate_limit"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_IN_FLIGHT = "idempotency_in_flight"
    CALLER_GONE = "caller_gone"
    # routing
    NO_CANDIDATE = "no_candidate"
    NONE_HEALTHY = "none_healthy"
    DEADLINE = "deadline"
    # the provider's
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed_out"
    CROWDED = "crowded"
    BROKEN = "broken"
    OVERLOADED = "overloaded"
    OUR_KEY_REFUSED = "our_key_refused"
    RATE_LIMITED = "rate_limited"
    PROVIDER_QUOTA = "provider_quota"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_FILTERED = "content_filtered"
    UPSTREAM_MODEL_MISSING = "upstream_model_missing"
    # ours
    LEDGER_DOWN = "ledger_down"
    SHED = "shed"
    DRAINING = "draining"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Spec:
    """How a kind is answered (status, OpenAI type and code), logged, judged, and whether to try another candidate."""

    status: int
    type: str
    code: str | None
    level: int
    verdict: Verdict = "neutral"
    try_next: bool = False


_INVALID = "invalid_request_error"
SPECS: dict[Kind, Spec] = {
    Kind.BAD_REQUEST: Spec(400, _INVALID, None, logging.INFO),
    Kind.UNAUTHENTICATED: Spec(401, _INVALID, "invalid_api_key", logging.INFO),
    Kind.FORBIDDEN: Spec(403, "permission_error", "forbidden", logging.INFO),
    Kind.NOT_FOUND: Spec(404, _INVALID, "not_found", logging.INFO),
    Kind.METHOD_NOT_ALLOWED: Spec(405, _INVALID, "method_not_allowed", logging.INFO),
    Kind.UNKNOWN_MODEL: Spec(404, _INVALID, "model_not_found", logging.INFO),
    Kind.MODEL_DISABLED: Spec(403, "permission_error", "model_disabled", logging.INFO),
    Kind.TOO_LARGE: Spec(413, _INVALID, "request_too_large", logging.INFO),
    Kind.UNSUPPORTED_MEDIA: Spec(415, _INVALID, "unsupported_media_type", logging.INFO),
    Kind.BUDGET_SPENT: Spec(429, "insufficient_quota", "insufficient_quota", logging.INFO),
    Kind.RATE_LIMIT: Spec(429, "rate_limit_error", "rate_limit_exceeded", logging.INFO),
    Kind.IDEMPOTENCY_MISMATCH: Spec(422, _INVALID, "idempotency_key_reused", logging.INFO),
    Kind.IDEMPOTENCY_IN_FLIGHT: Spec(409, _INVALID, "idempotency_in_flight", logging.INFO),
    Kind.CALLER_GONE: Spec(499, "api_error", "caller_gone", logging.INFO),
    Kind.NO_CANDIDATE: Spec(400, _INVALID, "no_capable_model", logging.INFO),
    Kind.NONE_HEALTHY: Spec(503, "server_error", "no_healthy_deployment", logging.WARNING),
    Kind.DEADLINE: Spec(504, "timeout_error", "deadline_exceeded", logging.WARNING),
    Kind.UNREACHABLE: Spec(502, "upstream_error", "upstream_unreachable", logging.WARNING, "failure", True),
    Kind.TIMED_OUT: Spec(504, "timeout_error", "upstream_timeout", logging.WARNING, "failure", True),
    Kind.CROWDED: Spec(503, "upstream_error", "upstream_crowded", logging.WARNING, "neutral", True),
    Kind.BROKEN: Spec(502, "upstream_error", "upstream_error", logging.WARNING, "failure", True),
    Kind.OVERLOADED: Spec(503, "upstream_error", "upstream_overloaded", logging.WARNING, "failure", True),
    Kind.OUR_KEY_REFUSED: Spec(502, "upstream_error", "upstream_credentials", logging.ERROR, "failure", True),
    Kind.RATE_LIMITED: Spec(429, "rate_limit_error", "upstream_rate_limited", logging.WARNING, "neutral", True),
    Kind.PROVIDER_QUOTA: Spec(429, "rate_limit_error", "upstream_quota", logging.ERROR, "neutral", True),
    Kind.CONFLICT: Spec(502, "upstream_error", "upstream_conflict", logging.WARNING, "neutral", True),
    Kind.REJECTED: Spec(400, _INVALID, None, logging.INFO),
    Kind.CONTEXT_TOO_LONG: Spec(400, _INVALID, "context_length_exceeded", logging.INFO),
    Kind.CONTENT_FILTERED: Spec(400, _INVALID, "content_filter", logging.INFO),
    Kind.UPSTREAM_MODEL_MISSING: Spec(502, "upstream_error", "upstream_model_missing", logging.ERROR, "neutral", True),
    Kind.LEDGER_DOWN: Spec(503, "server_error", "ledger_unavailable", logging.ERROR),
    Kind.SHED: Spec(503, "server_error", "overloaded", logging.WARNING),
    Kind.DRAINING: Spec(503, "server_error", "draining", logging.INFO),
    Kind.INTERNAL: Spec(500, "server_error", "internal_error", logging.ERROR),
}


class TiergateError(Exception):
    """The base of everything that this project raises on purpose."""


class GatewayError(TiergateError):
    """A failure of a request, with what its caller may know of it.

    `retry_after_s` becomes the Retry-After header; `retryable=False` becomes `x-should-retry: false`, by which OpenAI's
    SDKs are told not to try again; `details` are extra fields of the error object.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        retryable: bool | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.spec = SPECS[kind]
        self.message = message
        self.param = param
        self.code = code if code is not None else self.spec.code
        self.status = status if status is not None else self.spec.status
        self.retry_after_s = retry_after_s
        self.retryable = retryable
        self.details = details or {}

    def envelope(self, request_id: str) -> dict[str, Any]:
        """OpenAI's error object."""
        error = {"message": self.message, "type": self.spec.type, "param": self.param, "code": self.code}
        return {"error": {**error, "request_id": request_id, **self.details}}


class CallerError(GatewayError):
    """The app can mend it."""


class RoutingError(GatewayError):
    """No candidate can, or none can now."""


class NoRoom(RoutingError):
    """A deployment is at a limit that the catalog sets for it, so nothing was sent to it.

    `rest_s` is how long nothing at all will fit, 0 where that is not known or a smaller request may fit now.
    """

    def __init__(self, kind: Kind, message: str, *, rest_s: float, **rest: Any) -> None:
        super().__init__(kind, message, **rest)
        self.rest_s = rest_s


class GatewayUnavailable(GatewayError):
    """We cannot serve this now: ledger down, shedding, draining."""


_OF_GATEWAYS = (502, 503, 504)


class UpstreamError(GatewayError):
    """A provider refused, failed or was not reached; what an attempt ends with when it ends badly.

    `billed` is True where the provider may have charged for the attempt (it answered 200 and broke later), False where
    it provably did not (never reached, or a status that no provider bills).
    """

    def __init__(
        self, kind: Kind, message: str, *, upstream_status: int | None = None, billed: bool = False, **rest: Any
    ) -> None:
        super().__init__(kind, message, **rest)
        self.upstream_status = upstream_status
        self.billed = billed

    def hide(self, secret: str) -> None:
        """Blanks a credential wherever the provider has put it into its words."""
        self.message = self.message.replace(secret, "***")
        self.param = self.param and self.param.replace(secret, "***")
        self.code = self.code and self.code.replace(secret, "***")

    @property
    def verdict(self) -> Verdict:
        return self.spec.verdict

    @property
    def try_next(self) -> bool:
        return self.spec.try_next

    @property
    def of_gateway(self) -> bool:
        """Whether it did not get as far as the model's own server, as far as can be told from here."""
        return self.upstream_status in _OF_GATEWAYS or self.kind in (Kind.UNREACHABLE, Kind.TIMED_OUT)


class CatalogError(TiergateError):
    """A catalog document that cannot take effect; the old one keeps serving."""


def bad_request(message: str, param: str | None = None, code: str | None = None) -> CallerError:
    return CallerError(Kind.BAD_REQUEST, message, param=param, code=code)


_KEY_LIKE = re.compile(
    r"(?i)\b(bearer\s+)[^\s\"']+"
    r"|\b(?:(?:sk|pk|rk|gsk|xai|key|gw1|r8|hf|fw|csk)[-_]|AIza)[-_A-Za-z0-9*.]{6,}"
    r"|(?<=key provided: )\S+"
)


def masked(text: str, limit: int = 600) -> str:
    """A provider's words, cut short, without control characters and with all that looks like a credential blanked."""
    clean = "".join(c if c.isprintable() or c == "\n" else " " for c in text[: limit * 4])
    clean = _KEY_LIKE.sub(lambda m: (m.group(1) or "") + "***", clean)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
