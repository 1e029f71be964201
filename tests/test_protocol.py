"""The callers' side protocol over real sockets: replies by the outlet, keep-alive, pipelining."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from gateway.protocol import OUTLET, Outlet, Protocol

_KIND = b"content-type: text/plain\r\n"
_GET = b"GET %b HTTP/1.1\r\nhost: here\r\n%b\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    outlet: Outlet = scope["extensions"][OUTLET]
    if scope["path"] != "/echo":
        await receive()
    match scope["path"]:
        case "/whole":
            await outlet.begin(200, _KIND, b"all of it", more=False)
        case "/long":
            await outlet.begin(200, _KIND, b"x" * 300_000, more=False)
        case "/parts":
            await outlet.begin(200, _KIND, b"", more=True)
            await outlet.go_on(b"one", more=True)
            await outlet.go_on(b"two", more=False)
        case "/echo":
            await outlet.begin(200, _KIND, scope["method"].encode() + b" " + (await _body(receive)), more=False)
        case _:
            await outlet({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await outlet({"type": "http.response.body", "body": b""})


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


@contextlib.asynccontextmanager
async def _served(keep_alive_s: int = 60) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of the test's application."""
    config = uvicorn.Config(
        _app, http=Protocol, ws="none", lifespan="off", port=0, log_config=None, timeout_keep_alive=keep_alive_s
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


async def _reply(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head, and the body that its content-length announces."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(size)


async def test_a_whole_reply_has_its_headers_and_its_length() -> None:
    """Small and large bodies come whole, and the connection serves the next request."""
    async with _served() as (reader, writer):
        writer.write(_GET % (b"/whole", b""))
        head, body = await _reply(reader)
        assert head == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 9\r\n\r\n"
        assert body == b"all of it"
        writer.write(_GET % (b"/long", b""))
        assert (await _reply(reader))[1] == b"x" * 300_000


async def test_a_reply_in_parts_is_chunked() -> None:
    """Each part is a chunk, and the last one ends the message."""
    async with _served() as (reader, writer):
        writer.write(_GET % (b"/parts", b""))
        seen = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
        assert b"\r\ntransfer-encoding: chunked\r\n" in seen
        assert seen.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_requests_in_a_row_are_answered_in_order() -> None:
    """Pipelined requests each get their own reply; the outlet and ASGI's own way may take turns."""
    async with _served() as (reader, writer):
        writer.write(_GET % (b"/whole", b"") + _GET % (b"/none", b"") + _GET % (b"/whole", b""))
        statuses = [(await _reply(reader))[0][9:12] for _ in range(3)]
        assert statuses == [b"200", b"404", b"200"]


async def test_a_caller_who_wants_the_connection_closed_gets_that() -> None:
    """`connection: close` is answered with the same, and the connection ends after the reply."""
    async with _served() as (reader, writer):
        writer.write(_GET % (b"/whole", b"connection: close\r\n"))
        seen = await asyncio.wait_for(reader.read(), 5)
        assert b"\r\nconnection: close\r\n" in seen
        assert seen.endswith(b"\r\n\r\nall of it")


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
        assert await asyncio.wait_for(reader.read(), 10) == b""


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
