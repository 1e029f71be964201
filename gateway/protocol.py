"""uvicorn's HTTP/1.1 protocol with a short way out for the endpoints that are called all the time.

Through ASGI a reply's head and body are two messages and two writes, and every header is searched for forbidden
characters on its own. An endpoint that is served by this protocol finds an `Outlet` in its scope instead.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

OUTLET = "tiergate.outlet"
"""Name of the ASGI extension under which a scope offers its `Outlet`."""
_JOIN_BYTES = 16 * 1024
"""Bodies up to this size are copied behind their head; larger ones are handed over apart."""


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
    """A connection of a caller. Its keep-alive timer looks after the connection, not after each request."""

    _idle_since = 0.0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle = self.cycle
        if cycle is not None and cycle.scope is self.scope:  # else it asked to upgrade
            self.scope["extensions"] = {OUTLET: Outlet(cycle)}  # type: ignore[dict-item]  # ours is callable

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
        """Closes the connection where it has been idle for so long; else looks again when it may have been."""
        if self.cycle is not None and not self.cycle.response_complete:
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
