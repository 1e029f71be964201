"""A TCP server that says what a test tells it to, byte by byte: the far side of the network for the upstream engine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from gateway.types import Endpoint, Origin


class Session:
    """One accepted connection."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer
        self.number = number
        """0 for the first connection that the peer accepted."""

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """The next request's head and decoded body, also kept in `peer.requests`."""
        head = await self.head()
        body = b""
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
        if b"content-length" in fields:
            body = await self.reader.readexactly(int(fields[b"content-length"]))
        elif fields.get(b"transfer-encoding") == b"chunked":
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readexactly(2)
        self.peer.requests.append(head + body)
        return head + body

    async def send(self, *pieces: bytes, gap_s: float = 0.002) -> None:
        """Each piece as a write of its own, with a pause between so that it is read as one."""
        for i, piece in enumerate(pieces):
            if i:
                await asyncio.sleep(gap_s)
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        """Ends the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handler = Callable[[Session], Awaitable[None]]


class Peer:
    """A listening server and what it has seen."""

    def __init__(self, server: asyncio.Server, scheme: str) -> None:
        self._server = server
        self.port: int = server.sockets[0].getsockname()[1]
        self.scheme = scheme
        self.accepted = 0
        self.requests: list[bytes] = []

    @property
    def origin(self) -> Origin:
        return Origin("https" if self.scheme == "https" else "http", "127.0.0.1", self.port, allow_private=True)

    def stop_listening(self) -> None:
        """Refuses further connections; those accepted go on."""
        self._server.close()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def endpoint(self, method: str = "POST", **headers: str) -> Endpoint:
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        return Endpoint(self.origin, method, "/v1/chat/completions", named)


@contextlib.asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """Serves each connection by the handler, and closes it when the handler returns."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        session = Session(peer, reader, writer, peer.accepted)
        peer.accepted += 1
        try:
            await handler(session)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the engine hung up, or the test is over
        except RuntimeError:  # uvloop's word for writing to what has just been closed
            assert writer.is_closing()
        finally:
            tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    peer = Peer(server, "https" if tls else "http")
    try:
        yield peer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answer(body: bytes = b"", status: bytes = b"200 OK", *headers: bytes) -> bytes:
    """A response of fixed length."""
    lines = b"".join(header + b"\r\n" for header in headers)
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, lines, len(body), body)


def chunked(*pieces: bytes) -> bytes:
    """A response in chunks."""
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


def echoing(*prefix: bytes) -> Handler:
    """Answers every request with its own body, keeping the connection."""

    async def handle(session: Session) -> None:
        while True:
            request = await session.request()
            await session.send(answer(request.partition(b"\r\n\r\n")[2], b"200 OK", *prefix))

    return handle


def saying(*pieces: bytes, keep: bool = True) -> Handler:
    """Answers every request with the same bytes; `keep` the connection open after them, or close it."""

    async def handle(session: Session) -> None:
        while True:
            await session.request()
            await session.send(*pieces)
            if not keep:
                return

    return handle


@contextlib.contextmanager
def blackhole() -> Iterator[int]:
    """A port that takes no further connection and refuses none: its backlog is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
