"""Requests and responses in every form that HTTP/1.1 has for them."""

from __future__ import annotations

import pytest
from raw_peer import Session, answer, chunked, echoing, listening, saying

from gateway.types import Timeouts
from gateway.upstream.engine import Engine

_TIMEOUTS = Timeouts()


async def test_writes_head_extra_lines_and_body_as_one_request(engine: Engine) -> None:
    """What goes out is the endpoint's head, the caller's lines, the length and the body."""
    async with listening(echoing()) as peer:
        endpoint = peer.endpoint(authorization="Bearer k", accept_encoding="gzip")
        response = await engine.send(endpoint, b'{"a":1}', _TIMEOUTS, b"x-client-request-id: 7\r\n")
        assert await response.read() == b'{"a":1}'
    assert peer.requests == [
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer k\r\n"
        b"accept-encoding: gzip\r\n"
        b'x-client-request-id: 7\r\ncontent-length: 7\r\n\r\n{"a":1}' % peer.port
    ]


async def test_asks_for_an_unencoded_body_unless_the_endpoint_says_otherwise(engine: Engine) -> None:
    """Without a header of the endpoint's own, `identity` is sent."""
    async with listening(echoing()) as peer:
        await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
    assert b"\r\naccept-encoding: identity\r\n" in peer.requests[0]


async def test_a_get_without_a_body_has_no_length(engine: Engine) -> None:
    """Some servers refuse a GET that announces a body."""
    async with listening(saying(answer(b"list"))) as peer:
        assert await (await engine.send(peer.endpoint("GET"), b"", _TIMEOUTS)).read() == b"list"
    assert b"content-length" not in peer.requests[0]


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 3_000_000])
async def test_bodies_of_any_size_come_back_as_they_went(engine: Engine, size: int) -> None:
    """Small and large requests take different ways to the socket, large answers pass the buffer's mark."""
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    async with listening(echoing()) as peer:
        assert await (await engine.send(peer.endpoint(), body, _TIMEOUTS)).read() == body
        response = await engine.send(peer.endpoint(), body, _TIMEOUTS)
        assert b"".join([data async for data in response.chunks()]) == body
    assert peer.accepted == 1


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (answer(b"ok"), b"ok"),
        (chunked(b"o", b"k"), b"ok"),
        (chunked(), b""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2;ext=1\r\nok\r\n0\r\nx-trailer: 1\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"ok"), b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + answer(b"ok"), b"ok"),
        (b"HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    ],
)
async def test_every_framing_gives_its_body_and_the_connection_back(engine: Engine, raw: bytes, body: bytes) -> None:
    """Whole and cut at every byte, the answer is the same and the next request uses the same connection."""
    async with listening(saying(raw)) as peer:
        assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == body
    cut = [raw[i : i + 1] for i in range(len(raw))]

    async def piecemeal(session: Session) -> None:
        while True:
            await session.request()
            await session.send(*cut, gap_s=0.0005)

    async with listening(piecemeal) as peer:
        for _ in range(2):
            assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == body
        assert peer.accepted == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 13\r\n\r\nuntil the end",
    ],
)
async def test_a_connection_that_ends_with_its_answer_is_not_used_again(engine: Engine, raw: bytes) -> None:
    """A body may last until the connection closes; the next request opens another."""
    async with listening(saying(raw, keep=False)) as peer:
        for _ in range(2):
            assert await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read() == b"until the end"
        assert peer.accepted == 2


async def test_an_answer_to_head_has_no_body(engine: Engine) -> None:
    """The length that a HEAD answer announces is not waited for."""
    async with listening(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")) as peer:
        response = await engine.send(peer.endpoint("HEAD"), b"", _TIMEOUTS)
        assert (response.headers["content-length"], await response.read()) == ("5", b"")


async def test_headers_are_found_by_lower_case_name(engine: Engine) -> None:
    """Values keep their case, lose surrounding blanks, and those of a repeated header are joined."""
    raw = answer(b"", b"429 Slow", b"Retry-After:  3 ", b"Via: a", b"VIA: B", b"empty:")
    async with listening(saying(raw)) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        assert response.status == 429
        assert dict(response.headers) == {"retry-after": "3", "via": "a, B", "empty": "", "content-length": "0"}


async def test_an_answer_that_has_arrived_is_read_without_waiting(engine: Engine) -> None:
    """`read()` of a small JSON answer does not yield to the loop."""
    async with listening(saying(answer(b"ok"))) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        reading = response.read()
        with pytest.raises(StopIteration) as done:
            reading.send(None)
        assert done.value.value == b"ok"


async def test_chunks_may_be_left_and_taken_up_again(engine: Engine) -> None:
    """A reader that stops after the first event finds the rest when it comes back."""
    async with listening(saying(chunked(b"first")[:-5], b"6\r\nsecond\r\n0\r\n\r\n")) as peer:
        response = await engine.send(peer.endpoint(), b"x", _TIMEOUTS)
        async for data in response.chunks():
            assert data == b"first"
            break
        assert [data async for data in response.chunks()] == [b"second"]


async def test_an_answer_may_be_read_after_its_connection_serves_another(engine: Engine) -> None:
    """The connection returns to the pool with the last byte, whenever the reader comes."""
    async with listening(echoing()) as peer:
        first = await engine.send(peer.endpoint(), b"one", _TIMEOUTS)
        second = await engine.send(peer.endpoint(), b"two", _TIMEOUTS)
        assert (await first.read(), await second.read()) == (b"one", b"two")
        first.abort()
        first.finish()
        assert await (await engine.send(peer.endpoint(), b"three", _TIMEOUTS)).read() == b"three"
        assert peer.accepted == 1
