"""Buffered answers in OpenAI's dialect: untouched where they are right, put right where they are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters import ADAPTERS
from adapters.base import Completion
from adapters.events import with_usage
from gateway.errors import Kind, UpstreamError
from gateway.types import Usage
from tests.adapters.answering import STAMP, chat

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
LIKELY = {
    "index": 0,
    "message": {"role": "assistant", "content": "a"},
    "logprobs": {"content": [{"token": "a", "logprob": -1e-05, "bytes": [97], "top_logprobs": []}], "refusal": None},
    "finish_reason": "stop",
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def answer(message: dict[str, Any] | None = None, finish_reason: Any = "stop", **members: Any) -> dict[str, Any]:
    whole = {"role": "assistant", "content": "Hi"} if message is None else message
    choice = {"index": 0, "message": whole, "finish_reason": finish_reason}
    envelope = {"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "example-1"}
    return {**envelope, "choices": [choice], "usage": USAGE, **members}


def read(body: Any, **request: Any) -> Completion:
    return ADAPTERS["openai"].completion(json.dumps(body).encode(), chat(**request), STAMP)


def repaired(body: Any, **request: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(read(body, **request).body)
    return made


@pytest.mark.parametrize(
    "body",
    [
        answer(service_tier="priority", system_fingerprint=None, unknown={"kept": [1.50]}),
        answer({"role": "assistant", "content": None, "refusal": "No."}),
        answer({"role": "assistant", "content": None, "tool_calls": [CALL]}, "tool_calls"),
        answer({"role": "assistant", "content": "a", "reasoning_content": "b", "annotations": []}, "length"),
        answer(choices=[LIKELY]),
    ],
)
def test_right_answer_is_the_very_same_bytes(body: Any) -> None:
    """An answer that fits is not even copied."""
    raw = json.dumps(body, indent=1).encode()
    assert ADAPTERS["openai"].completion(raw, chat(), STAMP).body is raw


def test_forced_call_that_stops_is_right() -> None:
    """OpenAI finishes a forced call with `stop`; elsewhere that becomes `tool_calls`."""
    body = answer({"role": "assistant", "content": None, "tool_calls": [CALL]}, "stop")
    assert repaired(body, tool_choice="required")["choices"][0]["finish_reason"] == "stop"
    assert repaired(body)["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("message", "given"),
    [
        ({}, {"role": "assistant", "content": None}),
        ({"role": "model", "content": ["a", {"type": "text", "text": "b"}]}, {"role": "assistant", "content": "ab"}),
        ({"role": "assistant", "content": {"a": 1}}, {"role": "assistant", "content": '{"a":1}'}),
        (
            {"role": "assistant", "content": "a", "reasoning": "b", "reasoning_details": [{"type": "x"}]},
            {"role": "assistant", "content": "a", "reasoning_content": "b", "reasoning_details": [{"type": "x"}]},
        ),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "b"}]}, "a"]},
            {"role": "assistant", "content": "a", "reasoning_content": "b"},
        ),
        ({"role": "assistant", "content": "a", "tool_calls": []}, {"role": "assistant", "content": "a"}),
    ],
)
def test_messages_are_put_into_openais_form(message: dict[str, Any], given: dict[str, Any]) -> None:
    """Missing members, lists of parts, objects and other names of reasoning."""
    assert repaired(answer(message))["choices"][0]["message"] == given


def test_tool_calls_are_whole() -> None:
    """Missing and repeated ids, missing types, arguments as objects, null or empty, and stray indexes are put right."""
    calls = [
        {"index": 0, "function": {"name": "f", "arguments": {"x": 1}}},
        {"id": "same", "function": {"name": "g", "arguments": ""}},
        {"id": "same", "type": "function", "function": {"name": "h", "arguments": "null"}},
    ]
    (choice,) = repaired(answer({"role": "assistant", "tool_calls": calls}, None))["choices"]
    made = choice["message"]["tool_calls"]
    assert [call["function"]["arguments"] for call in made] == ['{"x":1}', "{}", "{}"]
    assert len({call["id"] for call in made}) == 3
    assert {call["type"] for call in made} == {"function"}
    assert not any("index" in call for call in made)
    assert choice["finish_reason"] == "tool_calls"


def test_parts_of_one_choice_are_joined() -> None:
    """Text and call that come as two choices of the same index are one choice."""
    text = {"index": 0, "message": {"role": "assistant", "content": "Let me see."}, "finish_reason": "tool_calls"}
    call = {"index": 0, "message": {"role": "assistant", "tool_calls": [CALL]}, "finish_reason": "tool_calls"}
    (choice,) = repaired(answer(choices=[text, call]))["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Let me see.", "tool_calls": [CALL]}
    assert choice["finish_reason"] == "tool_calls"


def test_choice_that_a_filter_emptied_keeps_its_place() -> None:
    """Azure leaves the message out of a filtered choice."""
    body = answer(choices=[{"index": 0, "finish_reason": "content_filter", "content_filter_results": {"hate": {}}}])
    (choice,) = repaired(body)["choices"]
    assert choice["message"] == {"role": "assistant", "content": None}
    assert choice["content_filter_results"] == {"hate": {}}


def test_envelope_is_filled_where_it_is_empty() -> None:
    """Ids, times and models that clients demand are never missing; what the provider charged by is reported."""
    body = answer(id="", object="chat.completion.done", created=None, model="", service_tier="on_demand")
    made = read(body)
    told = json.loads(made.body)
    assert (told["id"], told["object"], told["created"], told["model"]) == (
        STAMP.id,
        "chat.completion",
        STAMP.created,
        "fast",
    )
    assert "service_tier" not in told
    assert made.service_tier == "on_demand"
    assert made.model is None


def told(
    prompt: int, completion: int, total: int, *, reasoning: int = 0, audio: int = 0, cached: int = 0
) -> dict[str, Any]:
    """A usage object; details only where there are any."""
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    if audio or cached:
        usage["prompt_tokens_details"] = {"audio_tokens": audio, "cached_tokens": cached}
    if reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return usage


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (USAGE, Usage(input=3, output=2)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 2}}, Usage(input=1, cache_read=2, output=2)),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 9}}, Usage(cache_read=3, output=2)),
        ({**USAGE, "prompt_cache_hit_tokens": 2}, Usage(input=1, cache_read=2, output=2)),
        ({**USAGE, "prompt_tokens_details": {"cache_write_tokens": 1}}, Usage(input=2, cache_write_5m=1, output=2)),
        (
            {**USAGE, "total_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 4}},
            Usage(input=3, output=6, reasoning=4),
        ),
        ({**USAGE, "completion_tokens_details": {"reasoning_tokens": 1}}, Usage(input=3, output=2, reasoning=1)),
        (
            {
                **USAGE,
                "prompt_tokens_details": {"audio_tokens": 1},
                "completion_tokens_details": {"audio_tokens": 1},
            },
            Usage(input=2, audio_in=1, output=1, audio_out=1),
        ),
        ({"prompt_tokens": 3}, Usage(input=3)),
        # Each as it was recorded: Gemini behind Vercel's gateway; OpenRouter, cut amid reasoning; Mistral; Gemini.
        (told(40, 14, 54, reasoning=43), Usage(input=40, output=57, reasoning=43)),
        (told(43, 10, 53, reasoning=11), Usage(input=43, output=10, reasoning=10)),
        (told(11, 15, 401, audio=375, cached=9), Usage(input=2, cache_read=9, output=15, audio_in=375)),
        (told(35, 12, 109), Usage(input=35, output=74, reasoning=62)),
        # What a total larger than the sum does not prove.
        (told(35, 12, 109, cached=9), Usage(input=26, cache_read=9, output=12)),
        ({**told(35, 12, 109), "prompt_cache_hit_tokens": 9}, Usage(input=26, cache_read=9, output=12)),
        (told(35, 12, 109, reasoning=4), Usage(input=35, output=12, reasoning=4)),
        (told(35, 12, 47, audio=30), Usage(input=5, output=12, audio_in=30)),
        (told(35, 12, 57, reasoning=4, audio=6), Usage(input=35, output=16, reasoning=4, audio_in=6)),
        (told(35, 12, 40), Usage(input=35, output=12)),
        ({**USAGE, "prompt_tokens_details": "none"}, Usage(input=3, output=2)),
        ({**USAGE, "completion_tokens": 2.0}, Usage(input=3, output=2)),
        ({"prompt_tokens": None, "completion_tokens": None}, None),
        ({"prompt_tokens": -3}, None),
        ("many", None),
        (None, None),
    ],
)
def test_usage_is_disjoint_and_sums_up(told: Any, usage: Usage | None) -> None:
    """However it is told, the buckets do not overlap, and the caller's object agrees with them."""
    made = read(answer(usage=told))
    assert made.usage == usage
    shown = json.loads(made.body).get("usage")
    if usage is None:
        assert shown is None
    else:
        assert shown["prompt_tokens"] == usage.prompt_tokens
        assert shown["completion_tokens"] == usage.completion_tokens
        assert shown["total_tokens"] == shown["prompt_tokens"] + shown["completion_tokens"]
        assert (shown.get("prompt_tokens_details") or {}).get("cached_tokens", 0) == usage.cache_read


def test_estimate_can_be_put_where_usage_is_missing() -> None:
    """A caller sees the gateway's estimate where the provider told nothing."""
    made = read(answer(usage=None))
    assert json.loads(with_usage(made.body, Usage(input=4, output=1)))["usage"]["total_tokens"] == 5


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"error": {"message": "Slow down", "code": 429}}, Kind.RATE_LIMITED),
        ({"error": "model overloaded"}, Kind.BROKEN),
        (answer(choices=[{"index": 0, "error": {"message": "x", "code": 502}}]), Kind.BROKEN),
        (answer(choices=[]), Kind.BROKEN),
        (answer(choices=None), Kind.BROKEN),
        (answer(choices=[7]), Kind.BROKEN),
        (answer(finish_reason="error"), Kind.BROKEN),
        (answer({"role": "assistant", "tool_calls": ["x"]}), Kind.BROKEN),
        ([], Kind.BROKEN),
        ("text", Kind.BROKEN),
    ],
)
def test_what_is_no_answer_is_an_error_that_may_have_been_billed(body: Any, kind: Kind) -> None:
    """Errors under status 200 and bodies of another shape fail the attempt."""
    with pytest.raises(UpstreamError) as caught:
        read(body)
    assert caught.value.kind is kind
    assert caught.value.billed


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_bytes_that_are_no_json_are_an_error(body: bytes) -> None:
    """Neither garbage nor depth breaks the reader."""
    with pytest.raises(UpstreamError):
        ADAPTERS["openai"].completion(body, chat(), STAMP)
