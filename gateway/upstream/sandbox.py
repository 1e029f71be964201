"""The transport to the built-in sandbox: replies made in this process, with the latency and the faults asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx

from adapters.sandbox import SANDBOX_HOST, Reply, answer, listing
from gateway.types import Endpoint, Timeouts
from gateway.upstream.client import upstream_error
from gateway.upstream.engine import errors
from gateway.upstream.engine.headers import head_of

__all__ = ["SANDBOX_HOST", "SandboxTransport"]


class SandboxTransport(httpx.AsyncBaseTransport):
    """Answers every request from `adapters.sandbox`; opens no connection."""

    async def send(self, endpoint: Endpoint, body: bytes, timeouts: Timeouts, extra: bytes = b"") -> SandboxResponse:
        """The hot path, as the engine's: returns once the head of the answer is due."""
        reply = listing() if endpoint.method == "GET" else answer(body)
        patience_s = min(timeouts.first_byte_s, timeouts.total_s)
        if reply.latency_s > patience_s:
            await asyncio.sleep(patience_s)
            raise errors.FirstByteTimeout(f"no answer within {patience_s:g} s")
        if reply.latency_s:
            await asyncio.sleep(reply.latency_s)
        return SandboxResponse(reply, timeouts.idle_s)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        reply = listing() if request.method == "GET" else answer(await request.aread())
        await asyncio.sleep(reply.latency_s)
        return httpx.Response(reply.status, headers=dict(reply.headers), content=b"".join(reply.pieces))


class SandboxResponse:
    """A reply with the engine's reading interface."""

    def __init__(self, reply: Reply, idle_s: float) -> None:
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self.head = head_of(reply.headers.items())
        self.lowered = self.head.lower()
        self._pieces = list(reply.pieces) if reply.gap_s else [b"".join(reply.pieces)]
        self._gap_s = reply.gap_s
        self._idle_s = idle_s
        self._cut = reply.cut
        self._next = 0
        self._error: BaseException | None = None
        self._woken: asyncio.Event | None = None

    async def read(self, cap: int | None = None) -> bytes:
        """The body, or what is left of it."""
        data = b"".join([piece async for piece in self])
        if cap is not None and len(data) > cap:
            raise upstream_error(errors.TooLarge(f"the response body is larger than {cap} bytes"))
        return data

    def chunks(self) -> AsyncIterator[bytes]:
        """The pieces, each when it is due."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._next and self._next < len(self._pieces):
            await self._pause(self._gap_s)
        if self._error is not None:
            raise self._error
        if self._next == len(self._pieces):
            if self._cut:
                raise upstream_error(errors.Truncated("the connection ended within the response"))
            raise StopAsyncIteration
        self._next += 1
        return self._pieces[self._next - 1]

    def abort(self) -> None:
        """Nothing more comes."""
        self.fail(upstream_error(errors.Disconnected("the exchange was given up by its reader")))

    def fail(self, error: BaseException) -> None:
        """Like `abort()`, and whoever waits for the response is woken with this error."""
        self._error = error
        if self._woken is not None:
            self._woken.set()

    def finish(self) -> None:
        """The reader has all it wants."""
        self._next = len(self._pieces)
        self._cut = False

    async def _pause(self, seconds: float) -> None:
        """Waits, unless an error ends it; no longer than the idle timeout."""
        self._woken = asyncio.Event()
        try:
            await asyncio.wait_for(self._woken.wait(), min(seconds, self._idle_s))
        except TimeoutError:
            if seconds > self._idle_s:
                self._error = upstream_error(errors.IdleTimeout(f"no bytes for {self._idle_s:g} s"))
