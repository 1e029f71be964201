"""The transport to the sandbox gives what the engine gives: heads, bodies, pauses, cuts and errors from outside."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from adapters import ADAPTERS
from gateway.errors import Kind, UpstreamError
from gateway.types import Endpoint, Provider, Timeouts
from gateway.upstream.client import Upstream, request_id
from gateway.upstream.sandbox import SANDBOX_HOST, SandboxTransport

HELLO = [{"role": "user", "content": "Hello"}]


def endpoint() -> Endpoint:
    adapter = ADAPTERS["sandbox"]
    assert adapter.default_base_url is not None
    return adapter.endpoint(Provider("sandbox", "sandbox", adapter.default_base_url), "sandbox-small", stream=False)


def asked(steer: str = "", **members: Any) -> bytes:
    metadata = {"metadata": {"sandbox": steer}} if steer else {}
    return json.dumps({"model": "sandbox-small", "messages": HELLO, **metadata, **members}).encode()


@pytest.fixture
def upstream() -> Upstream:
    """The way out, with nothing behind it but the sandbox."""
    refused = httpx.MockTransport(lambda request: httpx.Response(500))
    return Upstream(refused, {SANDBOX_HOST: SandboxTransport()})


async def test_answer_comes_without_network(upstream: Upstream) -> None:
    """Requests to the sandbox's host are answered in this process."""
    response = await upstream.send(endpoint(), asked(), Timeouts())
    assert response.status == 200
    assert request_id(response) is None
    assert json.loads(await response.read())["choices"][0]["message"]["content"] == "You said: Hello"


async def test_error_has_its_headers(upstream: Upstream) -> None:
    """A refusal comes with its status and its waiting time."""
    response = await upstream.send(endpoint(), asked("error=429,retry_after=2"), Timeouts())
    assert (response.status, response.headers["retry-after"]) == (429, "2")


async def test_model_list_can_be_asked_for(upstream: Upstream) -> None:
    """Discovery works offline."""
    adapter = ADAPTERS["sandbox"]
    listing = adapter.models_endpoint(Provider("sandbox", "sandbox", adapter.default_base_url or ""))
    assert listing is not None
    answer = await upstream.get(listing, Timeouts())
    assert len(adapter.models(answer.body)) == 3


async def test_stream_comes_event_by_event_where_a_gap_is_asked_for(upstream: Upstream) -> None:
    """Without a gap all comes at once, with one each event comes alone."""
    at_once = await upstream.send(endpoint(), asked(stream=True), Timeouts())
    spaced = await upstream.send(endpoint(), asked("gap_ms=1", stream=True), Timeouts())
    whole = [piece async for piece in at_once.chunks()]
    events = [piece async for piece in spaced.chunks()]
    assert len(whole) == 1
    assert len(events) == whole[0].count(b"\n\n")
    assert all(event.endswith(b"\n\n") for event in events)


@pytest.mark.parametrize("stream", [True, False])
async def test_cut_answer_is_broken(upstream: Upstream, stream: bool) -> None:
    """What comes before the cut is given, then the failure."""
    response = await upstream.send(endpoint(), asked("cut_after=2", stream=stream), Timeouts())
    with pytest.raises(UpstreamError) as caught:
        await response.read()
    assert caught.value.kind is Kind.BROKEN
    assert caught.value.billed


@pytest.mark.parametrize(
    ("steer", "timeouts"),
    [
        ("latency_ms=60000", Timeouts(first_byte_s=0.01)),
        ("latency_ms=60000", Timeouts(total_s=0.01)),
        ("gap_ms=60000", Timeouts(idle_s=0.01)),
    ],
)
async def test_timeouts_are_kept(upstream: Upstream, steer: str, timeouts: Timeouts) -> None:
    """An answer that is too late or stands still ends as with any provider."""
    with pytest.raises(UpstreamError) as caught:
        await (await upstream.send(endpoint(), asked(steer, stream=True), timeouts)).read()
    assert caught.value.kind is Kind.TIMED_OUT


async def test_waiting_reader_is_woken_by_a_failure_from_outside(upstream: Upstream) -> None:
    """A caller who leaves does not wait for the next event."""
    response = await upstream.send(endpoint(), asked("gap_ms=60000", stream=True), Timeouts(idle_s=120))
    reader = asyncio.ensure_future(response.read())
    await asyncio.sleep(0.01)
    response.fail(ConnectionError("the caller has gone"))
    with pytest.raises(ConnectionError):
        await reader


async def test_body_larger_than_the_cap_is_refused(upstream: Upstream) -> None:
    """The cap on buffered answers holds here too."""
    response = await upstream.send(endpoint(), asked(), Timeouts())
    with pytest.raises(UpstreamError):
        await response.read(10)


async def test_finished_and_aborted_responses_give_no_more(upstream: Upstream) -> None:
    """Finishing ends quietly, aborting with a failure."""
    finished = await upstream.send(endpoint(), asked(), Timeouts())
    finished.finish()
    assert await finished.read() == b""
    aborted = await upstream.send(endpoint(), asked(), Timeouts())
    aborted.abort()
    with pytest.raises(UpstreamError):
        await aborted.read()


async def test_sandbox_serves_httpx_too() -> None:
    """Under a plain httpx client it answers the same."""
    async with httpx.AsyncClient(transport=SandboxTransport()) as client:
        response = await client.post(f"http://{SANDBOX_HOST}/v1/chat/completions", content=asked())
    assert response.json()["model"] == "sandbox-small"
