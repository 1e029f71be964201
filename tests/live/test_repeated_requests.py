"""A request sent again under its Idempotency-Key is served and charged once."""

from __future__ import annotations

import json

import answers
from fakes import Gate, Reply, error_reply, eventually, stream_reply
from running import RunningGateway
from scenes import Scene
from talk import CHAT, HELLO, Talk, chat, entries_at


def test_a_repeat_under_an_idempotency_key(gateway: RunningGateway, scene: Scene) -> None:
    """The same request twice is served and charged once; the repeat says that it is one."""
    key = {"idempotency-key": f"order-{scene.tier}"}
    first = chat(gateway, scene.tier, headers=key)
    again = chat(gateway, scene.tier, headers=key)
    assert (again.status, again.raw) == (200, first.raw)
    assert again.headers["x-gateway-idempotent-replay"] == "true"
    assert "x-gateway-idempotent-replay" not in first.headers
    assert len(scene.requests) == 1
    entries_at(gateway, scene.first_deployment, 1)


def test_an_idempotency_key_for_another_request(gateway: RunningGateway, scene: Scene) -> None:
    """The key with another body is refused."""
    key = {"idempotency-key": f"order-{scene.tier}"}
    chat(gateway, scene.tier, headers=key)
    answer = chat(gateway, scene.tier, headers=key, seed=1)
    assert (answer.status, answer.error["code"]) == (422, "idempotency_key_reused")


def test_an_idempotency_key_in_flight(gateway: RunningGateway, scene: Scene) -> None:
    """While the first is being served the second is told to wait."""
    gate = Gate()
    scene.script(lambda seen: stream_reply(answers.chunks("One two"), gap=gate))
    key = {"idempotency-key": f"order-{scene.tier}"}
    body = {"model": scene.tier, "messages": HELLO, "stream": True}
    with Talk(gateway) as talk:
        talk.send(CHAT, body, headers=key)
        response = talk.connection.getresponse()
        assert response.readline().startswith(b"data: ")
        with Talk(gateway) as other:
            answer = other.ask(CHAT, body, headers=key)
        gate.open()
        assert response.read().endswith(b"data: [DONE]\n\n")
    assert (answer.status, answer.error["code"]) == (409, "idempotency_in_flight")


def test_an_answer_is_kept_for_a_caller_who_left(gateway: RunningGateway, scene: Scene) -> None:
    """Whoever goes before the answer has come, and whose tier reads it to its end, finds it when asking again."""
    gate = Gate()
    body = json.dumps(answers.completion("Late.")).encode()
    reply = Reply(200, {"content-type": "application/json"}, [gate, body])
    scene.fake.script("drained", reply)
    key = {"idempotency-key": f"order-{scene.tier}"}
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": "drain", "messages": HELLO}, headers=key)
        eventually(lambda: scene.fake.seen("drained"))
    gate.open()
    again = eventually(lambda: replay if (replay := chat(gateway, "drain", headers=key)).status == 200 else None)
    assert again.headers["x-gateway-idempotent-replay"] == "true"
    assert again.body["choices"][0]["message"]["content"] == "Late."


def test_a_failure_is_not_kept_for_a_repeat(gateway: RunningGateway, scene: Scene) -> None:
    """After an error the same key may try again."""
    scene.script(error_reply(400, "bad"))
    key = {"idempotency-key": f"order-{scene.tier}"}
    assert chat(gateway, scene.tier, headers=key).status == 400
    assert chat(gateway, scene.tier, headers=key).status == 200
