"""What well providers answer: small bodies of our own making in the documented shapes of three APIs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

PROMPT_TOKENS, COMPLETION_TOKENS = 9, 3
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": COMPLETION_TOKENS,
    "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_ID = "chatcmpl-fake"
_CREATED = 1_790_000_000


def completion(
    content: str | None = "Hello.",
    *,
    finish_reason: str = "stop",
    message: dict[str, Any] | None = None,
    choice: dict[str, Any] | None = None,
    choices: Sequence[dict[str, Any]] | None = None,
    usage: dict[str, Any] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """OpenAI's `chat.completion`; `message` and `choice` add fields at their places.

    Source: https://platform.openai.com/docs/api-reference/chat/object (read 2026-11-21).
    """
    only: dict[str, Any] = {
        "index": 0,
        "message": {**_message(content), **(message or {})},
        "logprobs": None,
        "finish_reason": finish_reason,
        **(choice or {}),
    }
    return {
        "id": _ID,
        "object": "chat.completion",
        "created": _CREATED,
        "model": "upstream-model-2026-01-01",
        "choices": [only] if choices is None else list(choices),
        "usage": usage or USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
        **extra,
    }


def choice(index: int, content: str) -> dict[str, Any]:
    """One of several choices."""
    return {"index": index, "message": _message(content), "logprobs": None, "finish_reason": "stop"}


def _message(content: str | None) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "refusal": None, "annotations": []}


def chunk(delta: dict[str, Any], *, finish_reason: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """OpenAI's `chat.completion.chunk` with one choice. `logprobs` goes into the choice.

    Source: https://platform.openai.com/docs/api-reference/chat-streaming/streaming (read 2026-11-21).
    """
    logprobs = fields.pop("logprobs", None)
    one = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
    return {**_chunk_head(), "choices": [one], "usage": None, **fields}


def usage_chunk(usage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {**_chunk_head(), "choices": [], "usage": usage or USAGE}


def chunks(text: str = "Hello.", *, finish_reason: str = "stop") -> list[dict[str, Any]]:
    """A streamed answer: the role, a chunk for each word, the end, the usage."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1].rstrip(" ")
    return [
        chunk({"role": "assistant", "content": "", "refusal": None}),
        *(chunk({"content": word}) for word in words),
        chunk({}, finish_reason=finish_reason),
        usage_chunk(),
    ]


def _chunk_head() -> dict[str, Any]:
    return {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": "upstream-model-2026-01-01",
        "service_tier": "default",
        "system_fingerprint": "fp_fake",
    }


def tool_call(name: str, arguments: str, call_id: str = "call_1") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool_chunks(*calls: tuple[str, Sequence[str]]) -> list[dict[str, Any]]:
    """A streamed turn of tool calls, each a name and the pieces of its arguments, one call after the other."""
    events = [chunk({"role": "assistant", "content": None, "refusal": None})]
    for index, (name, pieces) in enumerate(calls):
        begun = {"index": index, **tool_call(name, "", f"call_{index + 1}")}
        events.append(chunk({"tool_calls": [begun]}))
        events += [chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in pieces]
    return [*events, chunk({}, finish_reason="tool_calls"), usage_chunk()]


def anthropic_message(text: str) -> dict[str, Any]:
    """Source: https://platform.claude.com/docs/en/api/messages (read 2026-11-21)."""
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": "upstream-claude",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": COMPLETION_TOKENS},
    }


def anthropic_events(text: str) -> list[bytes]:
    """Source: https://platform.claude.com/docs/en/build-with-claude/streaming (read 2026-11-21)."""
    begun = {**anthropic_message(text), "content": [], "stop_reason": None}
    begun["usage"] = {"input_tokens": PROMPT_TOKENS, "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": COMPLETION_TOKENS},
        },
        {"type": "message_stop"},
    ]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


def gemini_answer(text: str) -> dict[str, Any]:
    """Source: https://ai.google.dev/api/generate-content (read 2026-11-21)."""
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0},
        ],
        "usageMetadata": {
            "promptTokenCount": PROMPT_TOKENS,
            "candidatesTokenCount": COMPLETION_TOKENS,
            "totalTokenCount": PROMPT_TOKENS + COMPLETION_TOKENS,
        },
        "modelVersion": "upstream-gemini",
        "responseId": "fake",
    }


def gemini_events(text: str) -> list[bytes]:
    return [b"data: " + json.dumps(gemini_answer(text)).encode() + b"\r\n\r\n"]
