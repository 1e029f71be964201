"""What translations share: OpenAI's chunks made event by event, its usage object, its completion object.

Chunk layout, one server-sent event each:
`data: {"id":…,"object":"chat.completion.chunk","created":…,"model":…,"choices":[{"index":0,"delta":{…},…}]}`
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from adapters.base import NOT_JSON, ChatStream, Stamp
from adapters.framing import Event, FramingError, Splitter
from gateway.chat import Chat
from gateway.errors import Kind, UpstreamError
from gateway.types import Usage

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode
_NOT_AFTER_FINISH = ("content", "tool_calls", "refusal", "reasoning_content")


def openai_usage(usage: Usage) -> dict[str, Any]:
    """OpenAI's usage object: prompt tokens count all input, cached reads and writes included."""
    prompt: dict[str, int] = {"cached_tokens": usage.cache_read}
    if written := usage.cache_write_5m + usage.cache_write_1h:
        prompt["cache_write_tokens"] = written
    if usage.audio_in:
        prompt["audio_tokens"] = usage.audio_in
    completion: dict[str, int] = {"reasoning_tokens": usage.reasoning}
    if usage.audio_out:
        completion["audio_tokens"] = usage.audio_out
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": prompt,
        "completion_tokens_details": completion,
    }


def completion_body(
    stamp: Stamp, model: str, choices: Sequence[Mapping[str, Any]], usage: Usage | None, **extra: Any
) -> bytes:
    """A `chat.completion` object as JSON; `extra` are further top-level members, left out where None."""
    body: dict[str, Any] = {
        "id": stamp.id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": model,
        "choices": choices,
        **{name: value for name, value in extra.items() if value is not None},
    }
    if usage is not None:
        body["usage"] = openai_usage(usage)
    return _encode(body)


def with_usage(body: bytes, usage: Usage) -> bytes:
    """A completion whose provider told no usage, with the gateway's estimate in its place."""
    return _encode({**msgspec.json.decode(body), "usage": openai_usage(usage)})


def output_bytes_of(body: bytes) -> int:
    """UTF-8 bytes of what a completion says: text, reasoning and arguments of all its choices."""
    size = 0
    for choice in msgspec.json.decode(body)["choices"]:
        message = choice["message"]
        texts = [message.get("content"), message.get("reasoning_content"), message.get("refusal")]
        texts += [call["function"]["arguments"] for call in message.get("tool_calls") or () if "function" in call]
        size += sum(utf8_size(text) for text in texts if isinstance(text, str))
    return size


def utf8_size(text: str) -> int:
    """Bytes of `text` in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cut_short() -> UpstreamError:
    """The failure of a stream that ended before its end."""
    return UpstreamError(Kind.BROKEN, "The provider's answer ended before it was complete.", billed=True)


def unreadable(what: str = "The provider sent an answer that cannot be read.") -> UpstreamError:
    """The failure of an answer that is not what the provider's API promises."""
    return UpstreamError(Kind.BROKEN, what, billed=True)


class EventStream(ChatStream):
    """The base of translated streams: framing before `on_event`, OpenAI's chunks after it.

    A subclass sets `model`, `usage`, `service_tier` and `finished` as it learns them, and calls `emit` (or the quicker
    `emit_text`, `emit_arguments`) and `fail`. Set `model` before the first emit: every chunk carries the same.

    Held for every subclass: the role stands on the first delta of each choice, each choice has one finish reason with
    no text after it, and no chunk but the usage chunk has empty `choices`. To tell the caller an estimate where the
    provider told no usage, set `usage` before `end()`.
    """

    def __init__(self, chat: Chat, stamp: Stamp, splitter: Splitter) -> None:
        self.chat = chat
        self.stamp = stamp
        self._splitter = splitter
        self._out: list[bytes] = []
        self._head = b""
        self._open: dict[int, bool] = {}
        """Choices begun; False once they have their finish reason."""

    @property
    def told_all(self) -> bool:
        return self.finished or (bool(self._open) and not any(self._open.values()))

    @abstractmethod
    def on_event(self, name: str | None, data: bytes) -> None:
        """Takes one event of the provider.

        Raises:
            msgspec.DecodeError: what came is not this API's; the stream then fails.
        """

    def feed(self, data: bytes) -> bytes:
        if self.failure is not None:
            return b""
        events: list[Event] = []
        try:
            events = self._splitter.feed(data)
            self._take(events)
        except FramingError:
            self.fail(unreadable("The provider sent an event that is too long."))
        out = self._drain()
        if not out and any(name != "ping" for name, _ in events):
            self.inner_events += 1
        return out

    def end(self) -> bytes:
        if self.failure is None:
            self._take(self._splitter.close())
        if self.failure is None and not (self.finished and self._open):
            self.fail(cut_short())
        if self.failure is not None:
            return b""
        for index, unfinished in list(self._open.items()):
            if unfinished:
                self.emit({}, index=index, finish_reason="stop")
        if self.chat.include_usage and self.usage is not None:
            self._out.append(b'%b],"usage":%b}\n\n' % (self._prefix(), _encode(openai_usage(self.usage))))
        self._out.append(DONE)
        return self._drain()

    def fail(self, error: UpstreamError) -> None:
        """Ends the stream; what was emitted before still goes to the caller."""
        if self.failure is None:
            self.failure = error

    def emit(
        self,
        delta: Mapping[str, Any],
        *,
        index: int = 0,
        finish_reason: str | None = None,
        logprobs: Mapping[str, Any] | None = None,
    ) -> None:
        """Gives a chunk with this delta. The role is added where due; a second finish reason is ignored."""
        unfinished = self._open.get(index)
        if unfinished is False:
            finish_reason = None
            delta = {key: value for key, value in delta.items() if key not in _NOT_AFTER_FINISH}
        if not delta and finish_reason is None and unfinished is not None:
            return
        if unfinished is None:
            delta = {"role": "assistant", **delta}
        self._open[index] = finish_reason is None and unfinished is not False
        self._count(delta)
        self.started = True
        self._out.append(
            b'%b{"index":%d,"delta":%b%b,"finish_reason":%b}]}\n\n'
            % (
                self._prefix(),
                index,
                _encode(delta),
                b"" if logprobs is None else b',"logprobs":' + _encode(logprobs),
                b"null" if finish_reason is None else _encode(finish_reason),
            )
        )

    def emit_text(self, text: str, *, index: int = 0, key: str = "content") -> None:
        """Gives a chunk of text (`content`) or reasoning (`reasoning_content`): what most chunks are, made quickly."""
        if not text:
            return
        if not self._open.get(index):
            self.emit({key: text}, index=index)
            return
        self.output_bytes += utf8_size(text)
        self._out.append(
            b'%b{"index":%d,"delta":{"%b":%b},"finish_reason":null}]}\n\n'
            % (self._prefix(), index, key.encode(), _encode(text))
        )

    def emit_arguments(self, call_index: int, fragment: str, *, index: int = 0) -> None:
        """Gives a chunk with a further fragment of a begun tool call's arguments."""
        if not fragment or not self._open.get(index):
            return
        self.output_bytes += utf8_size(fragment)
        self._out.append(
            b'%b{"index":%d,"delta":{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]},"finish_reason":null}]}\n\n'
            % (self._prefix(), index, call_index, _encode(fragment))
        )

    def emit_call(self, call_index: int, call_id: str, name: str, arguments: str = "", *, index: int = 0) -> None:
        """Begins a tool call; `call_index` counts the calls of this choice from 0."""
        function = {"name": name, "arguments": arguments}
        call = {"index": call_index, "id": call_id, "type": "function", "function": function}
        self.emit({"tool_calls": [call]}, index=index)

    def _prefix(self) -> bytes:
        if not self._head:
            self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
                _encode(self.stamp.id),
                self.stamp.created,
                _encode(self.model or self.chat.model),
            )
        return self._head

    def _take(self, events: list[Event]) -> None:
        for name, data in events:
            if self.failure is not None:
                return
            try:
                self.on_event(name, data)
            except NOT_JSON:
                self.fail(unreadable() if not self.finished else cut_short())

    def _drain(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

    def _count(self, delta: Mapping[str, Any]) -> None:
        for key in ("content", "reasoning_content", "refusal"):
            if text := delta.get(key):
                self.output_bytes += utf8_size(text)
        for call in delta.get("tool_calls") or ():
            self.output_bytes += utf8_size(call["function"].get("arguments") or "")
