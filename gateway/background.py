"""Ending what runs in the background."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 1.0


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancels the tasks and returns once all have ended, however they end.

    A cancellation can get lost: `asyncio.wait_for` of Python 3.11, which libraries use, swallows one that comes just as
    what it waits for is done. A loop that lost it would never end, and so neither would a stop of the gateway; that is
    why it is cancelled again.
    """
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=_AGAIN_S)
