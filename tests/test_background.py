"""Ending what runs in the background."""

from __future__ import annotations

import asyncio

from gateway.background import end


async def test_a_task_that_loses_a_cancellation_still_ends() -> None:
    """As a library may lose one."""
    lost = 0

    async def loses_the_first() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 2:
                    raise

    task = asyncio.create_task(loses_the_first())
    await asyncio.sleep(0)
    await end(task)
    assert (lost, task.cancelled()) == (2, True)


async def test_tasks_that_have_ended_or_failed_are_no_trouble() -> None:
    """What they raised is not raised again."""

    async def fails() -> None:
        raise ValueError

    task = asyncio.create_task(fails())
    await asyncio.wait([task])
    await end(task)
    await end()
    assert isinstance(task.exception(), ValueError)
