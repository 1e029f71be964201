"""OpenAI's SDK repeats requests by itself, and under an Idempotency-Key: what is served, charged and told of that."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import answers
import openai
import pytest
from fake_catalog import catalog_for
from fakes import FakeProvider, Gate, Reply, Seen, error_reply, eventually, json_reply, stream_reply
from running import APP_KEY, RunningGateway, running_gateway, start_gateway
from scenes import Scene
from talk import CHAT, Talk, admin, chat, entries, key_with

HELLO: Any = [{"role": "user", "content": "Hello"}]


def sdk(gateway: RunningGateway, key: str = APP_KEY, **options: Any) -> openai.OpenAI:
    """The SDK as an app makes it; it closes its connections when it is collected."""
    given: dict[str, Any] = {"max_retries": 2, "timeout": 20, **options}
    return openai.OpenAI(base_url=gateway.base_url, api_key=key, **given)


@pytest.fixture
def key(gateway: RunningGateway) -> str:
    """A key of its own, so that its row of a report is this test's alone."""
    return key_with(gateway)


def row_of(gateway: RunningGateway, key: str, attempts: int) -> dict[str, Any]:
    """The key's row of the report, once it has so many attempts."""

    def found() -> dict[str, Any] | None:
        rows = admin(gateway, "/report?by=key").body["rows"]
        mine = [row for row in rows if row["key"] == key.split("_")[2]]
        return mine[0] if mine and mine[0]["attempts"] >= attempts else None

    row: dict[str, Any] = eventually(found)
    assert row["attempts"] == attempts
    return row


def once(tier: str) -> dict[str, str]:
    return {"Idempotency-Key": f"order-{tier}"}


def late(gate: Gate, text: str = "Late.") -> Reply:
    """A whole answer that waits for the gate."""
    good = json_reply(answers.completion(text))
    return Reply(200, good.headers, [gate, *good.steps])


def fail_once(scene: Scene) -> None:
    """The next request fails, after all the attempts that the gateway makes of it."""
    scene.script(*[error_reply(500)] * 2)
    scene.fake.script(scene.second, error_reply(500))


# ------------------------------------------------------------------------------------------------------ repetitions


def test_repetitions_are_in_entries_and_reports(gateway: RunningGateway, scene: Scene, key: str) -> None:
    """The SDK tries again by itself; the attempt that serves it then says so, and the report counts it."""
    scene.script(error_reply(400, "context_length_exceeded"))
    fail_once(scene)
    with sdk(gateway, key) as client:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model=scene.tier, messages=HELLO)  # not repeated: it would fail again
        raw = client.chat.completions.with_raw_response.create(model=scene.tier, messages=HELLO)
    assert raw.retries_taken == 1
    (entry,) = entries(gateway, raw.headers["x-gateway-request-id"])
    assert (entry["sdk_retry"], entry["settlement"]) == (1, "complete")
    assert row_of(gateway, key, 5)["sdk_retries"] == 1


def test_the_report_as_csv_has_repetitions(gateway: RunningGateway) -> None:
    """As a column of its own."""
    header = admin(gateway, "/report?by=key&format=csv").raw.decode().partition("\n")[0]
    assert "sdk_retries" in header.split(",")


# -------------------------------------------------------------------------------------------------- Idempotency-Key


def test_the_same_request_twice(gateway: RunningGateway, scene: Scene, key: str) -> None:
    """The second answer is the first one, told so by a header, and costs nothing."""
    with sdk(gateway, key) as client:
        create = client.chat.completions.with_raw_response.create
        first, again = (create(model=scene.tier, messages=HELLO, extra_headers=once(scene.tier)) for _ in range(2))
    assert again.parse() == first.parse()
    assert "x-gateway-idempotent-replay" not in first.headers
    assert again.headers["x-gateway-idempotent-replay"] == "true"
    assert again.headers["x-gateway-cost-usd"] == first.headers["x-gateway-cost-usd"]
    assert len(scene.requests) == 1
    row_of(gateway, key, 1)


def test_another_request_under_the_same_key(gateway: RunningGateway, scene: Scene) -> None:
    """The SDK raises, and does not try again."""
    with sdk(gateway) as client:
        client.chat.completions.create(model=scene.tier, messages=HELLO, extra_headers=once(scene.tier))
        with pytest.raises(openai.UnprocessableEntityError) as raised:
            client.chat.completions.create(model=scene.tier, messages=HELLO, seed=1, extra_headers=once(scene.tier))
    assert raised.value.code == "idempotency_key_reused"
    assert len(scene.requests) == 1


def test_an_impatient_sdk_is_charged_once(gateway: RunningGateway, fake_drain: Scene, key: str) -> None:
    """It gives up waiting and asks again by itself: told to wait while the first runs, it then gets its answer."""
    gate = Gate()
    before = len(fake_drain.requests)
    fake_drain.script(late(gate))
    opener = threading.Timer(1.5, gate.open)
    opener.start()
    headers = once(f"impatient-{key}")
    with sdk(gateway, key, timeout=0.6, max_retries=6) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=fake_drain.tier, messages=HELLO, extra_headers=headers
        )
    opener.join()
    assert raw.retries_taken >= 1
    assert raw.headers["x-gateway-idempotent-replay"] == "true"
    assert raw.parse().choices[0].message.content == "Late."
    assert len(fake_drain.requests) == before + 1
    row = row_of(gateway, key, 1)
    assert row["sdk_retries"] == 0  # what was repeated were requests, not attempts


def test_a_stream_is_served_once(gateway: RunningGateway, scene: Scene, key: str) -> None:
    """While it runs a repeat is told to wait; afterwards that its answer is not kept, which the SDK takes as final."""
    gate = Gate()
    events = answers.chunks("One two three")
    scene.script(stream_reply([*events[:2], gate, *events[2:]]))
    with sdk(gateway, key) as client:
        ask: dict[str, Any] = {"model": scene.tier, "messages": HELLO, "stream": True}
        with client.chat.completions.create(**ask, extra_headers=once(scene.tier)) as stream:
            said = [next(stream)]
            with pytest.raises(openai.ConflictError) as waiting:
                client.with_options(max_retries=0).chat.completions.create(**ask, extra_headers=once(scene.tier))
            gate.open()
            said += list(stream)
        assert waiting.value.code == "idempotency_in_flight"
        assert waiting.value.response.headers["retry-after"] == "1"
        assert "".join(c.delta.content or "" for chunk in said for c in chunk.choices) == "One two three"
        with pytest.raises(openai.UnprocessableEntityError) as over:
            client.chat.completions.create(**ask, extra_headers=once(scene.tier))
    assert over.value.code == "idempotency_answer_not_kept"
    assert len(scene.requests) == 1
    row_of(gateway, key, 1)


def test_a_stream_that_failed_before_it_began(gateway: RunningGateway, scene: Scene, key: str) -> None:
    """The key is free again, so the SDK's own repetition is served."""
    fail_once(scene)
    with sdk(gateway, key) as client:
        ask: dict[str, Any] = {"model": scene.tier, "messages": HELLO, "stream": True}
        with client.chat.completions.create(**ask, extra_headers=once(scene.tier)) as stream:
            assert [chunk.choices[0].finish_reason for chunk in stream if chunk.choices][-1] == "stop"
    assert row_of(gateway, key, 4)["sdk_retries"] == 1


def test_keys_of_others_are_other_keys(gateway: RunningGateway, scene: Scene) -> None:
    """Two apps that choose the same Idempotency-Key each get an answer of their own."""

    def numbered(seen: Seen) -> Reply:
        return json_reply(answers.completion(f"Number {len(scene.requests)}"))

    scene.script(*[numbered] * 2)
    said = []
    for app in (APP_KEY, key_with(gateway), APP_KEY):
        with sdk(gateway, app) as client:
            answer = client.chat.completions.create(model=scene.tier, messages=HELLO, extra_headers=once(scene.tier))
            said.append(answer.choices[0].message.content)
    assert said == ["Number 1", "Number 2", "Number 1"]
    assert len(scene.requests) == 2


@pytest.fixture
def own_fake() -> Iterator[FakeProvider]:
    with FakeProvider() as provider:
        yield provider


def test_answers_outlive_a_restart(own_fake: FakeProvider, tmp_path: Path) -> None:
    """What was answered before is given again; what was under way when the gateway died is not sent a second time."""
    catalog = catalog_for(own_fake, tmp_path / "catalog.yaml", {"fast": ["one"]})
    gateway = start_gateway(tmp_path, catalog=catalog)
    with sdk(gateway) as client:
        first = client.chat.completions.create(model="fast", messages=HELLO, extra_headers=once("kept"))
    own_fake.script("one", late(Gate()))
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": "fast", "messages": HELLO}, headers=once("lost"))
        eventually(lambda: len(own_fake.seen("one")) == 2)
        gateway.process.kill()
        gateway.process.wait()
    with running_gateway(tmp_path, catalog=catalog) as again, sdk(again, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO, extra_headers=once("kept"))
        assert raw.headers["x-gateway-idempotent-replay"] == "true"
        assert raw.parse() == first
        lost = chat(again, "fast", headers=once("lost"))
        assert (lost.status, lost.error["code"]) == (409, "idempotency_in_flight")
        assert len(own_fake.seen("one")) == 2
