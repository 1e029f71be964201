"""What runs in the background: work repeated until it is closed, and how tasks are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.log import get_logger

_AGAIN_S = 1.0
_FINISHED_WITHIN_S = 1.0

log = get_logger("background")


class Repeated:
    """Does a piece of work every `every_s` seconds, or as soon as it is hurried, from `start()` until `close()`.

    Work says itself what it is known to fail at; what else it raises is logged, and it is done again next time.
    """

    def __init__(self, name: str, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._every_s = every_s
        self._work = work
        self._hurried = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins; the first time comes after one interval."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def close(self) -> None:
        """Ends it; work under way has a second to finish. What is to be done once more is its owner's to do."""
        self._closing = True
        self._hurried.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_FINISHED_WITHIN_S)
            await end(self._task)
            self._task = None

    def hurry(self) -> None:
        """Has the work done as soon as the loop comes to it."""
        self._hurried.set()

    async def _run(self) -> None:
        while True:
            alarm = asyncio.get_running_loop().call_later(self._every_s, self._hurried.set)
            try:
                await self._hurried.wait()
            finally:
                alarm.cancel()
            self._hurried.clear()
            if self._closing:
                return
            try:
                await self._work()
            except Exception:
                log.exception("background_work_failed", work=self._name)


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
