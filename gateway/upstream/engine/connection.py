"""One HTTP/1.1 connection: bytes in, parsed by httptools (llhttp, strict), one exchange at a time."""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, cast

import httptools

from gateway.corked import Corked
from gateway.types import Timeouts
from gateway.upstream.engine.errors import (
    Disconnected,
    EngineError,
    FirstByteTimeout,
    IdleTimeout,
    ProtocolError,
    TooLarge,
    TotalTimeout,
    Truncated,
    WriteFailed,
)
from gateway.upstream.engine.headers import Headers
from gateway.upstream.engine.response import Response
from gateway.upstream.engine.sockets import unacknowledged_bytes
from gateway.upstream.engine.tls import ResumingContext

if TYPE_CHECKING:
    from gateway.upstream.engine.pool import Pool

_JOIN_BYTES = 32 * 1024
"""Requests up to this size are copied into one piece, larger ones handed to the transport in pieces."""
_TRANSFER_ENCODING = b"\r\ntransfer-encoding:"
_LIKELY_HEAD_BYTES = 4096
"""Heads are shorter, as a rule; what follows is not copied to find their end."""
_CHUNKED = b"\r\ntransfer-encoding: chunked\r\n"
_HEAD_END = b"\r\n\r\n"
_PARSER_ERRORS = (httptools.HttpParserError, httptools.HttpParserUpgrade)


class Connection(asyncio.BufferedProtocol):
    """A socket to an origin. It belongs to whoever holds it: the pool while idle, one exchange while active.

    The parser is the only judge of framing. It is fed the head and the body apart, so that each head's raw bytes are at
    hand and no header is decoded before somebody asks for it.
    """

    __slots__ = (  # Python shares a dict's keys among few attributes only, and reads these faster
        "_buffered",
        "_complete",
        "_draining",
        "_ended",
        "_ends",
        "_full_at",
        "_head_bytes",
        "_head_only",
        "_idle_s",
        "_in_body",
        "_keep",
        "_limits",
        "_loop",
        "_parser",
        "_partial_head",
        "_paused",
        "_poll",
        "_status",
        "_transport",
        "_unacknowledged",
        "_upload",
        "_watch",
        "_writable",
        "deadline",
        "holds_slot",
        "idle_since",
        "on_body",
        "parts",
        "pool",
        "response",
        "reused",
    )

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.holds_slot = False
        """Whether it counts against its pool's bound."""
        self.reused = False
        self.idle_since = 0.0
        self.deadline = 0.0
        self.response: Response | None = None
        self._limits = pool.limits
        self._watch = pool.watch
        self._transport: Corked | None = None
        self._writable: asyncio.Future[None] | None = None
        self._upload: asyncio.Task[None] | None = None
        self._poll: select.poll | None = None
        self._paused = False
        self._ended = False
        """Whether the peer has ended the line in order, which is how an answer ends that does not say its length."""
        self._unacknowledged = 0
        """How many of the bytes written last had not reached the peer when it did so on a connection that had
        served."""
        self._partial_head = bytearray()
        self.parts: list[bytes] = []
        """The pieces of body that its reader has not taken."""
        self.on_body = self.parts.append  # called by the parser for each piece of body, without a Python frame
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    # ------------------------------------------------------------ what its holder does

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def reusable(self) -> bool:
        """Whether it is open and silent: what the socket holds unread would pass for the next request's answer."""
        if self._transport is None or self._transport.is_closing():
            return False
        return self._poll is None or not self._poll.poll(0)

    def begin(self, timeouts: Timeouts, now: float, ends: float, *, head_only: bool) -> Response:
        """Starts an exchange; its request is to be written next. At `ends` on the clock it must be over."""
        self._ends = ends
        self._idle_s = timeouts.idle_s
        due = now + timeouts.first_byte_s
        self.deadline = due if due < ends else ends
        self._head_only = head_only
        self._head_bytes = self._status = self._buffered = 0
        self._in_body = self._complete = self._draining = False
        self._full_at = self._limits.buffer_bytes
        response = self.response = Response(self, self._limits.body_bytes, self._loop)
        if self._watch.timer is None:
            self._watch.start()
        return response

    def write(self, head: bytes, body: bytes) -> None:
        """Hands a whole request to the socket."""
        transport = self._transport
        if transport is None or transport.is_closing():
            self.fail(Disconnected("the connection closed before the request was written", sent=False))
        elif len(body) <= _JOIN_BYTES:
            transport.write(head + body)
        else:
            transport.writelines((head, body))

    def take(self) -> bytes:
        """The body bytes that have arrived since the last call, joined."""
        parts = self.parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._buffered = 0
        if self._paused:
            self._resume()
        return data

    def buffer_up_to(self, cap: int) -> None:
        """The reader waits for the whole body: reads on to this many bytes rather than to the usual high-water mark."""
        self._full_at = cap
        if self._paused:
            self._resume()
        if self._buffered > cap:
            self._overfull()

    def drain(self) -> None:
        """The exchange has lost its reader: reads on for a little while, to save the connection."""
        if self._paused or self._buffered > self._limits.drain_bytes or not self._request_written():
            self.drop()
            return
        self._draining = True
        self._full_at = self._limits.drain_bytes
        self.deadline = min(self._watch.clock() + self._limits.drain_s, self._ends)

    def fail(self, error: BaseException) -> None:
        """Ends the exchange with this error, and the connection with it."""
        response = self.response
        rest = b"".join(self.parts)
        self.drop()
        if response is not None:
            response.ended(rest, error)

    def drop(self) -> None:
        """Closes the socket at once and gives back the slot. May be called at any time and again."""
        self.response = None
        self.parts.clear()
        if self._upload is not None:
            self._upload.cancel()
        if self._transport is not None:
            self._transport.abort()
        self.pool.forget(self)

    def expire(self, now: float) -> None:
        """Called by the watch once the deadline has passed."""
        response = self.response
        if response is None or self._draining:
            self.drop()
        elif now >= self._ends:
            self.fail(TotalTimeout("the exchange took longer than its total limit"))
        elif not self._in_body:
            self.fail(FirstByteTimeout("no response head arrived in time"))
        elif self.parts and response.waiter is None:  # it is the reader who is slow
            self.deadline = min(now + self._idle_s, self._ends)
        else:
            self.fail(IdleTimeout(f"the response body stood still for {self._idle_s:g} s"))

    # ------------------------------------------------------------ request bodies in pieces

    def upload(self, task: asyncio.Task[None]) -> None:
        """This task writes the request; it ends with the exchange at the latest."""
        self._upload = task
        task.add_done_callback(self._uploaded)

    async def write_piece(self, data: bytes, timeouts: Timeouts) -> None:
        """Writes a part of a request, then waits while the peer is slow to read; stalls count against `idle_s`.

        Raises:
            WriteFailed: the connection is gone.
        """
        if self._transport is None or self._transport.is_closing():
            raise WriteFailed("the connection ended while the request was being written")
        self._transport.write(data)
        self._transport.flush()  # to hold back means that nothing was asked yet; and flow control must see it
        if self._writable is not None:
            self.deadline = min(self._watch.clock() + timeouts.idle_s, self._ends)
            await self._writable
        if not self._in_body:
            self.deadline = min(self._watch.clock() + timeouts.first_byte_s, self._ends)

    def _uploaded(self, task: asyncio.Task[None]) -> None:
        self._upload = None
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def _request_written(self) -> bool:
        return self._upload is None and self._transport is not None and self._transport.get_write_buffer_size() == 0

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # ------------------------------------------------------------ called by the transport

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next read goes: the more room, the more the reader waits for."""
        response = self.response
        if response is None or response.waiter is None:
            return self.pool.little_room
        return self.pool.room if response.whole else self.pool.some_room

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = Corked(cast(asyncio.Transport, transport), self._loop)
        self._watch.opened(self)  # here, since it may be lost before whoever asked for it has its turn
        if hasattr(select, "poll"):  # not on Windows
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def buffer_updated(self, nbytes: int) -> None:
        response = self.response
        parser = self._parser
        if response is None or parser is None:
            self.drop()  # an idle connection has nothing to say
            return
        if self._transport is not None and self._transport.held:
            self.fail(Disconnected("the peer spoke before it was asked", sent=False))
            return
        poisoned = False
        was_in_body, had = self._in_body, len(self.parts)
        data = self.pool.room[:nbytes]  # whoever keeps of it copies that: the parser the body, we the head
        try:
            if not was_in_body:
                data = self._read_head(parser, response, data)
            if self._complete:
                poisoned = bool(data)
            elif data:
                parser.feed_data(data)
        except EngineError as error:
            self.fail(error)
            return
        except _PARSER_ERRORS as error:
            if not self._complete:
                self.fail(ProtocolError(f"the response is not valid HTTP/1.1: {_reason(error)}"))
                return
            poisoned = True  # bytes after the end: the answer stands, the connection cannot be trusted any more
        if self._complete:
            self._end(response, reusable=self._keep and not poisoned)
        elif len(self.parts) > had:
            self._buffered += nbytes
            self._moved_on(response)
            if self._buffered > self._full_at:
                self._overfull()
        elif self._in_body and not was_in_body:
            self._moved_on(response)

    def eof_received(self) -> None:
        """The peer will say no more; the transport closes after this."""
        self._ended = True
        transport = self._transport
        if self.reused and self.response is not None and transport is not None:
            line = transport.get_extra_info("socket")
            self._unacknowledged = transport.get_write_buffer_size() + unacknowledged_bytes(line.fileno())

    def connection_lost(self, exc: Exception | None) -> None:
        asked = self._transport is None or not self._transport.held
        self._transport = None
        self._parser = None  # parser and connection refer to each other
        self._watch.closed(self)
        self.resume_writing()
        response = self.response
        if response is None:
            self.drop()
        elif self._in_body and self._ended and exc is None and not _is_framed(response.lowered):
            self._end(response, reusable=False)
        elif self._upload is not None and not self._in_body:
            self.fail(WriteFailed("the connection ended while the request was being written"))
        elif self._in_body or self._head_bytes:
            self.fail(Truncated("the connection ended within the response"))
        else:
            self.fail(
                Disconnected(
                    "the connection ended before the response began",
                    sent=asked,
                    unacknowledged=self._unacknowledged,
                )
            )

    # ------------------------------------------------------------ called by the parser

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Surplus

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        self._keep = self._parser.should_keep_alive()

    def on_message_complete(self) -> None:
        if self._status >= 200:
            self._complete = True

    # ------------------------------------------------------------ own parts

    def _read_head(self, parser: httptools.HttpResponseParser, response: Response, data: memoryview) -> memoryview:
        """Feeds the parser up to the end of the final head; gives the bytes that follow it.

        Raises:
            EngineError: the heads are too large, or the parser and we see their end in different places.
        """
        partial = self._partial_head
        while data:
            seen = len(partial)
            if seen:
                partial += data
                end = partial.find(_HEAD_END, max(seen - 3, 0))
            else:
                text = data[:_LIKELY_HEAD_BYTES].tobytes()
                end = text.find(_HEAD_END)
                if end < 0 and len(data) > len(text):
                    text = data.tobytes()
                    end = text.find(_HEAD_END)
            cut = end + len(_HEAD_END) - seen if end >= 0 else len(data)
            self._head_bytes += cut
            if self._head_bytes > self._limits.header_bytes:
                raise TooLarge(f"the response head is larger than {self._limits.header_bytes} bytes")
            parser.feed_data(data[:cut])
            if (end >= 0) is not (self._status > 0):
                raise ProtocolError("the response head does not end where its lines do")
            if end < 0:
                if not seen:
                    partial += data
                break
            if seen:
                head = bytes(partial[: end + 2])
                partial.clear()
            else:
                head = text[: end + 2]
            data = data[cut:]
            if self._status >= 200:
                self._begin_body(response, head)
                return data
            if self._status < 100 or self._status == 101:
                raise ProtocolError(f"the response has the status {self._status}, which was not asked for")
            self._status = 0
        return data[:0]

    def _begin_body(self, response: Response, head: bytes) -> None:
        lowered = head.lower()
        response.head = head
        response.lowered = lowered
        if not lowered.startswith(b"http/1."):
            raise ProtocolError("the response does not start with a status line of HTTP/1.x")
        if b"-encoding:" in lowered:  # most JSON answers have neither, and each search costs as much as this one
            codings = lowered.count(_TRANSFER_ENCODING)
            if (
                codings
                and (codings > 1 or _CHUNKED not in lowered)
                and Headers(head)["transfer-encoding"].lower() != "chunked"
            ):
                raise ProtocolError("the response has a transfer-encoding other than chunked")
            if b"\r\ncontent-encoding:" in lowered:
                response.decode()
        self._in_body = True
        if self._head_only and not self._complete:
            self._complete = True
            self._keep = False  # the parser waits for the body that the head announces
        response.status = self._status

    def _moved_on(self, response: Response) -> None:
        """The head has come, or more of the body, and more is to come."""
        if not self._draining:
            self.deadline = min(self._watch.clock() + self._idle_s, self._ends)
        if not response.whole:
            response.wake()

    def _end(self, response: Response, *, reusable: bool) -> None:
        parts = self.parts
        rest = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        transport = self._transport
        if not self.reused and transport is not None:
            _remember_session(transport)
        if reusable and transport is not None and not transport.is_closing() and self._request_written():
            self.response = None
            if self._paused:
                self._resume()
            self.pool.put(self)
        else:
            self.drop()
        response.ended(rest)

    def _overfull(self) -> None:
        """The reader is behind by more than its mark, counted with chunk framing: counts again without it, and acts."""
        response = self.response
        assert response is not None
        self._buffered = sum(map(len, self.parts))
        if self._buffered <= self._full_at:
            return
        if self._draining:
            self.drop()
        elif response.whole:
            self.fail(TooLarge(f"the response body is larger than {self._full_at} bytes"))
        elif self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resume_reading()
        self.deadline = min(self._watch.clock() + self._idle_s, self._ends)


class _Surplus(Exception):
    """Stops the parser at the first byte after the end of the response."""


def _is_framed(lowered: bytes) -> bool:
    """Whether a head, in lower case, says where the body ends."""
    return _TRANSFER_ENCODING in lowered or b"\r\ncontent-length:" in lowered


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _remember_session(transport: Corked) -> None:
    tls = transport.get_extra_info("ssl_object")
    if tls is not None and isinstance(tls.context, ResumingContext):
        tls.context.remember(tls)
