"""The gateway's manners over plain HTTP: bad requests, odd headers, kept connections, explanations."""

from __future__ import annotations

import json
from typing import Any

import answers
import pytest
from conformance import Conformance
from fakes import error_reply, eventually, json_reply
from running import ADMIN_TOKEN, APP_KEY, RunningGateway
from scenes import Scene
from talk import CHAT, HELLO, Answer, Talk, admin, chat, entries, key_with


def post(gateway: RunningGateway, body: Any, **headers: str) -> Answer:
    with Talk(gateway) as talk:
        return talk.ask(CHAT, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


BAD_BODIES: dict[str, tuple[bytes, str | None]] = {
    "empty": (b"", None),
    "no JSON": (b"hello", None),
    "cut": (b'{"model": "sandbox"', None),
    "trailing text": (b'{"model":"sandbox","messages":[{"role":"user","content":"x"}]} x', None),
    "not an object": (b"[]", None),
    "bad UTF-8": (b'{"model":"sandbox","messages":[{"role":"user","content":"\xff"}]}', None),
    "NaN": (b'{"model":"sandbox","temperature":NaN,"messages":[{"role":"user","content":"x"}]}', None),
    "deeply nested": (b'{"model":"sandbox","messages":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    "no model": (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
    "no messages": (b'{"model":"sandbox"}', "messages"),
    "messages no list": (b'{"model":"sandbox","messages":"x"}', "messages"),
    "content no text": (b'{"model":"sandbox","messages":[{"role":"user","content":[1]}]}', "messages[0].content"),
    "wrong type": (b'{"model":"sandbox","messages":[{"role":"user","content":"x"}],"stream":"yes"}', "stream"),
    "wrong type within": (
        b'{"model":"sandbox","messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":3}}',
        "stream_options.include_usage",
    ),
    "model twice": (b'{"model":"a","messages":[{"role":"user","content":"x"}],"model":"sandbox"}', "model"),
}


@pytest.mark.parametrize("name", list(BAD_BODIES))
def test_a_bad_body_is_refused_in_words(gateway: RunningGateway, name: str, conforms: Conformance) -> None:
    """400 with the parameter that is wrong, whatever the body."""
    body, param = BAD_BODIES[name]
    answer = post(gateway, body, content_type="application/json")
    assert answer.status == 400
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param
    assert answer.error["request_id"] == answer.headers["x-request-id"] == answer.request_id
    conforms.error(answer.body)


@pytest.mark.parametrize("depth", range(950, 1000, 2))
def test_nesting_is_bounded(gateway: RunningGateway, depth: int) -> None:
    """At every depth near the parsers' limits the answer is 400, whichever of them gives up first."""
    answer = post(
        gateway, b'{"model":"a","model":"b","messages":[{"role":"user"}],"x":%b}' % (b"[" * depth + b"]" * depth)
    )
    assert answer.status == 400


def test_a_repeated_member_counts_once(gateway: RunningGateway, scene: Scene) -> None:
    """The last one is routed by and sent on, and no provider sees both."""
    first, last = (json.dumps([{"role": "user", "content": text}]).encode() for text in ("first", "last"))
    answer = post(gateway, b'{"messages":%b,"model":"%b","messages":%b}' % (first, scene.tier.encode(), last))
    assert answer.status == 200
    assert b"first" not in scene.requests[0].raw
    assert scene.upstream_body["messages"][0]["content"] == "last"


def test_the_model_may_stand_in_the_text_as_often_as_it_likes(gateway: RunningGateway) -> None:
    """Only the request's own members are counted, not what stands deeper."""
    messages = [{"role": "user", "content": 'say "model": twice'}]
    answer = chat(gateway, "sandbox", messages=messages, metadata={"model": "x"})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/v1/nothing", "POST", 404, "not_found"),
        ("/", "GET", 404, "not_found"),
        ("/v1/chat/completions/", "POST", 404, "not_found"),
        ("/v1/chat/completions", "GET", 405, "method_not_allowed"),
        ("/v1/models", "DELETE", 405, "method_not_allowed"),
        ("/%2e%2e/etc/passwd", "GET", 404, "not_found"),
    ],
)
def test_unknown_places(
    gateway: RunningGateway, path: str, method: str, status: int, code: str, conforms: Conformance
) -> None:
    """OpenAI's error object there too, with a request id."""
    with Talk(gateway) as talk:
        answer = talk.ask(path, {}, method=method)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.request_id
    if status == 405:
        assert answer.headers["allow"] in answer.error["message"]
    conforms.error(answer.body)


@pytest.mark.parametrize(
    "path",
    [
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/V1/chat/completions",
    ],
)
def test_a_base_url_that_is_almost_right(gateway: RunningGateway, path: str) -> None:
    """What SDKs then ask for is answered with the hint."""
    with Talk(gateway) as talk:
        answer = talk.ask(path, {})
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert answer.error["message"].endswith("Did you mean /v1/chat/completions? The base URL ends in /v1.")


def test_an_endpoint_of_openai_that_is_not_here(gateway: RunningGateway) -> None:
    """The answer says what there is."""
    with Talk(gateway) as talk:
        answer = talk.ask("/v1/responses", {"model": "sandbox", "input": "Hi"})
    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert answer.error["message"].endswith("Of OpenAI's API there are chat completions and models here.")


def test_a_probe_with_a_slash_too_many(gateway: RunningGateway) -> None:
    """The hint names the path, and no base URL, which has nothing to do with it."""
    with Talk(gateway) as talk:
        answer = talk.ask("/healthz/", method="GET")
    assert answer.error["message"].endswith(": GET /healthz/. Did you mean /healthz?")


CREDENTIALS: dict[str, list[tuple[str, str]]] = {
    "none": [("authorization", "")],
    "no scheme": [("authorization", APP_KEY)],
    "basic": [("authorization", f"Basic {APP_KEY}")],
    "two headers": [("authorization", f"Bearer {APP_KEY}"), ("authorization", f"Bearer {APP_KEY}")],
    "two different headers": [("authorization", "Bearer wrong"), ("authorization", f"Bearer {APP_KEY}")],
    "in a list": [("authorization", f"Bearer wrong, Bearer {APP_KEY}")],
}


@pytest.mark.parametrize("name", list(CREDENTIALS))
def test_doubtful_credentials_are_refused(gateway: RunningGateway, name: str, conforms: Conformance) -> None:
    """401 for anything but one Bearer header, and nothing of it is shown."""
    with Talk(gateway) as talk:
        answer = talk.ask(CHAT, {"model": "sandbox", "messages": HELLO}, headers=CREDENTIALS[name])
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert APP_KEY.encode() not in answer.raw
    conforms.error(answer.body)


def test_roles_are_kept_apart(gateway: RunningGateway) -> None:
    """An app key opens no admin door, and nobody may read the metrics without a key."""
    with Talk(gateway) as talk:
        assert talk.ask("/admin/api/keys", method="GET").status == 403
        assert talk.ask("/metrics", method="GET").status == 403
        assert talk.ask("/metrics", method="GET", headers={"authorization": "Bearer x"}).status == 401
        metrics = talk.ask("/metrics", method="GET", headers={"authorization": f"Bearer {ADMIN_TOKEN}"})
    assert metrics.status == 200
    assert b"tiergate_" in metrics.raw


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_body_beyond_the_limit(gateway: RunningGateway, framing: str, conforms: Conformance) -> None:
    """413 reaches a caller who is still sending, whether the length was told or not; then the connection ends."""
    body = json.dumps({"model": "sandbox", "messages": [{"role": "user", "content": "x" * 1_100_000}]}).encode()
    with Talk(gateway) as talk:
        if framing == "content-length":
            answer = talk.ask(CHAT, body)
        else:
            talk.send(CHAT, b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), headers={"transfer-encoding": "chunked"})
            answer = talk.receive()
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert answer.headers["connection"] == "close"
    conforms.error(answer.body)


def test_a_body_far_beyond_the_limit(gateway: RunningGateway) -> None:
    """It is refused by its declared length, before any of it has come."""
    with Talk(gateway) as talk:
        answer = talk.ask(CHAT, b"", headers={"content-length": "9000000000"})
    assert answer.status == 413


def test_a_caller_who_asks_before_sending(gateway: RunningGateway) -> None:
    """With `Expect: 100-continue` the body need not be sent in vain."""
    with Talk(gateway) as talk:
        answer = talk.ask(CHAT, b"", headers={"content-length": "1500000", "expect": "100-continue"})
    assert answer.status == 413


def test_a_chunked_body_within_the_limit(gateway: RunningGateway) -> None:
    """Bodies may come in chunks."""
    body = json.dumps({"model": "sandbox", "messages": HELLO}).encode()
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    with Talk(gateway) as talk:
        answer = talk.ask(CHAT, chunked + b"0\r\n\r\n", headers={"transfer-encoding": "chunked"})
    assert answer.status == 200


def test_a_compressed_body(gateway: RunningGateway, conforms: Conformance) -> None:
    """415: what cannot be bounded is not unpacked."""
    answer = post(gateway, b"\x1f\x8b", content_encoding="gzip")
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    conforms.error(answer.body)


def test_a_connection_is_kept(gateway: RunningGateway, scene: Scene) -> None:
    """Good answers, streams and errors follow each other on one connection."""
    scene.script_second(error_reply(500))
    with Talk(gateway) as talk:
        assert talk.ask(CHAT, {"model": scene.tier, "messages": HELLO}).status == 200
        local = talk.connection.sock.getsockname()
        assert talk.ask(CHAT, {"model": scene.tier, "messages": HELLO, "stream": True}).events[-1] == "[DONE]"
        assert talk.ask(CHAT, {"model": "unknown", "messages": HELLO}).status == 404
        assert talk.ask("/healthz", method="GET").body == {"status": "ok"}
        assert talk.connection.sock.getsockname() == local


def test_what_a_provider_is_told(gateway: RunningGateway, scene: Scene) -> None:
    """What it must know, and nothing of the caller's credentials, cookies or address."""
    answer = chat(gateway, scene.tier, headers={"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-custom": "1"})
    assert answer.status == 200
    (seen,) = scene.requests
    assert seen.path == f"/{scene.first}/v1/chat/completions"
    assert APP_KEY not in json.dumps(seen.headers)
    assert not {"cookie", "x-forwarded-for", "x-custom", "authorization"} & set(seen.headers)
    assert seen.headers["content-type"] == "application/json"


def test_upstream_connections_are_kept(gateway: RunningGateway, scene: Scene) -> None:
    """Requests one after the other, streamed and not, share a connection to the provider."""
    for stream in (False, True, False, True):
        assert chat(gateway, scene.tier, stream=stream).status == 200
    assert len({seen.connection for seen in scene.requests}) == 1


def test_a_providers_credential_stands_in_its_own_place(gateway: RunningGateway) -> None:
    """Anthropic's key goes into its header, and never into an answer."""
    answer = chat(gateway, "claude")
    assert b"upstream-key" not in answer.raw
    assert "upstream-key" not in json.dumps(answer.headers)


def test_an_explanation(gateway: RunningGateway, scene: Scene) -> None:
    """`x-gateway-explain: true` tells the plan in a header, from the plan that routed."""
    answer = chat(gateway, scene.tier, headers={"x-gateway-explain": "true"})
    plan = json.loads(answer.headers["x-gateway-explain"])
    assert [c["deployment"] for c in plan["candidates"]] == [scene.first_deployment, scene.second_deployment]
    assert "x-gateway-explain" not in chat(gateway, scene.tier).headers


def test_an_explanation_of_a_refusal(gateway: RunningGateway, scene: Scene) -> None:
    """Where no candidate is left, the error says which capability each lacked."""
    answer = chat(gateway, scene.tier, gateway={"require": ["video_input"]})
    assert answer.status == 400
    assert "video_input" in answer.error["message"]


def test_a_preferred_provider_comes_first(gateway: RunningGateway, scene: Scene) -> None:
    """`tier@provider`, the header and the body say the same."""
    for answer in (
        chat(gateway, f"{scene.tier}@{scene.second}"),
        chat(gateway, scene.tier, headers={"x-gateway-prefer-provider": scene.second}),
        chat(gateway, scene.tier, gateway={"prefer_provider": scene.second}),
    ):
        assert answer.headers["x-gateway-deployment"] == scene.second_deployment


@pytest.mark.parametrize(("header", "value"), [("x-gateway-deadline-s", "soon"), ("x-gateway-nonsense", "1")])
def test_a_bad_option_in_a_header(gateway: RunningGateway, header: str, value: str) -> None:
    """400 names the header."""
    answer = chat(gateway, "sandbox", headers={header: value})
    assert (answer.status, answer.error["param"]) == (400, header)


def test_tags_reach_the_books(gateway: RunningGateway, scene: Scene) -> None:
    """What the caller tags is in the entry."""
    answer = chat(gateway, scene.tier, headers={"x-gateway-tags": "team=search,env=prod"})
    (entry,) = entries(gateway, answer.request_id)
    assert entry["tags"] == {"team": "search", "env": "prod"}


def test_a_requests_tags_stand_beside_its_keys(gateway: RunningGateway, scene: Scene) -> None:
    """One of the same name takes its place, since sums by a tag count each attempt once."""
    key = key_with(gateway, tags={"env": "prod", "app": "shop"})
    with Talk(gateway, key) as talk:
        body = {"model": scene.tier, "messages": HELLO}
        answer = talk.ask(CHAT, body, headers={"x-gateway-tags": "team=search,env=dev"})
    (entry,) = entries(gateway, answer.request_id)
    assert entry["tags"] == {"env": "dev", "app": "shop", "team": "search"}


def test_a_deprecated_model(gateway: RunningGateway) -> None:
    """Its replacement answers, and headers tell of what, since when and until when."""
    answer = chat(gateway, "elder-model")
    assert answer.status == 200, answer.raw
    assert answer.headers["x-gateway-deployment"] == "claude/claude-model"
    assert answer.headers["x-gateway-substituted"] == "elder-model"
    assert answer.headers["deprecation"] == "@1788220800"
    assert answer.headers["sunset"] == "Sun, 31 Jan 2027 00:00:00 GMT"
    assert "deprecation" not in chat(gateway, "claude-model").headers


def test_the_same_plan_live_and_explained(gateway: RunningGateway, scene: Scene) -> None:
    """The admin API explains a request beforehand as it is then routed, and afterwards as it was."""
    request = {"model": scene.tier, "messages": HELLO}
    before = admin(gateway, "/explain", {"request": request}, method="POST")
    answer = chat(gateway, scene.tier)
    after = admin(gateway, f"/explain?request_id={answer.request_id}")
    assert before.status == after.status == 200
    routed = [scene.first_deployment, scene.second_deployment]
    assert [c["deployment"] for c in before.body["candidates"]] == routed
    assert [c["deployment"] for c in after.body["plan"]["candidates"]] == routed


def test_a_limited_key_is_told_what_is_left(gateway: RunningGateway, scene: Scene) -> None:
    """Its own limits stand in OpenAI's headers, not the provider's."""
    key = key_with(gateway, rpm=10, budget={"usd": "1", "per": "day", "hard": True})
    scene.script(json_reply(answers.completion(), x_ratelimit_remaining_requests="777"))
    with Talk(gateway, key) as talk:
        answer = talk.ask(CHAT, {"model": scene.tier, "messages": HELLO})
    assert answer.headers["x-ratelimit-remaining-requests"] == "9"
    assert answer.headers["x-gateway-budget"].startswith("key")
    assert scene.upstream_body["max_tokens"] == 16_000


def test_the_providers_limits_are_passed_on(gateway: RunningGateway, scene: Scene) -> None:
    """A key without limits sees those of the provider."""
    scene.script(json_reply(answers.completion(), x_ratelimit_remaining_requests="777"))
    assert chat(gateway, scene.tier).headers["x-ratelimit-remaining-requests"] == "777"


def test_a_raw_stream_is_well_formed(gateway: RunningGateway, scene: Scene, conforms: Conformance) -> None:
    """To its last byte, with the usage that was asked for."""
    options: dict[str, Any] = {"stream_options": {"include_usage": True}}
    answer = chat(gateway, scene.tier, stream=True, **options)
    assert answer.events[-1] == "[DONE]"
    assert answer.events[-2]["usage"]["total_tokens"] == 12
    conforms.stream(answer.raw, options)


def test_a_log_line_holds_no_secrets(gateway: RunningGateway, scene: Scene) -> None:
    """Neither prompts, answers nor keys are in the log."""
    scene.script(json_reply(answers.completion("the-answer-is-secret")))
    chat(gateway, scene.tier, messages=[{"role": "user", "content": "the-prompt-is-secret"}])
    log = gateway.log.read_text()
    for secret in ("the-prompt-is-secret", "the-answer-is-secret", APP_KEY, ADMIN_TOKEN, "upstream-key"):
        assert secret not in log


def test_one_log_line_a_request(gateway: RunningGateway, scene: Scene) -> None:
    """It is JSON and tells who asked, who answered, after which attempts, and what it cost."""
    scene.script(error_reply(429, "rate_limit_exceeded"))
    answer = chat(gateway, scene.tier, stream=True)

    def lines() -> list[Any]:
        return [json.loads(line) for line in gateway.log.read_text().splitlines() if answer.request_id in line]

    (line,) = eventually(lines)
    assert (line["status"], line["stream"], line["tier"]) == (200, True, scene.tier)
    assert line["deployment"] == scene.second_deployment
    attempts = [(attempt["deployment"], attempt["settlement"]) for attempt in line["attempts"]]
    assert attempts == [(scene.first_deployment, "void"), (scene.second_deployment, "complete")]
    assert line["attempts"][1]["cost_nano_usd"] == 15_000
