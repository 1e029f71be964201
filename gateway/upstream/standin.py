"""The hot path's interface over any httpx transport: a proxy, HTTP/2, or a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import httpx

from gateway.types import Endpoint, Timeouts
from gateway.upstream.engine import errors
from gateway.upstream.engine.headers import head_of
from gateway.upstream.failures import FAILURES, upstream_error


class StandIn:
    """Sends as the engine does, by a transport that has no hot path of its own."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, endpoint: Endpoint, body: bytes, timeouts: Timeouts, extra: bytes = b"") -> StandInResponse:
        origin = endpoint.origin
        request = httpx.Request(
            endpoint.method,
            f"{origin.scheme}://{origin.authority}{endpoint.target}",
            headers=[*endpoint.headers, *_header_lines(extra)],
            content=body,
            extensions={
                "timeout": {
                    "pool": timeouts.pool_s,
                    "connect": timeouts.connect_s,
                    "read": timeouts.first_byte_s,
                    "write": timeouts.idle_s,
                },
                "allow_private": origin.allow_private,
            },
        )
        ends = asyncio.get_running_loop().time() + timeouts.total_s
        try:
            async with asyncio.timeout(min(timeouts.first_byte_s, timeouts.total_s)):
                response = await self._transport.handle_async_request(request)
        except tuple(FAILURES) as error:
            raise upstream_error(error) from error
        return StandInResponse(response, timeouts.idle_s, ends)


class StandInResponse:
    """An httpx response with the engine's reading interface."""

    def __init__(self, response: httpx.Response, idle_s: float, ends: float) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)
        self.head = head_of(response.headers.multi_items())
        self.lowered = self.head.lower()
        self._response = response
        self._bytes = response.aiter_bytes()
        self._idle_s = idle_s
        self._ends = ends
        self._step: asyncio.Task[bytes] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._error: BaseException | None = None

    async def read(self, cap: int | None = None) -> bytes:
        data = bytearray()
        async for piece in self:
            data += piece
            if cap is not None and len(data) > cap:
                self.abort()
                raise upstream_error(errors.TooLarge(f"the response body is larger than {cap} bytes"))
        return bytes(data)

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._error is not None:
            raise self._error
        left_s = self._ends - asyncio.get_running_loop().time()
        self._step = asyncio.ensure_future(_next(self._bytes))
        try:
            async with asyncio.timeout(min(self._idle_s, max(left_s, 0))):
                piece = await self._step
        except asyncio.CancelledError:
            if self._error is not None:  # it was the step that was cancelled, by fail()
                raise self._error from None
            raise
        except tuple(FAILURES) as error:
            raise upstream_error(error) from error
        finally:
            self._step = None
        if not piece:
            raise StopAsyncIteration
        return piece

    def abort(self) -> None:
        self.fail(upstream_error(errors.Disconnected("the exchange was given up by its reader")))

    def finish(self) -> None:
        self.abort()

    def fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
            if self._step is not None:
                self._step.cancel()
            self._closing = asyncio.ensure_future(self._response.aclose())


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    """The next piece that is not empty; b"" at the end."""
    async for piece in pieces:
        if piece:
            return piece
    return b""


def _header_lines(lines: bytes) -> list[tuple[str, str]]:
    named = (line.partition(": ") for line in lines.decode("latin-1").splitlines())
    return [(name, value) for name, _, value in named]
