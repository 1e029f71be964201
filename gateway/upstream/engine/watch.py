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
        self.timer: asyncio.TimerHandle | None = None
        """Until the next tick; None while it does not tick."""
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

    def start(self) -> None:
        """Ticks for as long as exchanges are in progress. To be called where one begins and it does not tick."""
        self.timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _tick(self) -> None:
        now = self.clock()
        active = [connection for connection in self.open if connection.response is not None]
        for connection in active:
            if connection.deadline <= now:
                connection.expire(now)
        if active:
            self.start()
        else:
            self.timer = None
