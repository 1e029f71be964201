"""The callers' side protocol over real sockets: replies by the outlet, keep-alive, pipelining."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from gateway.protocol import OUTLET, Outlet, Protocol

_KIND = b"content-type: text/plain\r\n"
_GET = b"GET %b HTTP/1.1\r\nhost: here\r\n%b\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    outlet: Outlet = scope["extensions"][OUTLET]
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
        case _:
            await outlet({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await outlet({"type": "http.response.body", "body": b""})


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
