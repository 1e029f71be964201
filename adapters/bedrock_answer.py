"""From Bedrock's Converse answers to OpenAI's: one message, or its events.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html (read 2026-11-21).
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
from adapters.aws_frames import AwsSplitter
from adapters.base import Completion, Stamp
from adapters.bedrock_request import REASONING_FORMAT
from adapters.events import EventStream, completion_body, unreadable
from adapters.failures import failure, read_problem
from gateway.chat import Chat
from gateway.errors import Kind
from gateway.types import Usage

_FINISH: Mapping[str, str] = {
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


class Event(Struct, rename="camel"):
    """What the events of a stream hold."""

    content_block_index: int = 0
    start: Block | None = None
    delta: Block | None = None
    stop_reason: str | None = None
    usage: JsonObject | None = None
    service_tier: JsonObject | None = None


_answer = msgspec.json.Decoder(Answer)
_event = msgspec.json.Decoder(Event)
_text = msgspec.json.Decoder(str)


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
    except (msgspec.DecodeError, RecursionError):
        raise unreadable() from None
    text, reasoning = "", ""
    calls: list[JsonObject] = []
    details: list[JsonObject] = []
    for block in answer.output.message.content if answer.output.message is not None else ():
        text += block.text or ""
        if block.citations_content is not None:
            text += "".join(cited.text for cited in block.citations_content.content)
        if block.tool_use is not None:
            use = block.tool_use
            calls.append(tool_call(use.tool_use_id or f"call_{len(calls)}", use.name, bytes(use.input).decode()))
        if block.reasoning_content is not None:
            thought = block.reasoning_content.reasoning_text
            if thought is not None:
                reasoning += thought.text
                details.append(text_detail(REASONING_FORMAT, len(details), thought.text, thought.signature))
            elif block.reasoning_content.redacted_content:
                data = block.reasoning_content.redacted_content
                details.append(encrypted_detail(REASONING_FORMAT, len(details), data))
    message = message_of(text, calls=calls, reasoning=reasoning, reasoning_details=details)
    finish = finish_of(_FINISH.get(answer.stop_reason or "", "stop"), bool(calls))
    usage = usage_of(answer.usage) if answer.usage is not None else None
    tier = _tier(answer.service_tier)
    made = completion_body(stamp, chat.model, [choice_of(message, finish)], usage, service_tier=tier)
    return Completion(made, usage, None, tier)


def _tier(service_tier: JsonObject | None) -> str | None:
    tier = (service_tier or {}).get("type")
    return tier if tier in ("priority", "default", "flex") else None


class ConverseStream(EventStream):
    """The events of one streamed message. Text blocks begin without an event; usage comes last, in `metadata`."""

    def __init__(self, chat: Chat, stamp: Stamp) -> None:
        super().__init__(chat, stamp, AwsSplitter())
        self._calls: dict[int, int] = {}
        """Block index of a tool call -> its place among the calls."""
        self._silent: set[int] = set()
        """Blocks of tool calls that have brought no arguments yet."""
        self._thinking: dict[int, Reasoning] = {}
        self._details = 0
        self._stopped = False

    def on_event(self, name: str | None, data: bytes) -> None:
        if name is not None and name.lower().endswith("exception"):
            self.fail(failure(200, {}, read_problem(data), EXCEPTIONS.get(name.lower(), Kind.BROKEN)))
            return
        event = _event.decode(data)
        if name == "contentBlockDelta" and event.delta is not None:
            self._on_delta(event.content_block_index, event.delta)
        elif name == "contentBlockStart" and event.start is not None and event.start.tool_use is not None:
            place = self._calls[event.content_block_index] = len(self._calls)
            use = event.start.tool_use
            self.emit_call(place, use.tool_use_id or f"call_{place}", use.name)
            self._silent.add(event.content_block_index)
        elif name == "contentBlockStop":
            self._on_stop(event.content_block_index)
        elif name == "messageStop":
            self._stopped = True
            self.emit({}, finish_reason=finish_of(_FINISH.get(event.stop_reason or "", "stop"), bool(self._calls)))
        elif name == "metadata":
            if event.usage is not None:
                self.usage = usage_of(event.usage)
            self.service_tier = _tier(event.service_tier)
            self.finished = self._stopped

    def end(self) -> bytes:
        self.finished = self._stopped
        return super().end()

    def _on_delta(self, index: int, delta: Block) -> None:
        if delta.text is not None:
            self.emit_text(delta.text)
        elif delta.tool_use is not None and index in self._calls:
            fragment = _text.decode(delta.tool_use.input)
            if fragment:
                self._silent.discard(index)
                self.emit_arguments(self._calls[index], fragment)
        elif delta.reasoning_content is not None:
            thought = self._thinking.setdefault(index, Reasoning(text=""))
            given = delta.reasoning_content
            if given.text:
                thought.text = (thought.text or "") + given.text
                self.emit_text(given.text, key="reasoning_content")
            if given.signature:
                thought.signature = (thought.signature or "") + given.signature
            if given.redacted_content:
                thought.redacted_content = (thought.redacted_content or "") + given.redacted_content

    def _on_stop(self, index: int) -> None:
        if index in self._silent:  # a tool without parameters streams no arguments
            self._silent.discard(index)
            self.emit_arguments(self._calls[index], "{}")
        thought = self._thinking.pop(index, None)
        if thought is None:
            return
        if thought.redacted_content:
            detail = encrypted_detail(REASONING_FORMAT, self._details, thought.redacted_content)
        else:
            detail = text_detail(REASONING_FORMAT, self._details, thought.text or "", thought.signature)
        self._details += 1
        self.emit({"reasoning_details": [detail]})
