"""Hostile callers and providers: nothing leaks, nothing is confused, nothing is a 500."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from typing import Any

import answers
import pytest
from fakes import Reply, error_reply, json_reply, stream_reply
from running import APP_KEY, RunningGateway
from scenes import Scene
from talk import CHAT, HELLO, Talk, chat, entries

HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {APP_KEY}\r\n"
BODY = json.dumps({"model": "sandbox", "messages": HELLO}).encode()


def exchange(gateway: RunningGateway, raw: bytes) -> bytes:
    """What comes back for raw bytes until the gateway closes or falls silent."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=2) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
        except TimeoutError:
            received += b"<open>"
        return received


SMUGGLED: dict[str, str] = {
    "length and chunked": f"content-length: {len(BODY)}\r\ntransfer-encoding: chunked\r\n",
    "two lengths": f"content-length: {len(BODY)}\r\ncontent-length: {len(BODY) + 1}\r\n",
    "a list of lengths": f"content-length: {len(BODY)}, {len(BODY)}\r\n",
    "a signed length": f"content-length: +{len(BODY)}\r\n",
    "unknown coding": "transfer-encoding: xchunked\r\n",
    "chunked not last": "transfer-encoding: chunked, identity\r\n",
    "blank before the colon": f"content-length : {len(BODY)}\r\n",
    "folded header": f"x-a: b\r\n c\r\ncontent-length: {len(BODY)}\r\n",
}


@pytest.mark.parametrize("name", list(SMUGGLED))
def test_ambiguous_framing_is_refused(gateway: RunningGateway, name: str) -> None:
    """400 and an end of the connection; what follows is not taken for another request."""
    second = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    received = exchange(gateway, HEAD.encode() + SMUGGLED[name].encode() + b"\r\n" + BODY + second)
    assert b" 200 " not in received
    assert received == b"" or received.startswith(b"HTTP/1.1 4")
    assert received.count(b"HTTP/1.1") <= 1
    assert b"<open>" not in received


@pytest.mark.parametrize("size", [b"zz", b"-1", b"ffffffffffffffffff", b"0x5"])
def test_bad_chunk_sizes_are_refused(gateway: RunningGateway, size: bytes) -> None:
    """A chunk whose size is no hexadecimal number ends the connection without an answer of 200."""
    raw = HEAD.encode() + b"transfer-encoding: chunked\r\n\r\n" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
    received = exchange(gateway, raw)
    assert b" 200 " not in received
    assert b"<open>" not in received


@pytest.mark.parametrize(
    "key", ["'; DROP", '"', "\x00", "{0.__class__}", "é", "x" * 10_000, "%s%n", "gw1_main_" + "a" * 40]
)
def test_strange_keys_are_wrong_keys(gateway: RunningGateway, key: str) -> None:
    """401 in the same words for each, or a refusal of the whole message; never an error of ours."""
    raw = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-length: {len(BODY)}\r\n\r\n"
    received = exchange(gateway, raw.encode("utf-8") + BODY)
    assert received.startswith((b"HTTP/1.1 401", b"HTTP/1.1 400"))
    if received.startswith(b"HTTP/1.1 401"):
        error = json.loads(received.partition(b"\r\n\r\n")[2].replace(b"<open>", b""))["error"]
        assert error["code"] == "invalid_api_key"
        assert len(error["message"]) < 300


@pytest.mark.parametrize(
    "path",
    [
        "//admin/api/keys",
        "/v1/../admin/api/keys",
        "/%61dmin/api/keys",
        "/ADMIN/api/keys",
        "/admin/api/keys;x",
        "/admin",
    ],
)
def test_no_way_round_the_admin_guard(gateway: RunningGateway, path: str) -> None:
    """However the path is written, an app key gets nothing of the admin API."""
    with Talk(gateway) as talk:
        answer = talk.ask(path, method="GET")
    assert answer.status in (400, 401, 403, 404)
    assert b'"data"' not in answer.raw


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
