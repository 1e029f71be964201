"""Every provider of the OpenAI-like family against small answers in its own documented shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from adapters.events import openai_usage
from gateway.types import Usage
from tests.adapters.answering import STAMP, chat, chunks, cuts, fed, fixture, message_of, said, sse, streaming

FAMILY = ["openai", "azure", "openrouter", "mistral", "xai", "groq", "deepseek", "fireworks", "together", "cerebras"]
PROVIDERS = [*FAMILY, "ollama"]


def wanted(case: dict[str, Any]) -> tuple[dict[str, Any], Usage]:
    want = dict(case["want"])
    return want, Usage(**want.pop("usage"))


def stream_body(provider: str) -> bytes:
    events = fixture(provider, "stream")["events"]
    return b"".join(json.dumps(event).encode() + b"\n" for event in events) if provider == "ollama" else sse(*events)


@pytest.mark.parametrize("name", ["plain", "tools"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_buffered_answer_says_what_the_provider_said(provider: str, name: str) -> None:
    """Text, reasoning, calls, finish reason and usage of a buffered answer come out in OpenAI's form."""
    case = fixture(provider, name)
    want, usage = wanted(case)
    made = ADAPTERS[provider].completion(json.dumps(case["body"]).encode(), chat(), STAMP)
    assert message_of(made.body) == want
    assert made.usage == usage
    assert made.model == "example-1"
    assert {
        key: json.loads(made.body)["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")
    } == {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


@pytest.mark.parametrize("provider", PROVIDERS)
def test_stream_says_the_same_and_costs_the_same_however_it_is_cut(provider: str) -> None:
    """The streamed form of an answer has the same words and the same usage as the buffered one, at every cut."""
    want, usage = wanted(fixture(provider, "stream"))
    body = stream_body(provider)
    first = fed(ADAPTERS[provider].stream(streaming(), STAMP), [body])
    for pieces in cuts(body):
        stream = ADAPTERS[provider].stream(streaming(), STAMP)
        assert fed(stream, pieces) == first
        assert stream.usage == usage
    assert said(first) == want
    assert chunks(first)[-1]["usage"]["total_tokens"] == openai_usage(usage)["total_tokens"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_stream_keeps_the_order_that_clients_rely_on(provider: str) -> None:
    """One envelope, the role first and once, one finish reason, and usage only in a last chunk without choices."""
    *body, last = chunks(fed(ADAPTERS[provider].stream(streaming(), STAMP), [stream_body(provider)]))
    for key in ("id", "object", "created", "model"):
        assert {event[key] for event in body} == {last[key]}
        assert last[key]
    deltas = [event["choices"][0]["delta"] for event in body]
    assert [at for at, delta in enumerate(deltas) if "role" in delta] == [0]
    assert [event["choices"][0]["finish_reason"] for event in body if event["choices"][0]["finish_reason"]] == ["stop"]
    assert all(event["choices"] and not event.get("usage") for event in body)
    assert last["choices"] == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_usage_chunk_is_hidden_from_callers_who_did_not_ask(provider: str) -> None:
    """The usage that is asked for upstream is kept for the ledger, and the caller never sees it."""
    stream = ADAPTERS[provider].stream(streaming(include_usage=False), STAMP)
    events = chunks(fed(stream, [stream_body(provider)]))
    assert all(event["choices"] and not event.get("usage") for event in events)
    assert stream.usage is not None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_stream_that_stops_halfway_is_a_failure_and_has_no_end(provider: str) -> None:
    """A cut stream gives no `[DONE]` and no finish reason: what came is not passed off as a whole answer."""
    body = stream_body(provider)
    stream = ADAPTERS[provider].stream(streaming(), STAMP)
    out = stream.feed(body[: len(body) // 3])
    assert stream.end() == b""
    assert stream.failure is not None
    assert stream.failure.billed
    assert b"[DONE]" not in out


@pytest.mark.parametrize("provider", PROVIDERS)
def test_rate_limit_rests_the_deployment_for_as_long_as_told(provider: str) -> None:
    """A 429 is a neutral error that another candidate may answer, with the provider's own waiting time."""
    case = fixture(provider, "error_429")
    error = ADAPTERS[provider].error(case["status"], case["headers"], json.dumps(case["body"]).encode())
    assert error.kind == case["want"]["kind"]
    assert error.retry_after_s == case["want"]["retry_after_s"]
    assert (error.verdict, error.try_next, error.billed) == ("neutral", True, False)


@pytest.mark.parametrize("provider", ["openai", "fireworks"])
def test_answer_that_is_openais_passes_untouched(provider: str) -> None:
    """Bytes that OpenAI's clients expect as they are go on as the very same bytes."""
    body = json.dumps(fixture(provider, "plain")["body"]).encode()
    assert ADAPTERS[provider].completion(body, chat(), STAMP).body is body
