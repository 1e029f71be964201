"""What refusals mean, and how long providers ask to wait."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.failures import Problem, duration_s, failure, read_problem, retry_after_s, seconds_until
from gateway.errors import Kind

DATE = "Sat, 21 Nov 2026 00:00:00 GMT"


def openai(message: str = "No.", **members: Any) -> dict[str, Any]:
    return {"error": {"message": message, **members}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, openai(code="unsupported_value", param="temperature"), Kind.REJECTED),
        (413, openai(), Kind.REJECTED),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "Extra inputs are not permitted"}]}, Kind.REJECTED),
        (400, openai(code="context_length_exceeded"), Kind.CONTEXT_TOO_LONG),
        (400, openai("This model's maximum context length is 65536 tokens.", code="x"), Kind.CONTEXT_TOO_LONG),
        (400, openai(type="exceed_context_size_error", code=400), Kind.CONTEXT_TOO_LONG),
        (400, {"error_type": "TOO_MANY_TOKENS", "message": "too many"}, Kind.CONTEXT_TOO_LONG),
        (413, openai(code="rate_limit_exceeded"), Kind.CONTEXT_TOO_LONG),
        (400, openai(code="content_filter"), Kind.CONTENT_FILTERED),
        (400, openai(innererror={"code": "ResponsibleAIPolicyViolation"}), Kind.CONTENT_FILTERED),
        (403, openai(code=403, metadata={"flagged_input": "…", "reasons": ["x"]}), Kind.CONTENT_FILTERED),
        (401, openai(code="invalid_api_key"), Kind.OUR_KEY_REFUSED),
        (403, {"detail": "Forbidden"}, Kind.OUR_KEY_REFUSED),
        (
            400,
            {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: x"},
            Kind.OUR_KEY_REFUSED,
        ),
        (400, openai(status="INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}]), Kind.OUR_KEY_REFUSED),
        (402, openai("Insufficient Balance"), Kind.PROVIDER_QUOTA),
        (429, openai(code="insufficient_quota", type="insufficient_quota"), Kind.PROVIDER_QUOTA),
        (429, openai(type="tokens"), Kind.RATE_LIMITED),
        (404, {"error": "model 'x' not found"}, Kind.UPSTREAM_MODEL_MISSING),
        (400, openai(code="model_decommissioned"), Kind.UPSTREAM_MODEL_MISSING),
        (408, {}, Kind.TIMED_OUT),
        (409, {}, Kind.CONFLICT),
        (498, openai(code="capacity_exceeded"), Kind.OVERLOADED),
        (500, openai(type="invalid_api_key"), Kind.BROKEN),
        (502, openai(code="rate_limit_exceeded"), Kind.BROKEN),
        (503, {}, Kind.OVERLOADED),
        (504, {}, Kind.TIMED_OUT),
        (529, openai(type="overloaded_error"), Kind.OVERLOADED),
        (302, {}, Kind.BROKEN),
    ],
)
def test_refusals_are_told_apart(status: int, body: Any, kind: Kind) -> None:
    """Status, code and type decide the kind, wherever a provider puts them."""
    assert failure(status, {}, read_problem(json.dumps(body).encode())).kind is kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (openai(code=429), Kind.RATE_LIMITED),
        (openai(code="502"), Kind.BROKEN),
        (openai(type="overloaded_error"), Kind.OVERLOADED),
        (openai(), Kind.BROKEN),
        ({}, Kind.BROKEN),
    ],
)
def test_error_within_an_answer_counts_as_billed(body: Any, kind: Kind) -> None:
    """Under status 200 the code speaks for the status, and the provider may have charged."""
    error = failure(200, {}, read_problem(body))
    assert error.kind is kind
    assert error.billed


@pytest.mark.parametrize(
    ("status", "billed"), [(400, False), (429, False), (503, False), (529, False), (500, True), (504, True)]
)
def test_only_statuses_that_nobody_bills_are_unbilled(status: int, billed: bool) -> None:
    """A failure after the provider may have worked is posted as an estimate, never as nothing."""
    assert failure(status, {}, Problem()).billed is billed


def test_rejection_keeps_what_helps_its_caller() -> None:
    """Status, param and code of a request that the caller can mend are kept; the message is the provider's, masked."""
    body = openai("Unsupported parameter, key sk-abcdef123456 given.", code="unsupported_parameter", param="max_tokens")
    error = failure(422, {}, read_problem(body))
    assert (error.status, error.param, error.code) == (422, "max_tokens", "unsupported_parameter")
    assert error.message == "Unsupported parameter, key *** given."


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_providers_words_stay_inside_where_the_caller_can_do_nothing(status: int) -> None:
    """What a provider says of our key, our quota or itself never reaches a caller."""
    error = failure(status, {}, read_problem(openai("Incorrect API key provided: sk-live-secret")))
    assert "secret" not in json.dumps(error.envelope("req_1"))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"7", b'"x"', b"null", b"\xff", b"[" * 100_000, b'{"error": null}']
)
def test_unreadable_error_bodies_are_judged_by_status_alone(body: bytes) -> None:
    """No body can break the judging."""
    assert failure(503, {}, read_problem(body)).kind is Kind.OVERLOADED


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1400", "retry-after": "2"}, 1.4),
        ({"retry-after-ms": "0", "retry-after": "1"}, 1.0),
        ({"retry-after": "Sat, 21 Nov 2026 00:00:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Fri, 20 Nov 2026 00:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 00:00:30 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, None),
        ({}, None),
    ],
)
def test_waiting_time_is_read_from_headers(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds and dates count; junk counts as nothing said."""
    assert retry_after_s(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("34s", 34.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("", None),
        ("34", None),
        (34, None),
    ],
)
def test_durations_are_read(text: object, seconds: float | None) -> None:
    """Google's and OpenAI's way of writing durations."""
    assert duration_s(text) == seconds


def test_retry_info_of_google_is_found() -> None:
    """A delay among the error's details is used where no header tells one."""
    detail = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"}
    assert failure(429, {}, read_problem(openai(details=[detail]))).retry_after_s == 34.0


def test_reset_moment_counts_from_the_answers_own_date() -> None:
    """A moment in epoch milliseconds needs the provider's clock, since there is no other here."""
    assert seconds_until("1795219230000", {"date": DATE}) == 30.0
    assert seconds_until("1795219230000", {}) is None
    assert seconds_until([], {"date": DATE}) is None
