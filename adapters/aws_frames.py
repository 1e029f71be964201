"""AWS's binary event stream, split into events.

A frame is: total length, length of the headers (both 32 bits, big-endian), CRC-32 of these eight bytes, headers,
payload, CRC-32 of all before it. The name of an event is its `:event-type`, or its `:exception-type`.
Source: https://docs.aws.amazon.com/transcribe/latest/dg/streaming-setting-up.html (read 2026-11-21).
"""

from __future__ import annotations

import struct
import zlib

from adapters.framing import MAX_EVENT_BYTES, Buffered, Event, FramingError

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_TEXT = 7
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type, where the type alone tells them; the others carry their length."""
_NAMES = (b":event-type", b":exception-type", b":error-code")


class AwsSplitter(Buffered):
    """Frames of an AWS event stream."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[Event]:
        buffer = self._buffer
        buffer += data
        events: list[Event] = []
        at = 0
        while len(buffer) - at >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(buffer, at)
            if zlib.crc32(buffer[at : at + 8]) != crc or not 16 + headers <= total <= MAX_EVENT_BYTES:
                raise FramingError("a frame's prelude is damaged")
            if len(buffer) - at < total:
                break
            frame = bytes(buffer[at : at + total])
            if zlib.crc32(frame[:-4]) != _CRC.unpack_from(frame, total - 4)[0]:
                raise FramingError("a frame is damaged")
            events.append((_name(frame[12 : 12 + headers]), frame[12 + headers : -4]))
            at += total
        del buffer[:at]
        return events

    def close(self) -> list[Event]:
        """No event: an incomplete frame is lost."""
        self._buffer.clear()
        return []


def _name(headers: bytes) -> str | None:
    at = 0
    try:
        while at < len(headers):
            size = headers[at]
            name, kind = headers[at + 1 : at + 1 + size], headers[at + 1 + size]
            at += size + 2
            length = _FIXED_SIZES.get(kind)
            if length is None:
                length = int.from_bytes(headers[at : at + 2], "big")
                at += 2
            if kind == _TEXT and name in _NAMES:
                return headers[at : at + length].decode("utf-8", "replace")
            at += length
    except IndexError:
        raise FramingError("a frame's headers are damaged") from None
    return None
