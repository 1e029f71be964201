"""Pooled connections that the peer has left, and readers that leave theirs."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable

import pytest
from raw_peer import Session, answer, chunked, echoing, listening

from gateway.types import Endpoint, Timeouts
from gateway.upstream.engine import Engine, Limits, Response, connection, errors

_TIMEOUTS = Timeouts()
_BEGUN = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"


async def test_a_connection_closed_while_idle_is_not_used(engine: Engine) -> None:
    """The engine notices the end when it comes, and opens another."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(answer(b"ok"))

    async with listening(handle) as peer:
        for _ in range(3):
            assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == b"ok"
            await asyncio.sleep(0.02)
        assert (peer.accepted, engine.open_connections) == (3, 0)


async def test_a_connection_idle_for_too_long_is_not_used() -> None:
    """Also where the timer that closes such connections is late."""
    now = 0.0
    engine = Engine(Limits(keepalive_s=30), clock=lambda: now)
    async with listening(echoing()) as peer:
        for at, accepted in ((0.0, 1), (29.9, 1), (60.0, 2)):
            now = at
            assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == b"x"
            assert peer.accepted == accepted
        await engine.aclose()


async def test_bytes_that_wait_on_an_idle_connection_are_nobodys_answer(engine: Engine) -> None:
    """Also where they come in the very moment before the next request, unseen by the loop."""

    async def handle(session: Session) -> None:
        descriptors.append(session.writer.get_extra_info("socket").fileno())
        await session.request()
        await session.send(answer(b"ok"))
        await session.reader.read()

    descriptors: list[int] = []
    async with listening(handle) as peer:
        assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == b"ok"
        os.write(descriptors[0], answer(b"evil"))
        assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == b"ok"
        assert peer.accepted == 2


def _keeping(bodies: list[tuple[int, bytes]]) -> Callable[[Session], Awaitable[None]]:
    """A peer that answers `ok` and keeps what it was sent, each with the number of its connection."""

    async def handle(session: Session) -> None:
        while True:
            bodies.append((session.number, (await session.request()).rpartition(b"\r\n")[2]))
            await session.send(answer(b"ok"))

    return handle


@pytest.mark.parametrize("lost", [False, True], ids=["speaks", "leaves"])
async def test_a_peer_that_moves_before_the_request_has_left(engine: Engine, lost: bool) -> None:
    """The request still waits for the end of the loop's turn: it was not sent, and goes to a fresh connection."""

    bodies: list[tuple[int, bytes]] = []
    async with listening(_keeping(bodies)) as peer:
        assert await (await engine.send(peer.endpoint(), b"first", _TIMEOUTS)).read() == b"ok"
        (connection,) = engine._watch.open
        sending = asyncio.ensure_future(engine.send(peer.endpoint(), b"second", _TIMEOUTS))
        await asyncio.sleep(0)
        if lost:
            connection._transport._transport.abort()
        else:
            said = answer(b"evil")
            connection.get_buffer(-1)[: len(said)] = said
            connection.buffer_updated(len(said))
        assert await (await sending).read() == b"ok"
        assert bodies == [(0, b"first"), (1, b"second")]


async def test_a_request_that_has_not_left_is_sent_again_however_long_it_took() -> None:
    """The loop stood still for seconds before it came round to writing: the peer has seen nothing all the same."""
    now = 0.0
    engine = Engine(clock=lambda: now)

    bodies: list[tuple[int, bytes]] = []
    async with listening(_keeping(bodies)) as peer:
        assert await (await engine.send(peer.endpoint(), b"first", _TIMEOUTS)).read() == b"ok"
        (connection,) = engine._watch.open
        sending = asyncio.ensure_future(engine.send(peer.endpoint(), b"second", _TIMEOUTS))
        await asyncio.sleep(0)
        now = 5.0
        connection._transport._transport.abort()
        assert await (await sending).read() == b"ok"
        assert bodies == [(0, b"first"), (1, b"second")]
        await engine.aclose()


def _hang_up(session: Session) -> None:
    """The peer closes its socket now: its end is on the way, and whatever reaches it from now on is refused."""
    descriptor = os.dup(session.writer.get_extra_info("socket").fileno())
    with socket.socket(fileno=descriptor) as line:
        line.shutdown(socket.SHUT_RDWR)


async def _crossed(engine: Engine, endpoint: Endpoint, body: bytes, session: Session) -> asyncio.Task[Response]:
    """A request on its way over a pooled connection while the peer's end is on its way, too."""
    sending = asyncio.create_task(engine.send(endpoint, body, _TIMEOUTS))
    await asyncio.sleep(0)  # the connection was taken from the pool; the request waits for the end of this turn
    _hang_up(session)
    for line in engine._watch.open:
        line._transport.flush()
    return sending


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system is not asked")
async def test_a_request_that_crossed_the_end_of_a_stale_connection_is_sent_again(engine: Engine) -> None:
    """The peer closed while the request was on its way, and has acknowledged none of it: it goes to a fresh one."""

    async def handle(session: Session) -> None:
        sessions.append(session)
        while True:
            await session.request()
            await session.send(answer(b"%d" % session.number))

    sessions: list[Session] = []
    async with listening(handle) as peer:
        assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == b"0"
        response = await (await _crossed(engine, peer.endpoint(), b"y", sessions[0]))
        assert await response.read() == b"1"
        assert len(peer.requests) == 2


@pytest.mark.parametrize("end", ["closed", "closed unread", "reset"])
async def test_a_request_that_the_peer_has_is_not_sent_again(engine: Engine, end: str) -> None:
    """However soon it hangs up: it may have processed the request, and charged for it."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(answer(b"ok"))
        if end == "closed unread":
            session.writer.transport.pause_reading()
            await asyncio.sleep(0.02)
        else:
            await session.request()
        if end == "reset":
            session.reset()

    async with listening(handle) as peer:
        await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        await asyncio.sleep(0)
        with pytest.raises(errors.Disconnected) as caught:
            await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        assert caught.value.sent
        assert peer.accepted == 1


async def test_it_is_not_sent_again_where_the_system_cannot_tell(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without knowing what has arrived, nothing that was written is written again."""

    async def handle(session: Session) -> None:
        sessions.append(session)
        await session.request()
        await session.send(answer(b"ok"))
        await session.reader.read()

    sessions: list[Session] = []
    monkeypatch.setattr(connection, "unacknowledged_bytes", lambda descriptor: 0)
    async with listening(handle) as peer:
        await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        with pytest.raises(errors.Disconnected):
            await (await _crossed(engine, peer.endpoint(), b"x", sessions[0]))
        assert peer.accepted == 1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system is not asked")
async def test_it_is_sent_again_only_once(engine: Engine) -> None:
    """A fresh connection that ends without an answer is an error."""

    async def handle(session: Session) -> None:
        sessions.append(session)
        await session.request()
        if session.number == 0:
            await session.send(answer(b"ok"))
            await session.head()

    sessions: list[Session] = []
    async with listening(handle) as peer:
        await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        with pytest.raises(errors.Disconnected):
            await (await _crossed(engine, peer.endpoint(), b"x", sessions[0]))
        assert peer.accepted == 2


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system is not asked")
async def test_a_first_sending_is_not_forgotten_where_the_second_fails(engine: Engine) -> None:
    """The peer is gone for good: what was written to its last connection counts as written."""

    async def handle(session: Session) -> None:
        sessions.append(session)
        await session.request()
        await session.send(answer(b"ok"))
        await session.reader.read()

    sessions: list[Session] = []
    async with listening(handle) as peer:
        await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        peer.stop_listening()
        with pytest.raises(errors.ConnectFailed) as caught:
            await (await _crossed(engine, peer.endpoint(), b"x", sessions[0]))
        assert caught.value.sent


async def test_it_is_not_sent_again_where_the_answer_had_begun(engine: Engine) -> None:
    """One byte of a response proves that the request was seen."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(answer(b"ok"))
        await session.request()
        await session.send(b"H")

    async with listening(handle) as peer:
        await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        with pytest.raises(errors.Truncated):
            await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        assert peer.accepted == 1


async def test_finishing_early_saves_a_connection_that_is_nearly_done(engine: Engine) -> None:
    """The little that is left is read without a reader; the next request finds the connection in the pool."""

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            await session.send(chunked(b"first")[:-5], b"4\r\nlast\r\n", b"0\r\n\r\n", gap_s=0.02)

    async with listening(handle) as peer:
        for _ in range(3):
            response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
            assert await anext(response.chunks()) == b"first"
            response.finish()
            assert [data async for data in response.chunks()] == []
            await asyncio.sleep(0.1)
        assert peer.accepted == 1


async def test_finishing_early_closes_a_connection_with_much_left(engine: Engine) -> None:
    """Draining has a bound in bytes."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_BEGUN % 10_000_000 + b"first", b"a" * 200_000)
        await session.reader.read()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        await anext(response.chunks())
        response.finish()
        await asyncio.sleep(0.1)
        assert engine.open_connections == 0


async def test_finishing_early_waits_only_a_moment() -> None:
    """Draining has a bound in time."""
    now = 0.0
    engine = Engine(clock=lambda: now)

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_BEGUN % 100 + b"first")
        await session.reader.read()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        response.finish()
        await asyncio.sleep(0.1)
        assert engine.open_connections == 1
        now = 1.1
        await asyncio.sleep(0.1)
        assert engine.open_connections == 0
        await engine.aclose()


async def test_aborting_closes_at_once_and_more_than_once(engine: Engine) -> None:
    """The provider sees the end of the connection; whoever reads on gets an error."""
    left = asyncio.Event()

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_BEGUN % 100 + b"first")
        try:
            await session.reader.read()
        finally:
            left.set()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        response.abort()
        response.abort()
        response.finish()
        await asyncio.wait_for(left.wait(), 5)
        assert engine.open_connections == 0


async def test_a_waiting_reader_is_woken_with_the_error_it_is_given(engine: Engine) -> None:
    """When the caller leaves, whoever relays to it is told why, and the bytes that came before are not lost."""

    class CallerGone(Exception):
        pass

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_BEGUN % 100 + b"first")
        await session.reader.read()

    async with listening(handle) as peer:
        for whole in (True, False):
            response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
            if not whole:
                assert await anext(response.chunks()) == b"first"
            reading = asyncio.ensure_future(response.read() if whole else anext(response.chunks()))
            await asyncio.sleep(0.01)
            response.fail(CallerGone())
            with pytest.raises(CallerGone):
                await reading
        assert peer.accepted == 2
