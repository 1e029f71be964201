"""What becomes of an answer whose caller has gone: read on within the allowance, then ended, and booked rightly."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import answers
import pytest
from fake_catalog import OUTPUT_USD_PER_MTOK, catalog_for
from fakes import NEVER, End, FakeProvider, Gate, Reply, Seen, error_reply, eventually, json_reply, stream_reply
from raw_peer import blackhole
from running import RunningGateway, running_gateway
from talk import CHAT, HELLO, Talk, chat, entries, entries_at, key_with

NOTICED_S = 0.5
"""A departure is noticed as soon as the connection is lost."""
SECONDS, TOKENS = 1.0, 20
WORDS = 1_000


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    """Of this module alone: no script that another test left is answered here."""
    with FakeProvider() as provider:
        yield provider


@pytest.fixture(scope="module")
def leaving(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder: Path = tmp_path_factory.mktemp("leaving")
    anthropic = {"adapter": "anthropic", "api_key": "env:UPSTREAM_KEY"}
    names = ("brief", "terse", "gone", "patient", "cut")
    catalog = catalog_for(
        fake,
        folder / "catalog.yaml",
        {name: [f"{name}1", f"{name}2"] for name in names},
        providers={f"{n}1": {**anthropic, "base_url": f"{fake.url}/{n}1/v1"} for n in ("gone", "cut")},
        tier_fields={
            "brief": {"on_caller_left": {"action": "drain", "seconds": SECONDS, "tokens": 1_000_000}},
            "terse": {"on_caller_left": {"action": "drain", "seconds": 60, "tokens": TOKENS}},
            "gone": {"on_caller_left": "cancel"},
            "patient": {"on_caller_left": "drain"},
        },
    )
    with running_gateway(folder, catalog=catalog, env={"UPSTREAM_KEY": "upstream-key-0123456789"}) as running:
        yield running


def leave(
    gateway: RunningGateway, fake: FakeProvider, tier: str, reply: Reply, *, stream: bool = True, events: int = 1
) -> Seen:
    """Asks, goes once so many events came (a stream) or was asked for (else); gives what the provider saw of it."""
    name = f"{tier}1"
    before = len(fake.seen(name))
    fake.script(name, reply)
    with Talk(gateway) as talk:
        talk.send(CHAT, {"model": tier, "messages": HELLO, "stream": stream})
        if stream and reply is not NEVER:
            response = talk.connection.getresponse()
            for _ in range(events):
                assert response.readline().startswith(b"data: ")
                response.readline()
        eventually(lambda: len(fake.seen(name)) > before)
    return fake.seen(name)[before]


@pytest.mark.parametrize("how", ["leaves", "waits"])
def test_a_hard_budget_is_not_overrun_by_what_nobody_hears(tmp_path: Path, how: str) -> None:
    """A provider bills all that it was asked for, though callers go, or time runs out, before it has answered."""
    billed: list[int] = []

    def answer(seen: Seen) -> Reply:
        billed.append(seen.body["max_completion_tokens"] * int(OUTPUT_USD_PER_MTOK * 1_000))
        return NEVER

    timeouts = {"first_byte_s": 0.3} if how == "waits" else {}
    with FakeProvider(answer) as provider:
        catalog = catalog_for(
            provider,
            tmp_path / "catalog.yaml",
            {"fast": ["alpha"]},
            providers={"alpha": {"retries": 0, "breaker": False, "timeouts": timeouts}},
        )
        with running_gateway(tmp_path, catalog=catalog) as running:
            key = key_with(running, budget={"usd": "0.10", "per": "total", "hard": True})
            refused = 0
            for _ in range(8):
                with Talk(running, key) as talk:
                    talk.send(CHAT, {"model": "fast", "messages": HELLO, "max_completion_tokens": 15_000})
                    if how == "waits" or select.select([talk.connection.sock], [], [], 0.3)[0]:
                        refused += talk.receive().status == 429
            found = entries_at(running, "alpha/alpha-model", count=len(billed))
    assert 3 <= len(billed) == 8 - refused
    assert sum(billed) <= sum(entry["cost_nano_usd"] for entry in found) <= 100_000_000
    assert {entry["usage_source"] for entry in found} == {"held"}


def booked(gateway: RunningGateway, seen: Seen) -> dict[str, Any]:
    """The attempt's only entry."""
    (entry,) = entries(gateway, f"req_{seen.headers['x-client-request-id'][:-1]}0")
    return entry


def words(count: int, gap: float | Gate) -> list[Any]:
    """A stream's events: the role, then words with a gap after each; no end and no usage."""
    events: list[Any] = [answers.chunk({"role": "assistant", "content": ""})]
    for _ in range(count):
        events += [answers.chunk({"content": "word"}), gap]
    return events


def test_a_drain_ends_after_its_seconds(leaving: RunningGateway, fake: FakeProvider) -> None:
    """The provider is cut off then, and what it had said by then is charged by estimate."""
    seen = leave(leaving, fake, "brief", stream_reply(words(WORDS, 0.02)))
    left_at = time.monotonic()
    eventually(lambda: seen.over)
    assert SECONDS - 0.1 < time.monotonic() - left_at < SECONDS + 5
    assert seen.left
    entry = booked(leaving, seen)
    assert (entry["settlement"], entry["usage_source"]) == ("caller_left", "estimated")
    assert SECONDS / 0.02 / 4 < entry["usage"]["output"] < WORDS / 2  # a word is a token


@pytest.mark.parametrize("stream", [False, True])
def test_a_drain_of_what_never_begins(leaving: RunningGateway, fake: FakeProvider, stream: bool) -> None:
    """An answer of which nothing has come is waited for as long, and nobody else is asked."""
    seen = leave(leaving, fake, "brief", NEVER, stream=stream)
    left_at = time.monotonic()
    eventually(lambda: seen.left)
    assert SECONDS - 0.1 < time.monotonic() - left_at < SECONDS + 5
    entry = booked(leaving, seen)
    assert (entry["settlement"], entry["usage_source"], entry["usage"]["output"]) == ("caller_left", "estimated", 0)
    assert fake.seen("brief2") == []


def test_a_drain_ends_after_its_tokens(leaving: RunningGateway, fake: FakeProvider) -> None:
    """They count from the departure on; sixty seconds would have been allowed."""
    gate = Gate()
    before, after = words(200, 0.0), words(WORDS, 0.01)[1:]
    seen = leave(leaving, fake, "terse", stream_reply([*before, gate, *after]), events=201)
    time.sleep(NOTICED_S)
    sent = seen.sent_bytes
    gate.open()
    eventually(lambda: seen.over)
    assert seen.left
    entry = booked(leaving, seen)
    assert (entry["settlement"], entry["usage_source"]) == ("caller_left", "estimated")
    assert 200 + TOKENS <= entry["usage"]["output"] <= 200 + 5 * TOKENS
    assert seen.sent_bytes - sent < (seen.sent_bytes // 220) * 10 * TOKENS


def test_usage_told_while_draining_is_exact(leaving: RunningGateway, fake: FakeProvider) -> None:
    """Even if the provider then says nothing more until the seconds are over."""
    gate = Gate()
    events = [*words(3, 0.0), gate, answers.chunk({}, finish_reason="stop"), answers.usage_chunk(), End.HANG]
    seen = leave(leaving, fake, "brief", stream_reply(events, done=False))
    time.sleep(NOTICED_S)
    gate.open()
    entry = booked(leaving, seen)
    assert (entry["settlement"], entry["usage_source"]) == ("caller_left", "drained")
    assert (entry["usage"]["input"], entry["usage"]["output"]) == (answers.PROMPT_TOKENS, answers.COMPLETION_TOKENS)


def test_a_whole_answer_that_is_drained(leaving: RunningGateway, fake: FakeProvider) -> None:
    """It is exact, and the entry says that nobody got it."""
    gate = Gate()
    good = json_reply(answers.completion())
    seen = leave(leaving, fake, "patient", Reply(200, good.headers, [gate, *good.steps]), stream=False)
    time.sleep(NOTICED_S)
    gate.open()
    entry = booked(leaving, seen)
    assert (entry["settlement"], entry["usage_source"]) == ("complete", "drained")
    assert entry["usage"]["output"] == answers.COMPLETION_TOKENS


def test_nobody_else_is_asked_for_a_caller_who_has_gone(leaving: RunningGateway, fake: FakeProvider) -> None:
    """A failure while draining ends the request."""
    gate = Gate()
    failing = error_reply(500)
    seen = leave(leaving, fake, "patient", Reply(500, failing.headers, [gate, *failing.steps]), stream=False)
    time.sleep(NOTICED_S)
    gate.open()
    eventually(lambda: seen.over)
    time.sleep(NOTICED_S)
    assert fake.seen("patient2") == []


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_before_anything_is_sent_costs_nothing(fake: FakeProvider, tmp_path: Path, stream: bool) -> None:
    """The provider has not even taken the connection: the attempt is void, and nothing of a budget is spent."""
    with blackhole() as port:
        catalog = catalog_for(
            fake,
            tmp_path / "catalog.yaml",
            {"fast": ["hole"]},
            providers={"hole": {"base_url": f"http://127.0.0.1:{port}/v1", "timeouts": {"connect_s": 30}}},
        )
        with running_gateway(tmp_path, catalog=catalog) as running:
            key = key_with(running, budget={"usd": "0.10", "per": "total", "hard": True})
            with Talk(running, key) as talk:
                talk.send(CHAT, {"model": "fast", "messages": HELLO, "max_tokens": 1_000, "stream": stream})
                time.sleep(NOTICED_S)
            (entry,) = entries_at(running, "hole/hole-model")
    assert (entry["settlement"], entry["cost_nano_usd"]) == ("void", 0)


def claude(text: str, *, upto: int) -> list[bytes]:
    """The first events of an Anthropic stream; its `message_start` tells a usage with one token of output."""
    return answers.anthropic_events(text)[:upto]


@pytest.mark.parametrize("tier", ["gone", "cut"])
def test_a_part_of_the_usage_is_not_the_usage(leaving: RunningGateway, fake: FakeProvider, tier: str) -> None:
    """Anthropic tells usage with the first event too: of a stream that does not end, only the prompt is taken of it."""
    text = "word " * 400
    if tier == "gone":
        seen = leave(leaving, fake, tier, stream_reply([*claude(text, upto=3), End.HANG], done=False))
    else:
        fake.script("cut1", stream_reply([*claude(text, upto=3), End.RESET], done=False))
        assert chat(leaving, tier, stream=True).status == 200
        (seen,) = fake.seen("cut1")
    entry = booked(leaving, seen)
    assert entry["settlement"] == {"gone": "caller_left", "cut": "upstream_cut"}[tier]
    assert entry["usage_source"] == "estimated"
    assert (entry["usage"]["input"], entry["usage"]["output"]) == (answers.PROMPT_TOKENS, len(text) // 4)
    assert len(entries_at(leaving, f"{tier}1/{tier}1-model")) == 1
