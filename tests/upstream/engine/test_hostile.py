"""Answers that are malformed, ambiguous, too large or cut short, and connections that say more than they should."""

from __future__ import annotations

import asyncio

import pytest
from raw_peer import Session, answer, chunked, listening, saying

from gateway.types import Timeouts
from gateway.upstream.engine import Engine, Limits, errors

_TIMEOUTS = Timeouts()
_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"transfer-encoding: chunked\r\n\r\n"

_MALFORMED = {
    "length and chunks": _OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and length": _OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "two lengths": _OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nok!",
    "length list": _OK + b"content-length: 2, 2\r\n\r\nok",
    "signed length": _OK + b"content-length: +2\r\n\r\nok",
    "negative length": _OK + b"content-length: -2\r\n\r\nok",
    "overflowing length": _OK + b"content-length: 99999999999999999999999\r\n\r\nok",
    "unknown coding": _OK + b"transfer-encoding: xchunked\r\n\r\nok",
    "coding under chunks": _OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks not last": _OK + b"transfer-encoding: chunked, gzip\r\n\r\nok",
    "two codings": _OK + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "folded header": _OK + b"a: b\r\n c\r\ncontent-length: 2\r\n\r\nok",
    "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "bare LF after a header": _OK + b"a: b\ncontent-length: 2\r\n\r\nok",
    "bare LF at the end": _OK + b"content-length: 2\r\n\nok",
    "bare CR": _OK + b"a: b\rc: d\r\ncontent-length: 2\r\n\r\nok",
    "blank before colon": _OK + b"content-length : 2\r\n\r\nok",
    "NUL in a value": _OK + b"a: b\0c\r\ncontent-length: 2\r\n\r\nok",
    "no colon": _OK + b"nonsense\r\ncontent-length: 2\r\n\r\nok",
    "no name": _OK + b": x\r\ncontent-length: 2\r\n\r\nok",
    "blank lines first": b"\r\n\r\n" + answer(b"ok"),
    "bad chunk size": _CHUNKED + b"zz\r\nok\r\n0\r\n\r\n",
    "negative chunk size": _CHUNKED + b"-2\r\nok\r\n0\r\n\r\n",
    "hex prefix": _CHUNKED + b"0x2\r\nok\r\n0\r\n\r\n",
    "overflowing chunk size": _CHUNKED + b"ffffffffffffffffff\r\nok\r\n0\r\n\r\n",
    "chunk longer than its size": _CHUNKED + b"2\r\nokX\r\n0\r\n\r\n",
    "bare LF in chunks": _CHUNKED + b"2\nok\n0\n\n",
    "length in a trailer": _CHUNKED + b"2\r\nok\r\n0\r\ncontent-length: 2\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "upgrade without a word": b"HTTP/1.1 101 Switching\r\n\r\n" + answer(b"ok"),
    "status below 100": b"HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nok",
    "status of four digits": b"HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nok",
    "version 2": b"HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "TLS record": b"\x15\x03\x01\x00\x02\x02\x46",
    "unknown content coding": answer(b"ok", b"200 OK", b"content-encoding: br"),
    "content codings in a row": answer(b"ok", b"200 OK", b"content-encoding: gzip, gzip"),
}


@pytest.mark.parametrize("raw", _MALFORMED.values(), ids=_MALFORMED.keys())
@pytest.mark.parametrize("piecemeal", [False, True], ids=["whole", "bytewise"])
async def test_what_is_not_plain_http_is_refused(engine: Engine, raw: bytes, piecemeal: bool) -> None:
    """Whether it comes whole or byte by byte, it is an error and the connection is closed."""
    pieces = [raw[i : i + 1] for i in range(len(raw))] if piecemeal else [raw]

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(*pieces, gap_s=0.0005)
        await session.reader.read()

    async with listening(handle) as peer:
        with pytest.raises(errors.ProtocolError):
            await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        await asyncio.sleep(0)
        assert engine.open_connections == 0


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", errors.Disconnected),
        (b"HTTP/1.1 20", errors.Truncated),
        (b"HTTP/1.1 100 Continue\r\n\r\n", errors.Truncated),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n", errors.Truncated),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", errors.Truncated),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok", errors.Truncated),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nok", errors.Truncated),
        (b"HTTP/1.0 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n", errors.Truncated),
        (_CHUNKED + b"3\r\nok", errors.Truncated),
        (_CHUNKED + b"2\r\nok\r\n", errors.Truncated),
        (_CHUNKED + b"2\r\nok\r\n0\r\n", errors.Truncated),
    ],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_an_answer_cut_short_is_an_error(
    engine: Engine, raw: bytes, error: type[errors.EngineError], reset: bool
) -> None:
    """A closed connection ends a message only where nothing else does."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(raw)
        if reset:
            await asyncio.sleep(0.01)
            session.reset()

    async with listening(handle) as peer:
        with pytest.raises(error) as caught:
            await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        assert caught.value.sent
        assert peer.accepted == 1


async def test_a_reset_ends_no_body(engine: Engine) -> None:
    """A body that lasts until the connection closes is complete at a close, cut short at a reset."""

    async def handle(session: Session) -> None:
        await session.request()
        await session.send(_OK + b"\r\nok")
        await asyncio.sleep(0.01)
        session.reset()

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        with pytest.raises(errors.Truncated):
            await response.read()


async def test_what_had_arrived_is_given_before_the_error(engine: Engine) -> None:
    """A stream's reader sees every byte that came before the cut."""
    async with listening(saying(_CHUNKED + b"2\r\nok\r\nzz\r\n")) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        assert await anext(response.chunks()) == b"ok"
        with pytest.raises(errors.ProtocolError):
            await anext(response.chunks())


@pytest.mark.parametrize("surplus", [b"H", b"X", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"\0"])
@pytest.mark.parametrize("raw", [answer(b"ok"), answer(), chunked(b"ok"), b"HTTP/1.1 204 No Content\r\n\r\n"])
@pytest.mark.parametrize("gap", [False, True], ids=["together", "later"])
async def test_bytes_after_the_end_poison_the_connection(engine: Engine, raw: bytes, surplus: bytes, gap: bool) -> None:
    """The answer stands, but what follows it is nobody's answer: the next request opens another connection."""
    async with listening(saying(*([raw, surplus] if gap else [raw + surplus]))) as peer:
        for _ in range(2):
            response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
            assert b"evil" not in await response.read()
            await asyncio.sleep(0.02)
        assert peer.accepted == 2


async def test_a_body_after_an_answer_to_head_is_not_its_body(engine: Engine) -> None:
    """A server that sends one anyway cannot feed it to the next request."""
    async with listening(saying(answer(b"evil"))) as peer:
        for _ in range(2):
            assert await (await engine.send(peer.endpoint("HEAD"), b"", _TIMEOUTS)).read() == b""
        assert peer.accepted == 2


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\na: " + b"a" * 3000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500 + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"a" * 3000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 200 + answer(b"ok"),
    ],
)
async def test_heads_are_bounded(head: bytes) -> None:
    """One long header, many short ones, one without end, informational heads without end: all stop at the cap."""
    engine = Engine(Limits(header_bytes=2048))
    async with listening(saying(head)) as peer:
        with pytest.raises(errors.TooLarge):
            await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        await engine.aclose()


@pytest.mark.parametrize("raw", [answer(b"a" * 1001), chunked(*[b"a"] * 1001), _OK + b"\r\n" + b"a" * 1001])
async def test_bodies_read_whole_are_bounded(raw: bytes) -> None:
    """One byte over the cap is too large, at the cap it is not; chunk framing does not count."""
    engine = Engine(Limits(body_bytes=1000))
    async with listening(saying(raw, keep=False)) as peer:
        with pytest.raises(errors.TooLarge):
            await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        assert len(await response.read(1001)) == 1001
        await engine.aclose()


async def test_an_endless_body_stops_at_the_cap() -> None:
    """Nothing beyond the cap is kept of a body without end."""
    engine = Engine(Limits(body_bytes=200_000))
    sent = 0

    async def handle(session: Session) -> None:
        nonlocal sent
        await session.request()
        await session.send(_CHUNKED)
        while True:
            await session.send(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
            sent += 0x10000

    async with listening(handle) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        with pytest.raises(errors.TooLarge):
            await response.read()
        assert sent < 20_000_000
        await engine.aclose()
    assert engine.open_connections == 0
