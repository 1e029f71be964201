"""Gemini's stream: server-sent events, or the elements of one JSON array where `alt=sse` was not heeded."""

from __future__ import annotations

from adapters.answers import JsonObject, finish_of
from adapters.base import Stamp
from adapters.events import EventStream
from adapters.failures import failure, read_problem
from adapters.framing import Event, JsonArraySplitter, Splitter, SseSplitter
from adapters.gemini_answer import (
    Candidate,
    Part,
    PromptFeedback,
    decode_answer,
    decode_usage,
    finish_reason_of,
    image_of,
    logprobs_of,
    service_tier_of,
    usage_of,
)
from adapters.gemini_calls import Calls
from gateway.chat import Chat
from gateway.types import Usage


class EitherSplitter:
    """Server-sent events or JSON values, by what the first byte is."""

    __slots__ = ("_chosen",)

    def __init__(self) -> None:
        self._chosen: Splitter | None = None

    @property
    def pending(self) -> bytes:
        return b"" if self._chosen is None else self._chosen.pending

    def feed(self, data: bytes) -> list[Event]:
        if self._chosen is None:
            data = data.lstrip()
            if not data:
                return []
            self._chosen = JsonArraySplitter() if data[:1] in b"[{" else SseSplitter()
        return self._chosen.feed(data)

    def close(self) -> list[Event]:
        return [] if self._chosen is None else self._chosen.close()


class GenerateStream(EventStream):
    """The responses of one stream.

    Every response tells the usage so far; the last one counts, but where it leaves out the tokens of the answer, as it
    does after server tools, those told before stay. There is no end mark, and text may go on after a finish reason: a
    stream is complete once its body has ended and every choice has had its finish reason.
    """

    def __init__(self, chat: Chat, stamp: Stamp) -> None:
        super().__init__(chat, stamp, EitherSplitter())
        self._calls: dict[int, Calls] = {}
        self._reasons: dict[int, str] = {}
        self._told = self._told_answer = b""
        self._settled: Usage | None = None

    @property
    def usage(self) -> Usage | None:
        if not self._told:
            return self._settled
        return usage_of(self._usage_metadata())

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self._told, self._settled = b"", usage

    def on_event(self, name: str | None, data: bytes) -> None:
        answer = decode_answer(data)
        if answer.error is not None:
            self.fail(failure(200, {}, read_problem(data)))
            return
        if self.model is None and answer.model_version:
            self.model = answer.model_version
        if told := answer.usage:
            if not self._told:  # the tier is the same in all of them
                self.service_tier = service_tier_of(decode_usage(told))
            self._told = told
            if b"candidatesTokenCount" in told:
                self._told_answer = told
        if answer.block is not None:
            self._block(answer.block)
        for candidate in answer.candidates:
            self._on_candidate(candidate)

    def end(self) -> bytes:
        if self.failure is None:
            self._take(self._splitter.close())
        if self.failure is None:
            for index, reason in self._reasons.items():
                calls = self._calls_of(index)
                self.emit_arguments(calls.count - 1, calls.close(), index=index)
                self.emit({}, index=index, finish_reason=finish_of(finish_reason_of(reason), calls.count > 0))
            self.finished = bool(self._open) and not any(self._open.values())
        return super().end()

    def _usage_metadata(self) -> JsonObject:
        return {**decode_usage(self._told_answer or b"{}"), **decode_usage(self._told or b"{}")}

    def _block(self, block: PromptFeedback) -> None:
        if self.usage is None:
            self.usage = Usage()  # a refused prompt of which no tokens are told has used none
        refusal = block.block_reason_message
        self.emit({"refusal": refusal} if refusal else {}, finish_reason="content_filter")

    def _on_candidate(self, candidate: Candidate) -> None:
        index = candidate.index
        logprobs = logprobs_of(candidate.logprobs_result)
        for part in candidate.content.parts if candidate.content is not None else ():
            if part.text and part.thought_signature is None and logprobs is None:
                self.emit_text(part.text, index=index, key="reasoning_content" if part.thought else "content")
            else:
                self._on_part(part, index, logprobs)
                logprobs = None
        if candidate.finish_reason is not None:
            self._reasons[index] = candidate.finish_reason

    def _on_part(self, part: Part, index: int, logprobs: JsonObject | None) -> None:
        calls = self._calls_of(index)
        call = part.function_call
        if call is not None and call.name is None:
            self.emit_arguments(calls.count - 1, calls.go_on(call), index=index)
            return
        delta: JsonObject = {}
        if call is not None:
            self.emit_arguments(calls.count - 1, calls.close(), index=index)
            made, details = calls.begin(call, part.thought_signature)
            delta["tool_calls"] = [{"index": calls.count - 1, **made}]
        else:
            if part.text:
                delta["reasoning_content" if part.thought else "content"] = part.text
            if part.inline_data is not None and part.inline_data.mime_type.startswith("image/"):
                delta["images"] = [image_of(part.inline_data)]
            details = [calls.signed(part.thought_signature or "")] if part.has_signature else []
        if details:
            delta["reasoning_details"] = details
        if delta:
            self.emit(delta, index=index, logprobs=logprobs)
        if call is not None and call.partial_args:
            self.emit_arguments(calls.count - 1, calls.go_on(call), index=index)

    def _calls_of(self, index: int) -> Calls:
        calls = self._calls.get(index)
        if calls is None:
            calls = self._calls[index] = Calls(self.stamp.id)
        return calls
