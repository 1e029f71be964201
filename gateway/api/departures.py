"""Notices callers who hang up, without a task for every request.

ASGI tells of a departure only to whoever waits in `receive()`. Most answers come faster than anyone could leave, so a
request is merely listed here, and only one that is still open at the next tick gets a task that waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.api.http import Receive


class Watch:
    """One request's watch. `left` says whether its caller has gone; `close()` it when the answer is complete."""

    __slots__ = ("_on_left", "_receive", "_task", "closed", "left")

    def __init__(self, receive: Receive, on_left: Callable[[], None]) -> None:
        self._receive: Receive | None = receive
        self._on_left: Callable[[], None] | None = on_left
        self._task: asyncio.Task[None] | None = None
        self.left = False
        self.closed = False

    def begin(self) -> None:
        """Starts waiting for the departure."""
        self._task = asyncio.create_task(self._wait(), name="departure")

    def close(self) -> None:
        self.closed = True
        self._receive = self._on_left = None  # they hold all of the request, and the watch is listed for a while yet
        if self._task is not None:
            self._task.cancel()

    async def _wait(self) -> None:
        while self._receive is not None and (await self._receive())["type"] != "http.disconnect":
            pass  # a pipelined or repeated body message says nothing of a departure
        if self._on_left is not None:
            self.left = True
            self._on_left()


class Departures:
    """The watches of one process. `TICK_S` bounds how late a departure is noticed."""

    TICK_S = 0.1

    def __init__(self) -> None:
        self._fresh: list[Watch] = []
        self._ripe: list[Watch] = []
        self._ticking = False

    def watch(self, receive: Receive, on_left: Callable[[], None]) -> Watch:
        """Calls `on_left` once when the caller goes before the watch is closed."""
        watch = Watch(receive, on_left)
        self._fresh.append(watch)
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(self.TICK_S, self._tick)
        return watch

    def _tick(self) -> None:
        for watch in self._ripe:
            if not watch.closed:
                watch.begin()
        self._ripe, self._fresh = self._fresh, []
        if self._ripe:
            asyncio.get_running_loop().call_later(self.TICK_S, self._tick)
        else:
            self._ticking = False
