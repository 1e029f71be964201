"""The callers' side protocol over real sockets: replies by the outlet, keep-alive, pipelining."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any, ClassVar

import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.inbound import Bridged, Inbound
from gateway.direct import Beginning, Direct, Hot
from gateway.protocol import Protocol

_GET = b"GET %b HTTP/1.1\r\nhost: here\r\n%b\r\n"
_POST = b"POST %b HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n%b\r\nhi"
_WAYS = pytest.mark.parametrize(("request_of", "way"), [(_GET, b"Bridged"), (_POST, b"Direct")], ids=["asgi", "direct"])
_MOST_BYTES = 100_000


async def _written(inbound: Inbound, data: bytes, *, more: bool = False) -> None:
    if (waiting := inbound.write(data, more=more)) is not None:
        await waiting


async def _answer(path: str, inbound: Inbound) -> None:
    """Answers by path; the header `x-way` tells whether the request came through ASGI."""
    inbound.reply(200, b"x-way: %b\r\n" % type(inbound).__name__.encode())
    body = await inbound.body(1_000_000)
    match path:
        case "/whole":
            await _written(inbound, b"all of it")
        case "/long":
            await _written(inbound, b"x" * 300_000)
        case "/parts":
            await _written(inbound, b"", more=True)
            await _written(inbound, b"one", more=True)
            await _written(inbound, b"two")
        case "/echo":
            await _written(inbound, b"POST " + body)
        case "/names":
            await _written(inbound, b" ".join(name for name, _ in inbound.head.lines))
        case "/size":
            await _written(inbound, b"%d" % len(body))
        case "/silent":
            return
        case "/broken":
            raise LookupError("no such thing")
        case "/gone":
            gone = asyncio.Event()
            inbound.watch(gone.set)
            await gone.wait()
            _told["left"].set_result(inbound.left)
            await _written(inbound, b"too late")
        case _:
            inbound.reply(404, b"")
            await _written(inbound, b"")


_told: dict[str, asyncio.Future[bool]] = {}
_PATHS = ("/whole", "/long", "/parts", "/echo", "/names", "/size", "/silent", "/broken", "/gone")


class _App:
    hot: ClassVar = {path.encode(): Hot(partial(_answer, path), _MOST_BYTES) for path in _PATHS}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await _answer(scope["path"], Bridged(scope, receive, send))


@contextlib.asynccontextmanager
async def _served(
    keep_alive_s: int = 60, *, protocol: type[Protocol] = Protocol
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of the test's application."""
    config = uvicorn.Config(
        _App(),
        http=protocol,
        ws="none",
        lifespan="off",
        port=0,
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=keep_alive_s,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
        await server.shutdown()


async def _reply(reader: asyncio.StreamReader, patience_s: float = 5) -> tuple[bytes, bytes]:
    """Head, and the body that its content-length announces."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), patience_s)
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(size)


class _Noted(Protocol):
    last: ClassVar[Protocol]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _Noted.last = self


async def test_an_idle_connection_keeps_no_body() -> None:
    """What a request brought is let go of once it is answered, however long its connection waits for the next."""
    async with _served(protocol=_Noted) as (reader, writer):
        for _ in range(2):  # the second begins like the first, and is not parsed again
            writer.write(b"POST /size HTTP/1.1\r\nhost: here\r\ncontent-length: 9000\r\n\r\n" + b"x" * 9000)
            assert (await _reply(reader))[1] == b"9000"
            cycle = _Noted.last.cycle
            assert isinstance(cycle, Direct)
            assert cycle.content == b""


@_WAYS
async def test_a_whole_reply_has_its_headers_and_its_length(request_of: bytes, way: bytes) -> None:
    """Small and large bodies come whole, and the connection serves the next request."""
    async with _served() as (reader, writer):
        writer.write(request_of % (b"/whole", b""))
        head, body = await _reply(reader)
        assert head == b"HTTP/1.1 200 OK\r\nx-way: %b\r\ncontent-length: 9\r\n\r\n" % way
        assert body == b"all of it"
        writer.write(request_of % (b"/long", b""))
        assert (await _reply(reader))[1] == b"x" * 300_000


@_WAYS
async def test_a_reply_in_parts_is_chunked(request_of: bytes, way: bytes) -> None:
    """Each part is a chunk, and the last one ends the message."""
    async with _served() as (reader, writer):
        writer.write(request_of % (b"/parts", b""))
        seen = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert seen.startswith(b"HTTP/1.1 200 OK\r\nx-way: %b\r\ntransfer-encoding: chunked\r\n\r\n" % way)
        assert seen.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_requests_in_a_row_are_answered_in_order() -> None:
    """Pipelined requests each get their own reply, whichever way they take."""
    async with _served() as (reader, writer):
        post = _POST % (b"/whole", b"")
        writer.write(post + post + _GET % (b"/none", b"") + post)
        heads = [(await _reply(reader))[0] for _ in range(4)]
        assert [head[9:12] for head in heads] == [b"200", b"200", b"404", b"200"]
        assert b"x-way: Direct" in heads[0]


@_WAYS
async def test_a_caller_who_wants_the_connection_closed_gets_that(request_of: bytes, way: bytes) -> None:
    """`connection: close` is answered with the same, and the connection ends after the reply."""
    async with _served() as (reader, writer):
        writer.write(request_of % (b"/whole", b"connection: close\r\n"))
        seen = await asyncio.wait_for(reader.read(), 5)
        assert b"x-way: %b\r\n" % way in seen
        assert b"\r\nconnection: close\r\n" in seen
        assert seen.endswith(b"\r\n\r\nall of it")


_UNUSUAL = {
    "another method": b"PUT /size HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi",
    "a query": b"POST /size?a=b HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi",
    "chunked": b"POST /size HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "an expectation": b"POST /size HTTP/1.1\r\nhost: here\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi",
    "an older version": b"POST /size HTTP/1.0\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi",
    "a coded body": b"POST /size HTTP/1.1\r\nhost: here\r\ncontent-encoding: identity\r\ncontent-length: 2\r\n\r\nhi",
    "a long body": b"POST /size HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n%b"
    % (_MOST_BYTES + 1, b"x" * (_MOST_BYTES + 1)),
}


@pytest.mark.parametrize("name", _UNUSUAL)
async def test_an_unusual_request_to_a_hot_endpoint_takes_the_usual_way(name: str) -> None:
    """It is served as well, through ASGI."""
    async with _served() as (reader, writer):
        writer.write(_UNUSUAL[name])
        if name == "an expectation":
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        head, body = await _reply(reader)
        assert b"x-way: Bridged" in head
        assert body == (b"%d" % (_MOST_BYTES + 1) if name == "a long body" else b"2")


@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_a_body_in_pieces_reaches_a_hot_endpoint_whole(pieces: int) -> None:
    """However the reads cut it; the endpoint is called once it is there."""
    body = b"0123456789" * 5_000
    request = b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    step = -(-len(request) // pieces)
    async with _served() as (reader, writer):
        for start in range(0, len(request), step):
            writer.write(request[start : start + step])
            await asyncio.sleep(0)
        head, echoed = await asyncio.wait_for(_reply(reader), 5)
        assert b"x-way: Direct" in head
        assert echoed == b"POST " + body


@_WAYS
async def test_a_departure_is_told_while_the_reply_is_due(request_of: bytes, way: bytes) -> None:
    """Whoever serves the request hears of it at once; what it still writes goes nowhere."""
    _told["left"] = asyncio.get_running_loop().create_future()
    async with _served() as (_, writer):
        writer.write(request_of % (b"/gone", b""))
        await asyncio.sleep(0.05)
        writer.close()
        assert await asyncio.wait_for(_told["left"], 5)


@pytest.mark.parametrize("path", [b"/silent", b"/broken"])
async def test_a_hot_endpoint_that_fails_to_answer_ends_the_connection(path: bytes) -> None:
    """The caller is not left waiting."""
    async with _served() as (reader, writer):
        writer.write(_POST % (path, b""))
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_an_idle_connection_is_closed_after_its_time() -> None:
    """The one timer of a connection ends it once nothing was asked for as long as it may be kept."""
    async with _served(keep_alive_s=1) as (reader, writer):
        loop = asyncio.get_running_loop()
        writer.write(_GET % (b"/whole", b""))
        await _reply(reader)
        await asyncio.sleep(0.6)
        writer.write(_GET % (b"/whole", b""))
        await _reply(reader)
        answered = loop.time()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert loop.time() - answered >= 0.9


async def test_a_connection_that_never_asks_is_closed() -> None:
    """Who connects and sends nothing, or a head that never ends, is not waited for longer than between requests."""
    for begun in (b"", b"GET / HTTP/1.1\r\nhost: he"):
        async with _served(keep_alive_s=1) as (reader, writer):
            writer.write(begun)
            assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_a_body_that_never_comes_is_not_waited_for() -> None:
    """A caller who falls silent within its request frees its place; one who is only slow does not."""
    head = b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 8\r\n\r\n"
    async with _served(keep_alive_s=1) as (reader, writer):
        writer.write(head)
        for letter in b"slowly!!":
            await asyncio.sleep(0.3)
            writer.write(bytes([letter]))
        assert (await _reply(reader))[1] == b"POST slowly!!"
        writer.write(head + b"abc")
        assert (await _reply(reader))[0].startswith(b"HTTP/1.1 408 ")
        assert await asyncio.wait_for(reader.read(), 10) == b""


@pytest.mark.parametrize("way", ["hot", "ASGI"])
async def test_a_body_that_trickles_is_given_up_and_a_slow_one_is_not(way: str) -> None:
    """After its time of grace a request must come at a pace; whoever holds a connection with a byte now and then is
    told so in the form of the API's errors."""
    head = b"POST /size%b HTTP/1.1\r\nhost: here\r\ncontent-length: 15000\r\n\r\n" % (b"" if way == "hot" else b"?")

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, piece: bytes, times: int) -> None:
        writer.write(head)
        for _ in range(times):
            await asyncio.sleep(0.5)
            if reader.at_eof():
                return
            writer.write(piece)

    async with _served(keep_alive_s=1) as (reader, writer), _served(keep_alive_s=1) as (slow_reader, slow):
        begun = asyncio.get_running_loop().time()
        sending = [
            asyncio.create_task(send(reader, writer, b"a", 40)),
            asyncio.create_task(send(slow_reader, slow, b"a" * 1000, 15)),
        ]
        answer, body = await _reply(reader, 15)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"type":"invalid_request_error"' in body
        assert asyncio.get_running_loop().time() - begun > 4
        assert (await _reply(slow_reader))[1] == b"15000"
        await asyncio.gather(*sending)


async def test_nothing_is_put_before_the_answer_of_an_earlier_request() -> None:
    """Where one that came behind it cannot be read, the connection ends without a word on it."""
    async with _served() as (reader, writer):
        _told["left"] = asyncio.get_running_loop().create_future()
        second = b"POST /echo HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        writer.write(_POST % (b"/gone", b"") + second)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_an_endless_head_is_refused() -> None:
    """Before it is whole nobody has said who asks, so no more of it is kept than a head may need."""
    async with _served() as (reader, writer):
        writer.write(b"GET /whole HTTP/1.1\r\n")
        for number in range(17):
            await asyncio.sleep(0.01)
            writer.write(b"x-%d: %b\r\n" % (number, b"a" * 4000))
        head, body = await _reply(reader)
        assert head.startswith(b"HTTP/1.1 431 ")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert await reader.read() == b""


_CHUNKED = b"POST /names HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"


async def test_trailers_are_no_headers() -> None:
    """A proxy in front may have looked at the head alone, and taken out of it what callers may not say."""
    async with _served() as (reader, writer):
        writer.write(_CHUNKED + b"x-one: 1\r\nauthorization: Bearer x\r\n\r\n")
        assert (await _reply(reader))[1] == b"host transfer-encoding"
        writer.write(_GET % (b"/names", b""))
        assert (await _reply(reader))[1] == b"host"


async def test_endless_trailers_end_the_connection() -> None:
    """They are kept by nobody, but the parser keeps the one that is coming in."""
    async with _served() as (reader, writer):
        writer.write(_CHUNKED)
        for number in range(17):
            await asyncio.sleep(0.01)
            writer.write(b"x-%d: %b\r\n" % (number, b"a" * 4000))
        assert (await _reply(reader))[0].startswith(b"HTTP/1.1 431 ")
        assert await asyncio.wait_for(reader.read(), 10) == b""


_UPGRADES = {
    "h2c, as Java's client asks": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\n",
}


@pytest.mark.parametrize("split", [0, 20, 70, 150, None])
@pytest.mark.parametrize("name", _UPGRADES)
async def test_a_wish_for_another_protocol_is_ignored(name: str, split: int | None) -> None:
    """The body belongs to the request, wherever the reads cut it, and is never taken for a request of its own."""
    body = _GET % (b"/whole", b"")
    request = b"POST /echo HTTP/1.1\r\nhost: here\r\n%bcontent-length: %d\r\n\r\n%b" % (
        _UPGRADES[name],
        len(body),
        body,
    )
    split = len(request) - len(body) if split is None else split
    async with _served() as (reader, writer):
        writer.write(request[:split])
        await asyncio.sleep(0.05)
        writer.write(request[split:] + body)
        assert (await _reply(reader))[1] == b"POST " + body
        assert (await _reply(reader))[1] == b"all of it"


@pytest.mark.parametrize(
    "first", [b"CONNECT here:443 HTTP/1.1", b"GE T / HTTP/1.1", b"PRI * HTTP/2.0", b"\x16\x03\x01\x02"]
)
async def test_what_is_no_request_is_refused_in_words(first: bytes) -> None:
    """With an error object and a request id as everything else, and the connection ends."""
    async with _served() as (reader, writer):
        writer.write(first + b"\r\nhost: here\r\n\r\n")
        head, body = await _reply(reader)
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error"]["request_id"].encode() in head
        assert await reader.read() == b""


async def test_a_bad_request_behind_a_good_one_does_not_spoil_its_answer() -> None:
    """What cannot be read ends the connection; its refusal is not written into an answer under way."""
    async with _served() as (reader, writer):
        writer.write(b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi" + b"no request\r\n\r\n")
        assert b" 400 " not in await asyncio.wait_for(reader.read(), 5)


async def test_a_request_that_begins_like_one_before_is_served_with_its_own_body() -> None:
    """Only the length and the body differ; what begins otherwise is read anew, the same on every connection."""
    head = b"POST /echo HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\nx-more: 1\r\n\r\n%b"
    async with _served() as (reader, writer):
        for said in (b"one", b"longer than one", b"", b"x" * 2000, b"y" * 30_000, b"last"):
            writer.write(head % (len(said), said))
            assert (await _reply(reader))[1] == b"POST " + said
        writer.write((head % (2, b"hi")).replace(b"/echo", b"/names"))
        assert (await _reply(reader))[1] == b"host content-length x-more"
        writer.write((head % (2, b"hi")).replace(b"x-more", b"x-less"))
        assert (await _reply(reader))[1] == b"POST hi"


class _Memory(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def writelines(self, pieces: Iterable[bytes]) -> None:  # type: ignore[override]
        self.written += b"".join(pieces)

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def _replies(chunks: list[bytes]) -> bytes:
    """What a connection answers to these reads, without what is random in it."""
    config = uvicorn.Config(_App(), http=Protocol, ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    protocol, transport = Protocol(config, uvicorn.server.ServerState(), {}), _Memory()
    protocol.connection_made(transport)
    for chunk in chunks:
        if transport.closing:
            break
        protocol.data_received(chunk)
        for _ in range(10):
            await asyncio.sleep(0)
    transport.closing = True
    protocol.connection_lost(None)
    return re.sub(rb"req_[0-9a-f]{32}", b"", transport.written)


_BODIES = st.sampled_from([b"", b"hi", b"ab\r\n\r\ncd", b"0123456789", b"\r\n\r\n", _POST % (b"/whole", b"")])
_EXTRA = st.sampled_from(
    [b"", b"x-a: 1\r\n", b"connection: close\r\n", b"expect: 100-continue\r\n", b"x-content-length: 3\r\n", b"x-b: 2\n"]
)
_LENGTHS = st.sampled_from(
    [
        b"content-length: %d\r\n",
        b"Content-Length: %d\r\n",
        b"content-length:%d\r\n",
        b"content-length: %d \r\n",
        b"content-length: 0%d\r\n",
        b"content-length: %d\n",
        b"content-length: +%d\r\n",
    ]
)


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    body, first = draw(_BODIES), draw(st.sampled_from([b"POST /echo HTTP/1.1\r\n", b"POST /names HTTP/1.1\r\n"]))
    told = max(0, len(body) + draw(st.sampled_from([0, 0, 0, 0, -1, 1])))
    length = draw(_LENGTHS) % told
    end = draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"]))
    return draw(st.sampled_from([b"", b"", b"\r\n"])) + first + draw(_EXTRA) + length + draw(_EXTRA) + end + body


@given(st.lists(_requests(), min_size=1, max_size=3), st.data())
@settings(max_examples=300, deadline=None)
def test_requests_that_begin_alike_are_read_as_if_each_were_the_first(some: list[bytes], data: st.DataObject) -> None:
    """However requests are repeated, run together and cut, and whatever is odd in them: the replies are the same as
    where no beginning is known again."""
    chosen = data.draw(st.lists(st.sampled_from(some), min_size=1, max_size=6))
    chunks: list[bytes] = []
    for request in chosen:
        match data.draw(st.sampled_from(["whole", "whole", "whole", "joined", "cut"])):
            case "joined" if chunks:
                chunks[-1] += request
            case "cut":
                at = data.draw(st.integers(0, len(request)))
                chunks += [request[:at], request[at:]]
            case _:
                chunks.append(request)
    chunks = [chunk for chunk in chunks if chunk]
    assert asyncio.run(_replies(chunks)) == _replies_of_strangers(chunks)


def _replies_of_strangers(chunks: list[bytes]) -> bytes:
    """What is answered where no beginning is known again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Beginning, "of", lambda *_: None)
        return asyncio.run(_replies(chunks))


_TEN = b"POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\n"
_WHOLE = _TEN + b"0123456789"
_LONG = _TEN.replace(b"10", b"%d" % len(_WHOLE))


@pytest.mark.parametrize(
    ("chunks", "times"),
    [
        ([_WHOLE, _LONG, _WHOLE, _WHOLE], 1),
        ([_TEN + b"first body" + b"\r\n\r\n" + b"POST /echo", _WHOLE.removeprefix(b"POST /echo")], 2),
        ([_TEN + b"0123", b"POST /" + _WHOLE, b"POST /" + _WHOLE], 1),
        ([_WHOLE, _WHOLE + _WHOLE, _WHOLE + _WHOLE], 1),
        ([_TEN.replace(b"\r\n\r\n", b"\n\n") + b"0123456789" + b"POST /\r\n\r\n0123456789"], 2),
    ],
    ids=[
        "a request as a body",
        "a blank line behind the body",
        "a body that begins a request",
        "two in one",
        "bare ends",
    ],
)
def test_what_looks_like_a_request_known_before_is_none_where_none_begins(chunks: list[bytes], times: int) -> None:
    """A body may be anything, a request sent before and its head included."""
    assert asyncio.run(_replies(chunks * times)) == _replies_of_strangers(chunks * times)


async def test_a_head_too_long_is_refused_when_it_comes_at_once_too() -> None:
    """It is as long, however few reads it takes."""
    async with _served() as (reader, writer):
        writer.write(_POST % (b"/whole", b"x-long: " + b"x" * 70_000 + b"\r\n"))
        assert (await _reply(reader))[0].startswith(b"HTTP/1.1 431 ")
        assert await reader.read() == b""


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("before", [b"", _POST % (b"/whole", b"")], ids=["alone", "behind another"])
async def test_a_body_that_cannot_be_read_is_refused_in_words(together: bool, before: bytes) -> None:
    """Whether it comes with its head or after it."""
    async with _served() as (reader, writer):
        if before:
            writer.write(before)
            assert (await _reply(reader))[1] == b"all of it"
        head = b"POST /size HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"zz\r\n" if together else head)
        if not together:
            await asyncio.sleep(0.05)
            writer.write(b"zz\r\n")
        told, body = await _reply(reader)
        assert told.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert await reader.read() == b""
