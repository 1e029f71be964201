"""The engine as a transport of httpx.AsyncClient: uploads, early answers, errors, and headers that must not pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from raw_peer import Session, answer, chunked, echoing, listening, saying

from gateway.types import Endpoint, Origin
from gateway.upstream.engine import Engine, EngineError, Limits, errors
from gateway.upstream.engine.bridge import HTTPX_ERRORS


async def _permit(request: httpx.Request) -> None:
    request.extensions["allow_private"] = True


@pytest_asyncio.fixture
async def client(engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=engine, event_hooks={"request": [_permit]}) as client:
        yield client


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


async def test_requests_and_answers_pass_as_httpx_means_them(client: httpx.AsyncClient) -> None:
    """Query, headers and body go out; status, repeated headers and body come back; the connection is kept."""
    async with listening(saying(answer(b"ok", b"201 Created", b"set-cookie: a=1", b"set-cookie: b=2"))) as peer:
        for _ in range(2):
            response = await client.post(f"{peer.url}/a%20b?q=1#f", json={"x": 1}, headers={"X-One": "1"})
        assert (response.status_code, response.text) == (201, "ok")
        assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
        assert peer.requests[0].startswith(b"POST /a%%20b?q=1 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % peer.port)
        assert b"\r\nx-one: 1\r\n" in peer.requests[0]
        assert peer.requests[0].endswith(b'\r\ncontent-length: 7\r\n\r\n{"x":1}')
        assert peer.accepted == 1


async def test_uploads_of_unknown_length_go_out_in_chunks(client: httpx.AsyncClient) -> None:
    """Empty pieces are no end."""
    async with listening(echoing()) as peer:
        response = await client.post(peer.url, content=_pieces(b"one", b"", b"two"))
        assert response.content == b"onetwo"
        assert b"\r\ntransfer-encoding: chunked\r\n" in peer.requests[0]


async def test_uploads_of_known_length_go_out_as_they_are(client: httpx.AsyncClient) -> None:
    """A Content-Length of the caller's own is kept."""
    async with listening(echoing()) as peer:
        response = await client.post(peer.url, content=_pieces(b"one", b"two"), headers={"content-length": "6"})
        assert response.content == b"onetwo"
        assert b"transfer-encoding" not in peer.requests[0]


async def test_files_are_uploaded_with_back_pressure(client: httpx.AsyncClient) -> None:
    """A source of many megabytes is read no faster than the peer takes it."""
    given = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(400):
            given += 65_536
            yield b"a" * 65_536

    async def handle(session: Session) -> None:
        await session.head()
        await asyncio.sleep(0.2)
        slow.append(given)
        size = 0
        while not (await session.reader.read(1_000_000)).endswith(b"\r\n0\r\n\r\n"):
            size += 1
        await session.send(answer(b"ok"))

    slow: list[int] = []
    async with listening(handle) as peer:
        response = await client.post(peer.url, content=source())
    assert response.text == "ok"
    assert slow[0] < given == 400 * 65_536


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
async def test_an_upload_goes_out_on_a_connection_of_its_own(busy: bool) -> None:
    """What a used one swallows could not be sent again. Where there may be no further connection, the used one goes."""
    engine = Engine(Limits(connections_per_origin=1))

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            await asyncio.sleep(0.05)
            await session.send(answer(b"%d" % session.number))

    async with listening(handle) as peer, httpx.AsyncClient(transport=engine, event_hooks={"request": [_permit]}) as c:
        first = asyncio.ensure_future(c.post(peer.url, content=b"x"))
        await asyncio.sleep(0.01 if busy else 0.1)
        assert first.done() is not busy
        assert (await c.post(peer.url, content=_pieces(b"x"), timeout=10)).text == "1"
        assert (await first).text == "0"
        assert peer.accepted == 2
        assert engine.open_connections == 1


async def _endless(stopped: asyncio.Event) -> AsyncIterator[bytes]:
    """A body without an end; `stopped` is set once nobody reads on."""
    try:
        while True:
            yield b"a" * 1000
            await asyncio.sleep(0.001)
    finally:
        stopped.set()


async def test_an_early_answer_ends_an_upload(client: httpx.AsyncClient, engine: Engine) -> None:
    """A refusal that comes while the body is still being written is the answer, and the rest is not written."""
    stopped = asyncio.Event()

    async def handle(session: Session) -> None:
        await session.head()
        await session.send(answer(b"too large", b"413 Content Too Large"))
        while await session.reader.read(65_536):
            pass

    async with listening(handle) as peer:
        response = await client.post(peer.url, content=_endless(stopped))
        assert (response.status_code, response.text) == (413, "too large")
        await asyncio.wait_for(stopped.wait(), 5)
        assert engine.open_connections == 0


async def test_leaving_an_answer_ends_its_upload() -> None:
    """Nothing is saved by reading on where the request itself is not over: both end at once."""
    engine = Engine(Limits(drain_s=60))
    stopped = asyncio.Event()

    async def handle(session: Session) -> None:
        await session.head()
        await session.send(chunked(b"begun")[:-5])
        while await session.reader.read(65_536):
            pass

    async with listening(handle) as peer, httpx.AsyncClient(transport=engine, event_hooks={"request": [_permit]}) as c:
        async with c.stream("POST", peer.url, content=_endless(stopped)) as response:
            assert await anext(response.aiter_raw()) == b"begun"
            assert not stopped.is_set()
        await asyncio.wait_for(stopped.wait(), 10)
        assert engine.open_connections == 0


async def test_an_answer_may_come_between_pieces_of_its_request(client: httpx.AsyncClient) -> None:
    """A piece in every turn of the loop: whenever the answer comes, one has just been handed over."""

    async def source() -> AsyncIterator[bytes]:
        while not answered.is_set():
            yield b"a" * 1000
            await asyncio.sleep(0)

    async def handle(session: Session) -> None:
        await session.head()
        await session.send(chunked(b"begun")[:-5])
        end = b""
        while not end.endswith(b"\r\n0\r\n\r\n"):
            end = end[-10:] + await session.reader.read(65_536)
        await session.send(b"0\r\n\r\n")

    async with listening(handle) as peer:
        for _ in range(20):
            answered = asyncio.Event()
            async with client.stream("POST", peer.url, content=source()) as response:
                pieces = response.aiter_raw()
                assert await anext(pieces) == b"begun"
                answered.set()
                assert [piece async for piece in pieces] == []


async def test_an_answer_may_stream_while_the_request_does(client: httpx.AsyncClient) -> None:
    """Both directions at once: each piece is answered before the next is sent."""
    echoed: asyncio.Queue[bytes] = asyncio.Queue()

    async def source() -> AsyncIterator[bytes]:
        yield b"first"
        yield b"then " + await echoed.get()

    async def handle(session: Session) -> None:
        await session.head()
        await session.send(chunked(b"1")[:-5])
        await session.reader.readuntil(b"then 1\r\n0\r\n\r\n")
        await session.send(b"1\r\n2\r\n0\r\n\r\n")

    async with listening(handle) as peer, client.stream("POST", peer.url, content=source()) as response:
        async for piece in response.aiter_bytes():
            echoed.put_nowait(piece)
    assert [echoed.get_nowait() for _ in range(echoed.qsize())] == [b"2"]


@pytest.mark.parametrize(
    ("pieces", "headers"),
    [((b"abc",), {"content-length": "2"}), ((b"abc",), {"content-length": "4"})],
)
async def test_a_body_unlike_its_length_is_not_passed_on(
    client: httpx.AsyncClient, engine: Engine, pieces: tuple[bytes, ...], headers: dict[str, str]
) -> None:
    """Too long or too short, the request fails and its connection is closed."""
    async with listening(echoing()) as peer:
        with pytest.raises(httpx.WriteError):
            await client.post(peer.url, content=_pieces(*pieces), headers=headers)
        assert engine.open_connections == 0


async def test_a_body_whose_source_fails_is_not_passed_on(client: httpx.AsyncClient, engine: Engine) -> None:
    """The peer never sees a complete request."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ValueError("no more")

    async with listening(echoing()) as peer:
        with pytest.raises(httpx.WriteError) as caught:
            await client.post(peer.url, content=failing())
        assert isinstance(caught.value.__cause__, errors.WriteFailed)
        assert isinstance(caught.value.__cause__.__cause__, ValueError)
        assert engine.open_connections == 0
        assert peer.requests == []


async def test_a_peer_that_leaves_during_an_upload_is_an_error(client: httpx.AsyncClient) -> None:
    """Without an answer the request was not written whole."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"a" * 65_536

    async def handle(session: Session) -> None:
        await session.head()
        session.reset()

    async with listening(handle) as peer:
        with pytest.raises(httpx.WriteError):
            await client.post(peer.url, content=endless())


@pytest.mark.parametrize(
    "headers",
    [[(b"x-a", b"1\r\nx-evil: 1")], [(b"x-a\r\nx-evil", b"1")], [(b"x a", b"1")], [(b"x-a", b"1\n2")], [(b"", b"1")]],
)
async def test_headers_cannot_carry_more_headers(client: httpx.AsyncClient, headers: list[tuple[bytes, bytes]]) -> None:
    """Line breaks, blanks and empty names stop the request before anything is sent (case S18)."""
    async with listening(echoing()) as peer:
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(peer.url, headers=headers)
        assert peer.accepted == 0


async def test_framing_is_the_engines_own(client: httpx.AsyncClient) -> None:
    """A caller's Transfer-Encoding, Connection or second Host does not reach the wire."""
    evil = {"transfer-encoding": "chunked", "connection": "upgrade", "host": "evil.test"}
    async with listening(echoing()) as peer:
        await client.post(peer.url, content=b"abc", headers=evil)
        assert peer.requests[0].lower().count(b"host:") == 1
        assert not any(word in peer.requests[0] for word in (b"chunked", b"upgrade", b"evil"))


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
async def test_only_http_is_spoken(client: httpx.AsyncClient, url: str) -> None:
    """Other schemes are refused."""
    with pytest.raises(httpx.UnsupportedProtocol):
        await client.get(url)


async def test_redirects_are_answers(client: httpx.AsyncClient) -> None:
    """Nobody is followed elsewhere."""
    async with listening(saying(answer(b"", b"302 Found", b"location: http://169.254.169.254/"))) as peer:
        assert (await client.get(peer.url)).status_code == 302
        assert len(peer.requests) == 1


async def test_limits_of_httpx_are_kept(client: httpx.AsyncClient) -> None:
    """Its read limit bounds the wait for the head and for each piece; None means none."""

    async def handle(session: Session) -> None:
        await session.request()
        if session.number > 0:
            await session.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok")
        if session.number == 1:
            await session.send(b"ok")
            await session.request()
            await session.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok")
        await session.reader.read()

    async with listening(handle) as peer:
        with pytest.raises(httpx.ReadTimeout):
            await client.get(peer.url, timeout=httpx.Timeout(0.1))
        assert (await client.get(peer.url, timeout=None)).text == "okok"
        with pytest.raises(httpx.ReadTimeout):
            await client.get(f"{peer.url}/again", timeout=0.1)


async def test_a_response_left_early_gives_back_its_connection(client: httpx.AsyncClient, engine: Engine) -> None:
    """httpx closes what it does not read."""
    async with listening(saying(answer(b"a" * 5_000_000))) as peer:
        async with client.stream("GET", peer.url) as response:
            assert response.status_code == 200
        for _ in range(100):  # it reads on for a moment, for what is left might be little
            if engine.open_connections:
                await asyncio.sleep(0.01)
        assert engine.open_connections == 0


def _leaves(base: type[Exception]) -> set[type[Exception]]:
    below = base.__subclasses__()
    return set().union(*(_leaves(cls) for cls in below)) if below else {base}


def test_every_error_of_the_engine_is_one_of_httpx() -> None:
    """The table is complete."""
    assert set(HTTPX_ERRORS) == _leaves(EngineError)


async def test_errors_name_their_request(engine: Engine) -> None:
    """As httpx's own transports do."""
    endpoint = Endpoint(Origin("http", "127.0.0.1", 9), "GET", "/", ())
    request = httpx.Request("GET", f"http://{endpoint.origin.authority}/")
    with pytest.raises(httpx.ConnectError) as caught:
        await engine.handle_async_request(request)
    assert caught.value.request is request
