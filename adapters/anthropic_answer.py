"""From Anthropic's answers to OpenAI's: one message, or its events.

Tool calls of server tools and their results are Anthropic's own affair and are left out; thinking becomes
`reasoning_content`, and with its signature an entry of `reasoning_details`, given whole once its block ends. Citations
of web pages become `annotations`, those of documents `citations`, both with their place in the text.

Source: https://platform.claude.com/docs/en/api/messages,
https://platform.claude.com/docs/en/build-with-claude/streaming (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from adapters.answers import (
    JsonObject,
    choice_of,
    count,
    encrypted_detail,
    finish_of,
    message_of,
    text_detail,
    tool_call,
)
from adapters.anthropic_turns import REASONING_FORMAT
from adapters.base import Completion, Stamp
from adapters.events import EventStream, completion_body, unreadable
from adapters.failures import failure, read_problem
from adapters.framing import SseSplitter
from gateway.chat import Chat
from gateway.types import Usage

_FINISH: Mapping[str, str] = {
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


class Delta(Struct):
    """What `content_block_delta` and `message_delta` bring."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: JsonObject | None = None
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class StreamEvent(Struct):
    type: str
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Answer | None = None
    usage: JsonObject | None = None


_answer = msgspec.json.Decoder(Answer)
_event = msgspec.json.Decoder(StreamEvent)


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
    except (msgspec.DecodeError, RecursionError):
        raise unreadable() from None
    if answer.type != "message":
        raise failure(200, {}, read_problem(body))
    text, reasoning = "", ""
    calls: list[JsonObject] = []
    details: list[JsonObject] = []
    annotations: list[JsonObject] = []
    citations: list[JsonObject] = []
    for block in answer.content:
        if block.type == "text":
            start, text = len(text), text + (block.text or "")
            for cited in block.citations or ():
                _cite(cited, start, len(text), annotations, citations)
        elif block.type == "thinking":
            reasoning += block.thinking or ""
            details.append(text_detail(REASONING_FORMAT, len(details), block.thinking or "", block.signature))
        elif block.type == "redacted_thinking":
            details.append(encrypted_detail(REASONING_FORMAT, len(details), block.data or ""))
        elif block.type == "tool_use":
            calls.append(tool_call(block.id or f"call_{len(calls)}", block.name or "", _arguments(block) or "{}"))
    message = message_of(
        text,
        calls=calls,
        refusal=_refusal(answer.stop_details),
        reasoning=reasoning,
        reasoning_details=details,
        annotations=annotations,
        citations=citations,
    )
    finish = finish_of(_FINISH.get(answer.stop_reason or "", "stop"), bool(calls))
    usage = usage_of(answer.usage) if answer.usage is not None else None
    tier = service_tier_of(answer.usage or {})
    shown = tier if tier in _SERVICE_TIERS.values() else None
    made = completion_body(stamp, answer.model, [choice_of(message, finish)], usage, service_tier=shown)
    return Completion(made, usage, answer.model, tier)


def _arguments(block: Block) -> str:
    """A tool call's input as the provider wrote it; "" for none."""
    raw = bytes(block.input)
    return "" if raw in _EMPTY else raw.decode()


def _refusal(details: StopDetails | None) -> str | None:
    return details.explanation if details is not None else None


def _cite(cited: JsonObject, start: int, end: int, annotations: list[JsonObject], citations: list[JsonObject]) -> None:
    url = cited.get("url")
    place = {"start_index": start, "end_index": end}
    if isinstance(url, str):
        title = cited.get("title")
        link = {"url": url, "title": title if isinstance(title, str) else "", **place}
        annotations.append({"type": "url_citation", "url_citation": link})
    else:
        citations.append({**cited, **place})


class MessageStream(EventStream):
    """The events of one streamed message.

    Usage comes twice: with `message_start`, and cumulative with `message_delta`, whose members replace the first's.
    """

    def __init__(self, chat: Chat, stamp: Stamp) -> None:
        super().__init__(chat, stamp, SseSplitter())
        self._told: JsonObject = {}
        self._calls: dict[int, int] = {}
        """Block index of a tool call -> its place among the calls."""
        self._silent: set[int] = set()
        """Blocks of tool calls that have brought no arguments yet."""
        self._thinking: dict[int, list[str]] = {}
        self._signatures: dict[int, str] = {}
        self._details = 0
        self._characters = 0
        self._cited: list[JsonObject] = []
        self._cited_from = 0

    def on_event(self, name: str | None, data: bytes) -> None:
        if name == "ping" or self.finished:
            return
        event = _event.decode(data)
        kind, delta = event.type, event.delta
        if kind == "content_block_delta":
            if delta is not None:
                self._on_delta(event.index, delta)
        elif kind == "content_block_start":
            if event.content_block is not None:
                self._on_start(event.index, event.content_block)
        elif kind == "content_block_stop":
            self._on_stop(event.index)
        elif kind == "message_start":
            if event.message is not None:
                self.model = event.message.model
                self._tell(event.message.usage)
        elif kind == "message_delta":
            self._tell(event.usage)
            if delta is not None and delta.stop_reason is not None:
                if refusal := _refusal(delta.stop_details):
                    self.emit({"refusal": refusal})
                self.emit({}, finish_reason=finish_of(_FINISH.get(delta.stop_reason, "stop"), bool(self._calls)))
        elif kind == "message_stop":
            if not self._open:
                self.emit({}, finish_reason="stop")
            self.finished = True
        elif kind == "error":
            error = failure(200, {}, read_problem(data))
            error.billed = self.usage is not None  # before message_start nothing was begun that could be charged
            self.fail(error)

    def _tell(self, usage: JsonObject | None) -> None:
        if usage is not None:
            self._told.update({name: value for name, value in usage.items() if value is not None})
            self.usage = usage_of(self._told)
            self.service_tier = service_tier_of(self._told)

    def _on_delta(self, index: int, delta: Delta) -> None:
        if delta.text is not None:
            self._characters += len(delta.text)
            self.emit_text(delta.text)
        elif delta.partial_json is not None:
            if delta.partial_json and index in self._calls:
                self._silent.discard(index)
                self.emit_arguments(self._calls[index], delta.partial_json)
        elif delta.thinking is not None:
            self._thinking.setdefault(index, []).append(delta.thinking)
            self.emit_text(delta.thinking, key="reasoning_content")
        elif delta.signature is not None:
            self._signatures[index] = self._signatures.get(index, "") + delta.signature
        elif delta.citation is not None:
            self._cited.append(delta.citation)

    def _on_start(self, index: int, block: Block) -> None:
        if block.type == "text":
            self._cited, self._cited_from = list(block.citations or ()), self._characters
            self._on_delta(index, Delta(text=block.text or ""))
        elif block.type == "tool_use":
            place = self._calls[index] = len(self._calls)
            self.emit_call(place, block.id or f"call_{place}", block.name or "")
            self._silent.add(index)
            self._on_delta(index, Delta(partial_json=_arguments(block)))
        elif block.type == "thinking":
            self._thinking[index] = []
            self._on_delta(index, Delta(thinking=block.thinking or ""))
            self._signatures[index] = block.signature or ""
        elif block.type == "redacted_thinking":
            self._emit_detail(encrypted_detail(REASONING_FORMAT, self._details, block.data or ""))

    def _on_stop(self, index: int) -> None:
        if index in self._silent:  # a tool without parameters streams no arguments
            self._silent.discard(index)
            self.emit_arguments(self._calls[index], "{}")
        elif index in self._thinking:
            text, signature = "".join(self._thinking.pop(index)), self._signatures.pop(index, None)
            self._emit_detail(text_detail(REASONING_FORMAT, self._details, text, signature))
        elif self._cited:
            annotations: list[JsonObject] = []
            citations: list[JsonObject] = []
            for cited in self._cited:
                _cite(cited, self._cited_from, self._characters, annotations, citations)
            self._cited = []
            lists = {"annotations": annotations, "citations": citations}
            self.emit({name: value for name, value in lists.items() if value})

    def _emit_detail(self, detail: JsonObject) -> None:
        self._details += 1
        self.emit({"reasoning_details": [detail]})
