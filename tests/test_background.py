"""What runs in the background, and how it ends."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway import background
from gateway.background import Repeated, end


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


async def test_repeated_work_goes_on_until_it_is_closed() -> None:
    """Again and again, and not once more after that."""
    done, thrice = 0, asyncio.Event()

    async def work() -> None:
        nonlocal done
        done += 1
        if done == 3:
            thrice.set()

    repeated = Repeated("test", 0.001, work)
    await repeated.start()
    await asyncio.wait_for(thrice.wait(), 5)
    await repeated.close()
    seen = done
    await asyncio.sleep(0.01)
    assert done == seen
    await repeated.close()


async def test_repeated_work_can_be_hurried() -> None:
    """It does not wait for its interval then; hurrying often counts once."""
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    repeated = Repeated("test", 3600, work)
    await repeated.start()
    for _ in range(10):
        repeated.hurry()
    await asyncio.wait_for(done.wait(), 5)
    await repeated.close()


async def test_work_under_way_at_the_close_is_finished() -> None:
    """What it took from memory to write is not lost half-way; it is not begun again."""
    begun, done = asyncio.Event(), 0

    async def work() -> None:
        nonlocal done
        begun.set()
        await asyncio.sleep(0.05)
        done += 1

    repeated = Repeated("test", 3600, work)
    await repeated.start()
    repeated.hurry()
    await begun.wait()
    await repeated.close()
    assert done == 1


async def test_work_that_does_not_end_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A close waits for it no longer than so long."""
    monkeypatch.setattr(background, "_FINISHED_WITHIN_S", 0.01)
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.sleep(3600)

    repeated = Repeated("test", 3600, work)
    await repeated.start()
    repeated.hurry()
    await begun.wait()
    await asyncio.wait_for(repeated.close(), 5)


async def test_work_that_fails_is_done_again() -> None:
    """A failure that nobody thought of does not end what the gateway does in the background; it is logged."""
    done = 0
    thrice = asyncio.Event()

    async def work() -> None:
        nonlocal done
        done += 1
        if done == 3:
            thrice.set()
        raise ValueError("unforeseen")

    repeated = Repeated("test", 0.001, work)
    with capture_logs() as logged:
        await repeated.start()
        await asyncio.wait_for(thrice.wait(), 5)
        await repeated.close()
    assert {(line["work"], line["exc_info"]) for line in logged} == {("test", True)}


async def test_closing_what_was_never_started_is_no_trouble() -> None:
    """A gateway that fails to open closes everything all the same."""

    async def work() -> None:
        raise AssertionError

    await Repeated("test", 1, work).close()
