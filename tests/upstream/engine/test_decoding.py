"""Compressed answers, which nobody asked for."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest
from raw_peer import Session, answer, chunked, listening, saying

from gateway.types import Timeouts
from gateway.upstream.engine import Engine, Limits, errors

_TEXT = b'{"choices":[{"message":{"content":"' + b"word " * 40_000 + b'"}}]}'


def _raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", gzip.compress(_TEXT, mtime=0)),
        (b"X-GZip", gzip.compress(_TEXT, mtime=0)),
        (b"gzip", gzip.compress(_TEXT[:9], mtime=0) + gzip.compress(b"") + gzip.compress(_TEXT[9:], mtime=0)),
        (b"gzip", gzip.compress(_TEXT[:-9], mtime=0) + bytes(70_000) + gzip.compress(_TEXT[-9:], mtime=0) + bytes(99)),
        (b"deflate", zlib.compress(_TEXT)),
        (b"deflate", _raw_deflate(_TEXT)),
        (b"identity", _TEXT),
    ],
)
async def test_known_encodings_are_undone(engine: Engine, encoding: bytes, body: bytes) -> None:
    """Read whole or as it comes; the headers no longer speak of what was undone."""
    async with listening(saying(answer(body, b"200 OK", b"Content-Encoding: " + encoding))) as peer:
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        assert await response.read() == _TEXT
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        assert b"".join([data async for data in response.chunks()]) == _TEXT
        assert ("content-encoding" in response.headers) is (encoding == b"identity")


async def test_pieces_are_decoded_as_they_come(engine: Engine) -> None:
    """A compressed stream that is flushed after each event is not held back, and may be left and taken up again."""
    deflater = zlib.compressobj(wbits=31)
    pieces = [deflater.compress(event) + deflater.flush(zlib.Z_SYNC_FLUSH) for event in (b"one", b"two")]
    raw = chunked(*pieces, deflater.flush()).replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n", 1)
    cut = raw.index(pieces[1])
    async with listening(saying(raw[:cut], raw[cut:])) as peer:
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        assert await anext(response.chunks()) == b"one"
        assert [data async for data in response.chunks()] == [b"two"]


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
async def test_a_bomb_stops_at_the_cap(encoding: bytes) -> None:
    """No piece is larger than a step, and the sum never passes the cap by more (case S13)."""
    bomb = (gzip.compress if encoding == b"gzip" else zlib.compress)(bytes(50_000_000))
    engine = Engine(Limits(body_bytes=1_000_000))
    async with listening(saying(answer(bomb, b"200 OK", b"content-encoding: " + encoding))) as peer:
        with pytest.raises(errors.TooLarge):
            await (await engine.send(peer.endpoint(), b"x", Timeouts())).read()
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        sizes = [len(await anext(response.chunks())) for _ in range(15)]
        assert max(sizes) <= 65_536
        with pytest.raises(errors.TooLarge):
            await anext(response.chunks())
        await engine.aclose()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"this is not gzip at all", errors.ProtocolError),
        (gzip.compress(_TEXT, mtime=0)[:-20], errors.Truncated),
        (gzip.compress(_TEXT, mtime=0)[:40], errors.Truncated),
        (gzip.compress(_TEXT, mtime=0) * 2 + b"and more", errors.ProtocolError),
        (gzip.compress(_TEXT, mtime=0) + zlib.compress(_TEXT), errors.ProtocolError),
        (gzip.compress(_TEXT, mtime=0) + gzip.compress(_TEXT, mtime=0)[:-20], errors.Truncated),
        (gzip.compress(b"", mtime=0) * 100_000, errors.ProtocolError),
    ],
    ids=["other", "cut", "cut early", "text after it", "zlib after it", "second cut", "flood of empty ones"],
)
async def test_broken_compression_is_an_error(engine: Engine, body: bytes, error: type[Exception]) -> None:
    """A body that says gzip and is not, or ends within, or goes on as something else."""
    async with listening(saying(answer(body, b"200 OK", b"content-encoding: gzip"))) as peer:
        with pytest.raises(error):
            await (await engine.send(peer.endpoint(), b"x", Timeouts())).read()


@pytest.mark.parametrize("body", [zlib.compress(_TEXT), _raw_deflate(_TEXT)], ids=["zlib", "raw"])
async def test_nothing_follows_a_deflated_body(engine: Engine, body: bytes) -> None:
    """It has no members: what comes after its end is not dropped unsaid."""
    async with listening(saying(answer(body + b"and more", b"200 OK", b"content-encoding: deflate"))) as peer:
        with pytest.raises(errors.ProtocolError):
            await (await engine.send(peer.endpoint(), b"x", Timeouts())).read()


async def test_members_of_a_stream_are_decoded_as_they_come(engine: Engine) -> None:
    """Also where one begins within the piece that ends another."""
    one, two = (gzip.compress(event, mtime=0) for event in (b"one", b"two"))
    raw = chunked(one + two[:5], two[5:]).replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n", 1)
    cut = raw.index(two[5:])
    async with listening(saying(raw[:cut], raw[cut:])) as peer:
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        assert [data async for data in response.chunks()] == [b"one", b"two"]


async def test_what_a_small_piece_inflates_to_comes_whole_before_the_next_one(engine: Engine) -> None:
    """Steps of it are left in the decoder while the connection has nothing new."""
    read_all = asyncio.Event()

    async def handle(session: Session) -> None:
        await session.request()
        deflater = zlib.compressobj(wbits=31)
        piece = deflater.compress(_TEXT) + deflater.flush(zlib.Z_SYNC_FLUSH)
        raw = chunked(piece, deflater.flush()).replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n", 1)
        cut = raw.index(piece) + len(piece)
        await session.send(raw[:cut])
        await read_all.wait()
        await session.send(raw[cut:])

    async with listening(handle) as peer, asyncio.timeout(10):
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        text = b""
        while len(text) < len(_TEXT):
            text += await anext(response.chunks())
        read_all.set()
        assert [data async for data in response.chunks()] == []
        assert text == _TEXT


async def test_an_empty_body_may_claim_any_known_encoding(engine: Engine) -> None:
    """Servers put the header on answers without content too."""
    async with listening(saying(answer(b"", b"200 OK", b"content-encoding: gzip"))) as peer:
        assert await (await engine.send(peer.endpoint(), b"x", Timeouts())).read() == b""


async def test_a_connection_whose_body_cannot_be_decoded_is_closed(engine: Engine) -> None:
    """At once: what still comes is of no use to anybody."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 1000\r\n\r\nnot gzip")
        await session.reader.read()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", Timeouts())
        with pytest.raises(errors.ProtocolError):
            await anext(response.chunks())
        await asyncio.sleep(0.01)
        assert engine.open_connections == 0
