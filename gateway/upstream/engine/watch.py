"""One coarse ticker that sees to the deadlines of all active connections: no timer object per request or read."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.upstream.engine.connection import Connection

_TICK_S = 0.05


class Watch:
    """The open connections of an engine, and the deadlines of those that have an exchange in progress.

    It ticks while any is active and stops by itself at the first tick that finds none.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.open: set[Connection] = set()
        """Every connection that has a socket."""
        self._active: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event | None = None

    def opened(self, connection: Connection) -> None:
        self.open.add(connection)

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)
        if self._empty is not None and not self.open:
            self._empty.set()

    async def emptied(self, timeout_s: float) -> None:
        """Returns once no connection is open, or after this time."""
        if self.open:
            self._empty = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)

    def start(self, connection: Connection) -> None:
        self._active.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def stop(self, connection: Connection) -> None:
        self._active.discard(connection)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        now = self.clock()
        for connection in [c for c in self._active if c.deadline <= now]:
            connection.expire(now)
        if self._active:
            self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
