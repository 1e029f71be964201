"""A request as a hot endpoint sees it, and the way its reply goes.

Most come from our own protocol, past ASGI (`gateway.direct.Direct`); what is unusual, and every request under another
server, comes through ASGI (`Bridged`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from gateway.api.http import JSON_LINES, HeaderLines, Receive, Scope, Send, error_headers, read_body, written
from gateway.callers.callers import name_of
from gateway.errors import GatewayError


class Head:
    """What the header lines say, names in lower case. Requests of a connection that repeat them share one: it is
    never changed."""

    __slots__ = ("fields", "lines", "options", "who")

    def __init__(self, lines: HeaderLines) -> None:
        self.lines = lines
        """Every header line."""
        self.fields = fields = dict(lines)
        """The values by name; of headers that came twice, the last."""
        authorization = fields.get(b"authorization")
        self.who = None if authorization is None or len(fields) != len(lines) else name_of(authorization)
        """What the caller is remembered by; None where the lines must be looked at each."""
        self.options = _options(fields)
        """The `x-gateway-*` headers."""


def _options(fields: dict[bytes, bytes]) -> dict[str, str]:
    if b"\nx-gateway-" not in b"\n".join(fields):  # the usual case, found out without a step for each header
        return {}
    return {n.decode("latin-1"): v.decode("latin-1") for n, v in fields.items() if n.startswith(b"x-gateway-")}


NO_HEAD = Head([])


class Inbound(Protocol):
    """One request with its reply; `gateway.direct.Direct` says what each member means."""

    head: Head
    content: bytes | None
    """The request body, where all of it has come already."""
    left: bool
    task: asyncio.Task[Any]

    @property
    def client(self) -> str | None: ...
    async def body(self, limit: int) -> bytes: ...
    def watch(self, on_left: Callable[[], None]) -> None: ...
    def close(self) -> None: ...
    def reply(self, status: int, lines: bytes) -> None: ...
    def write(self, data: bytes, *, more: bool = False) -> Awaitable[None] | None: ...


class Bridged:
    """An ASGI request as an `Inbound`."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.head = Head(scope["headers"])
        self.content: bytes | None = None
        self.client: str | None = scope["client"][0] if scope.get("client") else None
        self.left = False
        task = asyncio.current_task()
        assert task is not None, "an ASGI application is called in a task"
        self.task: asyncio.Task[Any] = task
        self._receive = receive
        self._send = send
        self._status = 200
        self._lines = b""
        self._begun = False
        self._watching: asyncio.Task[None] | None = None

    async def body(self, limit: int) -> bytes:
        """The request body.

        Raises:
            CallerError: TOO_LARGE beyond `limit` bytes.
            CallerLeft: the caller went away while sending.
        """
        return await read_body(self.head.fields, self._receive, limit)

    def watch(self, on_left: Callable[[], None]) -> None:
        """ASGI tells of a departure only to whoever waits for it, which takes a task."""

        async def wait() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass  # a repeated body message says nothing of a departure
            self.left = True
            on_left()

        self._watching = asyncio.create_task(wait(), name="departure")

    def close(self) -> None:
        watching, self._watching = self._watching, None  # it refers to this, and by its error would for long
        if watching is not None:
            watching.cancel()

    def reply(self, status: int, lines: bytes) -> None:
        self._status = status
        self._lines = lines

    async def write(self, data: bytes, *, more: bool = False) -> None:
        if not self._begun:
            self._begun = True
            headers = [
                (name, value) for name, _, value in (line.partition(b": ") for line in self._lines.split(b"\r\n")[:-1])
            ]
            if not more:
                headers.append((b"content-length", b"%d" % len(data)))
            await self._send({"type": "http.response.start", "status": self._status, "headers": headers})
        if data or not more:
            await self._send({"type": "http.response.body", "body": data, "more_body": more})


async def reply_error(
    inbound: Inbound, error: GatewayError, request_id: str, headers: HeaderLines | None = None
) -> None:
    """OpenAI's error object as the whole reply."""
    inbound.reply(error.status, JSON_LINES + written(error_headers(error, request_id) + (headers or [])))
    if (waiting := inbound.write(msgspec.json.encode(error.envelope(request_id)))) is not None:
        await waiting
