"""OpenAI's SDK, unchanged: its exception classes, its retries, its timeouts."""

from __future__ import annotations

from typing import Any

import answers
import openai
import pytest
from conformance import Conformance
from fakes import NEVER, End, Gate, error_reply, eventually, json_reply, stream_reply
from running import RunningGateway
from scenes import Scene
from talk import entries_at, key_with

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize("key", ["wrong", "gw1_main_abc_def", "sk-proj-0123456789abcdef"])
def test_a_wrong_key(client: openai.OpenAI, key: str, conforms: Conformance) -> None:
    """401 is the SDK's AuthenticationError, and the answer does not show the key."""
    with pytest.raises(openai.AuthenticationError) as raised:
        client.with_options(api_key=key).chat.completions.create(model="sandbox", messages=HELLO)
    assert raised.value.code == "invalid_api_key"
    assert key not in raised.value.response.text
    conforms.error(raised.value.response.json())


def test_an_unknown_model(client: openai.OpenAI, conforms: Conformance) -> None:
    """404 names the nearest models."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="sandbux", messages=HELLO)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert "sandbox" in raised.value.message
    assert raised.value.request_id
    conforms.error(raised.value.response.json())


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 9}, "temperature"),
        ({"n": 0}, "n"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"extra_body": {"gateway": {"preset": "loud"}}}, "gateway.preset"),
        ({"extra_body": {"gateway": {"wish": 1}}}, "gateway.wish"),
        ({"extra_body": {"api_base": "http://evil.example"}}, "api_base"),
    ],
)
def test_a_bad_request(
    client: openai.OpenAI, scene: Scene, fields: dict[str, Any], param: str, conforms: Conformance
) -> None:
    """400 names the parameter, and no provider is asked."""
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": scene.tier, "messages": HELLO, **fields})
    assert raised.value.param == param
    assert raised.value.type == "invalid_request_error"
    assert scene.requests == []
    conforms.error(raised.value.response.json())


def test_a_request_that_the_provider_rejects(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """The provider's status, code, parameter and masked words come back, and no other provider is asked."""
    error = {"message": "Bad seed. Key sk-live-0123456789", "type": "x", "param": "seed", "code": "bad_seed"}
    scene.script(json_reply({"error": error}, 422))
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        client.chat.completions.create(model=scene.tier, messages=HELLO)
    assert (raised.value.code, raised.value.param) == ("bad_seed", "seed")
    assert "Bad seed." in raised.value.message
    assert "0123456789" not in raised.value.response.text
    assert scene.second_requests == []
    conforms.error(raised.value.response.json())


def test_a_body_that_is_too_large(client: openai.OpenAI, conforms: Conformance) -> None:
    """413 is the SDK's APIStatusError."""
    big: Any = [{"role": "user", "content": "x" * 1_200_000}]
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="sandbox", messages=big)
    assert (raised.value.status_code, raised.value.code) == (413, "request_too_large")
    conforms.error(raised.value.response.json())


def test_a_key_that_may_not(client: openai.OpenAI, gateway: RunningGateway, scene: Scene) -> None:
    """403 is the SDK's PermissionDeniedError."""
    key = key_with(gateway, tiers=["sandbox"])
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(api_key=key).chat.completions.create(model=scene.tier, messages=HELLO)
    assert scene.requests == []


def test_a_rate_limit_of_the_key(client: openai.OpenAI, gateway: RunningGateway, scene: Scene) -> None:
    """The request over the limit is a RateLimitError with Retry-After; the one before tells what remains."""
    limited = client.with_options(api_key=key_with(gateway, rpm=1))
    first = limited.chat.completions.with_raw_response.create(model=scene.tier, messages=HELLO)
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as raised:
        limited.chat.completions.create(model=scene.tier, messages=HELLO)
    assert raised.value.code == "rate_limit_exceeded"
    assert 0 < int(raised.value.response.headers["retry-after"]) <= 60
    assert len(scene.requests) == 1


def test_a_spent_budget(client: openai.OpenAI, gateway: RunningGateway, scene: Scene) -> None:
    """A budget too small for the request is `insufficient_quota`, and the SDK is told not to try again."""
    key = key_with(gateway, budget={"usd": "0.000001", "per": "day", "hard": True})
    eager = client.with_options(api_key=key, max_retries=3)
    with pytest.raises(openai.RateLimitError) as raised:
        eager.chat.completions.create(model=scene.tier, messages=HELLO)
    assert raised.value.code == "insufficient_quota"
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert raised.value.request.headers["x-stainless-retry-count"] == "0"
    assert scene.requests == []


def test_every_provider_limits(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """Where all attempts were rate limited, the SDK sees one RateLimitError with the soonest Retry-After."""
    scene.script(error_reply(429, "rate_limit_exceeded", retry_after="9"))
    scene.script_second(error_reply(429, "rate_limit_exceeded", retry_after="4"))
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=scene.tier, messages=HELLO)
    assert raised.value.code == "rate_limit_exceeded"
    assert 3 <= int(raised.value.response.headers["retry-after"]) <= 4
    conforms.error(raised.value.response.json())


def test_every_provider_fails(client: openai.OpenAI, scene: Scene, conforms: Conformance) -> None:
    """502 is the SDK's InternalServerError; every attempt is listed and no provider's words are shown."""
    for name in (scene.first, scene.second):
        scene.fake.script(name, *[error_reply(500, message="secret stack trace")] * 3)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=scene.tier, messages=HELLO)
    assert raised.value.status_code == 502
    error = raised.value.response.json()["error"]
    listed = [(attempt["deployment"], attempt["status"]) for attempt in error["attempts"]]
    assert listed == [(scene.first_deployment, 500), (scene.second_deployment, 500), (scene.first_deployment, 500)]
    assert "secret" not in raised.value.response.text
    conforms.error(raised.value.response.json())


def test_the_providers_take_too_long(client: openai.OpenAI, impatient_scene: Scene) -> None:
    """504 is the SDK's InternalServerError."""
    impatient_scene.script(NEVER, NEVER, NEVER)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=f"{impatient_scene.first}-model", messages=HELLO)
    assert (raised.value.status_code, raised.value.code) == (504, "all_attempts_failed")
    assert eventually(lambda: all(request.left for request in impatient_scene.requests))


def test_the_callers_deadline(client: openai.OpenAI, scene: Scene) -> None:
    """A deadline that the caller sets ends the request with 504 and the attempt with it."""
    scene.script(NEVER, NEVER, NEVER)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=scene.tier, messages=HELLO, extra_body={"gateway": {"deadline_s": 0.3}})
    assert (raised.value.status_code, raised.value.code) == (504, "deadline_exceeded")
    assert eventually(lambda: [r.left for r in scene.requests + scene.second_requests] == [True])


def test_callers_deadlines_rest_nobody(client: openai.OpenAI, scene: Scene) -> None:
    """However many a caller lets pass: the time was the caller's, so it says nothing of the deployment."""
    scene.script(*[NEVER] * 6)
    model = f"{scene.first}-model"
    for _ in range(6):
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(model=model, messages=HELLO, extra_body={"gateway": {"deadline_s": 0.05}})
        assert raised.value.code == "deadline_exceeded"
    assert client.chat.completions.create(model=model, messages=HELLO).choices[0].message.content


def test_the_sdk_tries_again(client: openai.OpenAI, scene: Scene) -> None:
    """After a gateway error that may pass, the SDK's own retry succeeds."""
    scene.script(error_reply(500), error_reply(500))
    scene.script_second(error_reply(500))
    eager = client.with_options(max_retries=2)
    raw = eager.chat.completions.with_raw_response.create(model=scene.tier, messages=HELLO)
    assert raw.retries_taken == 1
    assert raw.parse().choices[0].message.content == f"Hello from {scene.first}."


def test_the_sdk_waits_as_told(client: openai.OpenAI, scene: Scene) -> None:
    """After a 429 with Retry-After, the SDK's retry finds the deployment rested."""
    for name in (scene.first, scene.second):
        scene.fake.script(name, error_reply(429, "rate_limit_exceeded", retry_after="1"))
    raw = client.with_options(max_retries=1).chat.completions.with_raw_response.create(model=scene.tier, messages=HELLO)
    assert raw.retries_taken == 1
    assert len(scene.requests) == 2


def test_the_sdk_does_not_repeat_what_is_its_own_fault(client: openai.OpenAI, scene: Scene) -> None:
    """A rejected request is asked once."""
    scene.script(error_reply(400, "bad"))
    with pytest.raises(openai.BadRequestError) as raised:
        client.with_options(max_retries=3).chat.completions.create(model=scene.tier, messages=HELLO)
    assert raised.value.request.headers["x-stainless-retry-count"] == "0"
    assert len(scene.requests) == 1


def test_the_sdk_times_out(client: openai.OpenAI, gateway: RunningGateway, scene: Scene) -> None:
    """A client that gives up has its attempt ended upstream and booked once, as left."""
    scene.script(NEVER)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model=scene.tier, messages=HELLO)
    assert eventually(lambda: scene.requests[0].left)
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert entry["settlement"] == "caller_left"
    assert entry["usage_source"] == "estimated"


def test_the_sdk_times_out_amid_a_stream(client: openai.OpenAI, gateway: RunningGateway, scene: Scene) -> None:
    """The same where the stream had begun: what had come is in the books."""
    scene.script(stream_reply([*answers.chunks("One two")[:3], End.HANG]))
    with (
        pytest.raises(openai.APITimeoutError),
        client.with_options(timeout=0.5).chat.completions.create(
            model=scene.tier, messages=HELLO, stream=True
        ) as stream,
    ):
        list(stream)
    assert eventually(lambda: scene.requests[0].left)
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert entry["settlement"] == "caller_left"
    assert entry["usage"]["output"] > 0


def test_a_stream_that_breaks_raises(client: openai.OpenAI, scene: Scene) -> None:
    """A provider's failure after the first byte is an APIError within the stream, not a silent end."""
    scene.script(stream_reply([*answers.chunks("One two three")[:3], End.RESET]))
    with client.chat.completions.create(model=scene.tier, messages=HELLO, stream=True) as stream:
        begun = [next(stream) for _ in range(3)]
        with pytest.raises(openai.APIError) as raised:
            next(stream)
    assert [c.choices[0].delta.content for c in begun] == ["", "One ", "two "]
    assert raised.value.code == "upstream_error"
    assert scene.second_requests == []


def test_leaving_a_stream_early(client: openai.OpenAI, gateway: RunningGateway, scene: Scene) -> None:
    """`break` out of a stream closes it upstream, and one entry says so."""
    gate = Gate()
    events = answers.chunks("One two three")
    scene.script(stream_reply([*events[:3], gate, *events[3:]]))
    with client.chat.completions.create(model=scene.tier, messages=HELLO, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    assert eventually(lambda: scene.requests[0].left)
    (entry,) = entries_at(gateway, scene.first_deployment)
    assert entry["settlement"] == "caller_left"
