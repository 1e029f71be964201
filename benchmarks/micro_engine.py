"""CPU per exchange of the upstream engine beside a bare httptools client: same loop, same server, same bytes.

    python benchmarks/micro_engine.py [--exchanges 20000]

The server runs in a process of its own, so that the figure is the client's alone (user + system, from the kernel's
accounting). The bare client has no timeouts, limits, TLS or recovery: it is what the same work costs at least.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from typing import cast

import httptools
import uvloop

from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.engine import Engine

_REQUEST = b'{"model":"m","messages":[{"role":"user","content":"' + b"a" * 1980 + b'"}]}'
_JSON = b'{"choices":[{"message":{"content":"' + b"b" * 960 + b'"}}]}'
_EVENT = b'data: {"choices":[{"delta":{"content":"word "}}],"id":"chatcmpl-123","model":"m"}\n\n'
_HEADERS = b"".join(b"x-provider-header-%d: some value of usual length\r\n" % i for i in range(12))
_WHOLE = b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n%b" % (_HEADERS, len(_JSON), _JSON)
_STREAM = (
    b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % _HEADERS
    + b"".join(b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT) for _ in range(50))
    + b"0\r\n\r\n"
)


class _Server(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._seen = bytearray()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if len(self._seen) > 2000 and self._seen.endswith(b"}"):
            self._transport.write(_STREAM if b"/stream" in self._seen[:40] else _WHOLE)
            self._seen.clear()


def _serve(ports: Pipe) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0)
        ports.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


class _Bare(asyncio.Protocol):
    """The least that can be called a client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def exchange(self, head: bytes, body: bytes) -> bytes:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport.write(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))
        await self._done
        return b"".join(self._parts)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._parts.append(data)

    def on_message_complete(self) -> None:
        self._done.set_result(None)


async def _cpu_us(exchange: Callable[[], Awaitable[None]], count: int) -> float:
    for _ in range(count // 10):
        await exchange()
    start = time.process_time()
    for _ in range(count):
        await exchange()
    return (time.process_time() - start) / count * 1e6


async def _measure(port: int, count: int) -> None:
    origin = Origin("http", "127.0.0.1", port, allow_private=True)
    headers = (("content-type", "application/json"), ("accept-encoding", "identity"), ("authorization", "Bearer none"))
    plain, stream = (Endpoint(origin, "POST", target, headers) for target in ("/plain", "/stream"))
    engine, timeouts = Engine(), Timeouts()
    _, bare = await asyncio.get_running_loop().create_connection(_Bare, "127.0.0.1", port)

    async def engine_json() -> None:
        response = await engine.send(plain, _REQUEST, timeouts)
        assert len(await response.read()) == len(_JSON)

    async def engine_stream() -> None:
        response = await engine.send(stream, _REQUEST, timeouts)
        assert sum([len(data) async for data in response.chunks()]) == 50 * len(_EVENT)

    async def bare_json() -> None:
        assert len(await bare.exchange(plain.head, _REQUEST)) == len(_JSON)

    async def bare_stream() -> None:
        assert len(await bare.exchange(stream.head, _REQUEST)) == 50 * len(_EVENT)

    rows = {"JSON 2 KB": (bare_json, engine_json), "stream of 50 events": (bare_stream, engine_stream)}
    for name, (reference, ours) in rows.items():
        figures = [(await _cpu_us(reference, count), await _cpu_us(ours, count)) for _ in range(3)]
        least_bare, least_ours = (min(column) for column in zip(*figures, strict=True))
        print(f"{name:20}  bare {least_bare:6.1f} us  engine {least_ours:6.1f} us  (+{least_ours - least_bare:.1f})")
    await engine.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--exchanges", type=int, default=20_000)
    count = parser.parse_args().exchanges
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        uvloop.run(_measure(ours.recv(), count))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
