"""From Anthropic's answers to OpenAI's: what a message holds, and a whole message as a completion.

Tool calls of server tools and their results are Anthropic's own affair and are left out; thinking becomes
`reasoning_content`, and with its signature an entry of `reasoning_details`, given whole once its block ends. Citations
of web pages become `annotations`, those of documents `citations`, both with their place in the text.

Source: https://platform.claude.com/docs/en/api/messages (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from adapters.answers import JsonObject, Said, count
from adapters.anthropic_turns import REASONING_FORMAT
from adapters.base import NOT_JSON, Completion, Stamp
from adapters.events import completion_body, unreadable
from adapters.failures import failure, read_problem
from gateway.types import Usage

FINISH: Mapping[str, str] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}
_SERVICE_TIERS: Mapping[str, str] = {"standard": "default", "priority": "priority"}
_EMPTY = (b"{}", b"null", b"")


class Block(Struct):
    """A content block; `type` says which of the members counts. Server tools' blocks have further ones."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"{}")
    citations: list[JsonObject] | None = None


class StopDetails(Struct):
    explanation: str | None = None


class Answer(Struct):
    """A message, or what `message_start` tells of it."""

    type: str
    model: str = ""
    content: list[Block] = []
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    usage: JsonObject | None = None


_answer = msgspec.json.Decoder(Answer)


def usage_of(raw: Mapping[str, Any]) -> Usage:
    """Anthropic's usage object in disjoint buckets; its `input_tokens` already exclude cached reads and writes.

    Where a stream's last word has the cached writes without their split, the split of `message_start` is kept and what
    exceeds it counts as five-minute writes, Anthropic's default.
    """
    written = count(raw, "cache_creation_input_tokens")
    split = raw.get("cache_creation")
    hour = min(count(split, "ephemeral_1h_input_tokens"), written) if isinstance(split, dict) else 0
    output = count(raw, "output_tokens")
    details = raw.get("output_tokens_details")
    return Usage(
        input=count(raw, "input_tokens"),
        cache_read=count(raw, "cache_read_input_tokens"),
        cache_write_5m=written - hour,
        cache_write_1h=hour,
        output=output,
        reasoning=min(count(details, "thinking_tokens"), output) if isinstance(details, dict) else 0,
    )


def service_tier_of(raw: Mapping[str, Any]) -> str | None:
    """The tier charged by, in OpenAI's words where it has one."""
    tier = raw.get("service_tier")
    return _SERVICE_TIERS.get(tier, tier) if isinstance(tier, str) else None


def message_completion(body: bytes, stamp: Stamp) -> Completion:
    """A buffered message as a completion.

    Raises:
        UpstreamError: the body is no message, or an error under status 200.
    """
    try:
        answer = _answer.decode(body)
    except NOT_JSON:
        raise unreadable() from None
    if answer.type != "message":
        raise failure(200, {}, read_problem(body))
    said = Said(REASONING_FORMAT, stamp.id)
    annotations: list[JsonObject] = []
    citations: list[JsonObject] = []
    for block in answer.content:
        if block.type == "text":
            start = len(said.text)
            said.text += block.text or ""
            for cited in block.citations or ():
                cite(cited, start, len(said.text), annotations, citations)
        elif block.type == "thinking":
            said.reason(block.thinking or "", block.signature)
        elif block.type == "redacted_thinking":
            said.reason_unseen(block.data or "")
        elif block.type == "tool_use":
            said.call(block.id, block.name or "", arguments_of(block) or "{}")
    reason, refusal = FINISH.get(answer.stop_reason or "", "stop"), refusal_of(answer.stop_details)
    choice = said.choice(reason, refusal=refusal, annotations=annotations, citations=citations)
    usage = usage_of(answer.usage) if answer.usage is not None else None
    tier = service_tier_of(answer.usage or {})
    shown = tier if tier in _SERVICE_TIERS.values() else None
    made = completion_body(stamp, answer.model, [choice], usage, service_tier=shown)
    return Completion(made, usage, answer.model, tier)


def arguments_of(block: Block) -> str:
    """A tool call's input as the provider wrote it; "" for none."""
    raw = bytes(block.input)
    return "" if raw in _EMPTY else raw.decode()


def refusal_of(details: StopDetails | None) -> str | None:
    return details.explanation if details is not None else None


def cite(cited: JsonObject, start: int, end: int, annotations: list[JsonObject], citations: list[JsonObject]) -> None:
    url = cited.get("url")
    place = {"start_index": start, "end_index": end}
    if isinstance(url, str):
        title = cited.get("title")
        link = {"url": url, "title": title if isinstance(title, str) else "", **place}
        annotations.append({"type": "url_citation", "url_citation": link})
    else:
        citations.append({**cited, **place})
