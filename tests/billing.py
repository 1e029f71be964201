"""A provider that does as the prompt says and keeps a bill of what it sent: the oracle of the fault tests.

The last message of a request is an order as JSON: how many `words` to answer, the `gap` in seconds after each, after
how many words to `cut` the connection, whether to leave the usage `untold`, and which providers answer with an error
(`fails`).
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import answers
from fake_catalog import INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK
from fakes import End, FakeProvider, Reply, Seen, Step, error_reply, json_reply

PROMPT_TOKENS = 9
_NANO_PER_TOKEN = 1_000


@dataclass(frozen=True)
class Billed:
    """What one attempt costs, by the provider."""

    attempt_id: str
    provider: str
    input: int
    output: int

    cost_nano: int


class Bill:
    """Append-only; one line an attempt, written the moment the provider stops working on it."""

    def __init__(self, folder: Path) -> None:
        self.usd_per_mtok = (INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK)
        """What input and output cost."""
        self.lines: dict[str, Billed] = {}
        self._folder = folder
        self._lock = threading.Lock()

    def add(self, attempt_id: str, provider: str, input: int, output: int) -> None:
        nano = (input * self.usd_per_mtok[0] + output * self.usd_per_mtok[1]) * _NANO_PER_TOKEN
        billed = Billed(attempt_id, provider, input, output, nano)
        with self._lock:
            assert billed.attempt_id not in self.lines, "an attempt was sent twice"
            self.lines[billed.attempt_id] = billed
            row = {
                "attempt_id": billed.attempt_id,
                "cost_usd": f"{billed.cost_nano / 10**9:.9f}",
                "input": billed.input,
                "output": billed.output,
            }
            with self.file(billed.provider).open("a") as out:
                out.write(json.dumps(row) + "\n")

    def file(self, provider: str) -> Path:
        """The bill of this provider, as `tiergate reconcile import` takes it."""
        return self._folder / f"{provider}.jsonl"

    @property
    def cost_nano(self) -> int:
        return sum(billed.cost_nano for billed in self.lines.values())


def usage(words: int) -> dict[str, Any]:
    details = {"cached_tokens": 0, "audio_tokens": 0}
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": words,
        "total_tokens": PROMPT_TOKENS + words,
        "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _event(event: Any) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


_STREAM = {"content-type": "text/event-stream"}
_ROLE = _event(answers.chunk({"role": "assistant", "content": ""}))
_WORD = _event(answers.chunk({"content": "word "}))


def billing_provider(bill: Bill) -> FakeProvider:
    """The provider, to be used as a context manager."""
    return FakeProvider(_answer, lambda seen: _note(bill, seen))


def order_of(seen: Seen) -> dict[str, Any]:
    order: dict[str, Any] = json.loads(seen.body["messages"][-1]["content"])
    return order


def _answer(seen: Seen) -> Reply:
    order = order_of(seen)
    if seen.provider in order.get("fails", ()):
        return error_reply(500)
    words = _words(seen, order)
    if not seen.body.get("stream"):
        reply = json_reply(answers.completion("word " * words, usage=usage(words)))
        return Reply(reply.status, reply.headers, [order.get("gap", 0.0), *reply.steps])
    steps: list[Step] = [_ROLE]
    for number in range(words):
        if number == order.get("cut"):
            return Reply(200, _STREAM, [*steps, End.RESET], chunked=True)
        steps += [_WORD, order.get("gap", 0.0)]
    steps.append(_event(answers.chunk({}, finish_reason="stop")))
    if not order.get("untold"):
        steps.append(_event(answers.usage_chunk(usage(words))))
    return Reply(200, _STREAM, [*steps, b"data: [DONE]\n\n"], chunked=True)


def _words(seen: Seen, order: dict[str, Any]) -> int:
    cap = seen.body.get("max_completion_tokens") or seen.body.get("max_tokens") or order["words"]
    return min(order["words"], cap)


def _note(bill: Bill, seen: Seen) -> None:
    """Bills what was generated: all of an answer that is sent whole, and of a stream the words that were sent."""
    order = order_of(seen)
    if seen.provider in order.get("fails", ()):
        return
    words = _words(seen, order)
    if seen.body.get("stream"):
        words = max(0, min(words, (seen.sent_bytes - len(_ROLE)) // len(_WORD)))
    bill.add(seen.headers["x-client-request-id"], seen.provider, PROMPT_TOKENS, words)
