"""Back-pressure both ways: a slow reader slows the provider, a slow provider slows the upload."""

from __future__ import annotations

import asyncio
import socket

from raw_peer import Session, answer, listening

from gateway.types import Timeouts
from gateway.upstream.engine import Engine, Limits

_PIECE = b"a" * 65_536


async def test_a_slow_reader_stops_the_provider() -> None:
    """What the engine holds of an unread stream is bounded, and the rest comes whole once it is read (case D42)."""
    engine = Engine(Limits(buffer_bytes=131_072))
    total = 64 * 1024 * 1024
    written = 0

    async def handle(session: Session) -> None:
        nonlocal written
        session.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        session.writer.transport.set_write_buffer_limits(0)
        await session.request()
        await session.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
        while written < total:
            await session.send(_PIECE)
            written += len(_PIECE)
        await session.reader.read()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        await asyncio.sleep(0.3)
        stalled_at = written
        await asyncio.sleep(0.2)
        assert written == stalled_at < total // 4
        first = await anext(response.chunks())
        assert len(first) <= 131_072 + 262_144  # the mark, and one read of the loop's beyond it
        assert len(first) + sum([len(data) async for data in response.chunks()]) == total
        await engine.aclose()


async def test_a_reader_that_has_not_come_yet_is_read_ahead_for_by_little() -> None:
    """A flood behind the head waits in the socket, not with us: a mark's worth and one small read."""
    limits = Limits()
    engine = Engine(limits)

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        await asyncio.sleep(0.05)
        await session.send(b"a" * 1_000_000)
        await session.reader.read()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        await asyncio.sleep(0.2)
        first = await anext(response.chunks())
        assert 0 < len(first) <= limits.buffer_bytes + limits.ahead_bytes
        assert len(first) + sum([len(data) async for data in response.chunks()]) == 1_000_000
        await engine.aclose()


async def test_a_slow_reader_slows_nobody_else(engine: Engine) -> None:
    """Other exchanges go on while one is held back."""

    async def handle(session: Session) -> None:
        while True:
            request = await session.request()
            await session.send(answer(b"a" * 10_000_000 if request.endswith(b"big") else b"small"))

    async with listening(handle) as peer:
        big = await engine.send(peer.endpoint(), b"big", Timeouts())
        for _ in range(5):
            assert await (await engine.send(peer.endpoint(), b"x", Timeouts())).read() == b"small"
        assert len(await big.read()) == 10_000_000
