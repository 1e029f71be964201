"""How the gateway reaches providers: one object over one transport."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import httpx

from gateway.errors import Kind, UpstreamError
from gateway.types import Endpoint, Timeouts
from gateway.upstream.engine import EngineError, Response
from gateway.upstream.failures import upstream_error
from gateway.upstream.standin import StandIn

__all__ = ["Answer", "Sender", "Upstream", "UpstreamResponse", "request_id", "upstream_error"]


class UpstreamResponse(Protocol):
    """What an answer's reader has, whichever transport brought it; `engine.Response` says what each member means."""

    status: int

    @property
    def head(self) -> bytes: ...
    @property
    def lowered(self) -> bytes: ...
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


_ID_HEADERS = (b"\r\nx-request-id:", b"\r\nrequest-id:")
_ID = re.compile(rb"[ \t]*([!-~]{1,128})[ \t]*\r\n")


def request_id(response: UpstreamResponse) -> str | None:
    """The provider's name of the request, by which its bill may call it.

    Source: https://platform.openai.com/docs/api-reference/debugging-requests and
    https://platform.claude.com/docs/en/api/errors#request-id (read 2026-11-21).
    """
    lowered = response.lowered  # to search this and match the value alone takes half of a pattern that ignores case
    for header in _ID_HEADERS:
        at = lowered.find(header)
        if at >= 0:
            found = _ID.match(response.head, at + len(header))
            return None if found is None else found[1].decode()
    return None


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

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> int:
        """The status that a webhook of the operator's answers with, wherever it may be.

        Raises:
            UpstreamError: UNREACHABLE, nobody answered.
        """
        try:
            async with self.http_client(allow_private=True) as client:
                return (await client.post(url, content=content, headers=dict(headers))).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamError(Kind.UNREACHABLE, f"The webhook does not answer ({type(error).__name__}).") from error

    async def aclose(self) -> None:
        """Closes the transports; exchanges in progress fail."""
        for transport in (self._transport, *self._mounted):
            await transport.aclose()


def _sender(transport: httpx.AsyncBaseTransport) -> Sender:
    return transport if isinstance(transport, Sender) else StandIn(transport)


class _Shared(httpx.AsyncBaseTransport):
    """A transport that is not closed with the client that uses it."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, allow_private: bool) -> None:
        self._transport = transport
        self._allow_private = allow_private

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "allow_private": self._allow_private}
        return await self._transport.handle_async_request(request)
