"""Between httpx's requests, responses and errors and the engine's own."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.engine import errors
from gateway.upstream.engine.connection import Connection
from gateway.upstream.engine.errors import EngineError, WriteFailed
from gateway.upstream.engine.response import Response

HTTPX_ERRORS: Mapping[type[EngineError], type[httpx.TransportError]] = {
    errors.PoolTimeout: httpx.PoolTimeout,
    errors.ConnectFailed: httpx.ConnectError,
    errors.ConnectTimeout: httpx.ConnectTimeout,
    errors.TlsFailed: httpx.ConnectError,
    errors.WriteFailed: httpx.WriteError,
    errors.FirstByteTimeout: httpx.ReadTimeout,
    errors.IdleTimeout: httpx.ReadTimeout,
    errors.TotalTimeout: httpx.ReadTimeout,
    errors.Truncated: httpx.RemoteProtocolError,
    errors.ProtocolError: httpx.RemoteProtocolError,
    errors.TooLarge: httpx.RemoteProtocolError,
    errors.Disconnected: httpx.RemoteProtocolError,
}
"""What httpx's users expect of each failure."""

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\x00\r\n]*")
_OURS = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An httpx request in the engine's terms."""

    endpoint: Endpoint
    timeouts: Timeouts
    body: bytes | httpx.AsyncByteStream
    length: int | None = None
    """Announced length of a streamed body; None where it goes out in chunks."""


@contextmanager
def httpx_errors(request: httpx.Request) -> Iterator[None]:
    """Raises the engine's errors as httpx's."""
    try:
        yield
    except EngineError as error:
        raise HTTPX_ERRORS[type(error)](str(error), request=request) from error


def outgoing(request: httpx.Request) -> Outgoing:
    """
    Raises:
        httpx.UnsupportedProtocol, httpx.LocalProtocolError: not a request that can be sent over HTTP/1.1.
    """
    endpoint = _endpoint(request)
    timeouts = _timeouts(request.extensions.get("timeout") or {})
    if isinstance(request.stream, httpx.ByteStream):
        return Outgoing(endpoint, timeouts, b"".join(request.stream))
    if not isinstance(request.stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("the request's body cannot be read asynchronously", request=request)
    length = request.headers.get("content-length")
    if length is not None and not length.isdecimal():
        raise httpx.LocalProtocolError("the request's Content-Length is not a number", request=request)
    return Outgoing(endpoint, timeouts, request.stream, None if length is None else int(length))


def incoming(request: httpx.Request, response: Response) -> httpx.Response:
    return httpx.Response(
        response.status,
        headers=response.headers.raw(),
        stream=_Body(request, response),
        extensions={"http_version": b"HTTP/1.1"},
    )


async def upload(connection: Connection, request: Outgoing) -> None:
    """Writes head and streamed body.

    Raises:
        WriteFailed: the connection ended, or the body's source failed or did not give what it announced.
    """
    assert isinstance(request.body, httpx.AsyncByteStream)
    timeouts = request.timeouts
    framing = b"transfer-encoding: chunked" if request.length is None else b"content-length: %d" % request.length
    await connection.write_piece(request.endpoint.head + framing + b"\r\n\r\n", timeouts)
    left = request.length
    try:
        async for piece in request.body:
            if left is None:
                if piece:
                    await connection.write_piece(b"%x\r\n%b\r\n" % (len(piece), piece), timeouts)
                continue
            left -= len(piece)
            if left < 0:
                raise WriteFailed("the request's body is longer than its Content-Length")
            await connection.write_piece(piece, timeouts)
    except (EngineError, httpx.HTTPError):
        raise
    except Exception as error:
        raise WriteFailed("the request's body could not be read from its source") from error
    if left:
        raise WriteFailed("the request's body is shorter than its Content-Length")
    if left is None:
        await connection.write_piece(b"0\r\n\r\n", timeouts)


class _Body(httpx.AsyncByteStream):
    def __init__(self, request: httpx.Request, response: Response) -> None:
        self._request = request
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with httpx_errors(self._request):
            async for data in self._response.chunks():
                yield data

    async def aclose(self) -> None:
        self._response.finish()


def _endpoint(request: httpx.Request) -> Endpoint:
    url = request.url
    if url.scheme not in ("http", "https") or not url.host:
        raise httpx.UnsupportedProtocol("the URL must start with http:// or https:// and name a host", request=request)
    scheme: Literal["http", "https"] = "https" if url.scheme == "https" else "http"
    origin = Origin(
        scheme,
        url.raw_host.decode("ascii"),
        url.port or (443 if scheme == "https" else 80),
        allow_private=bool(request.extensions.get("allow_private", False)),
    )
    headers = []
    for name, value in request.headers.raw:
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise httpx.LocalProtocolError("the request has a header that HTTP does not allow", request=request)
        if name.lower() not in _OURS:
            headers.append((name.lower().decode("ascii"), value.decode("latin-1")))
    if not _TOKEN.fullmatch(request.method.encode()) or request.method == "CONNECT":
        raise httpx.LocalProtocolError("the request's method is not usable", request=request)
    return Endpoint(origin, request.method, url.raw_path.decode("ascii"), tuple(headers))


def _timeouts(given: Mapping[str, Any]) -> Timeouts:
    """httpx's four limits; None means none. It knows no limit of the whole."""

    def limit(name: str) -> float:
        value = given.get(name)
        return math.inf if value is None else float(value)

    return Timeouts(limit("pool"), limit("connect"), limit("read"), limit("read"), math.inf)
