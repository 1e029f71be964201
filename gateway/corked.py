"""A transport whose small writes wait for two turns of the event loop.

Where many connections are busy, a turn of the loop serves many requests. Written as each is ready, every piece wakes
its receiver, who has read it and sleeps again before the next; written back to back, most find the receiver awake.
That is a fifth of the CPU of a short request, and costs a lone one the microseconds in which the loop comes round
twice. After the first turn those have been served that were heard in the same moment, after the second what these went
on to do; a third gains no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any
from weakref import WeakKeyDictionary

_HOLD_BYTES = 40 * 1024
"""Longer pieces are written at once: they outweigh the waking, and would wait in memory unseen by flow control."""


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, deque[Corked]] = WeakKeyDictionary()
"""What of each loop has something to write."""


def _wait_a_turn(loop: asyncio.AbstractEventLoop, turn: deque[Corked]) -> None:
    loop.call_soon(_end_turn, turn)


def _end_turn(turn: deque[Corked]) -> None:
    """Writes what waits: one callback for all of a loop, since each would cost a handle."""
    try:
        while turn:
            turn.popleft().flush()
    finally:
        if turn:  # one has failed, of which the loop tells; the others write all the same
            asyncio.get_running_loop().call_soon(_end_turn, turn)


class Corked:
    """Stands for a transport. Whatever else is done to it comes after what was written before."""

    __slots__ = (
        "_loop",
        "_transport",
        "_turn",
        "get_extra_info",
        "held",
        "is_closing",
        "pause_reading",
        "resume_reading",
    )

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._turn = _turns.setdefault(loop, deque())
        self.held: bytes = b""
        """What waits to be written, or was not because the line closed before."""
        self.get_extra_info: Callable[..., Any] = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        """Writes when two turns are over, with what waits already; at once where that is long."""
        if len(self.held) + len(data) > _HOLD_BYTES:
            self.flush()
            if not self.is_closing():  # else a piece that comes before this one stays
                self._transport.write(data)
        elif self.held:
            self.held += data
        elif data:
            self.held = data
            if not self._turn:
                self._loop.call_soon(_wait_a_turn, self._loop, self._turn)
            self._turn.append(self)

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
