"""Connecting to the first of several addresses that answers (RFC 8305, Happy Eyeballs)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from gateway.upstream.engine.errors import EngineError


class Droppable(Protocol):
    """What can be connected, and closed where another was faster."""

    def drop(self) -> None: ...


C = TypeVar("C", bound=Droppable)


async def dial(addresses: list[str], connect: Callable[[str], Awaitable[C]], stagger_s: float) -> C:
    """The first connection made. Each address gets a head start before the next is tried beside it.

    Whatever else gets connected is dropped, however this ends.

    Raises:
        EngineError: no address could be connected to; what was wrong with the first.
    """
    if len(addresses) == 1:
        return await connect(addresses[0])
    attempts: list[asyncio.Future[C]] = []
    winner: asyncio.Future[C] | None = None
    try:
        for address in addresses:
            attempts.append(asyncio.ensure_future(connect(address)))
            winner = await _first(attempts, stagger_s)
            if winner is not None:
                return winner.result()
        winner = await _first(attempts, None)
        return (winner or attempts[0]).result()
    finally:
        for attempt in attempts:
            if attempt is not winner:
                attempt.add_done_callback(_drop)
                attempt.cancel()


async def _first(attempts: list[asyncio.Future[C]], timeout_s: float | None) -> asyncio.Future[C] | None:
    """The first success; None when the time is up, when the youngest attempt has failed before, or when all have."""
    loop = asyncio.get_running_loop()
    end = None if timeout_s is None else loop.time() + timeout_s
    while True:
        for attempt in attempts:
            if attempt.done() and not _failed(attempt):
                return attempt
        pending = [attempt for attempt in attempts if not attempt.done()]
        left_s = None if end is None else end - loop.time()
        if not pending or (left_s is not None and (left_s <= 0 or attempts[-1].done())):
            return None
        await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)


def _failed(attempt: asyncio.Future[C]) -> bool:
    """
    Raises:
        Exception: it ended otherwise than a connection that could not be made does.
    """
    error = attempt.exception()
    if error is not None and not isinstance(error, EngineError):
        raise error
    return error is not None


def _drop(attempt: asyncio.Future[C]) -> None:
    """Closes what was connected although it was too late; sees to it that a late error is not reported as unseen."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().drop()
