"""From Bedrock's Converse answers to OpenAI's: what a message holds, and a whole message as a completion.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from adapters.answers import JsonObject, Said, count
from adapters.base import NOT_JSON, Completion, Stamp
from adapters.bedrock_request import REASONING_FORMAT
from adapters.events import completion_body, unreadable
from gateway.chat import Chat
from gateway.errors import Kind
from gateway.types import Usage

FINISH: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}

EXCEPTIONS: Mapping[str, Kind] = {
    "accessdeniedexception": Kind.OUR_KEY_REFUSED,
    "expiredtokenexception": Kind.OUR_KEY_REFUSED,
    "unrecognizedclientexception": Kind.OUR_KEY_REFUSED,
    "invalidsignatureexception": Kind.OUR_KEY_REFUSED,
    "throttlingexception": Kind.RATE_LIMITED,
    "modelnotreadyexception": Kind.OVERLOADED,
    "serviceunavailableexception": Kind.OVERLOADED,
    "servicequotaexceededexception": Kind.PROVIDER_QUOTA,
    "resourcenotfoundexception": Kind.UPSTREAM_MODEL_MISSING,
    "modeltimeoutexception": Kind.TIMED_OUT,
    "modelerrorexception": Kind.BROKEN,
    "modelstreamerrorexception": Kind.BROKEN,
    "internalserverexception": Kind.BROKEN,
}
"""What the class of an error says, whether a header or the stream names it. In lower case."""


class ReasoningText(Struct):
    text: str = ""
    signature: str | None = None


class Reasoning(Struct, rename="camel"):
    """`reasoning_text` in a message; the other members in a delta, `redacted_content` in both."""

    reasoning_text: ReasoningText | None = None
    redacted_content: str | None = None
    text: str | None = None
    signature: str | None = None


class ToolUse(Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: Raw = Raw(b"{}")


class Cited(Struct):
    text: str = ""


class Citations(Struct):
    content: list[Cited] = []


class Block(Struct, rename="camel"):
    """A content block, or the delta of one."""

    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: Reasoning | None = None
    citations_content: Citations | None = None


class Message(Struct):
    content: list[Block] = []


class Output(Struct):
    message: Message | None = None


class Answer(Struct, rename="camel"):
    output: Output
    stop_reason: str | None = None
    usage: JsonObject | None = None
    service_tier: JsonObject | None = None


_answer = msgspec.json.Decoder(Answer)


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """Converse's usage in disjoint buckets; `inputTokens` exclude cached reads and writes."""
    written = count(raw, "cacheWriteInputTokens")
    details = raw.get("cacheDetails")
    entries = details if isinstance(details, list) else []
    hour = sum(count(entry, "inputTokens") for entry in entries if isinstance(entry, dict) and entry.get("ttl") == "1h")
    return Usage(
        input=count(raw, "inputTokens"),
        cache_read=count(raw, "cacheReadInputTokens"),
        cache_write_5m=written - min(hour, written),
        cache_write_1h=min(hour, written),
        output=count(raw, "outputTokens"),
    )


def converse_completion(body: bytes, chat: Chat, stamp: Stamp) -> Completion:
    """A buffered answer as a completion.

    Raises:
        UpstreamError: the body is no answer of Converse.
    """
    try:
        answer = _answer.decode(body)
    except NOT_JSON:
        raise unreadable() from None
    said = Said(REASONING_FORMAT, stamp.id)
    for block in answer.output.message.content if answer.output.message is not None else ():
        said.text += block.text or ""
        if block.citations_content is not None:
            said.text += "".join(cited.text for cited in block.citations_content.content)
        if block.tool_use is not None:
            use = block.tool_use
            said.call(use.tool_use_id, use.name, bytes(use.input).decode())
        if block.reasoning_content is not None:
            thought = block.reasoning_content.reasoning_text
            if thought is not None:
                said.reason(thought.text, thought.signature)
            elif block.reasoning_content.redacted_content:
                said.reason_unseen(block.reasoning_content.redacted_content)
    choice = said.choice(FINISH.get(answer.stop_reason or "", "stop"))
    usage = usage_of(answer.usage) if answer.usage is not None else None
    tier = tier_of(answer.service_tier)
    made = completion_body(stamp, chat.model, [choice], usage, service_tier=tier)
    return Completion(made, usage, None, tier)


def tier_of(service_tier: JsonObject | None) -> str | None:
    tier = (service_tier or {}).get("type")
    return tier if tier in ("priority", "default", "flex") else None
