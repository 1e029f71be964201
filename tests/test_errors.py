"""The table of errors, the envelope, and what is blanked in a provider's words."""

from __future__ import annotations

import logging

import pytest
from conformance import Conformance

from gateway.errors import SPECS, CallerError, GatewayError, Kind, UpstreamError, bad_request, masked

OPENAI_TYPES = {
    *("invalid_request_error", "permission_error", "insufficient_quota", "rate_limit_error"),
    *("server_error", "timeout_error", "api_error", "upstream_error"),
}


def test_every_kind_has_a_row_and_no_row_is_left_over() -> None:
    """A kind without a row would fail where an error is made."""
    assert set(SPECS) == set(Kind)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_row_is_sound(kind: Kind) -> None:
    """Status and type are what OpenAI's SDKs understand; only a failure that another may not share goes on."""
    spec = SPECS[kind]
    assert 400 <= spec.status < 600
    assert spec.type in OPENAI_TYPES
    assert (spec.type == "invalid_request_error") <= (spec.status < 500)
    assert spec.verdict != "success"
    assert (spec.verdict == "failure") <= spec.try_next
    assert (spec.status >= 500) <= (spec.level >= logging.WARNING or kind is Kind.DRAINING)


@pytest.mark.parametrize("kind", list(Kind))
def test_an_envelope_is_openais_error_object(kind: Kind, conforms: Conformance) -> None:
    """`error` with message, type, param and code, and our request id."""
    body = GatewayError(kind, "It failed.", param="messages").envelope("req_1")
    assert set(body) == {"error"}
    assert body["error"]["message"] == "It failed."
    assert body["error"]["type"] == SPECS[kind].type
    assert body["error"]["param"] == "messages"
    assert body["error"]["code"] == SPECS[kind].code
    assert body["error"]["request_id"] == "req_1"
    conforms.error(body)


def test_details_join_the_error_object() -> None:
    """What helps the caller stands beside OpenAI's own fields."""
    error = GatewayError(Kind.BROKEN, "All failed.", details={"attempts": [{"deployment": "a/b"}]})
    assert error.envelope("req_1")["error"]["attempts"] == [{"deployment": "a/b"}]


def test_an_error_may_say_otherwise_than_its_row() -> None:
    """A provider's own status and code replace the row's."""
    error = UpstreamError(Kind.REJECTED, "No.", status=422, code="too_hot", upstream_status=422)
    assert (error.status, error.code, error.verdict, error.try_next) == (422, "too_hot", "neutral", False)
    assert (SPECS[Kind.REJECTED].status, SPECS[Kind.REJECTED].code) == (400, None)


def test_bad_request_names_its_parameter() -> None:
    """The shorthand gives a CallerError of status 400."""
    error = bad_request("Too hot.", "temperature", "out_of_range")
    assert isinstance(error, CallerError)
    assert (error.kind, error.status, error.param, error.code) == (
        Kind.BAD_REQUEST,
        400,
        "temperature",
        "out_of_range",
    )


CREDENTIALS = (
    "sk-proj-AbCdEf1234567890",
    "sk-ant-api03-abcdefgh_ijkl-mnop",
    "sk-or-v1-0123456789abcdef",
    "gsk_abcdefghijklmnop",
    "xai-ABCDEFGHIJKLMNOP",
    "AIzaSyA-1234567890abcdefghijk",
    "gw1_main_k1_abcdefghijklmnop",
    "hf_abcdefghijklmnop",
    "csk-abcdefghijklmnop",
    "sk-abc***********xyz",
)


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize(
    "sentence", ["Incorrect API key provided: {}. See the docs.", '{{"key": "{}"}}', "token={} was refused", "({})"]
)
def test_credentials_are_blanked(credential: str, sentence: str) -> None:
    """Whatever stands around it, none of it stays but the words of the sentence."""
    clean = masked(sentence.format(credential))
    assert "***" in clean
    for piece in (credential, credential[4:12], credential[-6:]):
        assert piece not in clean


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_bearer_tokens_are_blanked(scheme: str) -> None:
    """A token of any form after the scheme's name goes; the scheme stays."""
    assert masked(f"header was '{scheme} eyJhbGciOi.abc.def'") == f"header was '{scheme} ***'"


@pytest.mark.parametrize(
    "text", ["The risk-free way", "keyboards", "desk-1", "the key is wrong", "skip_special_tokens", "skeleton keys"]
)
def test_words_are_left_alone(text: str) -> None:
    """Plain words that only look a little like keys stay readable."""
    assert masked(text) == text


def test_control_characters_go_and_length_is_bounded() -> None:
    """A provider's words cannot break a log line or fill an answer."""
    assert masked("a\x00b\x1b[31mc\r\nd") == "a b [31mc \nd"
    cut = masked("x " * 5000, limit=100)
    assert len(cut) == 100
    assert cut.endswith("…")
