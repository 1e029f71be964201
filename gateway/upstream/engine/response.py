"""A response as its reader sees it. It outlives its connection, which may serve others while this is being read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from gateway.upstream.engine.decoding import Decoder
from gateway.upstream.engine.errors import Disconnected, EngineError, TooLarge
from gateway.upstream.engine.headers import Headers

if TYPE_CHECKING:
    from gateway.upstream.engine.connection import Connection

_DECODED_AWAY = frozenset({"content-encoding", "content-length"})


class Response(AsyncIterator[bytes]):
    """Status, headers and body of one exchange, read by one task.

    Its reader ends it in one of three ways: reads the body to its end, calls `finish()`, or calls `abort()`.
    """

    __slots__ = (
        "_body_cap",
        "_connection",
        "_decoder",
        "_error",
        "_headers",
        "_loop",
        "_rest",
        "complete",
        "head",
        "lowered",
        "status",
        "translate",
        "waiter",
        "whole",
    )

    def __init__(self, connection: Connection, body_cap: int, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        """That of the final head, 0 before it has come."""
        self.head = self.lowered = b""
        """Status line and headers as they came, each ending in CRLF; and in lower case, to be searched."""
        self.complete = False
        """Whether the message end has arrived."""
        self.whole = False
        """Whether its reader waits for the end rather than for the next bytes."""
        self.translate: Callable[[EngineError], Exception] | None = None
        """Turns the engine's errors into those of its reader's layer."""
        self.waiter: asyncio.Future[None] | None = None
        """While its reader waits: what wakes it."""
        self._connection: Connection | None = connection
        self._body_cap = body_cap
        self._loop = loop  # asking which one is running is a system call in CPython 3.11
        self._error: BaseException | None = None
        self._rest = b""
        self._headers: Headers | None = None
        self._decoder: Decoder | None = None

    @property
    def headers(self) -> Headers:
        """By lower-case name; without Content-Encoding and Content-Length where the body is decoded here."""
        if self._headers is None:
            self._headers = Headers(self.head, _DECODED_AWAY if self._decoder else frozenset())
        return self._headers

    async def read(self, cap: int | None = None) -> bytes:
        """The body, or what is left of it. Does not suspend where all of it has arrived.

        Raises:
            EngineError: `TooLarge` beyond `cap` bytes (default: the engine's), or the exchange failed.
        """
        cap = self._body_cap if cap is None else cap
        if self._connection is not None:
            self.whole = True
            self._connection.buffer_up_to(cap)
        while not self.complete and self._error is None:
            try:
                await self._arrival()
            finally:
                self.waiter = None
        if self._error is not None:
            raise self._raised(self._error)
        if self._decoder is None:
            data, self._rest = self._rest, b""
        else:
            data = self._inflated(cap)
        if len(data) > cap:
            raise self._raised(TooLarge(f"the response body is larger than {cap} bytes"))
        return data

    def chunks(self) -> AsyncIterator[bytes]:
        """What has arrived, joined, as it arrives; never empty. May be left and taken up again.

        Raises:
            EngineError: the exchange failed; what had arrived before was given first.
        """
        return self  # not a generator: one that is left early costs a task to close it

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            # Else there is nothing to take, as before nearly every wait: to ask costs a twentieth of relaying an event.
            if self._connection is None or self._connection.parts or self._decoder is not None:
                data = self._take()
                if data:
                    return data
                if self._error is not None:
                    raise self._raised(self._error)
                if self.complete:
                    raise StopAsyncIteration
            try:
                await self._arrival()
            finally:
                self.waiter = None

    def abort(self) -> None:
        """Gives up the connection at once. Nothing happens where the message end has arrived."""
        self.fail(Disconnected("the exchange was given up by its reader"))

    def fail(self, error: BaseException) -> None:
        """Like `abort()`, and whoever waits for the response is woken with this error."""
        connection = self._connection
        if connection is not None:
            connection.fail(error)

    def finish(self) -> None:
        """The reader has all it wants: what is left is discarded, and the connection saved where little is left."""
        connection, self._connection = self._connection, None
        self.complete = True
        self._rest = b""
        if connection is not None:
            connection.drain()

    # ------------------------------------------------------------ called by the connection

    def decode(self) -> None:
        """The head has a Content-Encoding.

        Raises:
            ProtocolError: one that is not supported.
        """
        encoding = self.headers.get("content-encoding", "").lower()
        if encoding not in ("", "identity"):
            self._decoder = Decoder(encoding, self._body_cap)
            self._headers = None

    def ended(self, rest: bytes, error: BaseException | None = None) -> None:
        """The last bytes, and why there will be no more where that is not the message's end."""
        if self._connection is None:
            return  # its reader has finished with it
        self._connection = None
        self._rest = rest
        self._error = error
        self.complete = error is None
        self.wake()

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def begun(self) -> None:
        """Returns once the final head has arrived; gives up the connection on every other way out."""
        if not self.status and self._error is None:
            try:
                await self._arrival()
            except BaseException:
                self.abort()
                raise
        if not self.status and self._error is not None:
            raise self._error

    # ------------------------------------------------------------ own parts

    def _arrival(self) -> asyncio.Future[None]:
        """To be awaited: done when something has arrived."""
        waiter = self.waiter = self._loop.create_future()
        return waiter

    def _take(self) -> bytes:
        if self._connection is not None:
            data = self._connection.take()
        else:
            data, self._rest = self._rest, b""
        if self._decoder is None:
            return data
        try:
            return self._decoder.decode(data, last=self.complete)
        except EngineError as error:
            self.abort()
            raise self._raised(error) from None

    def _raised(self, error: BaseException) -> BaseException:
        if self.translate is not None and isinstance(error, EngineError):
            translated = self.translate(error)
            translated.__cause__ = error
            return translated
        return error

    def _inflated(self, cap: int) -> bytes:
        piece = self._take()
        pieces = [piece]
        size = len(piece)
        while piece and size <= cap:
            piece = self._take()
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)
