"""Slots are bounded, handed out in order, and never lost: not to cancellation, not to dying connections."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from raw_peer import Session, answer, blackhole, chunked, echoing, listening

from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.engine import Engine, Limits, Response, errors
from gateway.upstream.failures import is_unsent

_TIMEOUTS = Timeouts(pool_s=5)


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def _exchange(engine: Engine, endpoint, body: bytes = b"x") -> bytes:  # type: ignore[no-untyped-def]
    return await (await engine.send(endpoint, body, _TIMEOUTS)).read()


async def test_an_origin_has_at_most_its_number_of_connections() -> None:
    """More requests than connections wait their turn, and all are served."""
    engine = Engine(Limits(connections_per_origin=3))
    at_once = most = 0

    async def handle(session: Session) -> None:
        nonlocal at_once, most
        while True:
            await session.request()
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.005)
            at_once -= 1
            await session.send(answer(b"ok"))

    async with listening(handle) as peer:
        answers = await asyncio.gather(*(_exchange(engine, peer.endpoint()) for _ in range(20)))
        assert answers == [b"ok"] * 20
        assert (most, peer.accepted) == (3, 3)
        await engine.aclose()


async def test_waiters_are_served_in_the_order_they_came() -> None:
    """First come, first served, over one connection."""
    engine = Engine(Limits(connections_per_origin=1))
    async with listening(echoing()) as peer:
        bodies = [b"%d" % i for i in range(10)]
        await asyncio.gather(*(_exchange(engine, peer.endpoint(), body) for body in bodies))
        assert [request.rpartition(b"\r\n\r\n")[2] for request in peer.requests] == bodies
        await engine.aclose()


async def test_the_connection_used_last_is_used_first() -> None:
    """So that connections beyond those needed grow old and are closed."""
    engine = Engine()
    order: list[int] = []

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            order.append(session.number)
            await session.send(answer(b"ok"))

    async with listening(handle) as peer:
        await asyncio.gather(*(_exchange(engine, peer.endpoint()) for _ in range(3)))
        last = order[-1]
        for _ in range(3):
            await _exchange(engine, peer.endpoint())
        assert order[-3:] == [last] * 3
        await engine.aclose()


@pytest.mark.parametrize("pieces", [(answer(b"ok" * 50),), (chunked(b"ok"),), (chunked(b"a" * 400_000),)])
async def test_a_request_cancelled_at_any_step_leaves_its_slot_free(pieces: tuple[bytes, ...]) -> None:
    """Cancelled after 0, 1, 2 … turns of the loop: while connecting, writing, waiting, reading, being handed over."""
    engine = Engine(Limits(connections_per_origin=1))

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            await session.send(*pieces)

    async def read(response: Response | None = None) -> None:
        try:
            response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
            await response.read()
        finally:
            if response is not None:
                response.abort()

    async with listening(handle) as peer:
        for turns in range(40):
            tasks = [asyncio.ensure_future(read()) for _ in range(3)]
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[turns % 3].cancel()
            if turns % 2:
                tasks[0].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError | None) for result in results)
            await read()
        await engine.aclose()


async def test_cancellation_churn_loses_no_slot() -> None:
    """20 at a time on 10 connections, cancelled at random moments; then 100 of 100 succeed (case D35)."""
    engine = Engine(Limits(connections_per_origin=10))
    dice = random.Random(35)

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            await asyncio.sleep(dice.random() * 0.004)
            if dice.random() < 0.1:
                session.reset()
            await session.send(answer(b"ok"))

    async def churn() -> None:
        for _ in range(40):
            with contextlib.suppress(TimeoutError, errors.EngineError):
                async with asyncio.timeout(dice.random() * 0.006):
                    await _exchange(engine, peer.endpoint())

    async with listening(handle) as peer:
        await asyncio.gather(*(churn() for _ in range(20)))
        dice.seed(0)
        dice.random = lambda: 0.5  # type: ignore[method-assign]  # no more resets
        results = await asyncio.gather(*(_exchange(engine, peer.endpoint()) for _ in range(100)))
        assert results == [b"ok"] * 100
        assert engine.open_connections <= 10
        await engine.aclose()
    assert engine.open_connections == 0


async def test_churn_leaks_no_socket() -> None:
    """After readers that read, finish, abort, vanish and are cancelled, no more descriptors are open than before."""
    dice = random.Random(7)

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            await session.send(*chunked(*[b"a" * dice.randrange(1, 60_000)] * 5).partition(b"aaa"), gap_s=0.001)
            if dice.random() < 0.2:
                return

    async def one(engine: Engine) -> None:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        end = dice.randrange(4)
        try:
            if end == 0:
                await response.read()
            elif end == 1:
                await anext(response.chunks())
                response.finish()
            elif end == 2:
                response.fail(errors.Disconnected("left"))
        finally:
            response.abort()

    async def many(engine: Engine) -> None:
        for _ in range(25):
            with contextlib.suppress(TimeoutError, errors.EngineError):
                async with asyncio.timeout(dice.random() * 0.02):
                    await one(engine)

    descriptors = []
    for _ in range(2):
        engine = Engine(Limits(connections_per_origin=8))
        async with listening(handle) as peer:
            await asyncio.gather(*(many(engine) for _ in range(12)))
            await engine.aclose()
            assert engine.open_connections == 0
        await asyncio.sleep(0.05)
        descriptors.append(_descriptors())
    assert descriptors[1] <= descriptors[0]


@pytest.mark.parametrize("wait", ["pool", "connect", "answer"])
async def test_leaving_tells_whether_anything_was_sent(wait: str) -> None:
    """Whoever is cancelled before the request is written learns so from the cause; afterwards there is none."""
    engine = Engine(Limits(connections_per_origin=1))

    async def silent(session: Session) -> None:
        await session.request()
        await session.reader.read()

    with blackhole() as port:
        async with listening(silent) as peer:
            endpoint = peer.endpoint()
            if wait == "connect":
                endpoint = Endpoint(Origin("http", "127.0.0.1", port, allow_private=True), "POST", "/", ())
            sending = [
                asyncio.create_task(engine.send(endpoint, b"x", Timeouts())) for _ in range(1 + (wait == "pool"))
            ]
            await asyncio.sleep(0.1)
            sending[-1].cancel()
            with pytest.raises(asyncio.CancelledError) as left:
                await sending[-1]
            assert is_unsent(left.value) is (wait != "answer")
            await engine.aclose()
            await asyncio.gather(*sending, return_exceptions=True)


async def test_a_connection_whose_asker_left_is_kept_for_the_next() -> None:
    """It is opened all the same, and waits in the pool."""

    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(0.05)
        return ["127.0.0.1"]

    engine = Engine(Limits(connections_per_origin=1), resolver=slow)
    async with listening(echoing()) as peer:
        leaving = asyncio.create_task(engine.send(peer.endpoint(), b"x", _TIMEOUTS))
        await asyncio.sleep(0.01)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert await _exchange(engine, peer.endpoint()) == b"x"
        assert await _exchange(engine, peer.endpoint()) == b"x"
        assert peer.accepted == 1
        await engine.aclose()


async def test_connections_closed_as_soon_as_they_were_open_are_forgotten(engine: Engine) -> None:
    """A provider behind a balancer without backends: each is gone before whoever asked for it has its turn."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)
    listener.setblocking(False)

    async def shut() -> None:
        while True:
            (await asyncio.get_running_loop().sock_accept(listener))[0].close()

    origin = Origin("http", "127.0.0.1", listener.getsockname()[1], allow_private=True)
    shutting = asyncio.ensure_future(shut())
    for _ in range(5):
        sending = [_exchange(engine, Endpoint(origin, "POST", "/", ())) for _ in range(40)]
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert {type(result) for result in results} <= {errors.ConnectFailed, errors.Disconnected}
    await engine._watch.emptied(5)
    assert engine.open_connections == 0
    shutting.cancel()
    await asyncio.gather(shutting, return_exceptions=True)
    listener.close()


async def test_a_pool_whose_last_connection_was_too_old_is_still_the_pool() -> None:
    """It is not given up while it is being asked: two requests at once still share the one place."""
    now = 0.0
    engine = Engine(Limits(connections_per_origin=1, keepalive_s=30), clock=lambda: now)
    async with listening(echoing()) as peer:
        assert await _exchange(engine, peer.endpoint()) == b"x"
        now = 31.0
        assert await asyncio.gather(*(_exchange(engine, peer.endpoint()) for _ in range(2))) == [b"x"] * 2
        assert (peer.accepted, engine.open_connections) == (2, 1)
        await engine.aclose()


async def test_a_pool_whose_last_connection_makes_room_for_a_fresh_one_is_still_the_pool() -> None:
    """Also where it is closed because an upload must not go over a used one."""
    engine = Engine(Limits(connections_per_origin=1))

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"

    async with listening(echoing()) as peer, httpx.AsyncClient(transport=engine) as client:
        assert await _exchange(engine, peer.endpoint()) == b"x"
        uploading = client.post(peer.url, content=pieces(), extensions={"allow_private": True})
        answers = await asyncio.gather(uploading, _exchange(engine, peer.endpoint()))
        assert (answers[0].content, answers[1]) == (b"x", b"x")
        assert (peer.accepted, engine.open_connections) == (2, 1)


async def test_closing_in_the_turn_of_a_request_is_told_as_such(engine: Engine) -> None:
    """Whoever asked was not cancelled, and is not told so, though the attempt for it has not begun."""
    async with listening(echoing()) as peer:
        sending = asyncio.ensure_future(_exchange(engine, peer.endpoint()))
        await asyncio.sleep(0)
        await engine.aclose()
        with pytest.raises(errors.ConnectFailed):
            await sending
        assert peer.accepted == 0


async def test_closing_ends_connections_being_made() -> None:
    """Whoever waits for one is told, and nobody's attempt goes on."""

    async def never(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    engine = Engine(resolver=never)
    async with listening(echoing()) as peer:
        sending = [asyncio.create_task(engine.send(peer.endpoint(), b"x", Timeouts())) for _ in range(2)]
        await asyncio.sleep(0.01)
        sending[0].cancel()
        await engine.aclose()
        results = await asyncio.gather(*sending, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, errors.ConnectFailed]


async def test_closing_fails_what_is_in_progress_and_what_comes_after() -> None:
    """Readers and waiters are woken with an error, and nothing opens a connection any more."""
    engine = Engine(Limits(connections_per_origin=1))

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
        await session.reader.read()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        reading = asyncio.create_task(response.read())
        waiting = asyncio.create_task(engine.send(peer.endpoint(), b"x", _TIMEOUTS))
        await asyncio.sleep(0.01)
        await engine.aclose()
        assert engine.open_connections == 0
        with pytest.raises(errors.Disconnected):
            await reading
        for late in (waiting, engine.send(peer.endpoint(), b"x", _TIMEOUTS)):
            with pytest.raises(errors.ConnectFailed):
                await late
