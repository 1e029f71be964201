"""Requests whose bytes mean one thing to one reader and another to the next, or that never end (cases S10 to S12)."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import zlib
from pathlib import Path

import pytest
from running import APP_KEY, RunningGateway
from talk import CHAT, HELLO, Talk, say

BODY = json.dumps({"model": "sandbox", "messages": HELLO}).encode()
HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {APP_KEY}\r\n".encode()
SECOND = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
SIZED = b"content-length: %d\r\n" % len(BODY)
MEBIBYTE = 1024 * 1024


SIZE = b"%x" % len(BODY)


def in_chunks(size: bytes, end: bytes = b"\r\n0\r\n\r\n") -> bytes:
    return CHUNKED + size + b"\r\n" + BODY + end


AMBIGUOUS: dict[str, bytes] = {
    "length and chunked": HEAD + SIZED + b"transfer-encoding: chunked\r\n\r\n" + BODY,
    "chunked and length": HEAD + b"transfer-encoding: chunked\r\n" + SIZED + b"\r\n" + BODY,
    "two lengths": HEAD + SIZED + b"content-length: 9\r\n\r\n" + BODY,
    "a list of lengths": HEAD + b"content-length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "a signed length": HEAD + b"content-length: +%d\r\n\r\n" % len(BODY) + BODY,
    "a length that is no number": HEAD + b"content-length: 0x10\r\n\r\n" + BODY,
    "a length beyond all numbers": HEAD + b"content-length: " + b"9" * 40 + b"\r\n\r\n" + BODY,
    "unknown coding": HEAD + b"transfer-encoding: xchunked\r\n\r\n" + BODY,
    "a coding behind a control character": HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n" + BODY,
    "a coding under chunks": in_chunks(SIZE).replace(b"chunked", b"gzip, chunked", 1),
    "a coding under chunks, apart": in_chunks(SIZE).replace(b"transfer-", b"transfer-encoding: gzip\r\ntransfer-", 1),
    "chunks in HTTP/1.0": in_chunks(SIZE).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "no host": HEAD.replace(b"host: x\r\n", b"") + SIZED + b"\r\n" + BODY,
    "two hosts": HEAD + b"Host: y\r\n" + SIZED + b"\r\n" + BODY,
    "no host, in chunks": in_chunks(SIZE).replace(b"host: x\r\n", b"", 1),
    "chunked not last": HEAD + b"transfer-encoding: chunked, identity\r\n\r\n" + BODY,
    "blank before the colon": HEAD + b"content-length : %d\r\n\r\n" % len(BODY) + BODY,
    "folded header": HEAD + b"x-a: b\r\n c\r\n" + SIZED + b"\r\n" + BODY,
    "bare line feeds": (HEAD + SIZED + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "one bare line feed": HEAD + b"x-a: b\n" + SIZED + b"\r\n" + BODY,
    "a bare carriage return": HEAD + b"x-a: b\rx-c: d\r\n" + SIZED + b"\r\n" + BODY,
    "NUL in a header": HEAD + b"x-a: b\x00c\r\n" + SIZED + b"\r\n" + BODY,
    "a chunk size that is none": in_chunks(b"zz"),
    "a negative chunk size": in_chunks(b"-1"),
    "a chunk size beyond all numbers": in_chunks(b"f" * 18),
    "a chunk size with a prefix": in_chunks(b"0x5"),
    "a blank before the chunk size": in_chunks(b" " + SIZE),
    "a chunk longer than told": in_chunks(SIZE, b"XX0\r\n\r\n"),
    "a chunk size ended by a line feed": CHUNKED + SIZE + b"\n" + BODY + b"\r\n0\r\n\r\n",
    "a chunk extension ended by a line feed": CHUNKED + SIZE + b";x\n" + BODY + b"\r\n0\r\n\r\n",
    "an end of chunks by line feeds": in_chunks(SIZE, b"\r\n0\r\n\n"),
    "a trailer that tells a length": in_chunks(SIZE, b"\r\n0\r\ncontent-length: 9\r\n\r\n"),
    "another version": (HEAD + SIZED + b"\r\n").replace(b"HTTP/1.1", b"HTTP/9.9") + BODY,
    "HTTP/2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a proxy's request": b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
}


@pytest.mark.parametrize("end", [False, True], ids=["open", "ended"])
@pytest.mark.parametrize("name", list(AMBIGUOUS))
def test_ambiguous_framing_is_refused(gateway: RunningGateway, name: str, end: bool) -> None:
    """400 and an end of the connection; what follows is not taken for another request."""
    received = say(gateway, AMBIGUOUS[name] + SECOND, end=end)
    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1") <= 1
    assert b'"status":"ok"' not in received
    assert b"<open>" not in received


@pytest.mark.parametrize(
    "kind", [b"connection: upgrade\r\nupgrade: h2c\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n"]
)
def test_a_body_is_no_request_whatever_protocol_is_wished_for(gateway: RunningGateway, kind: bytes) -> None:
    """A request smuggled as the body of one that asks to change the protocol is a body."""
    received = say(gateway, HEAD + kind + b"content-length: %d\r\n\r\n" % len(SECOND) + SECOND, patience_s=1)
    assert received.startswith(b"HTTP/1.1 400 ")  # no JSON
    assert received.count(b"HTTP/1.1 ") == 1


def test_a_body_longer_than_told(gateway: RunningGateway) -> None:
    """The length counts; what is left over is no request, ends the connection, and spoils no answer."""
    received = say(gateway, HEAD + b"content-length: %d\r\n\r\n" % (len(BODY) - 1) + BODY + b"\r\n\r\n")
    assert b" 200 " not in received
    assert b"<open>" not in received


def test_a_body_shorter_than_told(gateway: RunningGateway) -> None:
    """Its end is waited for, and a caller who hangs up instead gets no answer and costs nothing."""
    received = say(gateway, HEAD + b"content-length: %d\r\n\r\n" % (len(BODY) + 9) + BODY, end=True)
    assert received == b""


@pytest.mark.parametrize("kind", ["declared", "endless chunks", "endless head"])
def test_no_request_is_kept_beyond_the_limits(gateway: RunningGateway, kind: str) -> None:
    """A body of 100 MB is refused by its length or where it passes the limit, an endless head at 64 KiB; memory
    hardly grows."""
    before = resident_mib(gateway)
    piece = {"declared": b"x" * 65536, "endless chunks": b"10000\r\n" + b"x" * 65536 + b"\r\n"}.get(kind)
    start = {"declared": HEAD + b"content-length: 100000000\r\n\r\n", "endless chunks": CHUNKED}.get(kind, HEAD)
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        sent, received = 0, b""
        try:
            connection.sendall(start)
            while sent < 100 * MEBIBYTE:
                part = piece or b"x-%d: %b\r\n" % (sent, b"x" * 65000)
                connection.sendall(part)
                sent += len(part)
        except ConnectionError:
            pass
        with contextlib.suppress(ConnectionError):  # the answer was lost with what was still on its way
            received = connection.recv(65536)
    assert sent < 40 * MEBIBYTE
    assert received == b"" or received.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 431 "))
    assert resident_mib(gateway) - before < 30


BOMB = b"\0" * 10 * MEBIBYTE


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(BOMB)),
        ("deflate", zlib.compress(BOMB)),
        ("br", b"\x1b" * 1000),
        ("zstd", b"\x28\xb5\x2f\xfd" + b"\0" * 1000),
        ("gzip, identity", gzip.compress(BOMB)),
        ("x-gzip", gzip.compress(BOMB)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_compressed_bodies_are_not_unpacked(gateway: RunningGateway, coding: str, packed: bytes) -> None:
    """415, at next to no cost."""
    before = cpu_s(gateway)
    with Talk(gateway) as talk:
        for _ in range(10):
            assert talk.ask(CHAT, packed, headers={"content-encoding": coding}).status == 415
    assert cpu_s(gateway) - before < 0.5  # of ten, and of whatever else the process did meanwhile


def resident_mib(gateway: RunningGateway) -> float:
    """Resident memory of the gateway's process."""
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE


def cpu_s(gateway: RunningGateway) -> float:
    """Processor seconds that the gateway's process, and those that it started and saw end, have used so far."""
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
