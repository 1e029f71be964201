"""The connections of one origin: a bounded number of slots, idle connections last in first out, waiters in order.

A slot is held by a connection from before it is opened until it is closed, or by the waiter it was handed to. Whoever
is cancelled while holding one passes it on, so none is ever lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable

from gateway.types import Origin, Timeouts
from gateway.upstream.engine.addresses import Addresses
from gateway.upstream.engine.connection import Connection
from gateway.upstream.engine.dial import dial
from gateway.upstream.engine.errors import ConnectFailed, ConnectTimeout, PoolTimeout, TlsFailed
from gateway.upstream.engine.limits import Limits
from gateway.upstream.engine.tls import ContextFactory
from gateway.upstream.engine.tls_connection import TlsConnection
from gateway.upstream.engine.watch import Watch

_READ_BYTES = 320 * 1024
"""Most bytes of one read of an answer that is wanted whole: somewhat more than what either loop's TLS reads at once."""


class Pool:
    """Opens, lends and takes back the connections of an origin."""

    def __init__(
        self,
        origin: Origin,
        limits: Limits,
        watch: Watch,
        addresses: Addresses,
        contexts: ContextFactory,
        emptied: Callable[[Pool], None],
    ) -> None:
        self.origin = origin
        self.limits = limits
        self.watch = watch
        self.room = memoryview(bytearray(_READ_BYTES))
        """Where its connections read to, one after the other."""
        self.some_room = self.room[: limits.read_bytes]
        self.little_room = self.room[: limits.ahead_bytes]
        self.closed = False
        self._addresses = addresses
        self._contexts = contexts
        self._emptied = emptied
        self._slots = 0
        """Slots in use: connections open or being opened, and those on their way to a waiter."""
        self._idle: dict[Connection, None] = {}
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._reaper: asyncio.TimerHandle | None = None
        self.opening: set[asyncio.Future[Connection]] = set()
        """Connections being made."""

    def take(self, now: float) -> Connection | None:
        """The connection used last, if one is idle."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if now - connection.idle_since < self.limits.keepalive_s and connection.reusable():
                return connection
            self._replace(connection)
        return None

    async def acquire(self, timeouts: Timeouts, ends: float, *, fresh: bool = False) -> Connection:
        """A connection of one's own; a new one where `fresh`.

        Raises:
            EngineError: PoolTimeout, ConnectFailed, ConnectTimeout or TlsFailed; no slot is held then.
        """
        if self.closed:
            raise ConnectFailed("the engine is closed")
        if not fresh and (idle := self.take(self.watch.clock())) is not None:
            return idle
        if self._idle and self._slots >= self.limits.connections_per_origin:
            self._replace(self._idle.popitem()[0])  # a fresh one is wanted, and only used ones are there
        if self._slots < self.limits.connections_per_origin:
            self._slots += 1
        else:
            connection = await self._wait(min(timeouts.pool_s, ends - self.watch.clock()))
            if connection is not None:
                if not fresh and connection.reusable():
                    connection.holds_slot = True
                    return connection
                connection.drop()  # its slot stays with us
        return await self._open(min(timeouts.connect_s, ends - self.watch.clock()))

    def put(self, connection: Connection) -> None:
        """Takes back a connection whose exchange came to a clean end."""
        connection.reused = True
        connection.idle_since = self.watch.clock()
        if self.closed:
            connection.drop()
        elif self._waiters and (waiter := self._next_waiter()) is not None:
            connection.holds_slot = False  # the slot travels with the hand-over, whatever becomes of the connection
            waiter.set_result(connection)
        else:
            self._idle[connection] = None
            if self._reaper is None:
                self._reaper = asyncio.get_running_loop().call_later(self.limits.keepalive_s, self._reap)

    def forget(self, connection: Connection) -> None:
        """A connection is closed: its slot is free."""
        self._idle.pop(connection, None)
        if connection.holds_slot:
            connection.holds_slot = False
            self._vacate()

    def close(self) -> None:
        """Closes what is idle and turns waiters away. Connections in use close as they are given up."""
        self.closed = True
        self._stop_reaper()
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(ConnectFailed("the engine is closed"))
        if self.opening:
            loop = asyncio.get_running_loop()
            for opening in self.opening:
                loop.call_soon(opening.cancel)  # not before it has begun: it would end without telling why
        for connection in list(self._idle):
            connection.drop()

    async def _wait(self, pool_s: float) -> Connection | None:
        """A slot of one's own, with the connection that comes with it if any."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(pool_s, _time_out, waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())  # cancelled between the hand-over and this task's turn
            else:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            raise
        finally:
            timer.cancel()

    def _pass_on(self, connection: Connection | None) -> None:
        if connection is None:
            self._vacate()
            return
        connection.holds_slot = True
        if connection.usable:
            self.put(connection)
        else:
            connection.drop()

    def _replace(self, connection: Connection) -> None:
        """Closes an idle connection for whoever asks now. The pool is not given up as empty, though it was the last:
        another would take its place beside it, and each have its own bound.
        """
        self._slots += 1
        connection.drop()
        self._slots -= 1

    def _vacate(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.set_result(None)
            return
        self._slots -= 1
        if not self._slots:
            self._stop_reaper()
            self._emptied(self)

    def _next_waiter(self) -> asyncio.Future[Connection | None] | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    async def _open(self, connect_s: float) -> Connection:
        """A new connection for a slot that is held already; the slot is given up on every other way out.

        It is opened by a task of its own: whoever asked may leave, and the next one finds it in the pool. (Also, uvloop
        forgets a TLS connection that is cancelled in the moment between connecting and the handshake.)
        """
        opening = asyncio.ensure_future(self._connect_within(connect_s))
        self.opening.add(opening)
        opening.add_done_callback(self.opening.discard)
        try:
            connection = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._adopt)
            raise
        except BaseException:
            self._vacate()
            raise
        connection.holds_slot = True
        if self.closed or not connection.usable:
            connection.drop()
            raise ConnectFailed(f"the connection to {self.origin.authority} closed as soon as it was open")
        return connection

    def _adopt(self, opening: asyncio.Future[Connection]) -> None:
        """A connection whose asker has left."""
        if opening.exception() is not None:
            self._vacate()
            return
        self._pass_on(opening.result())

    async def _connect_within(self, connect_s: float) -> Connection:
        try:
            async with asyncio.timeout(max(connect_s, 0)):
                return await self._connect()
        except TimeoutError:
            raise ConnectTimeout(f"no connection to {self.origin.authority} in time") from None
        except asyncio.CancelledError:  # by close(), nobody else
            raise ConnectFailed("the engine is closed") from None

    async def _connect(self) -> Connection:
        context = self._tls_context() if self.origin.scheme == "https" else None
        addresses = await self._addresses.of(self.origin)
        return await dial(addresses, lambda address: self._connect_to(address, context), self.limits.stagger_s)

    async def _connect_to(self, address: str, context: ssl.SSLContext | None) -> Connection:
        """Connects to just this address, since it is the one that was checked; the name serves SNI and verification."""
        origin = self.origin
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: (TlsConnection if context else Connection)(self),
                address,
                origin.port,
                ssl=context,
                server_hostname=origin.host if context else None,
            )
        except TimeoutError:
            raise ConnectTimeout(f"no connection to {origin.authority} in time") from None
        except ssl.SSLError as error:
            raise TlsFailed(f"{origin.authority}: {_tls_reason(error)}") from None
        except OSError as error:
            raise ConnectFailed(f"{origin.authority}: {error.strerror or 'connection failed'}") from None
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        try:
            return self._contexts(self.origin)
        except (OSError, ValueError) as error:
            raise TlsFailed(f"the CA file or client certificate for {self.origin.authority} is not usable") from error

    def _stop_reaper(self) -> None:
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None

    def _reap(self) -> None:
        """Closes connections that have been idle for too long; the oldest stand first."""
        self._reaper = None
        oldest = self.watch.clock() - self.limits.keepalive_s
        for connection in list(self._idle):
            if connection.idle_since > oldest:
                wait_s = connection.idle_since - oldest
                self._reaper = asyncio.get_running_loop().call_later(wait_s, self._reap)
                return
            connection.drop()


def _time_out(waiter: asyncio.Future[Connection | None]) -> None:
    if not waiter.done():
        waiter.set_exception(PoolTimeout("all connections to the provider stayed busy"))


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message}"
    return f"the TLS handshake failed: {error.reason or 'protocol error'}"
