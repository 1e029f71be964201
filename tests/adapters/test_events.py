"""What every translated stream keeps to, whatever its events say."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from adapters.events import EventStream, completion_body, openai_usage
from adapters.framing import JsonLinesSplitter
from gateway.errors import Kind
from gateway.types import Usage
from tests.adapters.answering import STAMP, chunks, said, streaming

FULL = Usage(input=1, cache_read=2, cache_write_5m=3, cache_write_1h=4, output=10, reasoning=6, audio_in=5, audio_out=7)


class Told(EventStream):
    """A translation that does on its one event what a test says."""

    def __init__(self, then: Callable[[Told], None], *, include_usage: bool = True) -> None:
        super().__init__(streaming(include_usage=include_usage), STAMP, JsonLinesSplitter())
        self._then = then

    def on_event(self, name: str | None, data: bytes) -> None:
        msgspec.json.decode(data)
        self._then(self)
        self.finished = True


def told(then: Callable[[Told], None], line: bytes = b"{}\n") -> tuple[Told, bytes]:
    stream = Told(then)
    return stream, stream.feed(line) + stream.end()


def test_role_stands_on_the_first_delta_of_each_choice() -> None:
    """Whatever is emitted first, and once only."""

    def then(stream: Told) -> None:
        stream.emit_text("Hm.", key="reasoning_content")
        stream.emit_text("Hi")
        stream.emit({"content": "Ho"}, index=1)

    events = chunks(told(then)[1])
    roles = [(choice["index"], choice["delta"].get("role")) for event in events for choice in event["choices"]]
    assert roles[:3] == [(0, "assistant"), (0, None), (1, "assistant")]


def test_each_choice_finishes_once_and_falls_silent() -> None:
    """A second finish reason and text after the first are left out; a choice without one gets it at the end."""

    def then(stream: Told) -> None:
        stream.emit({"content": "a"}, finish_reason="length")
        stream.emit({"content": "late"}, finish_reason="stop")
        stream.emit_text("later")
        stream.emit({"content": "b"}, index=1)

    events = chunks(told(then)[1])
    reasons = [(c["index"], c["finish_reason"]) for event in events for c in event["choices"] if c["finish_reason"]]
    assert reasons == [(0, "length"), (1, "stop")]
    assert said(told(then)[1])["text"] == "ab"


def test_calls_are_begun_and_filled() -> None:
    """A call has id, type and name once, and its arguments in pieces."""

    def then(stream: Told) -> None:
        stream.emit_call(0, "c1", "f")
        stream.emit_arguments(0, '{"x":')
        stream.emit_arguments(0, '"ü"}')
        stream.emit({}, finish_reason="tool_calls")

    stream, out = told(then)
    assert said(out)["calls"] == [["f", '{"x":"ü"}']]
    assert stream.output_bytes == len('{"x":"ü"}'.encode())


@pytest.mark.parametrize("include_usage", [True, False])
def test_usage_comes_last_and_only_if_asked_for(include_usage: bool) -> None:
    """One chunk without choices, after the finish reason."""

    def then(stream: Told) -> None:
        stream.usage = FULL
        stream.emit({"content": "a"}, finish_reason="stop")

    stream = Told(then, include_usage=include_usage)
    events = chunks(stream.feed(b"{}\n") + stream.end())
    assert [bool(event.get("usage")) for event in events] == ([False, True] if include_usage else [False])
    assert [event["choices"] for event in events if event.get("usage")] == ([[]] if include_usage else [])


@pytest.mark.parametrize("line", [b"{cut\n", b"[" * 100_000 + b"\n"])
def test_what_cannot_be_read_fails_the_stream(line: bytes) -> None:
    """A DecodeError of the translation, or depth beyond reason, is the provider's failure."""
    stream, out = told(lambda stream: None, line)
    assert stream.failure is not None
    assert stream.failure.kind is Kind.BROKEN
    assert out == b""


def test_end_without_an_answer_is_a_failure() -> None:
    """Neither an unfinished stream nor one that said nothing is passed off as an answer."""
    for stream, _ in (told(lambda stream: None), told(lambda stream: stream.emit_text("a"), b"")):
        assert stream.failure is not None


def test_usage_counts_as_openai_does() -> None:
    """Prompt tokens hold caches and audio, completion tokens hold reasoning and audio."""
    assert openai_usage(FULL) == {
        "prompt_tokens": 15,
        "completion_tokens": 17,
        "total_tokens": 32,
        "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 7, "audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 6, "audio_tokens": 7},
    }


def test_completion_body_leaves_out_what_is_unknown() -> None:
    """Members that are None do not stand in the answer."""
    body = msgspec.json.decode(completion_body(STAMP, "m", [{"index": 0}], None, service_tier=None, provider="p"))
    assert body == {
        "id": STAMP.id,
        "object": "chat.completion",
        "created": STAMP.created,
        "model": "m",
        "choices": [{"index": 0}],
        "provider": "p",
    }
