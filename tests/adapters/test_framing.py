"""Splitters give the same events however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import framing
from adapters.framing import Event, FramingError, JsonArraySplitter, JsonLinesSplitter, Splitter, SseSplitter

SSE = (
    b"\xef\xbb\xbf: a comment\n\ndata: plain\n\ndata:without a space\n\n"
    b"event: ping\r\ndata: crlf\r\n\r\ndata: cr\r\rdata: two\ndata: lines\n\n"
    b'id: 7\nretry: 9\ndata: {"text": "Gr\xc3\xbc\xc3\x9fe \xe2\x98\x80"}\n\ndata:\n\n\n\ndata: no blank line after'
)
SSE_EVENTS: list[Event] = [
    (None, b"plain"),
    (None, b"without a space"),
    ("ping", b"crlf"),
    (None, b"cr"),
    (None, b"two\nlines"),
    (None, '{"text": "Grüße ☀"}'.encode()),
    (None, b"no blank line after"),
]
LINES = b'{"a": 1}\r\n\n  {"b": "x y"}\n{"c": 3}'
LINES_EVENTS: list[Event] = [(None, b'{"a": 1}'), (None, b'{"b": "x y"}'), (None, b'{"c": 3}')]
ARRAY = b'[{"a": "}]\\"{", "b": [1, {"c": 2}]}\r\n,\r\n{"d": "\\\\"},{}]\n'
ARRAY_EVENTS: list[Event] = [(None, b'{"a": "}]\\"{", "b": [1, {"c": 2}]}'), (None, b'{"d": "\\\\"}'), (None, b"{}")]
CASES = [
    pytest.param(SseSplitter, SSE, SSE_EVENTS, id="sse"),
    pytest.param(JsonLinesSplitter, LINES, LINES_EVENTS, id="lines"),
    pytest.param(JsonArraySplitter, ARRAY, ARRAY_EVENTS, id="array"),
]


def split(splitter: Splitter, pieces: list[bytes]) -> list[Event]:
    return [event for piece in pieces for event in splitter.feed(piece)] + splitter.close()


@pytest.mark.parametrize(("kind", "body", "events"), CASES)
def test_events_do_not_depend_on_the_cuts(kind: type[Splitter], body: bytes, events: list[Event]) -> None:
    """Whole, byte by byte, and cut in two at every place give the same events."""
    assert split(kind(), [body]) == events
    assert split(kind(), [body[at : at + 1] for at in range(len(body))]) == events
    for at in range(len(body)):
        assert split(kind(), [body[:at], body[at:]]) == events


@given(st.lists(st.integers(0, len(SSE)), max_size=8))
def test_sse_events_survive_any_set_of_cuts(places: list[int]) -> None:
    """Several cuts at once, empty reads among them, change nothing."""
    bounds = [0, *sorted(places), len(SSE)]
    pieces = [SSE[start:end] for start, end in pairwise(bounds)]
    assert split(SseSplitter(), pieces) == SSE_EVENTS


@pytest.mark.parametrize("kind", [SseSplitter, JsonLinesSplitter, JsonArraySplitter])
def test_event_without_end_is_refused_before_it_fills_the_memory(
    kind: type[Splitter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event past the limit is an error, whoever sends it."""
    monkeypatch.setattr(framing, "MAX_EVENT_BYTES", 100)
    splitter = kind()
    splitter.feed(b'{"text": ' * 10)
    with pytest.raises(FramingError, match="longer than 100 bytes"):
        splitter.feed(b'{"text": ' * 10)


def test_pending_shows_what_is_not_complete() -> None:
    """The bytes of a begun event can be looked at; those of complete ones are gone."""
    splitter = SseSplitter()
    splitter.feed(b"data: one\n\ndata: tw")
    assert splitter.pending == b"data: tw"


def test_event_is_given_by_the_read_that_completes_it() -> None:
    """An event whose blank line ends in a lone CR is not held back for the LF that may follow."""
    splitter = SseSplitter()
    assert splitter.feed(b"data: one\r\n\r") == [(None, b"one")]
    assert splitter.feed(b"\ndata: two\r\n\r\n") == [(None, b"two")]
