"""Compressed bodies, for providers that send them unasked. Every step's output is bounded: a bomb stays small."""

from __future__ import annotations

import zlib

from gateway.upstream.engine.errors import ProtocolError, TooLarge, Truncated

_STEP_BYTES = 64 * 1024
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_GZIP = 16 + zlib.MAX_WBITS
_MOST_MEMBERS = 10_000
"""Empty ones cost time without growing."""
_NOT_AS_SAID = "the response body is not compressed as its content-encoding says"


class Decoder:
    """Inflates a gzip or deflate body piece by piece, up to `cap` bytes in all."""

    def __init__(self, encoding: str, cap: int) -> None:
        """
        Raises:
            ProtocolError: an encoding that was not asked for and is not known here.
        """
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise ProtocolError("the response has a content-encoding that was not asked for and is not supported")
        self._deflate = encoding == "deflate"
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._started = False
        self._members = 1
        self._waiting = b""
        self._at = 0
        """How much of what waits has been inflated."""
        self._cap = cap
        self._grown = 0

    def decode(self, data: bytes, *, last: bool) -> bytes:
        """At most 64 KiB of the body; call again with b"" until nothing is returned. `last` once all has been given.

        Raises:
            TooLarge: the body has grown past the cap.
            ProtocolError: it is not compressed as its header says.
            Truncated: it ends within the compressed stream.
        """
        if data:
            self._waiting = self._waiting[self._at :] + data
            self._at = 0
        waiting = self._waiting
        if waiting and not self._started:
            self._started = True
            if self._deflate and not _looks_like_zlib(waiting):
                self._inflater = zlib.decompressobj(
                    -zlib.MAX_WBITS
                )  # some servers send "deflate" without zlib's header
        piece = b""
        while not piece and self._at < len(waiting):
            step = waiting[self._at : self._at + _STEP_BYTES]
            if self._inflater.eof:
                member = step.lstrip(b"\0")  # padding, as files have it
                self._at += len(step) - len(member)
                if member:
                    self._begin_member()
                continue
            try:
                piece = self._inflater.decompress(step, _STEP_BYTES)
            except zlib.error:
                raise ProtocolError(_NOT_AS_SAID) from None
            inflater = self._inflater
            self._at += len(step) - len(inflater.unused_data if inflater.eof else inflater.unconsumed_tail)
        self._grown += len(piece)
        if self._grown > self._cap:
            raise TooLarge(f"the response body inflates to more than {self._cap} bytes")
        if last and not piece and self._started and not self._inflater.eof:
            raise Truncated("the compressed response body is cut short")
        return piece

    def _begin_member(self) -> None:
        """What follows the end of a gzip member is another one, and all together are the body (RFC 1952, section 2.2).

        Raises:
            ProtocolError: nothing may follow there, or there are more than anybody sends in good faith.
        """
        self._members += 1
        if self._deflate or self._members > _MOST_MEMBERS:
            raise ProtocolError(_NOT_AS_SAID)
        self._inflater = zlib.decompressobj(_GZIP)


def _looks_like_zlib(data: bytes) -> bool:
    return data[0] & 0x0F == zlib.DEFLATED and (len(data) < 2 or (data[0] << 8 | data[1]) % 31 == 0)
