"""A steerable provider on a real socket.

One server plays many providers: the first segment of the path is the provider's name, so `{url}/alpha/v1` is the base
URL of provider `alpha`. Each has its own queue of scripted replies; where the queue is empty it answers well.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
import socket
import struct
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import answers


class End(enum.Enum):
    """How a reply may end other than well."""

    RESET = "the connection is reset"
    CLOSE = "the connection is closed before the message is complete"
    HANG = "nothing more comes until the other side goes"


class Gate:
    """A step that holds a reply until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    @property
    def opened(self) -> bool:
        return self._open.is_set()


Step = bytes | float | Gate | End


@dataclass(frozen=True)
class Reply:
    """What the provider answers: a head and steps. Bytes are sent, a float is a pause in seconds, a Gate a wait."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    chunked: bool = False

    def cut_at(self, count: int, end: End = End.RESET) -> Reply:
        """The same reply, cut after `count` bytes of its body."""
        steps: list[Step] = []
        for step in self.steps:
            if isinstance(step, bytes):
                steps.append(step[:count])
                count -= len(step)
                if count <= 0:
                    break
            else:
                steps.append(step)
        return Reply(self.status, self.headers, [*steps, end], self.chunked)


def json_reply(body: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer. Header names are given with underscores: `retry_after="2"`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": "application/json", **named}, [json.dumps(body).encode()])


def error_reply(status: int, code: str | None = None, message: str = "scripted failure", **headers: str) -> Reply:
    """An error in OpenAI's envelope."""
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    return json_reply({"error": error}, status, **headers)


def stream_reply(events: Sequence[Any], *, gap: float | Gate = 0.0, done: bool = True, status: int = 200) -> Reply:
    """Server-sent events, one write each, with `gap` after each. Pauses, gates and ends among them are themselves."""
    steps: list[Step] = []
    for event in events:
        if isinstance(event, float | Gate | End):
            steps.append(event)
            continue
        steps.append(event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n")
        if gap:
            steps.append(gap)
    if done:
        steps.append(b"data: [DONE]\n\n")
    return Reply(status, {"content-type": "text/event-stream"}, steps, chunked=True)


NEVER = Reply(steps=[End.HANG])
"""Takes the request and says nothing."""


@dataclass
class Seen:
    """A request as it came, and what became of it."""

    provider: str
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    connection: int
    """The other side's port: the same for requests on one connection."""
    sent_bytes: int = 0
    """Bytes of the reply's body that were written."""
    left: bool = False
    """Whether the gateway went before the reply was complete."""
    over: bool = False
    """Whether nothing more will be sent."""

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


Script = Reply | Callable[[Seen], Reply]


class FakeProvider:
    """The server, in a thread with a loop of its own. Use as a context manager."""

    def __init__(self, answer: Script | None = None, on_over: Callable[[Seen], None] = lambda seen: None) -> None:
        """`answer` is given where nothing is scripted; `on_over` is told when nothing more will be sent."""
        self.requests: list[Seen] = []
        self._answer = answer or good_reply
        self._on_over = on_over
        self._scripts: dict[str, deque[Script]] = defaultdict(deque)
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-provider", daemon=True)
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def script(self, provider: str, *replies: Script) -> None:
        """The provider's next replies, in this order."""
        self._scripts[provider].extend(replies)

    def seen(self, provider: str) -> list[Seen]:
        """The requests of one provider, in the order in which they came."""
        return [request for request in self.requests if request.provider == provider]

    # ------------------------------------------------------------------------------------------------------ the server

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=64 * 1024 * 1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun = b""
        while True:
            request = await _read_request(reader, begun, writer.get_extra_info("peername")[1])
            self.requests.append(request)
            scripts = self._scripts[request.provider]
            script = scripts.popleft() if scripts else self._answer
            reply = script(request) if callable(script) else script
            departure = asyncio.create_task(reader.read(1))
            departure.add_done_callback(lambda done: done.cancelled() or done.exception())  # a reset is a departure too
            try:
                whole = await _send(reply, request, writer, departure)
            except ConnectionError:
                request.left, whole = True, False
            finally:
                request.over = True
                self._on_over(request)
                if not departure.done():
                    departure.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await departure
            if not whole:
                return
            begun = b"" if departure.cancelled() else departure.result()


async def _read_request(reader: asyncio.StreamReader, begun: bytes, connection: int) -> Seen:
    head = begun + await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    raw = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(path.split("/")[1], method, path, headers, raw, connection)


async def _send(reply: Reply, request: Seen, writer: asyncio.StreamWriter, departure: asyncio.Task[bytes]) -> bool:
    """Sends the reply; gives whether it was sent whole, so that the connection may be used again."""
    if reply.steps and reply.steps[0] is End.HANG:
        await departure
        request.left = True
        return False
    headers = dict(reply.headers)
    if reply.chunked:
        headers["transfer-encoding"] = "chunked"
    else:
        body = b"".join(step for step in reply.steps if isinstance(step, bytes))
        cut = any(isinstance(step, End) for step in reply.steps)
        headers["content-length"] = str(len(body) + 1_000 if cut else len(body))
    lines = [f"HTTP/1.1 {reply.status} Scripted", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    for step in reply.steps:
        if isinstance(step, bytes):
            writer.write(b"%x\r\n%b\r\n" % (len(step), step) if reply.chunked and step else step)
            await writer.drain()
            request.sent_bytes += len(step)
        elif isinstance(step, End):
            if step is End.HANG:
                await departure
                request.left = True
            elif step is End.RESET:
                _reset(writer)
            return False
        elif not await _wait(step, departure):
            request.left = True
            return False
    if reply.chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _wait(step: float | Gate, departure: asyncio.Task[bytes]) -> bool:
    """Whether the other side is still there after the pause."""
    if isinstance(step, Gate):
        while not step.opened and not departure.done():
            await asyncio.wait({departure}, timeout=0.01)
    else:
        await asyncio.wait({departure}, timeout=step)
    return not departure.done()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def good_reply(request: Seen) -> Reply:
    """What a well provider answers, in the API that the path belongs to."""
    text = f"Hello from {request.provider}."
    if request.path.endswith("/messages"):
        if request.body.get("stream"):
            return stream_reply(answers.anthropic_events(text), done=False)
        return json_reply(answers.anthropic_message(text))
    if ":streamGenerateContent" in request.path:
        return stream_reply(answers.gemini_events(text), done=False)
    if ":generateContent" in request.path:
        return json_reply(answers.gemini_answer(text))
    if request.body.get("stream"):
        return stream_reply(answers.chunks(text))
    return json_reply(answers.completion(text))


def eventually(holds: Callable[[], Any], patience_s: float = 10.0) -> Any:
    """Waits until `holds()` is true and gives what it gave."""
    deadline = time.monotonic() + patience_s
    while True:
        value = holds()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
