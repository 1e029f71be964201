"""Anthropic's streamed events as OpenAI's chunks.

Source: https://platform.claude.com/docs/en/build-with-claude/streaming (read 2026-11-21).
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from adapters.answers import JsonObject, encrypted_detail, finish_of, made_call_id, text_detail
from adapters.anthropic_answer import (
    FINISH,
    Answer,
    Block,
    StopDetails,
    arguments_of,
    cite,
    refusal_of,
    service_tier_of,
    usage_of,
)
from adapters.anthropic_turns import REASONING_FORMAT
from adapters.base import Stamp
from adapters.events import EventStream
from adapters.failures import failure, read_problem
from adapters.framing import SseSplitter
from gateway.chat import Chat


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


_event = msgspec.json.Decoder(StreamEvent)


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
                if refusal := refusal_of(delta.stop_details):
                    self.emit({"refusal": refusal})
                self.emit({}, finish_reason=finish_of(FINISH.get(delta.stop_reason, "stop"), bool(self._calls)))
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
            self.emit_call(place, block.id or made_call_id(self.stamp.id, place), block.name or "")
            self._silent.add(index)
            self._on_delta(index, Delta(partial_json=arguments_of(block)))
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
                cite(cited, self._cited_from, self._characters, annotations, citations)
            self._cited = []
            lists = {"annotations": annotations, "citations": citations}
            self.emit({name: value for name, value in lists.items() if value})

    def _emit_detail(self, detail: JsonObject) -> None:
        self._details += 1
        self.emit({"reasoning_details": [detail]})
