"""Whatever a translated provider answers, the adapter ends in an answer or in an UpstreamError, in nothing else."""

from __future__ import annotations

import json
import struct
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import ADAPTERS
from adapters.base import Stamp
from gateway.chat import parse_chat
from gateway.errors import UpstreamError
from gateway.ledger.cost import is_plausible
from tests.adapters.wire_harness import STAMP, replayed

TRANSLATED = ["anthropic", "bedrock", "gemini"]
CHAT = parse_chat(
    b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}'
)
NAMES = [
    *(
        "type",
        "index",
        "delta",
        "message",
        "content",
        "content_block",
        "text",
        "thinking",
        "signature",
        "data",
        "usage",
    ),
    *("stop_reason", "input", "id", "name", "partial_json", "citation", "citations", "url", "input_tokens", "error"),
    *("candidates", "parts", "finishReason", "functionCall", "args", "partialArgs", "jsonPath", "willContinue"),
    *("thoughtSignature", "inlineData", "usageMetadata", "promptTokenCount", "promptFeedback", "logprobsResult"),
    *("output", "stopReason", "toolUse", "reasoningContent", "contentBlockIndex", "start", "inputTokens"),
]
WORDS = [
    *("message", "message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta"),
    *("content_block_stop", "text", "tool_use", "thinking", "error", "ping", "STOP", "tool_use", "$.a[0].b", "$"),
]
EVENTS = ["messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.sampled_from(WORDS) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)


def framed(adapter: str, event: str, value: object) -> bytes:
    """A value as this provider's stream would frame it."""
    data = json.dumps(value).encode()
    if adapter != "bedrock":
        return b"data: " + data + b"\n\n"
    headers = b"\x0b:event-type\x07" + struct.pack(">H", len(event)) + event.encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return message + struct.pack(">I", zlib.crc32(message))


@pytest.mark.parametrize("adapter", TRANSLATED)
@settings(max_examples=150, deadline=None)
@given(value=VALUES)
def test_any_body_is_an_answer_or_a_failure(adapter: str, value: Any) -> None:
    """Status 200 with any JSON; and the same JSON as an error's body."""
    body = json.dumps(value).encode()
    with suppress(UpstreamError):
        assert json.loads(ADAPTERS[adapter].completion(body, CHAT, STAMP).body)["choices"]
    assert ADAPTERS[adapter].error(400, {}, body).status >= 400
    with suppress(UpstreamError):
        assert isinstance(list(ADAPTERS[adapter].models(body)), list)


@pytest.mark.parametrize("adapter", TRANSLATED)
@settings(max_examples=150, deadline=None)
@given(values=st.lists(st.tuples(st.sampled_from(EVENTS), VALUES), max_size=6), cut=st.integers(0, 200))
def test_any_stream_ends_done_or_failed(adapter: str, values: list[tuple[str, Any]], cut: int) -> None:
    """[DONE] stands at the end of whole answers and nowhere else."""
    data = b"".join(framed(adapter, event, value) for event, value in values)
    stream = ADAPTERS[adapter].stream(CHAT, STAMP)
    out = replayed(stream, [data[:cut], data[cut:]])
    assert out.endswith(b"data: [DONE]\n\n") == (stream.failure is None)


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
@pytest.mark.parametrize(
    "key", [b"id", b"type", b"error", b"text", b"choices", b"output", b"candidates", b"models", b"data"]
)
def test_a_string_that_is_no_text_is_a_failure(adapter: str, key: bytes) -> None:
    """Bytes that are not UTF-8 within JSON that is otherwise right."""
    body = b'{"%b":"\xff","model":"\xff"}' % key
    with suppress(UpstreamError):
        ADAPTERS[adapter].completion(body, CHAT, STAMP)
    assert ADAPTERS[adapter].error(500, {}, body).status >= 400
    with suppress(UpstreamError):
        ADAPTERS[adapter].models(body)
    stream = ADAPTERS[adapter].stream(CHAT, STAMP)
    replayed(stream, [b"data: %b\n\n" % body, body + b"\n"])
    assert stream.failure is not None


_CALLS = {
    "anthropic": (
        {"type": "message", "content": [{"type": "tool_use", "name": "f", "input": {}}]},
        [
            ("", {"type": "message_start", "message": {"type": "message"}}),
            ("", {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": "f"}}),
        ],
    ),
    "bedrock": (
        {"output": {"message": {"content": [{"toolUse": {"name": "f"}}]}}},
        [("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"name": "f"}}})],
    ),
}


@pytest.mark.parametrize("adapter", _CALLS)
def test_calls_without_ids_get_ids_that_differ_between_answers(adapter: str) -> None:
    """A conversation holds the calls of many answers; streamed or not, a call has one id."""
    whole, events = _CALLS[adapter]
    ids = set()
    for stamp in (STAMP, Stamp("req_another", 1)):
        answer = json.loads(ADAPTERS[adapter].completion(json.dumps(whole).encode(), CHAT, stamp).body)
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        out = ADAPTERS[adapter].stream(CHAT, stamp).feed(b"".join(framed(adapter, *event) for event in events))
        assert json.dumps(call["id"]).encode() in out
        ids.add(call["id"])
    assert len(ids) == 2


ABSURD: dict[str, dict[str, Any]] = {
    "anthropic": {"input_tokens": 10**30, "output_tokens": 10**30, "cache_creation_input_tokens": 10**30},
    "bedrock": {"inputTokens": 10**30, "outputTokens": 10**30, "cacheWriteInputTokens": 10**30},
    "gemini": {"promptTokenCount": 10**30, "toolUsePromptTokenCount": 10**30, "thoughtsTokenCount": 10**30},
}


@pytest.mark.parametrize("adapter", TRANSLATED)
def test_absurd_counts_stay_numbers_that_can_be_sent_on(adapter: str) -> None:
    """They are cut to what 64 bits hold, however they are added up, and stay recognisable as no usage."""
    usage = ADAPTERS[adapter].usage(ABSURD[adapter])
    assert 10**12 <= usage.prompt_tokens + usage.completion_tokens < 2**63
    assert not is_plausible(usage)
