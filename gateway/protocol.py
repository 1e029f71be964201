"""uvicorn's HTTP/1.1 protocol with a short way for the endpoints that are called all the time.

Through ASGI a request costs a scope, a cycle object and an event, and its reply two messages, two writes and a search
of every header for forbidden characters: as much as reading and planning it. So a whole, plain request to a hot
endpoint is handed to it directly; whatever is unusual (pipelined, chunked, `Expect`, long) takes the usual way.
"""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import Transport
from collections.abc import Mapping
from typing import cast

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.api.http import HeaderLines
from gateway.api.inbound import Head
from gateway.corked import Corked, Turns
from gateway.direct import Beginning, Direct, Hot
from gateway.errors import CallerError, Kind
from gateway.ledger.attempt import new_request_id
from gateway.log import get_logger

log = get_logger("server")

_HEAD_BYTES = 64 * 1024
"""A request's head that is longer is refused: until it is whole nobody knows who asks. So are trailers and what else is
neither head nor body."""
_PATIENT_LOOKS = 4
"""How often in a row the timer may find the same request not whole, some of it having come, before its pace matters."""
_LEAST_BYTES_PER_S = 1024
"""A request that comes more slowly after that is given up: what has come of it is held, whoever sends it."""
_WRITE_BYTES = 8 * 1024
"""What may wait for a caller to read it; the rest waits at the provider."""


class _HeadTooLong(Exception):
    """Told of by the parser as the context of its own error."""


class _Unfit(Exception):
    """A head that the parser accepts and HTTP forbids."""


def _check(headers: HeaderLines, version: str) -> None:
    """
    Raises:
        _Unfit: there is not one Host (RFC 9112, section 3.2), or the body is coded otherwise than in plain chunks.
    """
    hosts = sum(name == b"host" for name, _ in headers)
    if hosts > 1 or (not hosts and version == "1.1"):
        raise _Unfit("The request must have one Host header.")
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings and ([coding.lower() for coding in codings] != [b"chunked"] or version != "1.1"):
        raise _Unfit("The request has a Transfer-Encoding other than chunked, or one that HTTP/1.0 does not know.")


class Protocol(HttpToolsProtocol):
    """A connection of a caller. Its timer looks after the connection, not after each request."""

    __slots__ = (  # beside uvicorn's, which are in a dict: it has as many as one can have before look-ups slow down
        "_active",
        "_aside_bytes",
        "_asked",
        "_awaited",
        "_begins",
        "_between",
        "_chunk",
        "_corked",
        "_heard",
        "_hot",
        "_idle_since",
        "_moved",
        "_parts",
        "_receiving",
        "_waits",
    )

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        Turns.of(self.loop).requests = self.tasks
        self._corked = Corked(transport, self.loop)
        super().connection_made(cast(Transport, self._corked))
        transport.set_write_buffer_limits(_WRITE_BYTES)
        self._hot: Mapping[bytes, Hot] = getattr(self.app, "hot", {})
        self._idle_since = self.loop.time()
        self._heard = 0
        """How much has come since the timer last looked."""
        self._awaited: object = None
        """The request that was not whole when it did."""
        self._waits = 0
        """How often in a row that was so."""
        self._moved = False
        """Whether the last read has brought a whole head, a piece of body or a request's end."""
        self._aside_bytes = 0
        """How much has come since one did."""
        self._receiving: Direct | None = None
        """The request past ASGI whose body is coming in."""
        self._parts: list[bytes] = []
        """What has come of that."""
        self._active: Direct | None = None
        """The last one that was begun."""
        self._asked: Hot | None = None
        """The endpoint it is for."""
        self._chunk = b""
        """What is being read, where a request begins with it."""
        self._between = True
        """Whether the last request was read to its end, and no other begun."""
        self._begins: Beginning | None = None
        """How the last request began that came in one piece."""
        self._look_again_in(self.timeout_keep_alive)

    def data_received(self, data: bytes) -> None:
        self._heard += len(data)
        self._moved = False
        if self._between and self._begins is not None and self._begin_alike(self._begins, data):
            return
        if self._between:
            self._chunk = data
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                head = self._without_upgrade()
                self.parser.feed_data(head + data[upgrade.args[0] :])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:  # the latter: again, or CONNECT
            if isinstance(error.__context__, _HeadTooLong):
                self._refuse_head()
            elif isinstance(error.__context__, _Unfit):
                self._refuse(400, str(error.__context__))
            else:
                self.send_400_response("What was sent cannot be read as an HTTP request.")
        else:
            self._aside_bytes = 0 if self._moved else self._aside_bytes + len(data)
            if self._aside_bytes > _HEAD_BYTES:
                self._refuse_head()
        self._chunk = b""

    def _begin_alike(self, begins: Beginning, data: bytes) -> bool:
        """Serves a whole request that begins as one before it did."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            return False
        body = begins.body(data)
        if body is None or len(body) > begins.hot.most_bytes:
            return False
        self._aside_bytes = 0
        self._serve(self._begin(begins.head, keep_alive=True), begins.hot, body)
        return True

    def _begin(self, head: Head, *, keep_alive: bool) -> Direct:
        direct = Direct(self, head, keep_alive=keep_alive)
        self._active = direct
        self.cycle = direct  # type: ignore[assignment]  # it has all that is asked of one
        return direct

    def eof_received(self) -> None:
        """The caller will send no more, and the transport closes: what was answered in this turn goes out first."""
        self._corked.flush()

    def on_message_begin(self) -> None:
        self._between = False
        self.url = b""
        self.headers = []

    def on_headers_complete(self) -> None:
        self._moved = True
        if sum([len(name) + len(value) for name, value in self.headers]) + len(self.url) > _HEAD_BYTES:
            raise _HeadTooLong
        hot = self._hot.get(self.url)
        if hot is not None and self._begin_direct(hot):
            return
        url, headers = self.url, self.headers
        _check(headers, self.parser.get_http_version())
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        self.headers = []  # where trailers go, which are no part of the head: a proxy may have looked at that alone

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def _begin_direct(self, hot: Hot) -> bool:
        """Takes a request past ASGI, if it is plain enough."""
        parser, cycle = self.parser, self.cycle
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or parser.should_upgrade():
            return False
        if cycle is not None and not cycle.response_complete:
            return False
        head = Head(self.headers)
        fields = head.fields
        if len(fields) != len(head.lines) or b"host" not in fields:
            return False  # a name that comes twice is looked at on the usual way, and who says no Host is refused there
        size = fields.get(b"content-length")
        if size is None or int(size) > hot.most_bytes or b"content-encoding" in fields or b"expect" in fields:
            return False
        self.headers = []
        self._receiving = self._begin(head, keep_alive=parser.should_keep_alive())
        self._asked = hot
        return True

    def on_body(self, body: bytes) -> None:
        self._moved = True
        if self._receiving is not None:
            self._parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._moved = self._between = True
        direct, hot, self._receiving = self._receiving, self._asked, None
        if direct is None or hot is None:
            super().on_message_complete()
            return
        if self._chunk and direct.keep_alive:
            self._begins = Beginning.of(self._chunk, direct, hot)
        parts, self._parts = self._parts, []
        self._serve(direct, hot, parts[0] if len(parts) == 1 else b"".join(parts))

    def _serve(self, direct: Direct, hot: Hot, body: bytes) -> None:
        direct.content = body
        direct.more_body = False
        # Not by the loop, which would have the task's name written out with a number of its own.
        direct.task = task = asyncio.Task(self._served(direct, hot), loop=self.loop, name="request")
        self.tasks.add(task)

    async def _served(self, direct: Direct, hot: Hot) -> None:
        """Has a request answered; where its endpoint ends and the reply has not, the connection ends with it."""
        try:
            await hot.serve(direct)
        except Exception as error:
            log.error("endpoint_failed", exc_info=error)
        finally:
            self.tasks.discard(direct.task)
            direct.content = b""  # lest an idle connection keep its last request's
            if not direct.response_complete:
                self.transport.close()

    def _should_upgrade(self) -> bool:
        """So that a request which asks for another protocol is not begun before that wish is taken out of it."""
        return True

    def _without_upgrade(self) -> bytes:
        """The head of the request that asks for another protocol (Java's client asks for `h2c` with every one), without
        that wish, for a new parser. The old one takes the body for the other protocol, and the rest for a new request.

        Source: https://www.rfc-editor.org/rfc/rfc9110#section-7.8, a server may ignore it (read 2026-11-21).
        """
        method, version = self.scope["method"].encode(), self.scope["http_version"].encode()
        first = b"%b %b HTTP/%b\r\n" % (method, self.url, version)
        kept = [b"%b: %b\r\n" % header for header in self.scope["headers"] if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return first + b"".join(kept) + b"\r\n"

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _refuse_head(self) -> None:
        self._refuse(431, f"The request's head is larger than {_HEAD_BYTES:,} bytes.")

    def _refuse(self, status: int, message: str) -> None:
        """Answers what cannot be read as a request, or does not come, and closes: what follows has no certain
        beginning. Where an earlier request is still being answered, or this one is already, nothing is put into that
        answer."""
        cycle = self.cycle
        answering = self.pipeline or (cycle is not None and (cycle.response_started or not cycle.more_body))
        if answering and not cycle.response_complete:
            self.transport.close()
            return
        request_id = new_request_id(time.time(), random.SystemRandom())
        error = CallerError(Kind.BAD_REQUEST, message)
        body = msgspec.json.encode(error.envelope(request_id))
        self.transport.write(
            b"%bcontent-type: application/json\r\nx-request-id: %b\r\nx-gateway-request-id: %b\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[status], request_id.encode(), request_id.encode(), len(body), body)
        )
        self.transport.close()

    def on_response_complete(self) -> None:
        if self.pipeline or self.transport.is_closing():
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.flow.read_paused:
            self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection where it has been idle for so long, or where a request does not come to its end; else
        looks again when it may have been."""
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.more_body and self._stalls():
                self._refuse(408, "The request did not arrive whole in time; send it again.")
                return
            self._heard = 0
            self._look_again_in(self.timeout_keep_alive)
        elif (left_s := self._idle_since + self.timeout_keep_alive - self.loop.time()) > 0:
            self._look_again_in(left_s)
        else:
            super().timeout_keep_alive_handler()

    def _stalls(self) -> bool:
        """Whether nothing of the request has come since the last look, or too little once it has had its time."""
        self._waits = self._waits + 1 if self._awaited is self.cycle else 0
        self._awaited = self.cycle
        if self._waits < _PATIENT_LOOKS or self.flow.read_paused:
            return not self._heard
        return self._heard < _LEAST_BYTES_PER_S * self.timeout_keep_alive

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        direct, self._receiving = self._active, None
        if direct is not None and not direct.response_complete:
            direct.disconnected = True
            direct.leave()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """The timer goes on: it sees for itself whether anything happened meanwhile."""
