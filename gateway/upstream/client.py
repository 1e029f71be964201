"""How the gateway reaches providers: one object over one transport, one table of what its failures mean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import httpx

from gateway.errors import Kind, UpstreamError
from gateway.types import Endpoint, Timeouts
from gateway.upstream.engine import EngineError, Response, errors


class UpstreamResponse(Protocol):
    """What an answer's reader has, whichever transport brought it; `engine.Response` says what each member means."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...
    async def read(self, cap: int | None = None) -> bytes: ...
    def chunks(self) -> AsyncIterator[bytes]: ...
    def abort(self) -> None: ...
    def finish(self) -> None: ...
    def fail(self, error: BaseException) -> None: ...


@runtime_checkable
class Sender(Protocol):
    """A transport with a hot path of its own."""

    async def send(
        self, endpoint: Endpoint, body: bytes, timeouts: Timeouts, extra: bytes = b""
    ) -> UpstreamResponse: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A small answer, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """What an exchange's failure is to the gateway."""

    kind: Kind
    message: str
    unsent: bool = False
    """Whether it can only happen before a byte of the request was written."""


_UNREACHABLE = Failure(Kind.UNREACHABLE, "The provider could not be reached.", unsent=True)
_CONNECT_TIMEOUT = Failure(Kind.UNREACHABLE, "The provider did not accept a connection in time.", unsent=True)
_POOL = Failure(Kind.TIMED_OUT, "All connections to the provider stayed busy.", unsent=True)
_TLS = Failure(Kind.UNREACHABLE, "No trusted connection to the provider could be made.", unsent=True)
_WRITE = Failure(Kind.BROKEN, "The request could not be sent to the provider whole.")
_FIRST_BYTE = Failure(Kind.TIMED_OUT, "The provider did not begin its answer in time.")
_IDLE = Failure(Kind.TIMED_OUT, "The provider's answer stopped coming.")
_TOTAL = Failure(Kind.TIMED_OUT, "The provider's answer took too long.")
_CUT = Failure(Kind.BROKEN, "The provider's answer was cut short.")
_GARBLED = Failure(Kind.BROKEN, "The provider's answer is not valid HTTP.")
_TOO_LARGE = Failure(Kind.BROKEN, "The provider's answer is larger than the gateway reads.")
_HUNG_UP = Failure(Kind.BROKEN, "The provider closed the connection without an answer.")

FAILURES: Mapping[type[Exception], Failure] = {
    errors.PoolTimeout: _POOL,
    errors.ConnectFailed: _UNREACHABLE,
    errors.ConnectTimeout: _CONNECT_TIMEOUT,
    errors.TlsFailed: _TLS,
    errors.WriteFailed: _WRITE,
    errors.FirstByteTimeout: _FIRST_BYTE,
    errors.IdleTimeout: _IDLE,
    errors.TotalTimeout: _TOTAL,
    errors.Truncated: _CUT,
    errors.ProtocolError: _GARBLED,
    errors.TooLarge: _TOO_LARGE,
    errors.Disconnected: _HUNG_UP,
    httpx.PoolTimeout: _POOL,
    httpx.ConnectError: _UNREACHABLE,
    httpx.ConnectTimeout: _CONNECT_TIMEOUT,
    httpx.ProxyError: _UNREACHABLE,
    httpx.UnsupportedProtocol: _UNREACHABLE,
    httpx.LocalProtocolError: _UNREACHABLE,
    httpx.WriteError: _WRITE,
    httpx.WriteTimeout: Failure(Kind.TIMED_OUT, "The provider stopped reading the request."),
    httpx.ReadTimeout: _IDLE,
    httpx.ReadError: _CUT,
    httpx.CloseError: _CUT,
    httpx.RemoteProtocolError: _GARBLED,
    TimeoutError: _TOTAL,
}
"""By exact type, our engine's failures and those of any other httpx transport."""


def upstream_error(error: Exception) -> UpstreamError:
    """The gateway's error for a transport's: unbilled only where provably no byte of the request was written."""
    failure = FAILURES[type(error)]
    sent = error.sent if isinstance(error, EngineError) else not failure.unsent
    return UpstreamError(failure.kind, failure.message, billed=sent)


class Upstream:
    """The one way out. `mounts` serve certain hosts by other transports, such as the built-in sandbox."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, mounts: Mapping[str, httpx.AsyncBaseTransport] | None = None
    ) -> None:
        self._transport = transport
        self._mounted = tuple((mounts or {}).values())
        self._sender = _sender(transport)
        self._senders = {host: _sender(mounted) for host, mounted in (mounts or {}).items()}

    async def send(self, endpoint: Endpoint, body: bytes, timeouts: Timeouts, extra: bytes = b"") -> UpstreamResponse:
        """Sends a request and returns once the final response head has arrived.

        `extra` are header lines of our own making, each ending in CRLF. The response must be read to its end, finished
        or aborted; its methods raise as this does.

        Raises:
            UpstreamError: UNREACHABLE, TIMED_OUT or BROKEN; whatever status came is an answer, not an error.
        """
        sender = self._senders.get(endpoint.origin.host, self._sender)
        try:
            response = await sender.send(endpoint, body, timeouts, extra)
        except EngineError as error:
            raise upstream_error(error) from error
        if isinstance(response, Response):
            response.translate = upstream_error
        return response

    async def get(self, endpoint: Endpoint, timeouts: Timeouts) -> Answer:
        """The whole answer to a request without a body, such as a model list.

        Raises:
            UpstreamError: as for `send()`.
        """
        response = await self.send(endpoint, b"", timeouts)
        try:
            return Answer(response.status, response.headers, await response.read())
        finally:
            response.finish()

    def http_client(self, *, allow_private: bool = False, timeout_s: float = 10.0) -> httpx.AsyncClient:
        """An httpx client over the same transport, for webhooks and the like: no redirects, no environment proxies.

        `allow_private` lets it reach private addresses. Closing it leaves the transport open.
        """
        return httpx.AsyncClient(
            transport=_Shared(self._transport, allow_private=allow_private),
            timeout=timeout_s,
            trust_env=False,
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        """Closes the transports; exchanges in progress fail."""
        for transport in (self._transport, *self._mounted):
            await transport.aclose()


def _sender(transport: httpx.AsyncBaseTransport) -> Sender:
    return transport if isinstance(transport, Sender) else _HttpxSender(transport)


class _Shared(httpx.AsyncBaseTransport):
    """A transport that is not closed with the client that uses it."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, allow_private: bool) -> None:
        self._transport = transport
        self._allow_private = allow_private

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "allow_private": self._allow_private}
        return await self._transport.handle_async_request(request)


class _HttpxSender:
    """The hot path's interface over any httpx transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, endpoint: Endpoint, body: bytes, timeouts: Timeouts, extra: bytes = b"") -> UpstreamResponse:
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
        return _HttpxResponse(response, timeouts.idle_s, ends)


class _HttpxResponse:
    """An httpx response with the engine's reading interface."""

    def __init__(self, response: httpx.Response, idle_s: float, ends: float) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)
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
