"""Bedrock's streamed events as OpenAI's chunks.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html (read 2026-11-21).
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from adapters.answers import JsonObject, encrypted_detail, finish_of, made_call_id, text_detail
from adapters.aws_frames import AwsSplitter
from adapters.base import Stamp
from adapters.bedrock_answer import EXCEPTIONS, FINISH, Block, Reasoning, tier_of, usage_of
from adapters.bedrock_request import REASONING_FORMAT
from adapters.events import EventStream
from adapters.failures import failure, read_problem
from gateway.chat import Chat
from gateway.errors import Kind


class Event(Struct, rename="camel"):
    """What the events of a stream hold."""

    content_block_index: int = 0
    start: Block | None = None
    delta: Block | None = None
    stop_reason: str | None = None
    usage: JsonObject | None = None
    service_tier: JsonObject | None = None


_event = msgspec.json.Decoder(Event)
_text = msgspec.json.Decoder(str)


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
            self.emit_call(place, use.tool_use_id or made_call_id(self.stamp.id, place), use.name)
            self._silent.add(event.content_block_index)
        elif name == "contentBlockStop":
            self._on_stop(event.content_block_index)
        elif name == "messageStop":
            self._stopped = True
            self.emit({}, finish_reason=finish_of(FINISH.get(event.stop_reason or "", "stop"), bool(self._calls)))
        elif name == "metadata":
            if event.usage is not None:
                self.usage = usage_of(event.usage)
            self.service_tier = tier_of(event.service_tier)
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
