"""Bodies that would redirect a call, break a parser or forge a line (cases S3, S6, S14 to S19)."""

from __future__ import annotations

import json
from typing import Any

import answers
import pytest
from fakes import stream_reply
from running import RunningGateway
from scenes import Scene
from talk import CHAT, Talk, chat, entries

from tests.live.test_hostile_framing import cpu_s

ELSEWHERE = "http://127.0.0.1:9/v1"
REDIRECTIONS: list[dict[str, Any]] = [
    {"api_base": ELSEWHERE},
    {"base_url": ELSEWHERE},
    {"api_key": "sk-other"},
    {"extra_headers": {"host": "evil.example"}},
    {"api_version": "2024"},
    {"custom_llm_provider": "openai"},
    {"gateway": {"base_url": ELSEWHERE}},
    {"gateway": {"deployment": {"base_url": ELSEWHERE}}},
]


@pytest.mark.parametrize("fields", REDIRECTIONS, ids=lambda fields: json.dumps(fields)[:30])
def test_no_body_says_where_calls_go(gateway: RunningGateway, scene: Scene, fields: dict[str, Any]) -> None:
    """S3: refused by name; no provider is asked."""
    answer = chat(gateway, scene.tier, **fields)
    assert answer.status == 400
    assert answer.error["param"] in (next(iter(fields)), f"gateway.{next(iter(next(iter(fields.values()))))}")
    assert not scene.requests


def test_no_header_says_where_calls_go(gateway: RunningGateway, scene: Scene) -> None:
    """S3: neither ours, which are refused, nor those of other gateways and proxies, which mean nothing here."""
    assert chat(gateway, scene.tier, headers={"x-gateway-base-url": ELSEWHERE}).status == 400
    others = (
        "x-forwarded-host",
        "x-original-url",
        "x-rewrite-url",
        "forwarded",
        "x-portkey-custom-host",
        "helicone-target-url",
    )
    assert chat(gateway, scene.tier, headers=dict.fromkeys(others, ELSEWHERE)).status == 200
    (seen,) = scene.requests
    assert seen.path == f"/{scene.first}/v1/chat/completions"
    assert not set(others) & set(seen.headers)


@pytest.mark.parametrize(
    "model",
    ["../../etc/passwd", "a%2f..", "{0.__class__}", "sandbox\r\nx: y", "\x00", "sandbox ", "SANDBOX", "🚀", "x" * 500],
)
def test_strange_models_are_unknown(gateway: RunningGateway, model: str) -> None:
    """404 `model_not_found`; the name appears in no header."""
    answer = chat(gateway, model)
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert "x" not in answer.headers


NUMBERS = ["9" * 5000, "1e400", "-1e400", "NaN", "Infinity", "1e-400", "0" * 20]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: n[:9])
@pytest.mark.parametrize("field", ["temperature", "max_tokens", "seed", "gateway", "unknown"])
def test_strange_numbers(gateway: RunningGateway, field: str, number: str) -> None:
    """Refused, or taken where they mean something; never an error of ours."""
    body = f'{{"model":"sandbox","messages":[{{"role":"user","content":"x"}}],"{field}":{number}}}'
    with Talk(gateway) as talk:
        assert talk.ask(CHAT, body.encode()).status in (200, 400)


CONTENTS: dict[str, bytes] = {
    "lone surrogate": b'"\\ud800"',
    "NUL": b'"a\\u0000b"',
    "end of a stream": b'"\\n\\ndata: [DONE]\\n\\n"',
    "event and id lines": b'"event: error\\nid: 1\\ndata: x\\r\\n\\r\\n"',
    "line separators": '"a\u2028b\u2029c\x85d"'.encode(),
    "number": b"5",
    "object": b'{"type":"text","text":"x"}',
    "null": b"null",
    "empty list": b"[]",
    "part without type": b'[{"text":"x"}]',
    "image without URL": b'[{"type":"image_url","image_url":null}]',
}


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["lists", "objects"])
@pytest.mark.parametrize(
    "place", [b'"x":%b', b'"messages":[{"role":"user","content":%b}]', b'"tools":[%b]', b'"gateway":%b']
)
def test_deep_nesting_is_cheap(gateway: RunningGateway, place: bytes, opening: bytes) -> None:
    """S14: a hundred thousand levels are a 400 wherever they stand, within a few milliseconds."""
    closing = b"]" if opening == b"[" else b"}"
    nested = opening * 100_000 + b"1" + closing * 100_000
    body = b'{"model":"sandbox","messages":[{"role":"user","content":"x"}],%b}' % (place % nested)
    before = cpu_s(gateway)
    with Talk(gateway) as talk:
        for _ in range(5):
            assert talk.ask(CHAT, body).status == 400
    assert cpu_s(gateway) - before < 0.5  # of five, and of whatever else the process did meanwhile


def test_long_numbers_beside_a_second_model(gateway: RunningGateway) -> None:
    """S15: where the body is read a second time, to look for repeated names, its numbers do no harm either."""
    body = b'{"model":"sandbox","messages":[{"role":"user","content":"x"}],"metadata":{"model":"x"},"top_k":%b}'
    with Talk(gateway) as talk:
        for number in (b"9" * 5000, b"1e400", b"-0"):
            assert talk.ask(CHAT, body % number).status in (200, 400)
        assert talk.ask(CHAT, body.replace(b'"top_k"', b'"model"') % b"1").status == 400


def test_a_model_named_twice_in_disguise(gateway: RunningGateway, scene: Scene) -> None:
    """S16: spelled with an escape it is found by no search; what the provider sees names one model all the same."""
    body = b'{"model":"sandbox","messages":[{"role":"user","content":"x"}],"mod\\u0065l":"%b"}' % scene.tier.encode()
    with Talk(gateway) as talk:
        assert talk.ask(CHAT, body).status == 200
    (seen,) = scene.requests
    assert seen.raw.count(b"model") == 1 + seen.raw.count(b"_model") + seen.raw.count(b"-model")
    assert seen.body["model"] == f"{scene.first}-upstream"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", list(CONTENTS))
def test_strange_content(gateway: RunningGateway, name: str, stream: bool) -> None:
    """It is refused as a bad request or answered whole, with the stream's framing intact."""
    body = b'{"model":"sandbox","stream":%b,"messages":[{"role":"user","content":%b}]}' % (
        b"true" if stream else b"false",
        CONTENTS[name],
    )
    with Talk(gateway) as talk:
        answer = talk.ask(CHAT, body)
    assert answer.status in (200, 400)
    if stream and answer.status == 200:
        assert answer.events.count("[DONE]") == 1
        assert answer.events[-1] == "[DONE]"
        assert all("choices" in event for event in answer.events[:-1])


def test_content_that_looks_like_the_end(gateway: RunningGateway, scene: Scene) -> None:
    """A model that writes `data: [DONE]` has its words delivered as words."""
    words = "before\n\ndata: [DONE]\n\nafter"
    events = [answers.chunk({"role": "assistant", "content": ""}), answers.chunk({"content": words})]
    scene.script(stream_reply([*events, answers.chunk({}, finish_reason="stop"), answers.usage_chunk()]))
    answer = chat(gateway, scene.tier, stream=True)
    assert answer.text == words
    assert answer.events.count("[DONE]") == 1


INJECTED = 'x\r\nset-cookie: a=b\r\n\r\n{"forged": true}'


def test_line_breaks_are_no_headers_and_no_log_lines(gateway: RunningGateway, scene: Scene) -> None:
    """In `user`, metadata and tags they stay data: one log line a request, each of them JSON."""
    fields: dict[str, Any] = {"user": INJECTED, "metadata": {"a": INJECTED}}
    answer = chat(gateway, scene.tier, **fields)
    assert answer.status == 200
    assert "set-cookie" not in answer.headers
    assert scene.upstream_body["user"] == INJECTED
    tagged = chat(gateway, scene.tier, gateway={"tags": {"a": INJECTED}})
    assert tagged.status == 400
    entries(gateway, answer.request_id)
    for line in gateway.log.read_text().splitlines():
        assert not line.startswith('{"forged"')


def test_request_ids_are_ours(gateway: RunningGateway) -> None:
    """What the caller names a request does not become its id."""
    answer = chat(gateway, "sandbox", headers={"x-request-id": "mine", "x-gateway-request-id-x": "mine"})
    assert answer.status == 400  # an unknown x-gateway option
    answer = chat(gateway, "sandbox", headers={"x-request-id": "mine"})
    assert answer.request_id.startswith("req_")
    assert answer.headers["x-request-id"] == answer.request_id
