"""A transport whose small writes wait for two turns of the event loop while several requests are under way.

Where many connections are busy, a turn of the loop serves many requests. Written as each is ready, every piece wakes
its receiver, who has read it and sleeps again before the next; written back to back, most find the receiver awake.
That is a quarter of the CPU of a short request. After the first turn those have been served that were heard in the same
moment, after the second what these went on to do; a third gains no more.

One request or two have nobody to wait for: waiting costs them a tenth of the CPU and up to a third of the time, so they
write at once. What tells the two apart is the number of requests, which waiting does not change. How much is written in
a turn would not do: whoever writes at once has short turns, and goes on to see little in each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sized
from typing import Any
from weakref import WeakKeyDictionary

_HOLD_BYTES = 40 * 1024
"""Longer pieces are written at once: they outweigh the waking, and would wait in memory unseen by flow control."""

_FEW = 2
"""So many requests do not wait for each other."""

_CALM = 16
"""So often in a row must few have been seen: where many are served, few are left at the end of each batch of them."""


class Turns:
    """What the lines of a loop have in common."""

    __slots__ = ("calm", "requests", "waiting")

    def __init__(self) -> None:
        self.calm = 0
        """How often in a row few requests were under way when a line had something to write and none waited."""
        self.requests: Sized = ()
        """Those under way: the set of a server, none where there is no server."""
        self.waiting: deque[Corked] = deque()
        """The lines that have something to write."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Turns:
        """The one of this loop."""
        return _turns.setdefault(loop, cls())

    def begin(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Begins to wait, where waiting is worth while."""
        if len(self.requests) > _FEW:
            self.calm = 0
        else:
            self.calm += 1
            if self.calm > _CALM:
                return False
        loop.call_soon(loop.call_soon, self._end)
        return True

    def _end(self) -> None:
        """Writes what waits: one callback for all of a loop, since each would cost a handle."""
        waiting = self.waiting
        try:
            while waiting:
                waiting.popleft().flush()
        finally:
            if waiting:  # one has failed, of which the loop tells; the others write all the same
                asyncio.get_running_loop().call_soon(self._end)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


class Corked:
    """Stands for a transport. Whatever else is done to it comes after what was written before."""

    __slots__ = (
        "_loop",
        "_transport",
        "_turns",
        "get_extra_info",
        "held",
        "is_closing",
        "pause_reading",
        "resume_reading",
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._turns = Turns.of(loop)
        self.held: bytes = b""
        """What waits to be written, or was not because the line closed before."""
        self.get_extra_info: Callable[..., Any] = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        """Writes when two turns are over, with what waits already; at once where requests are few, or it is long."""
        held = self.held
        if held and len(held) + len(data) <= _HOLD_BYTES:
            self.held = held + data
        elif not held and len(data) <= _HOLD_BYTES and (self._turns.waiting or self._turns.begin(self._loop)):
            self.held = data
            self._turns.waiting.append(self)
        else:
            self.flush()
            if not self.is_closing():  # else a piece that comes before this one stays
                self._transport.write(data)

    def flush(self) -> None:
        """Writes what waits; where the line is closing it goes nowhere, and stays."""
        if self.held and not self._transport.is_closing():
            held, self.held = self.held, b""
            self._transport.write(held)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.flush()
        if not self.is_closing():
            self._transport.writelines(pieces)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self.held = b""
        self._transport.abort()

    def get_write_buffer_size(self) -> int:
        return len(self.held) + self._transport.get_write_buffer_size()
