"""A whole, plain request to an endpoint that is called all the time, past ASGI; and what tells the next one like it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.api.inbound import NO_HEAD, Head

if TYPE_CHECKING:
    from gateway.protocol import Protocol

_JOIN_BYTES = 32 * 1024
"""Bodies up to this size are copied behind their head; larger ones are handed over apart."""
_DIGITS = 10
"""More of them than any body's length has that is taken here."""


class Hot(NamedTuple):
    """An endpoint that is called all the time: it is handed requests of up to so many bytes past ASGI."""

    serve: Callable[[Direct], Coroutine[Any, Any, None]]
    """Answers every request, errors included, and raises nothing."""
    most_bytes: int


class Direct:
    """A whole request to a hot endpoint, and the way its reply goes: an `Inbound` (see `gateway.api.inbound`).

    For the protocol it stands where uvicorn's own cycle of request and response would.
    """

    __slots__ = (
        "_connection",
        "_lines",
        "_on_left",
        "_status",
        "content",
        "disconnected",
        "head",
        "keep_alive",
        "left",
        "more_body",
        "response_complete",
        "response_started",
        "task",
    )
    task: asyncio.Task[Any]
    """Serves it."""

    def __init__(self, connection: Protocol, head: Head, *, keep_alive: bool) -> None:
        self.head = head
        self.keep_alive = keep_alive
        self.content = b""
        """The request body, which is not longer than the endpoint takes."""
        self.more_body = True
        self.disconnected = self.response_started = self.response_complete = False
        self.left = False
        """Whether its caller went before the reply was complete."""
        self._connection = connection
        self._on_left: Callable[[], None] | None = None
        self._status = 200
        self._lines = b""

    @property
    def client(self) -> str | None:
        client = self._connection.client
        return client[0] if client else None

    async def body(self, limit: int) -> bytes:
        """The request body; nobody has to wait for `content`."""
        return self.content

    def watch(self, on_left: Callable[[], None]) -> None:
        """Calls this once when the caller goes before the reply is complete.

        What is left to do may take long, and the request has been read: its headers are let go.
        """
        self.head = NO_HEAD
        self._on_left = on_left
        if self.disconnected:
            self.leave()

    def leave(self) -> None:
        """The connection is lost."""
        on_left, self._on_left = self._on_left, None
        if on_left is not None:
            self.left = True
            on_left()

    def close(self) -> None:
        """The request is over: a departure is of no interest any more."""
        self._on_left = None

    def reply(self, status: int, lines: bytes) -> None:
        """How the reply begins: `lines` are checked header lines, each ending in CRLF, without the body's framing."""
        self._status = status
        self._lines = lines

    def write(self, data: bytes, *, more: bool = False) -> Awaitable[None] | None:
        """Sends a part of the reply, its head with the first.

        Gives what to wait for before anything else is done, until the caller reads fast enough again; None where that
        is so, as a rule: a coroutine for each part would cost more than the writing.
        """
        connection = self._connection
        flow = connection.flow
        if self.disconnected:
            return None
        if flow.write_paused and not self.response_started:
            return self._write_later(data, more)
        write = connection.transport.write
        if self.response_started:
            chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            write(chunk if more else chunk + b"0\r\n\r\n")
        else:
            self.response_started = True
            end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
            size, status = len(data), STATUS_LINE[self._status]
            if more:
                chunk = b"%x\r\n%b\r\n" % (size, data) if data else b""
                write(b"%b%btransfer-encoding: chunked\r\n%b%b" % (status, self._lines, end, chunk))
            elif size <= _JOIN_BYTES:
                write(b"%b%bcontent-length: %d\r\n%b%b" % (status, self._lines, size, end, data))
            else:
                head = b"%b%bcontent-length: %d\r\n%b" % (status, self._lines, size, end)
                connection.transport.writelines((head, data))
        if not more:
            self.response_complete = True
            if not self.keep_alive:
                connection.transport.close()
            connection.on_response_complete()
        elif flow.write_paused:
            return flow.drain()  # not before writing, lest more be taken from the provider meanwhile
        return None

    async def _write_later(self, data: bytes, more: bool) -> None:
        """The replies before this one are not read yet."""
        await self._connection.flow.drain()
        if (waiting := self.write(data, more=more)) is not None:
            data = b""  # not to be held meanwhile
            await waiting

    # uvicorn's protocol tells its cycle of a lost connection by setting its event; here `leave()` is called.
    @property
    def message_event(self) -> Direct:
        return self

    def set(self) -> None:
        """Nobody waits for this event."""


class Beginning:
    """How a plain request of a connection began: its head apart from the length of its body.

    Most requests of a connection differ in nothing else, and are known by it without being parsed again: the parser has
    accepted these very bytes, and would say the same of them.
    """

    __slots__ = ("_after", "_after_size", "_at", "_before", "head", "hot")

    def __init__(self, before: bytes, after: bytes, head: Head, hot: Hot) -> None:
        """`before` goes up to the digits of its Content-Length, `after` from there to the head's end."""
        self._before = before
        self._at = len(before)
        self._after = after
        self._after_size = len(after)
        self.head = head
        self.hot = hot

    @classmethod
    def of(cls, chunk: bytes, direct: Direct, hot: Hot) -> Beginning | None:
        """That of a request which was all of this chunk; None where it was not, or its head is written oddly."""
        size = direct.head.fields[b"content-length"]
        end = len(chunk) - int(size)
        head = chunk[:end]
        at = head.lower().find(b"\r\ncontent-length: ") + 18
        if (
            at < 18
            or not head.startswith(size + b"\r\n", at)
            or head.find(b"\r\n\r\n") + 4 != end
            or head.count(b"\n") != head.count(b"\r\n")  # the parser may take other ends of lines
            or not head.startswith(b"POST ")
        ):
            return None
        return cls(head[:at], head[at + len(size) :], direct.head, hot)

    def body(self, chunk: bytes) -> bytes | None:
        """The body of a request that is all of this chunk and begins alike; None of any other."""
        at = self._at
        end = chunk.find(b"\r", at, at + _DIGITS)
        start = end + self._after_size
        if (
            chunk.startswith(self._before)
            and chunk.startswith(self._after, end)
            and chunk[at:end] == b"%d" % (len(chunk) - start)
        ):
            return chunk[start:]
        return None
