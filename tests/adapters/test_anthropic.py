"""Anthropic's answers as callers get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters import ADAPTERS
from adapters.base import ChatStream
from gateway.chat import Chat, parse_chat
from gateway.errors import Kind, UpstreamError
from gateway.types import Provider, Secret, Usage
from tests.adapters.wire_harness import STAMP, replayed

ADAPTER = ADAPTERS["anthropic"]
FIXTURES = Path(__file__).parent / "fixtures" / "anthropic"
USAGE = Usage(input=12, cache_read=100, cache_write_5m=10, cache_write_1h=20, output=17, reasoning=5)


def fixture(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return loaded


def sse(events: list[dict[str, Any]]) -> bytes:
    return "".join(f"event: {e['type']}\ndata: {json.dumps(e, ensure_ascii=False)}\n\n" for e in events).encode()


def asked(**fields: Any) -> Chat:
    return parse_chat(json.dumps({"model": "fast", "messages": [{"role": "user", "content": "Hi"}], **fields}).encode())


STREAMED = asked(stream=True, stream_options={"include_usage": True})


def completed(body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(ADAPTER.completion(json.dumps(body).encode(), asked(), STAMP).body)
    return made


def message(content: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    return {"type": "message", "model": "c", "content": content, "stop_reason": "end_turn", "usage": usage, **fields}


def streamed(events: list[dict[str, Any]]) -> tuple[ChatStream, list[dict[str, Any]]]:
    stream = ADAPTER.stream(STREAMED, STAMP)
    return stream, chunks_of(replayed(stream, [sse(events)]))


def chunks_of(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(event[6:]) for event in out.split(b"\n\n") if event and event != b"data: [DONE]"]


def gathered(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The message that a client puts together from a stream's deltas."""
    whole: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for delta in (choice["delta"] for chunk in chunks for choice in chunk["choices"]):
        for name, value in delta.items():
            if name == "tool_calls":
                for call in value:
                    if call["index"] == len(whole[name]):
                        whole[name].append({"id": call["id"], **call["function"]})
                    else:
                        whole[name][call["index"]]["arguments"] += call["function"]["arguments"]
            elif isinstance(value, list):
                whole.setdefault(name, []).extend(value)
            elif name != "role":
                whole[name] += value
    return whole


def test_message_becomes_a_completion() -> None:
    """Text, model, usage in OpenAI's counting, and the tier charged by."""
    made = ADAPTER.completion(json.dumps(fixture("plain")["body"]).encode(), asked(), STAMP)
    assert (made.usage, made.model, made.service_tier) == (USAGE, "claude-example-1", "default")
    assert json.loads(made.body) == {
        "id": STAMP.id,
        "object": "chat.completion",
        "created": STAMP.created,
        "model": "claude-example-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": 'Grüße, Welt ☀ — "zitiert".', "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "service_tier": "default",
        "usage": {
            "prompt_tokens": 142,
            "completion_tokens": 17,
            "total_tokens": 159,
            "prompt_tokens_details": {"cached_tokens": 100, "cache_write_tokens": 30},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }


def test_calls_and_thinking_are_told_apart() -> None:
    """Tool calls, reasoning text and what must come back stand in their own fields."""
    choice = completed(fixture("tools")["body"])["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": "Looking.",
        "refusal": None,
        "reasoning_content": "Both are needed.",
        "reasoning_details": [
            {
                "type": "reasoning.text",
                "text": "Both are needed.",
                "signature": "c2lnbmVk",
                "format": "anthropic-claude-v1",
                "index": 0,
            },
            {"type": "reasoning.encrypted", "data": "aGlkZGVu", "format": "anthropic-claude-v1", "index": 1},
        ],
        "tool_calls": [
            {
                "id": "toolu_01",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "K\\u00f6ln"}'},
            },
            {"id": "toolu_02", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
        ],
    }


@pytest.mark.parametrize("names", [("plain", "stream"), ("tools", "tools_stream")])
def test_streamed_and_buffered_answers_agree(names: tuple[str, str]) -> None:
    """The same answer costs and says the same either way."""
    buffered = ADAPTER.completion(json.dumps(fixture(names[0])["body"]).encode(), asked(), STAMP)
    stream, chunks = streamed(fixture(names[1])["events"])
    assert stream.failure is None
    assert (stream.usage, stream.model, stream.service_tier) == (buffered.usage, buffered.model, buffered.service_tier)
    body = json.loads(buffered.body)
    whole, told = gathered(chunks), body["choices"][0]["message"]
    assert whole["content"] == told["content"]
    assert whole["reasoning_content"] == told.get("reasoning_content", "")
    assert whole.get("reasoning_details") == told.get("reasoning_details")
    calls = [(call["id"], call["name"], json.loads(call["arguments"])) for call in whole["tool_calls"]]
    assert calls == [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in told.get("tool_calls", [])
    ]
    assert chunks[-1]["usage"] == body["usage"]
    assert chunks[-2]["choices"][0]["finish_reason"] == body["choices"][0]["finish_reason"]


@pytest.mark.parametrize("name", ["stream", "tools_stream"])
def test_stream_is_the_same_wherever_it_is_cut(name: str) -> None:
    """Every boundary, inside characters and line ends too."""
    data = sse(fixture(name)["events"])
    whole = replayed(ADAPTER.stream(STREAMED, STAMP), [data])
    for at in range(1, len(data)):
        assert replayed(ADAPTER.stream(STREAMED, STAMP), [data[:at], data[at:]]) == whole
    assert whole.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("name", ["stream", "tools_stream"])
def test_stream_that_ends_early_fails(name: str) -> None:
    """Whatever is missing before the end of message_stop, no caller takes it for an answer."""
    data = sse(fixture(name)["events"])
    for at in range(len(data) - len(b"}\n\n")):
        stream = ADAPTER.stream(STREAMED, STAMP)
        out = replayed(stream, [data[:at]])
        assert stream.failure is not None
        assert stream.failure.kind is Kind.BROKEN
        assert b"[DONE]" not in out
        assert b'"usage"' not in out


def test_usage_is_told_as_soon_as_the_stream_tells_it() -> None:
    """Input is known from message_start, so a stream cut later can be charged for it."""
    stream = ADAPTER.stream(STREAMED, STAMP)
    stream.feed(sse(fixture("stream")["events"][:1]))
    assert stream.usage == Usage(input=12, cache_read=100, cache_write_5m=10, cache_write_1h=20, output=1)
    assert not stream.started


def test_pings_are_no_progress() -> None:
    """What the message says of itself and of blocks that callers do not see counts as going on; pings do not."""
    stream = ADAPTER.stream(STREAMED, STAMP)
    start = {"type": "message_start", "message": message([])}
    searching = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
    begun = {"type": "content_block_start", "index": 0, "content_block": searching}
    told = []
    for event in ({"type": "ping"}, start, {"type": "ping"}, begun, {"type": "ping"}):
        assert stream.feed(sse([event])) == b""
        told.append(stream.inner_events)
    assert told == [0, 1, 1, 2, 2]
    assert not stream.started


def test_error_before_any_text_leaves_the_candidate_free() -> None:
    """Nothing was begun: another candidate may be tried, and nothing is owed."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    stream, chunks = streamed([overloaded])
    assert chunks == []
    assert not stream.started
    assert stream.failure is not None
    assert (stream.failure.kind, stream.failure.billed) == (Kind.OVERLOADED, False)


def test_error_amid_text_ends_the_stream_as_failed() -> None:
    """What came before stays with the caller; the attempt may be charged for."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    stream, chunks = streamed([*fixture("stream")["events"][:4], overloaded, *fixture("stream")["events"][4:]])
    assert gathered(chunks)["content"] == "Grüße, Welt ☀"
    assert stream.failure is not None
    assert (stream.failure.kind, stream.failure.billed) == (Kind.OVERLOADED, True)


def test_nothing_counts_after_the_end_of_the_message() -> None:
    """A second message in the same body changes neither text nor usage."""
    events = fixture("stream")["events"]
    stream, chunks = streamed([*events, *fixture("tools_stream")["events"]])
    assert stream.usage == USAGE
    assert gathered(chunks)["tool_calls"] == []


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("tool_use", "stop"),  # none of the caller's tools was called
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_stop_reasons_are_said_in_openais_words(stop_reason: str | None, finish: str) -> None:
    """Buffered and streamed alike; an empty answer is an answer."""
    made = completed(message([], stop_reason=stop_reason))["choices"][0]
    assert (made["finish_reason"], made["message"]["content"]) == (finish, "")
    ended = {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 1}}
    _, chunks = streamed([fixture("stream")["events"][0], ended, {"type": "message_stop"}])
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [finish]


def test_refusal_is_explained() -> None:
    """The provider's explanation is the refusal."""
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    made = completed(message([], stop_reason="refusal", stop_details=details))["choices"][0]
    assert made["message"] == {"role": "assistant", "content": None, "refusal": "Not this."}
    ended = {"type": "message_delta", "delta": {"stop_reason": "refusal", "stop_details": details}, "usage": {}}
    _, chunks = streamed([fixture("stream")["events"][0], ended, {"type": "message_stop"}])
    assert [choice["delta"] for chunk in chunks for choice in chunk["choices"]] == [
        {"role": "assistant", "refusal": "Not this."},
        {},
    ]


def test_server_tools_are_left_out() -> None:
    """Their calls are not the caller's to answer."""
    content = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "web_search_result"}]},
        {"type": "text", "text": "Found."},
    ]
    assert completed(message(content))["choices"][0]["message"]["content"] == "Found."
    start = [{"type": "content_block_start", "index": i, "content_block": block} for i, block in enumerate(content)]
    part = {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"q"'}}
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}
    events = [fixture("stream")["events"][0], start[0], part, *start[1:], ended, {"type": "message_stop"}]
    _, chunks = streamed(events)
    assert gathered(chunks) == {"content": "Found.", "reasoning_content": "", "tool_calls": []}


def test_citations_stand_at_their_place_in_the_text() -> None:
    """Web pages become OpenAI's annotations, documents an extension; buffered and streamed alike."""
    web = {"type": "web_search_result_location", "url": "https://example.com", "title": "E", "cited_text": "c"}
    page = {"type": "page_location", "document_index": 0, "cited_text": "c", "start_page_number": 1}
    content = [{"type": "text", "text": "ab"}, {"type": "text", "text": "cde", "citations": [web, page]}]
    link = {"url": "https://example.com", "title": "E", "start_index": 2, "end_index": 5}
    annotations = [{"type": "url_citation", "url_citation": link}]
    citations = [{**page, "start_index": 2, "end_index": 5}]
    made = completed(message(content))["choices"][0]["message"]
    assert (made["content"], made["annotations"], made["citations"]) == ("abcde", annotations, citations)
    events = [fixture("stream")["events"][0]]
    for index, block in enumerate(content):
        delta = {"type": "text_delta", "text": block["text"]}
        events.append({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": "citations_delta", "citation": cited}}
            for cited in block.get("citations", [])
        ]
        events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    _, chunks = streamed([*events, {"type": "message_stop"}])
    whole = gathered(chunks)
    assert (whole["content"], whole["annotations"], whole["citations"]) == ("abcde", annotations, citations)


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        ({"input_tokens": 5, "output_tokens": 2}, Usage(input=5, output=2)),
        ({"input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 2}, Usage(5, 0, 7, 0, 2)),
        (
            {
                "input_tokens": 5,
                "cache_creation_input_tokens": 9,
                "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 6},
                "output_tokens": 2,
            },
            Usage(5, 0, 3, 6, 2),
        ),
        ({"input_tokens": -5, "output_tokens": "2", "cache_creation": [], "output_tokens_details": 3}, Usage()),
    ],
)
def test_usage_is_read_into_disjoint_buckets(raw: dict[str, Any], usage: Usage) -> None:
    """Cached writes are split by their price; what is no count counts nothing."""
    assert ADAPTER.usage(raw) == usage


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"content": "x"}', b'{"type":"message","content":[{}]}'])
def test_body_that_is_no_message_is_a_failure(body: bytes) -> None:
    """Such an attempt failed and may have been charged for."""
    with pytest.raises(UpstreamError) as caught:
        ADAPTER.completion(body, asked(), STAMP)
    assert (caught.value.kind, caught.value.billed) == (Kind.BROKEN, True)


def test_stream_event_that_cannot_be_read_is_a_failure() -> None:
    """Nothing after it is believed."""
    stream = ADAPTER.stream(STREAMED, STAMP)
    out = replayed(stream, [b"data: {broken\n\n", sse(fixture("stream")["events"])])
    assert out == b""
    assert stream.failure is not None


@pytest.mark.parametrize(
    ("status", "type_", "message", "kind"),
    [
        (400, "invalid_request_error", "messages.0: bad", Kind.REJECTED),
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", Kind.CONTEXT_TOO_LONG),
        (400, "invalid_request_error", "Your credit balance is too low to access", Kind.PROVIDER_QUOTA),
        (401, "authentication_error", "invalid x-api-key", Kind.OUR_KEY_REFUSED),
        (402, "billing_error", "pay", Kind.PROVIDER_QUOTA),
        (403, "permission_error", "no", Kind.OUR_KEY_REFUSED),
        (404, "not_found_error", "model: x", Kind.UPSTREAM_MODEL_MISSING),
        (413, "request_too_large", "too large", Kind.REJECTED),
        (429, "rate_limit_error", "slow", Kind.RATE_LIMITED),
        (500, "api_error", "oops", Kind.BROKEN),
        (529, "overloaded_error", "Overloaded", Kind.OVERLOADED),
    ],
)
def test_errors_are_judged(status: int, type_: str, message: str, kind: Kind) -> None:
    """By status and type; by words only where Anthropic gives nothing else."""
    body = json.dumps({"type": "error", "error": {"type": type_, "message": message}}).encode()
    assert ADAPTER.error(status, {}, body).kind is kind


def test_rate_limit_says_when_to_come_back() -> None:
    """The wait is Anthropic's Retry-After."""
    recorded = fixture("error_429")
    error = ADAPTER.error(recorded["status"], recorded["headers"], json.dumps(recorded["body"]).encode())
    assert (error.kind, error.retry_after_s, error.billed) == (Kind.RATE_LIMITED, 7.0, False)


def test_endpoint_carries_key_and_version() -> None:
    """Anthropic's own headers, and the provider's options."""
    options = {"anthropic_beta": "context-1m-2025-08-07"}
    provider = Provider("a", "anthropic", "https://api.anthropic.com/v1", Secret("k"), options=options)
    endpoint = ADAPTER.endpoint(provider, "claude", stream=True)
    assert (endpoint.method, endpoint.origin.host, endpoint.target) == ("POST", "api.anthropic.com", "/v1/messages")
    assert dict(endpoint.headers) == {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": "k",
        "anthropic-beta": "context-1m-2025-08-07",
    }
    listing = ADAPTER.models_endpoint(provider)
    assert listing is not None
    assert (listing.method, listing.target) == ("GET", "/v1/models?limit=1000")


@pytest.mark.parametrize("base_url", ["ftp://x/v1", "https:///v1", "https://u:p@x/v1", "https://x/v1?a=b", "x/v1"])
def test_unusable_base_urls_are_named(base_url: str) -> None:
    """The catalog's error says what is wrong."""
    with pytest.raises(ValueError, match="base_url"):
        ADAPTER.endpoint(Provider("a", "anthropic", base_url), "claude", stream=False)
