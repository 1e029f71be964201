"""Any answer, however its bytes are cut, means the same as to another client; anything else never hangs."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import httpx
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_peer import Session, listening

from gateway.types import Timeouts
from gateway.upstream.engine import Engine, EngineError, Limits

_SETTINGS = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
_TIMEOUTS = Timeouts(first_byte_s=5, idle_s=5, total_s=10)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A well-formed response: any framing, headers, informational heads before it, perhaps compressed."""
    body = draw(st.binary(max_size=3000)) * draw(st.sampled_from([1, 1, 40]))
    lines = [f"{name}: {value}".encode() for name, value in draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=5))]
    if draw(st.booleans()):
        body, lines = zlib.compress(body, wbits=31), [*lines, b"Content-Encoding: gzip"]
    framing = draw(st.sampled_from(["length", "chunks", "close"]))
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == "chunks":
        lines.append(b"Transfer-Encoding: chunked")
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=6)))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if b > a]
        body = b"".join(b"%X;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nx-t: 1\r\n\r\n"
    status = draw(st.sampled_from([b"200 OK", b"404 Not Found", b"529 Overloaded", b"500 "]))
    informational = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * draw(st.integers(0, 2))
    return informational + b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


_NAMES = st.from_regex(r"[xX]-[a-zA-Z0-9_]{1,12}", fullmatch=True)
_VALUES = st.from_regex(r"[!-~]([ -~]{0,30}[!-~])?", fullmatch=True)


def _cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(raw) + 1) for cut in cuts})
    return [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


async def _asked(raw: list[bytes], transport: httpx.AsyncBaseTransport) -> tuple[int, list[tuple[str, str]], bytes]:
    async def handle(session: Session) -> None:
        await session.request()
        await session.send(*raw, gap_s=0.0005)

    async with listening(handle) as peer, transport:
        request = httpx.Request("GET", peer.url, extensions={"allow_private": True, "timeout": {"read": 5.0}})
        response = await transport.handle_async_request(request)
        body = await response.aread()
        headers = [(n, v) for n, v in response.headers.multi_items() if n not in ("content-encoding", "content-length")]
        return response.status_code, headers, body


@_SETTINGS
@given(raw=answers(), cuts=st.lists(st.integers(0, 100_000), max_size=8))
def test_another_client_reads_the_same(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], raw: bytes, cuts: list[int]
) -> None:
    """Status, headers and decoded body are those that httpx's own engine finds in the same bytes."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        ours = runner.run(_asked(_cut(raw, cuts), Engine()))
        theirs = runner.run(_asked([raw], httpx.AsyncHTTPTransport(trust_env=False)))
    assert ours == theirs


@_SETTINGS
@given(raw=answers(), cuts=st.lists(st.integers(0, 100_000), max_size=4), data=st.data())
def test_damage_is_an_error_or_another_answer_but_never_a_hang(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], raw: bytes, cuts: list[int], data: st.DataObject
) -> None:
    """Bytes changed, left out or put in: the exchange ends, within its limits, and leaves no connection behind."""
    at = data.draw(st.integers(0, len(raw) - 1))
    damaged = raw[:at] + data.draw(st.binary(max_size=4)) + raw[at + data.draw(st.integers(0, 3)) :]

    async def run() -> None:
        async def handle(session: Session) -> None:
            await session.request()
            await session.send(*_cut(damaged, cuts), gap_s=0.0005)

        engine = Engine(Limits(body_bytes=200_000))
        async with listening(handle) as peer:
            try:
                body = await (await engine.send(peer.endpoint(), b"x", _TIMEOUTS)).read()
                assert len(body) <= 200_000
            except EngineError:
                pass
            await engine.aclose()
            assert engine.open_connections == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())
