"""The way out: what failures mean, and the same interface over any transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from raw_peer import answer, listening, saying

from gateway.errors import Kind, UpstreamError
from gateway.types import Endpoint, Origin, Timeouts
from gateway.upstream.client import Upstream, request_id
from gateway.upstream.engine import Engine, EngineError, errors
from gateway.upstream.failures import FAILURES, upstream_error

_ENDPOINT = Endpoint(Origin("https", "api.test", 443), "POST", "/v1/chat/completions", (("authorization", "Bearer k"),))
_TIMEOUTS = Timeouts(first_byte_s=0.2, idle_s=0.2)


def _leaves(base: type[Exception]) -> set[type[Exception]]:
    below = base.__subclasses__()
    return set().union(*(_leaves(cls) for cls in below)) if below else {base}


def test_every_failure_of_a_transport_has_a_meaning() -> None:
    """The table knows each error of the engine and of httpx's transports, and no other but the loop's own timeout."""
    assert set(FAILURES) == _leaves(EngineError) | _leaves(httpx.TransportError) | {TimeoutError}


def test_failures_are_of_the_kinds_that_have_a_verdict() -> None:
    """Not reached, too slow, or broken: each counts against the deployment and lets another be tried.

    That our own connections were all in use is not the deployment's fault.
    """
    ours = {errors.PoolTimeout, httpx.PoolTimeout}
    theirs = {failure.kind for cls, failure in FAILURES.items() if cls not in ours}
    assert theirs == {Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.BROKEN}
    for cls in FAILURES:
        assert upstream_error(cls("x")).try_next
        assert upstream_error(cls("x")).verdict == ("neutral" if cls in ours else "failure")


@pytest.mark.parametrize(
    ("error", "kind", "billed"),
    [
        (errors.PoolTimeout("x"), Kind.CROWDED, False),
        (errors.ConnectFailed("x"), Kind.UNREACHABLE, False),
        (errors.ConnectTimeout("x"), Kind.UNREACHABLE, False),
        (errors.TlsFailed("x"), Kind.UNREACHABLE, False),
        (errors.FirstByteTimeout("x"), Kind.TIMED_OUT, True),
        (errors.Truncated("x"), Kind.BROKEN, True),
        (errors.Disconnected("x"), Kind.BROKEN, True),
        (errors.Disconnected("x", sent=False), Kind.BROKEN, False),
        (httpx.ConnectTimeout("x"), Kind.UNREACHABLE, False),
        (httpx.ReadError("x"), Kind.BROKEN, True),
    ],
)
def test_only_what_was_provably_not_sent_is_unbilled(error: Exception, kind: Kind, billed: bool) -> None:
    """Where a byte may have gone out, the provider may charge for it."""
    mapped = upstream_error(error)
    assert (mapped.kind, mapped.billed) == (kind, billed)
    assert "x" not in mapped.message.split()


async def test_the_engine_is_used_directly_and_speaks_the_gateways_errors() -> None:
    """Also where reading fails after a good head."""
    upstream = Upstream(Engine())
    async with listening(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", keep=False)) as peer:
        response = await upstream.send(peer.endpoint(), b"{}", Timeouts())
        assert await anext(response.chunks()) == b"ok"
        with pytest.raises(UpstreamError) as caught:
            await anext(response.chunks())
        assert (caught.value.kind, caught.value.billed) == (Kind.BROKEN, True)
        response.abort()
        endpoint = peer.endpoint()
    with pytest.raises(UpstreamError) as caught:
        await upstream.send(endpoint, b"{}", Timeouts())
    assert (caught.value.kind, caught.value.billed) == (Kind.UNREACHABLE, False)
    await upstream.aclose()


@pytest.mark.parametrize(
    ("line", "said"), [(b"X-Request-Id:\tReq_7 ", "Req_7"), (b"request-id: a", "a"), (b"x-my-request-id: b", None)]
)
async def test_the_providers_name_of_a_request_is_found_in_any_case(line: bytes, said: str | None) -> None:
    """It is told as it was written."""
    upstream = Upstream(Engine())
    async with listening(saying(answer(b"", b"200 OK", line))) as peer:
        response = await upstream.send(peer.endpoint(), b"{}", Timeouts())
        assert request_id(response) == said
        response.finish()
        await upstream.aclose()


async def test_a_model_list_is_read_whole() -> None:
    """Status, headers and body of a request without one."""
    upstream = Upstream(Engine())
    async with listening(saying(answer(b"[]", b"200 OK", b"x-a: 1"))) as peer:
        got = await upstream.get(peer.endpoint("GET"), Timeouts())
    assert (got.status, got.headers["x-a"], got.body) == (200, "1", b"[]")
    await upstream.aclose()


async def test_any_httpx_transport_may_stand_in() -> None:
    """A handler under httpx.MockTransport gets the request as the wire would have it."""

    async def handle(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer k"
        assert request.headers["x-client-request-id"] == "7"
        return httpx.Response(
            429, headers={"Retry-After": "3", "X-Request-ID": "Theirs"}, content=await request.aread()
        )

    upstream = Upstream(httpx.MockTransport(handle))
    response = await upstream.send(_ENDPOINT, b"abc", _TIMEOUTS, b"x-client-request-id: 7\r\n")
    assert (response.status, response.headers["retry-after"], await response.read()) == (429, "3", b"abc")
    assert request_id(response) == "Theirs"
    response.finish()
    await upstream.aclose()


class _Stream(httpx.AsyncByteStream):
    """A body that is given piece by piece and then stands still, or fails."""

    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.closed = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error
        await asyncio.sleep(3600)

    async def aclose(self) -> None:
        self.closed.set()


def _streaming(stream: _Stream) -> Upstream:
    return Upstream(httpx.MockTransport(lambda _request: httpx.Response(200, stream=stream)))


async def test_a_stand_in_streams_and_keeps_the_limits() -> None:
    """Empty pieces are skipped; a body that stands still ends at the idle limit."""
    response = await _streaming(_Stream(b"one", b"", b"two")).send(_ENDPOINT, b"", _TIMEOUTS)
    assert [await anext(response.chunks()), await anext(response.chunks())] == [b"one", b"two"]
    with pytest.raises(UpstreamError) as caught:
        await anext(response.chunks())
    assert caught.value.kind is Kind.TIMED_OUT
    response.abort()


async def test_a_stand_ins_errors_are_the_gateways() -> None:
    """In the head and in the body."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    with pytest.raises(UpstreamError) as caught:
        await Upstream(httpx.MockTransport(refuse)).send(_ENDPOINT, b"", _TIMEOUTS)
    assert (caught.value.kind, caught.value.billed) == (Kind.UNREACHABLE, False)
    response = await _streaming(_Stream(b"one", error=httpx.ReadError("cut"))).send(_ENDPOINT, b"", _TIMEOUTS)
    with pytest.raises(UpstreamError) as caught:
        await response.read()
    assert (caught.value.kind, caught.value.billed) == (Kind.BROKEN, True)


async def test_a_stand_ins_reader_can_be_woken() -> None:
    """And the stream is closed then."""

    class CallerGone(Exception):
        pass

    stream = _Stream(b"one")
    response = await _streaming(stream).send(_ENDPOINT, b"", Timeouts())
    assert await anext(response.chunks()) == b"one"
    reading = asyncio.ensure_future(anext(response.chunks()))
    await asyncio.sleep(0)
    response.fail(CallerGone())
    with pytest.raises(CallerGone):
        await reading
    await asyncio.wait_for(stream.closed.wait(), 5)


async def test_hosts_may_be_served_by_transports_of_their_own() -> None:
    """Such as the built-in sandbox; all others go the usual way."""
    mounted = httpx.MockTransport(lambda _request: httpx.Response(200, content=b"mounted"))
    usual = httpx.MockTransport(lambda _request: httpx.Response(200, content=b"usual"))
    upstream = Upstream(usual, {"api.test": mounted})
    other = Endpoint(Origin("https", "other.test", 443), "POST", "/", ())
    answers = [await (await upstream.send(endpoint, b"", _TIMEOUTS)).read() for endpoint in (_ENDPOINT, other)]
    assert answers == [b"mounted", b"usual"]


async def test_http_clients_share_the_transport_and_outlive_nobody() -> None:
    """Private addresses need permission, and closing a client leaves the transport open."""
    upstream = Upstream(Engine())
    async with listening(saying(answer(b"ok"))) as peer:
        async with upstream.http_client() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(peer.url)
        for _ in range(2):
            async with upstream.http_client(allow_private=True) as client:
                assert (await client.get(peer.url)).text == "ok"
        assert peer.accepted == 1
    await upstream.aclose()
