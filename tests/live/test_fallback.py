"""Failures before the first byte move on; after it they end the stream; each attempt is booked once."""

from __future__ import annotations

import time
from typing import Any

import answers
import pytest
from conformance import Conformance
from fakes import NEVER, End, FakeProvider, Gate, Reply, Script, error_reply, eventually, json_reply, stream_reply
from running import RunningGateway
from scenes import Scene
from talk import CHAT, HELLO, Talk, chat, entries, entries_at, events_of, key_with

STREAM = [False, True]
GARBAGE = Reply(200, {"content-type": "application/json"}, [b"<html>not json</html>"])
FAILURES: dict[str, Script] = {
    "500": error_reply(500),
    "502": error_reply(502),
    "503": error_reply(503, retry_after="1"),
    "429": error_reply(429, "rate_limit_exceeded", retry_after="1"),
    "quota": error_reply(429, "insufficient_quota"),
    "401": error_reply(401, "invalid_api_key"),
    "403": error_reply(403),
    "404": error_reply(404, "model_not_found"),
    "409": error_reply(409),
    "529": error_reply(529),
    "redirect": Reply(302, {"location": "http://127.0.0.1:9/"}),
    "reset at once": Reply(200, {"content-type": "application/json"}, [End.RESET]),
    "closed at once": Reply(200, {"content-type": "application/json"}, [End.CLOSE]),
    "garbage": GARBAGE,
}


def told(scene: Scene) -> str:
    """What the second provider says where nothing is scripted."""
    return f"Hello from {scene.second}."


@pytest.mark.parametrize("stream", STREAM)
@pytest.mark.parametrize("failure", list(FAILURES))
def test_the_next_candidate_answers(gateway: RunningGateway, scene: Scene, failure: str, stream: bool) -> None:
    """Whatever the first provider's failure, the caller gets the second one's answer and is told of two attempts."""
    scene.script(FAILURES[failure])
    answer = chat(gateway, scene.tier, stream=stream)
    assert answer.status == 200
    assert (answer.text if stream else answer.body["choices"][0]["message"]["content"]) == told(scene)
    assert answer.headers["x-gateway-deployment"] == scene.second_deployment
    assert answer.headers["x-gateway-attempts"] == "2"
    assert len(scene.requests) == len(scene.second_requests) == 1


CLAUDE_OVERLOADED = json_reply({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529)
GEMINI_BROKEN = json_reply({"error": {"code": 500, "message": "Internal error", "status": "INTERNAL"}}, 500)


@pytest.mark.parametrize("stream", STREAM)
def test_fallback_crosses_apis(
    gateway: RunningGateway, fake: FakeProvider, stream: bool, conforms: Conformance
) -> None:
    """One question is put to Anthropic's API, then Google's, then OpenAI's; the caller sees OpenAI's answer."""
    fake.script("claude2", CLAUDE_OVERLOADED)
    fake.script("gemini2", GEMINI_BROKEN)
    messages = [{"role": "system", "content": "Be brief."}, *HELLO]
    answer = chat(gateway, "mixed", stream=stream, messages=messages)
    assert answer.headers["x-gateway-deployment"] == "plain/plain-model"
    assert answer.headers["x-gateway-attempts"] == "3"
    sent = [fake.seen(name)[-1].body for name in ("claude2", "gemini2", "plain")]
    assert "Be brief." in str(sent[0]["system"])
    assert sent[1]["systemInstruction"]["parts"][0]["text"] == "Be brief."
    assert sent[2]["messages"] == messages
    if stream:
        assert answer.text == "Hello from plain."
        conforms.stream(answer.raw)
    else:
        conforms.chat(answer.body)


@pytest.mark.parametrize("stream", STREAM)
def test_a_provider_that_says_nothing(gateway: RunningGateway, impatient_scene: Scene, stream: bool) -> None:
    """After its first-byte timeout the next candidate is asked, and the silent one's connection is closed."""
    impatient_scene.script(NEVER)
    answer = chat(gateway, impatient_scene.tier, stream=stream)
    assert answer.status == 200
    assert answer.headers["x-gateway-deployment"] == impatient_scene.second_deployment
    assert eventually(lambda: impatient_scene.requests[0].left)


@pytest.mark.parametrize("stream", STREAM)
def test_a_provider_that_cannot_be_reached(gateway: RunningGateway, stream: bool) -> None:
    """A closed port costs an attempt, not the request. Its breaker may know it by now."""
    answer = chat(gateway, "dead", stream=stream)
    assert answer.status == 200
    assert answer.headers["x-gateway-deployment"] == "somebody/somebody-model"


@pytest.mark.parametrize(
    "first",
    [
        stream_reply([{"error": {"message": "boom", "type": "server_error", "code": None}}], done=False),
        stream_reply([], done=False),
        stream_reply([b": comment\n\n", End.RESET], done=False),
        stream_reply([b"data: {broken\n\n"], done=False),
    ],
    ids=["error event", "empty", "comment then reset", "unreadable"],
)
def test_a_stream_that_fails_before_it_began(gateway: RunningGateway, scene: Scene, first: Reply) -> None:
    """Under status 200 as well: as long as no event has gone out, the next candidate takes over."""
    scene.script(first)
    answer = chat(gateway, scene.tier, stream=True)
    assert answer.text == told(scene)
    assert answer.events[-1] == "[DONE]"
    assert answer.headers["x-gateway-attempts"] == "2"


def test_an_answer_cut_amid_its_body(gateway: RunningGateway, scene: Scene) -> None:
    """A buffered answer that breaks off was not seen by the caller: the next candidate answers, both are booked."""
    scene.script(json_reply(answers.completion("x" * 500)).cut_at(300))
    answer = chat(gateway, scene.tier)
    assert answer.body["choices"][0]["message"]["content"] == told(scene)
    booked = {row["deployment"]: row for row in entries(gateway, answer.request_id, 2)}
    assert booked[scene.first_deployment]["settlement"] == "upstream_cut"
    assert booked[scene.first_deployment]["usage_source"] == "estimated"
    assert booked[scene.second_deployment]["settlement"] == "complete"
    assert booked[scene.second_deployment]["usage_source"] == "provider"


ENDINGS: dict[str, Any] = {
    "reset": [End.RESET],
    "closed": [End.CLOSE],
    "error event": [{"error": {"message": "sk-secret-0123456789", "type": "server_error", "code": None}}],
    "unreadable": [b"data: {broken\n\n"],
    "ended without its end": [],
}


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_no_fallback_after_the_first_byte(
    gateway: RunningGateway, scene: Scene, ending: str, conforms: Conformance
) -> None:
    """A stream that breaks ends with one error frame and no [DONE]; nobody else is asked; one entry says it was cut."""
    gate = Gate()
    scene.script(stream_reply([*answers.chunks("One two three")[:3], gate, *ENDINGS[ending]], done=False))
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": scene.tier, "messages": HELLO, "stream": True})
        response = talk.connection.getresponse()
        raw = b"".join(response.readline() for _ in range(6))  # three events, each with its blank line
        gate.open()
        raw += response.read()
    events = list(events_of(raw))
    assert [event["choices"][0]["delta"]["content"] for event in events[:3]] == ["", "One ", "two "]
    (error,) = events[3:]
    assert error["error"]["request_id"] == response.headers["x-gateway-request-id"]
    assert b"secret" not in raw
    conforms.error(error)
    assert scene.second_requests == []
    (entry,) = entries(gateway, response.headers["x-gateway-request-id"])
    assert (entry["settlement"], entry["usage_source"]) == ("upstream_cut", "estimated")
    assert entry["usage"]["output"] > 0


def test_a_stream_that_falls_silent(gateway: RunningGateway, impatient_scene: Scene) -> None:
    """Silence beyond the idle timeout ends the stream with an error frame."""
    impatient_scene.script(stream_reply([*answers.chunks("One two three")[:3], End.HANG], done=False))
    answer = chat(gateway, impatient_scene.tier, stream=True)
    assert answer.text == "One two "
    assert answer.events[-1]["error"]["type"] == "timeout_error"
    assert eventually(lambda: impatient_scene.requests[0].left)


PINGS = [step for _ in range(50) for step in (b": ping\n\n", 0.1)]
"""Five seconds of comments."""


def test_a_stream_that_only_pings(gateway: RunningGateway, impatient_scene: Scene) -> None:
    """Comments are no answer: whoever has sent nothing else by the first-byte limit is replaced."""
    impatient_scene.script(stream_reply([*PINGS, *answers.chunks()]))
    began = time.monotonic()
    answer = chat(gateway, impatient_scene.tier, stream=True)
    assert answer.text == told(impatient_scene)
    assert answer.headers["x-gateway-deployment"] == impatient_scene.second_deployment
    assert 0.4 <= time.monotonic() - began < 3


def test_a_stream_that_pings_instead_of_going_on(gateway: RunningGateway, impatient_scene: Scene) -> None:
    """Comments amid the answer hold off its end no longer than the limit of progress."""
    impatient_scene.script(stream_reply([*answers.chunks("One two three")[:3], *PINGS], done=False))
    began = time.monotonic()
    answer = chat(gateway, impatient_scene.tier, stream=True)
    assert answer.text == "One two "
    assert answer.events[-1]["error"]["type"] == "timeout_error"
    assert 0.8 <= time.monotonic() - began < 3
    assert impatient_scene.second_requests == []
    assert eventually(lambda: impatient_scene.requests[0].left)


def test_pings_between_events(gateway: RunningGateway, impatient_scene: Scene) -> None:
    """Each event renews the limit of progress, so a slow answer with pings comes whole."""
    slowly = [step for event in answers.chunks("One two three") for step in (event, *PINGS[:4])]
    impatient_scene.script(stream_reply(slowly))
    answer = chat(gateway, impatient_scene.tier, stream=True)
    assert (answer.text, answer.events[-1]) == ("One two three", "[DONE]")
    assert impatient_scene.second_requests == []


def test_the_books_of_a_fallback(gateway: RunningGateway, scene: Scene) -> None:
    """The failed attempt is void and costs nothing; the other is charged from the provider's usage, to the nano."""
    scene.script(error_reply(429, "rate_limit_exceeded"))
    answer = chat(gateway, scene.tier)
    (entry,) = entries_at(gateway, scene.second_deployment)
    assert entry["request_id"] == answer.request_id
    assert entry["cost_nano_usd"] == 9 * 1_000 + 3 * 2_000
    assert answer.headers["x-gateway-cost-usd"] == "0.000015"
    assert (entry["alias"], entry["tier"], entry["provider"]) == (scene.tier, scene.tier, scene.second)
    assert (entry["usage"]["input"], entry["usage"]["output"]) == (9, 3)
    assert entry["catalog"] == answer.headers["x-gateway-catalog"]


HUGE = b"x" * 300_000
UNREAD = {
    "cut": [b'{"error":{"message":"slow', End.CLOSE],
    "huge": [HUGE],
}


@pytest.mark.parametrize("body", UNREAD)
@pytest.mark.parametrize("status", [429, 400])
def test_a_refusal_counts_though_its_body_cannot_be_read(
    gateway: RunningGateway, scene: Scene, status: int, body: str
) -> None:
    """Its status says that nothing is billed, and whether another one may be asked; its head how long to rest."""
    headers = {"content-type": "application/json", "content-length": "300000", "retry-after": "30"}
    scene.script(Reply(status, headers, UNREAD[body]))
    answer = chat(gateway, scene.tier)
    assert answer.status == (200 if status == 429 else 400)
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert (entry["settlement"], entry["status"], entry["cost_nano_usd"]) == ("void", status, 0)
    if status == 429:
        assert chat(gateway, scene.tier).headers["x-gateway-attempts"] == "1"  # the first one rests
    assert len(scene.requests) == 1


def test_a_refusal_counts_though_its_caller_leaves_amid_it(gateway: RunningGateway, scene: Scene) -> None:
    """What is not billed is not booked, whoever waited for its words."""
    head_out = error_reply(429)
    scene.script(Reply(429, {**head_out.headers, "content-length": "5000"}, [b"{", End.HANG]))
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": scene.tier, "messages": HELLO})
        assert eventually(lambda: scene.requests and scene.requests[0].sent_bytes)
        time.sleep(0.2)  # until the gateway has read it
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert (entry["settlement"], entry["cost_nano_usd"]) == ("void", 0)


@pytest.mark.parametrize(
    ("status", "source"), [(500, "estimated"), (502, "held"), (504, "held"), (524, "held"), (503, "provider")]
)
def test_what_a_hard_budget_pays_for_a_failure(gateway: RunningGateway, scene: Scene, status: int, source: str) -> None:
    """A provider that says that it failed has ended. One behind a proxy that gave up may not have: all is charged."""
    scene.script(error_reply(status))
    key = key_with(gateway, budget={"usd": "5", "per": "total", "hard": True})
    headers = {"authorization": f"Bearer {key}"}
    assert chat(gateway, scene.tier, headers=headers, max_completion_tokens=1_000).status == 200
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert entry["usage_source"] == source
    nano = entry["cost_nano_usd"]
    assert {"held": nano > 2_000_000, "estimated": 0 < nano < 100_000, "provider": nano == 0}[source]


def test_a_rate_limited_deployment_rests(gateway: RunningGateway, scene: Scene) -> None:
    """After a 429 with Retry-After the deployment is left alone, without costing an attempt."""
    scene.script(error_reply(429, "rate_limit_exceeded", retry_after="30"))
    chat(gateway, scene.tier)
    answer = chat(gateway, scene.tier)
    assert answer.headers["x-gateway-attempts"] == "1"
    assert answer.headers["x-gateway-deployment"] == scene.second_deployment
    assert len(scene.requests) == 1


def test_a_resting_deployment_is_asked_once(gateway: RunningGateway, scene: Scene) -> None:
    """Where all rest, each is asked all the same, but no request is sent twice to one that rests (decision 014)."""
    limited = error_reply(429, "rate_limit_exceeded", retry_after="30")
    for expected in (1, 2):
        scene.script(*[limited] * 4)
        scene.script_second(*[limited] * 4)
        assert chat(gateway, scene.tier).status == 429
        assert len(scene.requests) == len(scene.second_requests) == expected


def test_a_failing_deployment_is_left_alone(gateway: RunningGateway, scene: Scene) -> None:
    """After five failures in a row its breaker opens, and the health report says so."""
    scene.script(*[error_reply(500)] * 5)
    for _ in range(5):
        assert chat(gateway, scene.tier).headers["x-gateway-attempts"] == "2"
    answer = chat(gateway, scene.tier)
    assert answer.headers["x-gateway-attempts"] == "1"
    assert answer.headers["x-gateway-deployment"] == scene.second_deployment
    assert len(scene.requests) == 5


def test_a_longer_context_elsewhere(gateway: RunningGateway, scene: Scene) -> None:
    """A context too long is the caller's error where no other candidate has more room."""
    scene.script(error_reply(400, "context_length_exceeded"))
    answer = chat(gateway, scene.tier)
    assert (answer.status, answer.error["code"]) == (400, "context_length_exceeded")
    assert scene.second_requests == []


def test_a_candidate_that_cannot_keep_the_contract_is_skipped(gateway: RunningGateway) -> None:
    """What a request needs and no candidate has is refused by name, before anyone is asked."""
    video = [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "https://example.com/v.mp4"}}]}]
    answer = chat(gateway, "claude", messages=video)
    assert (answer.status, answer.error["code"]) == (400, "no_capable_model")
    assert "video_input" in answer.error["message"]


def test_a_caller_who_leaves_amid_a_stream(gateway: RunningGateway, scene: Scene) -> None:
    """The provider's connection is closed while its stream still runs, and one entry says that the caller left."""
    gate = Gate()
    events = answers.chunks("One two three")
    scene.script(stream_reply([*events[:3], gate, *events[3:]]))
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": scene.tier, "messages": HELLO, "stream": True})
        response = talk.connection.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
    assert eventually(lambda: scene.requests[0].left)
    assert not gate.opened
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert entry["settlement"] == "caller_left"


def test_a_caller_who_leaves_before_the_answer(gateway: RunningGateway, scene: Scene) -> None:
    """The same before a buffered answer, and the next candidate is not bothered."""
    scene.script(NEVER)
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": scene.tier, "messages": HELLO})
        assert eventually(lambda: scene.requests)
    assert eventually(lambda: scene.requests[0].left)
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert entry["settlement"] == "caller_left"
    assert scene.second_requests == []


def test_a_drained_stream_is_charged_exactly(gateway: RunningGateway, fake_drain: Scene) -> None:
    """Where the tier says so, a departed caller's stream is read to its end for the exact usage."""
    before = len(fake_drain.requests)
    gate = Gate()
    events = answers.chunks("One two three")
    fake_drain.script(stream_reply([*events[:3], gate, *events[3:]]))
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": fake_drain.tier, "messages": HELLO, "stream": True})
        response = talk.connection.getresponse()
        request_id = response.headers["x-gateway-request-id"]
        response.close()
    time.sleep(1)  # a departure is noticed within two ticks of a tenth of a second
    gate.open()
    (entry,) = entries(gateway, request_id)
    assert (entry["usage_source"], entry["usage"]["output"]) == ("drained", 3)
    assert not fake_drain.requests[before].left


def test_a_drain_has_an_allowance(gateway: RunningGateway, fake_drain: Scene) -> None:
    """Beyond so many tokens a departed caller's stream is ended upstream and charged by estimate."""
    before = len(fake_drain.requests)
    gate = Gate()
    events = answers.chunks(" ".join(["word"] * 500))
    fake_drain.script(stream_reply([*events[:3], gate, *(part for event in events[3:] for part in (event, 0.002))]))
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": fake_drain.tier, "messages": HELLO, "stream": True})
        response = talk.connection.getresponse()
        request_id = response.headers["x-gateway-request-id"]
        response.close()
    time.sleep(1)  # as above
    gate.open()
    (entry,) = entries(gateway, request_id)
    assert (entry["settlement"], entry["usage_source"]) == ("caller_left", "estimated")
    assert 50 < entry["usage"]["output"] < 500
    assert eventually(lambda: fake_drain.requests[before].left)


def test_a_slow_provider_is_relayed_as_it_speaks(gateway: RunningGateway, scene: Scene) -> None:
    """The first event reaches the caller while the provider still thinks about the second."""
    gate = Gate()
    events = answers.chunks("One two")
    scene.script(stream_reply([*events[:2], gate, *events[2:]]))
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": scene.tier, "messages": HELLO, "stream": True})
        response = talk.connection.getresponse()
        lines = [response.readline() for _ in range(4)]
        assert b'"One "' in lines[2]
        gate.open()
        assert response.read().endswith(b"data: [DONE]\n\n")
