"""uvicorn's HTTP/1.1 protocol with a short way out for the endpoints that are called all the time.

Through ASGI a reply's head and body are two messages and two writes, and every header is searched for forbidden
characters on its own. An endpoint that is served by this protocol finds an `Outlet` in its scope instead.
"""

from __future__ import annotations

import random
import time
from asyncio import Transport
from typing import Any

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.errors import CallerError, Kind
from gateway.ledger.attempt import new_request_id

OUTLET = "tiergate.outlet"
"""Name of the ASGI extension under which a scope offers its `Outlet`."""
_JOIN_BYTES = 16 * 1024
"""Bodies up to this size are copied behind their head; larger ones are handed over apart."""
_HEAD_BYTES = 64 * 1024
"""A request's head that is longer and has not come in one read is refused: until it is whole nobody knows who asks."""


class Outlet:
    """Where one request's reply goes. As a callable it is ASGI's `send`; the two ways must not be mixed."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    async def __call__(self, message: Any) -> None:
        await self._cycle.send(message)

    async def begin(self, status: int, lines: bytes, body: bytes, *, more: bool) -> None:
        """Sends the head, framed here, with the body, or where there is `more` with its first part.

        `lines` are checked header lines, each ending in CRLF.
        """
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        if more:
            cycle.chunked_encoding = True
            first = _chunk(body) if body else b""
            cycle.transport.write(b"%b%btransfer-encoding: chunked\r\n%b%b" % (STATUS_LINE[status], lines, end, first))
            return
        size = len(body)
        head = b"%b%bcontent-length: %d\r\n%b" % (STATUS_LINE[status], lines, size, end)
        if size <= _JOIN_BYTES:
            cycle.transport.write(head + body)
        else:
            cycle.transport.writelines((head, body))
        self._complete()

    async def go_on(self, data: bytes, *, more: bool) -> None:
        """Sends the next part of the body, or the last one. Returns once the caller reads fast enough again."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        chunk = _chunk(data) if data else b""
        cycle.transport.write(chunk if more else chunk + b"0\r\n\r\n")
        if not more:
            self._complete()

    def _complete(self) -> None:
        cycle = self._cycle
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()


class Protocol(HttpToolsProtocol):
    """A connection of a caller. Its timer looks after the connection, not after each request."""

    _idle_since = 0.0
    _heard = False
    """Whether anything has come since the timer last looked."""
    _in_head = False
    _head_bytes = 0
    """How much of the reads so far belongs to a head that is not whole yet."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._look_again_in(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                head = self._without_upgrade()
                self.parser.feed_data(head + data[upgrade.args[0] :])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # the latter: again, or CONNECT
            self.send_400_response("What was sent cannot be read as an HTTP request.")
        else:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > _HEAD_BYTES:
                    self._refuse(431, f"The request's head is larger than {_HEAD_BYTES:,} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:  # else it asked to upgrade
            self.scope["extensions"] = {OUTLET: Outlet(cycle)}  # type: ignore[dict-item]  # ours is callable

    def _should_upgrade(self) -> bool:
        """So that a request which asks for another protocol is not begun before that wish is taken out of it."""
        return True

    def _without_upgrade(self) -> bytes:
        """The head of the request that asks for another protocol (Java's client asks for `h2c` with every one), without
        that wish, for a new parser. The old one takes the body for the other protocol, and the rest for a new request.

        Source: https://www.rfc-editor.org/rfc/rfc9110#section-7.8, a server may ignore it (read 2026-11-21).
        """
        method, version = self.scope["method"].encode(), self.scope["http_version"].encode()
        first = b"%b %b HTTP/%b\r\n" % (method, self.url, version)
        kept = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return first + b"".join(kept) + b"\r\n"

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _refuse(self, status: int, message: str) -> None:
        """Answers what cannot be read as a request, and closes: what follows has no certain beginning. Where an earlier
        request is still being answered, nothing is put into that answer."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        request_id = new_request_id(time.time(), random.SystemRandom())
        error = CallerError(Kind.BAD_REQUEST, message)
        body = msgspec.json.encode(error.envelope(request_id))
        self.transport.write(
            b"%bcontent-type: application/json\r\nx-request-id: %b\r\nx-gateway-request-id: %b\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[status], request_id.encode(), request_id.encode(), len(body), body)
        )
        self.transport.close()

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection where it has been idle for so long, or silent within a request; else looks again when
        it may have been."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.more_body and not self._heard:
                super().timeout_keep_alive_handler()
                return
            self._heard = False
            self._look_again_in(self.timeout_keep_alive)
        elif (left_s := self._idle_since + self.timeout_keep_alive - self.loop.time()) > 0:
            self._look_again_in(left_s)
        else:
            super().timeout_keep_alive_handler()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """The timer goes on: it sees for itself whether anything happened meanwhile."""


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
