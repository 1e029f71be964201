"""Many at once, slow readers, long answers: each caller gets its own, and nobody's pace fills the gateway's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import answers
import openai
import pytest
from fakes import Reply, Seen, eventually, json_reply, stream_reply
from running import RunningGateway
from scenes import Scene
from talk import CHAT, HELLO, Talk, entries

MEGABYTE = 1_000_000
LONG = 64 * MEGABYTE


def echo(seen: Seen) -> Reply:
    """The last message's words, one event each where the request streams."""
    words = seen.body["messages"][-1]["content"]
    return stream_reply(answers.chunks(words)) if seen.body.get("stream") else json_reply(answers.completion(words))


async def test_callers_do_not_get_each_others_answers(async_client: openai.AsyncOpenAI, scene: Scene) -> None:
    """A hundred at once, streamed and buffered, over shared upstream connections."""
    count = 100
    scene.script(*[echo] * count)

    async def ask(number: int) -> str:
        messages: Any = [{"role": "user", "content": f"This is number {number} of many"}]
        if number % 2:
            answer = await async_client.chat.completions.create(model=scene.tier, messages=messages)
            return answer.choices[0].message.content or ""
        stream = await async_client.chat.completions.create(model=scene.tier, messages=messages, stream=True)
        async with stream:
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    said = await asyncio.gather(*(ask(number) for number in range(count)))
    assert said == [f"This is number {number} of many" for number in range(count)]
    assert len(scene.requests) == count


def endless(seen: Seen) -> Reply:
    """A stream of `LONG` bytes in large events."""
    text = "x" * 99_000
    events: list[Any] = [answers.chunk({"role": "assistant", "content": ""})]
    events += [answers.chunk({"content": text})] * (LONG // len(text))
    return stream_reply([*events, answers.chunk({}, finish_reason="stop"), answers.usage_chunk()])


@pytest.fixture
def unread(gateway: RunningGateway, scene: Scene) -> Iterator[tuple[Talk, Any]]:
    """A long stream whose caller has read its head and nothing more, once the provider can send no further."""
    scene.script(endless)
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": scene.tier, "messages": HELLO, "stream": True})
        response = talk.connection.getresponse()
        before = -1

        def stalled() -> bool:
            nonlocal before
            before, now = scene.requests[0].sent_bytes, before
            return before == now > 0

        eventually(stalled)
        yield talk, response


def test_a_slow_reader_slows_the_provider(scene: Scene, unread: tuple[Talk, Any]) -> None:
    """What nobody reads is not fetched: the provider waits; later the caller gets every byte."""
    assert scene.requests[0].sent_bytes < LONG / 2
    _, response = unread
    received = 0
    tail = b""
    while data := response.read(MEGABYTE):
        received += len(data)
        tail = (tail + data)[-100:]
    assert received > LONG
    assert tail.endswith(b"data: [DONE]\n\n")


def test_a_reader_who_leaves_while_the_gateway_waits(
    gateway: RunningGateway, scene: Scene, unread: tuple[Talk, Any]
) -> None:
    """Its attempt is ended upstream and booked like any other."""
    _, response = unread
    request_id = response.headers["x-gateway-request-id"]
    response.close()
    unread[0].connection.close()
    assert eventually(lambda: scene.requests[0].over)
    (entry,) = entries(gateway, request_id)
    assert entry["settlement"] == "caller_left"


def test_a_long_answer(gateway: RunningGateway, scene: Scene) -> None:
    """Ten megabytes come through whole."""
    text = "0123456789" * MEGABYTE
    scene.script(json_reply(answers.completion(text)))
    with Talk(gateway) as talk:
        answer = talk.ask(CHAT, {"model": scene.tier, "messages": HELLO})
    assert answer.body["choices"][0]["message"]["content"] == text


def test_a_long_prompt(gateway: RunningGateway, scene: Scene) -> None:
    """Hundreds of kilobytes reach the provider unchanged."""
    messages = [{"role": "user", "content": "wörd " * 60_000}]
    with Talk(gateway) as talk:
        assert talk.ask(CHAT, {"model": scene.tier, "messages": messages}).status == 200
    assert scene.upstream_body["messages"] == messages
