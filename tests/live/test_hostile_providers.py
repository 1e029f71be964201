"""Hostile providers: nothing they send leaks, spoils the books or breaks the gateway (cases S13, S20)."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import answers
import pytest
from fakes import FakeProvider, Reply, error_reply, json_reply, stream_reply
from running import RunningGateway
from scenes import Scene
from talk import chat, entries

from tests.live.test_hostile_framing import resident_mib

HOSTILE_HEADERS = {"set-cookie": "a=b", "x-gateway-cost-usd": "0", "x-request-id": "theirs", "location": "http://x"}


def test_a_providers_headers_do_not_come_through(gateway: RunningGateway, scene: Scene) -> None:
    """Only those that an app may read; ours cannot be forged."""
    good = json_reply(answers.completion())
    scene.script(replace(good, headers={**good.headers, **HOSTILE_HEADERS}))
    answer = chat(gateway, scene.tier)
    assert answer.headers["x-gateway-cost-usd"] == "0.000015"
    assert answer.request_id.startswith("req_")
    assert not {"set-cookie", "location"} & set(answer.headers)


@pytest.mark.parametrize("status", [400, 401, 422, 500])
def test_a_providers_error_cannot_leak_a_credential(gateway: RunningGateway, scene: Scene, status: int) -> None:
    """A provider that echoes a key shows it to nobody, in answers or in the log."""
    leak = "Incorrect API key provided: sk-live-abcdefghijklmnop. Header: Bearer eyJleaked.token.here"
    scene.script(error_reply(status, "x", leak))
    scene.script_second(error_reply(status, "x", leak))
    scene.script(error_reply(status, "x", leak))
    answer = chat(gateway, scene.tier)
    assert answer.status >= 400
    for secret in ("abcdefghijklmnop", "eyJleaked"):
        assert secret not in answer.raw.decode()
        assert secret not in gateway.log.read_text()


USAGES: list[Any] = [
    {"prompt_tokens": -5, "completion_tokens": 3, "total_tokens": -2},
    {"prompt_tokens": 1e18, "completion_tokens": 1, "total_tokens": 1},
    {"prompt_tokens": "9", "completion_tokens": None},
    {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 900}},
    {"prompt_tokens": True, "completion_tokens": [3]},
    [],
    "none",
    None,
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", USAGES, ids=lambda u: json.dumps(u)[:30])
def test_a_providers_usage_cannot_spoil_the_books(
    gateway: RunningGateway, scene: Scene, usage: Any, stream: bool
) -> None:
    """Whatever is told, the caller gets an answer or an error of the provider's, and the entry is never negative."""
    if stream:
        events = [*answers.chunks("One two")[:-1], {**answers.usage_chunk(), "usage": usage}]
        scene.script(stream_reply(events))
    else:
        scene.script(json_reply({**answers.completion(), "usage": usage}))
    answer = chat(gateway, scene.tier, stream=stream)
    assert answer.status == 200
    rows = entries(gateway, answer.request_id, int(answer.headers["x-gateway-attempts"]))
    for row in rows:
        assert row["cost_nano_usd"] >= 0
        assert all(count >= 0 for count in row["usage"].values())


BODIES: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b'{"choices":[]}',
    b'{"choices":null}',
    b"\xff\xfe",
    b"{" * 50_000,
]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: repr(b[:20]))
def test_a_provider_that_answers_nonsense(gateway: RunningGateway, scene: Scene, body: bytes) -> None:
    """Nonsense under status 200 is a failure: the next candidate answers."""
    scene.script(Reply(200, {"content-type": "application/json"}, [body]))
    answer = chat(gateway, scene.tier)
    assert answer.status == 200
    assert answer.body["choices"][0]["message"]["content"] == f"Hello from {scene.second}."


@pytest.mark.parametrize("stream", [False, True])
def test_a_compressed_bomb_is_cut_off(gateway: RunningGateway, scene: Scene, stream: bool) -> None:
    """S13: an answer that unpacks to 256 MB is given up at the cap and booked, and the next candidate answers."""
    bomb = gzip.compress(b"\0" * 256 * 1024 * 1024, 1)
    kind = "text/event-stream" if stream else "application/json"
    scene.script(Reply(200, {"content-type": kind, "content-encoding": "gzip"}, [bomb]))
    before = resident_mib(gateway)
    answer = chat(gateway, scene.tier, stream=stream)
    assert answer.status == 200
    assert answer.headers["x-gateway-deployment"] == scene.second_deployment
    assert resident_mib(gateway) - before < 120
    assert len(entries(gateway, answer.request_id, 2)) == 2


def test_nobody_can_rest_the_sandbox_for_others(gateway: RunningGateway) -> None:
    """Its failures are asked for by requests, so they open no breaker and cool nothing down."""
    for steer in ("error=401", "error=429,retry_after=100", "error=insufficient_quota", "error=500", "cut_after=1"):
        for stream in (False, True) * 6:
            failed = chat(gateway, "sandbox", metadata={"sandbox": steer}, stream=stream)
            assert failed.status >= 400 or "error" in failed.events[-1]
        assert chat(gateway, "sandbox").status == 200


ECHOES: list[Reply] = [
    error_reply(status, code, message)
    for status, code, message in (
        (400, "bad_upstream-key-0123456789", "You sent upstream-key-0123456789"),
        (400, None, "headers: {'x-api-key': 'upstream-key-0123456789'}"),
        (422, "x", "upstream-key-0123456789upstream-key-0123456789"),
        (404, "x", "upstream-key-0123456789"),
        (500, "upstream-key-0123456789", "upstream-key-0123456789"),
    )
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", range(len(ECHOES)))
def test_a_provider_that_echoes_our_credential(
    gateway: RunningGateway, fake: FakeProvider, number: int, stream: bool
) -> None:
    """S20: whatever it looks like, the key that the gateway sent is in no answer and no log line."""
    provider = f"echoing{number * 2 + stream}"
    fake.script(provider, *[ECHOES[number]] * 3)
    answer = chat(gateway, provider, stream=stream)
    assert answer.status >= 400
    assert fake.seen(provider)[0].headers["x-api-key"] == "upstream-key-0123456789"
    assert "upstream-key" not in answer.raw.decode()
    assert "upstream-key" not in json.dumps(answer.headers)
    assert "upstream-key-0123456789" not in gateway.log.read_text()


def test_a_credential_echoed_amid_a_stream(gateway: RunningGateway, fake: FakeProvider) -> None:
    """S20: an error event's words are blanked as well."""
    echo = {"type": "error", "error": {"type": "invalid_request_error", "message": "upstream-key-0123456789"}}
    events = answers.anthropic_events("One two three")
    head = [event for event in events if b"message_stop" not in event][:3]
    last = b"event: error\ndata: " + json.dumps(echo).encode() + b"\n\n"
    fake.script("echoing10", stream_reply([*head, 0.2, last], done=False))
    answer = chat(gateway, "echoing10", stream=True)
    assert answer.status == 200
    assert answer.events[-1]["error"]
    assert b"upstream-key" not in answer.raw
