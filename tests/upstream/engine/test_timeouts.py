"""Each phase has its limit, on a clock that the test sets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from raw_peer import Session, answer, blackhole, listening

from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.engine import Engine, Limits, Response, errors

_TICKS_S = 0.12
_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def advance(self, seconds: float) -> None:
        """Moves the time on and lets the engine's ticker see it."""
        self.now += seconds
        await asyncio.sleep(_TICKS_S)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def timed(clock: Clock) -> AsyncIterator[Engine]:
    engine = Engine(clock=clock)
    yield engine
    await engine.aclose()


async def _silent(session: Session) -> None:
    await session.request()
    await session.reader.read()


async def test_the_head_must_arrive_within_the_first_byte_limit(timed: Engine, clock: Clock) -> None:
    """Not before the limit and at once after it; informational heads and single bytes do not extend it."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: ", *[b"y"] * 1000, gap_s=0.01)

    async with listening(handle) as peer:
        sending = asyncio.create_task(timed.send(peer.endpoint(), b"x", Timeouts(first_byte_s=2)))
        await asyncio.sleep(_TICKS_S)
        await clock.advance(1.9)
        assert not sending.done()
        await clock.advance(0.2)
        with pytest.raises(errors.FirstByteTimeout) as caught:
            await sending
        assert caught.value.sent
    assert timed.open_connections == 0


async def _begun(engine: Engine, endpoint: Endpoint, timeouts: Timeouts) -> tuple[Response, asyncio.Task[bytes]]:
    response = await engine.send(endpoint, b"x", timeouts)
    assert await anext(response.chunks()) == b"ok"
    reading = asyncio.ensure_future(anext(response.chunks()))
    await asyncio.sleep(_TICKS_S)
    return response, reading


async def _stalling(session: Session) -> None:
    await session.request()
    await session.send(_CHUNKED + b"2\r\nok\r\n")
    await session.reader.read()


async def test_a_body_may_not_stand_still_for_longer_than_the_idle_limit(timed: Engine, clock: Clock) -> None:
    """The limit counts from the last piece of body."""
    async with listening(_stalling) as peer:
        _, reading = await _begun(timed, peer.endpoint(), Timeouts(idle_s=2))
        await clock.advance(1.9)
        assert not reading.done()
        await clock.advance(0.2)
        with pytest.raises(errors.IdleTimeout):
            await reading


async def test_framing_without_body_is_no_progress(timed: Engine, clock: Clock) -> None:
    """A server that drips chunk extensions cannot hold a connection past the idle limit."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_CHUNKED + b"2\r\nok\r\n", b"2;", *[b"x"] * 1000, gap_s=0.01)

    async with listening(handle) as peer:
        _, reading = await _begun(timed, peer.endpoint(), Timeouts(idle_s=2))
        await clock.advance(1.0)
        await clock.advance(1.1)
        with pytest.raises(errors.IdleTimeout):
            await reading


async def test_the_idle_limit_counts_from_the_head(timed: Engine, clock: Clock) -> None:
    """What was left of the first byte's limit neither lengthens nor shortens the wait for the body."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_CHUNKED)
        await session.reader.read()

    async with listening(handle) as peer:
        for first_byte_s in (60, 1):
            response = await timed.send(peer.endpoint(), b"x", Timeouts(first_byte_s=first_byte_s, idle_s=5))
            reading = asyncio.ensure_future(anext(response.chunks()))
            await clock.advance(4.9)
            assert not reading.done()
            await clock.advance(0.2)
            with pytest.raises(errors.IdleTimeout):
                await asyncio.wait_for(reading, 1)


async def test_a_slow_reader_is_not_an_idle_provider(timed: Engine, clock: Clock) -> None:
    """While unread bytes wait for the reader, only the total limit counts: what the provider says later still comes."""
    go_on = asyncio.Event()

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_CHUNKED + b"2\r\nok\r\n")
        await go_on.wait()
        await session.send(b"5\r\n, too\r\n0\r\n\r\n")

    async with listening(handle) as peer:
        response = await timed.send(peer.endpoint(), b"x", Timeouts(idle_s=2, total_s=60))
        await asyncio.sleep(_TICKS_S)
        for _ in range(3):
            await clock.advance(5)
        go_on.set()
        assert await response.read() == b"ok, too"


async def test_a_provider_that_was_held_back_gets_the_whole_idle_limit(timed: Engine, clock: Clock) -> None:
    """It could not go on before its reader did, so its time counts from then."""
    body = b"a" * 9000  # above the mark at which reading stops, and taken by the read that brings the head
    go_on = asyncio.Event()

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_CHUNKED + b"%x\r\n%b\r\n" % (len(body), body))
        await go_on.wait()
        await session.send(b"4\r\nmore\r\n0\r\n\r\n")

    async with listening(handle) as peer:
        response = await timed.send(peer.endpoint(), b"x", Timeouts(idle_s=2))
        await clock.advance(1.9)
        assert await anext(response.chunks()) == body
        rest = asyncio.ensure_future(anext(response.chunks()))
        await clock.advance(1.9)
        assert not rest.done()
        go_on.set()
        assert await rest == b"more"


async def test_the_whole_exchange_has_a_limit(timed: Engine, clock: Clock) -> None:
    """Also where bytes keep coming; a reader that waits for the whole body is woken too."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_CHUNKED, *[b"2\r\nok\r\n"] * 1000, gap_s=0.01)

    async with listening(handle) as peer:
        response = await timed.send(peer.endpoint(), b"x", Timeouts(idle_s=2, total_s=5))
        reading = asyncio.create_task(response.read())
        for _ in range(4):
            await clock.advance(1.2)
        assert not reading.done()
        await clock.advance(0.4)
        with pytest.raises(errors.TotalTimeout):
            await reading


async def test_the_whole_limit_holds_before_anything_is_sent() -> None:
    """Waiting for a connection and making one end with it, where their own limits are longer."""

    async def never(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    in_time = Timeouts(pool_s=60, connect_s=60, total_s=0.2)
    busy, lost = Engine(Limits(connections_per_origin=1)), Engine(resolver=never)
    async with listening(_silent) as peer:
        first = asyncio.ensure_future(busy.send(peer.endpoint(), b"x", Timeouts()))
        await asyncio.sleep(0.05)
        for engine, error in ((busy, errors.PoolTimeout), (lost, errors.ConnectTimeout)):
            with pytest.raises(error) as caught:
                await asyncio.wait_for(engine.send(peer.endpoint(), b"x", in_time), 5)
            assert not caught.value.sent
            await engine.aclose()
        with pytest.raises(errors.Disconnected):
            await first


async def test_connections_must_be_made_within_the_connect_limit(engine: Engine) -> None:
    """A listener whose backlog is full does not answer; nothing was sent then."""
    with blackhole() as port:
        endpoint = Endpoint(Origin("http", "127.0.0.1", port, allow_private=True), "POST", "/", ())
        with pytest.raises(errors.ConnectTimeout) as caught:
            await engine.send(endpoint, b"x", Timeouts(connect_s=0.2))
        assert not caught.value.sent


async def test_a_refused_connection_is_reported_at_once(engine: Engine) -> None:
    """Nothing listens there."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint(Origin("http", "127.0.0.1", taken.getsockname()[1], allow_private=True), "POST", "/", ())
        with pytest.raises(errors.ConnectFailed) as caught:
            await engine.send(endpoint, b"x", Timeouts())
        assert not caught.value.sent


async def test_waiting_for_a_connection_has_a_limit() -> None:
    """Where all stay busy the request is given up unsent, and its place in the queue with it."""
    engine = Engine(Limits(connections_per_origin=1))
    async with listening(_silent) as peer:
        busy = asyncio.create_task(engine.send(peer.endpoint(), b"x", Timeouts()))
        await asyncio.sleep(0.05)
        with pytest.raises(errors.PoolTimeout) as caught:
            await engine.send(peer.endpoint(), b"x", Timeouts(pool_s=0.05))
        assert not caught.value.sent
        await engine.aclose()
        with pytest.raises(errors.Disconnected):
            await busy


async def test_idle_connections_are_closed_after_a_while() -> None:
    """Without any further request."""
    engine = Engine(Limits(keepalive_s=0.1))

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(answer(b"ok"))
        assert await session.reader.read() == b""
        closed.set()

    closed = asyncio.Event()
    async with listening(handle) as peer:
        await (await engine.send(peer.endpoint(), b"x", Timeouts())).read()
        assert engine.open_connections == 1
        await closed.wait()
        assert engine.open_connections == 0
        await engine.aclose()


async def test_an_exchange_after_a_quiet_time_has_its_limits_too(timed: Engine, clock: Clock) -> None:
    """Nothing ticks for a connection that is idle, nor does its last deadline end it; the next exchange ticks again."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(answer(b"ok"))
        await session.request()
        await session.reader.read()

    async with listening(handle) as peer:
        assert await (await timed.send(peer.endpoint(), b"x", Timeouts(first_byte_s=2))).read() == b"ok"
        await clock.advance(5)
        assert timed._watch.timer is None
        assert timed.open_connections == 1
        sending = asyncio.create_task(timed.send(peer.endpoint(), b"x", Timeouts(first_byte_s=2)))
        await asyncio.sleep(_TICKS_S)
        await clock.advance(1.9)
        assert not sending.done()
        await clock.advance(0.2)
        with pytest.raises(errors.FirstByteTimeout):
            await sending
    assert timed.open_connections == 0
