"""The engine: pools by origin, one call for the hot path, and httpx's transport interface for everything else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx

from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.engine import bridge
from gateway.upstream.engine.addresses import Addresses, Resolver, system_resolver
from gateway.upstream.engine.errors import Disconnected, EngineError
from gateway.upstream.engine.limits import Limits
from gateway.upstream.engine.pool import Pool
from gateway.upstream.engine.response import Response
from gateway.upstream.engine.tls import ContextFactory, Contexts
from gateway.upstream.engine.watch import Watch

_LIMITS = Limits()
_CLOSE_S = 1.0


class Engine(httpx.AsyncBaseTransport):
    """HTTP/1.1 over keep-alive pools. Belongs to one event loop; follows no redirect, uses no proxy, retries nothing
    but what a stale pooled connection swallowed before it could have been seen.
    """

    def __init__(
        self,
        limits: Limits = _LIMITS,
        *,
        resolver: Resolver = system_resolver,
        ssl_context: ContextFactory | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._watch = Watch(clock)
        self._addresses = Addresses(resolver, limits.dns_s, clock)
        self._contexts = ssl_context or Contexts()
        self._pools: dict[Origin, Pool] = {}
        self._closed = False

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return len(self._watch.open)

    async def send(self, endpoint: Endpoint, body: bytes, timeouts: Timeouts, extra: bytes = b"") -> Response:
        """Sends a request and returns once the final response head has arrived.

        `extra` are header lines of our own making, each ending in CRLF. The response must be read to its end, finished
        or aborted.

        Raises:
            EngineError: the connection is closed then, or never was.
            asyncio.CancelledError: with an EngineError for its cause where none of the request was written.
        """
        now = self._clock()
        ends = now + timeouts.total_s
        head = _head(endpoint, len(body), extra)
        pool = self._pools.get(endpoint.origin) or self._pool(endpoint.origin)
        connection = pool.take(now)
        if connection is None:
            try:
                connection = await pool.acquire(timeouts, ends)
            except asyncio.CancelledError as left:
                raise left from EngineError("the request was given up before it was written", sent=False)
            now = self._clock()
        response = connection.begin(timeouts, now, ends, head_only=endpoint.method == "HEAD")
        connection.write(head, body)
        try:
            await response.begun()
        except Disconnected as lost:
            if lost.sent and lost.unacknowledged < len(head) + len(body):
                raise
            try:
                connection = await self._pool(endpoint.origin).acquire(timeouts, ends, fresh=True)
                response = connection.begin(timeouts, self._clock(), ends, head_only=endpoint.method == "HEAD")
                connection.write(head, body)
                await response.begun()
            except EngineError as error:
                error.sent = error.sent or lost.sent
                raise
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Serves httpx.

        `request.extensions` may hold `timeout` (httpx's own) and `allow_private` (whether private hosts are allowed).
        """
        with bridge.httpx_errors(request):
            outgoing = bridge.outgoing(request)
            if isinstance(outgoing.body, bytes):
                response = await self.send(outgoing.endpoint, outgoing.body, outgoing.timeouts)
            else:
                response = await self._send_stream(outgoing)
        return bridge.incoming(request, response)

    async def _send_stream(self, outgoing: bridge.Outgoing) -> Response:
        """Writes the body as its source gives it, while the response may already arrive.

        Always on a fresh connection: what a stale one swallows could not be sent again.
        """
        endpoint, timeouts = outgoing.endpoint, outgoing.timeouts
        ends = self._clock() + timeouts.total_s
        connection = await self._pool(endpoint.origin).acquire(timeouts, ends, fresh=True)
        response = connection.begin(timeouts, self._clock(), ends, head_only=endpoint.method == "HEAD")
        connection.upload(asyncio.ensure_future(bridge.upload(connection, outgoing)))
        await response.begun()
        return response

    def _pool(self, origin: Origin) -> Pool:
        pool = self._pools.get(origin)
        if pool is None:
            pool = Pool(origin, self._limits, self._watch, self._addresses, self._contexts, self._emptied)
            self._pools[origin] = pool
            if self._closed:
                pool.close()
        return pool

    def _emptied(self, pool: Pool) -> None:
        if self._pools.get(pool.origin) is pool:
            del self._pools[pool.origin]

    async def aclose(self) -> None:
        """Fails what is in progress, closes every connection and waits until their sockets are closed."""
        self._closed = True
        pools = list(self._pools.values())
        opening = [opening for pool in pools for opening in pool.opening]
        for pool in pools:
            pool.close()
        for connection in list(self._watch.open):
            connection.fail(Disconnected("the engine was closed"))
        self._watch.close()
        await asyncio.gather(*opening, return_exceptions=True)
        await self._addresses.aclose()
        await self._watch.emptied(_CLOSE_S)


def _head(endpoint: Endpoint, size: int, extra: bytes) -> bytes:
    if size or endpoint.method not in ("GET", "HEAD"):
        return b"%b%bcontent-length: %d\r\n\r\n" % (endpoint.head, extra, size)
    return b"%b%b\r\n" % (endpoint.head, extra)
