"""Splitters: from a provider's bytes, cut anywhere, to whole events. Pure push parsers that know no provider.

Each has `feed(data)` -> the events completed by `data`, `close()` -> what an ended body leaves, and `pending`, the
bytes of an event still incomplete. An event is `(name, payload)`; only server-sent events have names.
"""

from __future__ import annotations

import re
from typing import Protocol

Event = tuple[str | None, bytes]
MAX_EVENT_BYTES = 8 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class FramingError(ValueError):
    """The bytes cannot be split into events."""


class Splitter(Protocol):
    """What every splitter of this module is."""

    def feed(self, data: bytes) -> list[Event]:
        """The events that `data` completes.

        Raises:
            FramingError: an event grew past `MAX_EVENT_BYTES`.
        """
        ...

    def close(self) -> list[Event]:
        """The event that the end of the body completes, where one was left without its terminator."""
        ...

    @property
    def pending(self) -> bytes:
        """Bytes of an event that is not complete yet."""
        ...


class Buffered:
    """What splitters have in common: the bytes of an event that is not complete yet."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> bytes:
        return bytes(self._buffer)


class SseSplitter(Buffered):
    """Server-sent events, with LF, CRLF or CR line ends. Events without data (comments, empty `data:`) are left out.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, 9.2.6 (read 2026-11-21).
    """

    __slots__ = ("_after_cr", "_first")

    def __init__(self) -> None:
        super().__init__()
        self._after_cr = False
        self._first = True

    def begins(self, start: bytes) -> bool:
        """Whether what is pending begins so."""
        return self._buffer.startswith(start)

    def feed(self, data: bytes) -> list[Event]:
        text = self.take(data)
        return parse_events(text) if text else []

    def take(self, data: bytes) -> bytes:
        """The text of the events that `data` completes, unparsed: line ends are LF, and it ends with a blank line.

        Raises:
            FramingError: an event grew past `MAX_EVENT_BYTES`.
        """
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")  # the second half of a CRLF that was cut in two
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        buffer = self._buffer
        if not buffer and data.endswith(b"\n\n"):
            return self._without_bom(data)
        searched = max(len(buffer) - 1, 0)
        buffer += data
        end = buffer.rfind(b"\n\n", searched)
        if end < 0:
            if len(buffer) > MAX_EVENT_BYTES:
                raise FramingError(f"an event is longer than {MAX_EVENT_BYTES} bytes")
            return b""
        complete = bytes(buffer[: end + 2])
        del buffer[: end + 2]
        return self._without_bom(complete)

    def close(self) -> list[Event]:
        rest = bytes(self._buffer)
        self._buffer.clear()
        return parse_events(self._without_bom(rest))

    def _without_bom(self, text: bytes) -> bytes:
        if self._first:
            self._first = False
            return text.removeprefix(_BOM)
        return text


def parse_events(text: bytes) -> list[Event]:
    """The events in text with LF line ends."""
    events: list[Event] = []
    for block in text.split(b"\n\n"):
        if block[:6] == b"data: " and b"\n" not in block:  # what nearly every event looks like
            if len(block) > 6:
                events.append((None, block[6:]))
        elif (event := _parse(block)) is not None:
            events.append(event)
    return events


def _parse(block: bytes) -> Event | None:
    """The event of some lines; None where they carry no data."""
    name: str | None = None
    data: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    payload = b"\n".join(data)
    return (name, payload) if payload else None


class JsonLinesSplitter(Buffered):
    """One JSON value a line (NDJSON)."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[Event]:
        buffer = self._buffer
        searched = len(buffer)
        buffer += data
        end = buffer.rfind(b"\n", searched)
        if end < 0:
            if len(buffer) > MAX_EVENT_BYTES:
                raise FramingError(f"a line is longer than {MAX_EVENT_BYTES} bytes")
            return []
        complete = bytes(buffer[:end])
        del buffer[: end + 1]
        return [(None, line) for line in map(bytes.strip, complete.split(b"\n")) if line]

    def close(self) -> list[Event]:
        rest = bytes(self._buffer).strip()
        self._buffer.clear()
        return [(None, rest)] if rest else []


_STRUCTURE = re.compile(rb'["{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')


class JsonArraySplitter(Buffered):
    """The objects of one top-level JSON array that arrives in pieces, as Gemini streams without `alt=sse`."""

    __slots__ = ("_at", "_depth", "_in_string")

    def __init__(self) -> None:
        super().__init__()
        self._at = 0
        self._depth = 0
        self._in_string = False

    @property
    def pending(self) -> bytes:
        return bytes(self._buffer).strip(b" \r\n\t[],")

    def feed(self, data: bytes) -> list[Event]:
        buffer = self._buffer
        buffer += data
        events: list[Event] = []
        start, at = 0, self._at
        while hit := (_IN_STRING if self._in_string else _STRUCTURE).search(buffer, at):
            at = hit.end()
            token = hit[0]
            if token == b"\\":
                if at == len(buffer):  # the escaped byte has not come yet
                    at -= 1
                    break
                at += 1
            elif token == b'"':
                self._in_string = not self._in_string
            elif token == b"{":
                if self._depth == 0:
                    start = hit.start()
                self._depth += 1
            elif token == b"}":
                self._depth -= 1
                if self._depth == 0:
                    events.append((None, bytes(buffer[start:at])))
                    start = at
        else:
            at = len(buffer)
        del buffer[:start]
        self._at = at - start
        if len(buffer) > MAX_EVENT_BYTES:
            raise FramingError(f"an array element is longer than {MAX_EVENT_BYTES} bytes")
        return events

    def close(self) -> list[Event]:
        rest = self.pending
        self._buffer.clear()
        return [(None, rest)] if rest else []
