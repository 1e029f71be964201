"""Pieces of the request path that have no benchmark of their own: translation, splitting of events, log, auth, slabs.

python -m benchmarks.micro_pieces
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from timeit import repeat
from typing import Any

import msgspec

from adapters import ADAPTERS
from adapters.base import Stamp
from adapters.framing import SseSplitter
from benchmarks.micro_ledger import LIMITS, USAGE, attempt
from benchmarks.translated_upstream import anthropic, gemini
from gateway.api.replies import limit_lines
from gateway.callers.caller import Caller
from gateway.callers.callers import Callers, name_of
from gateway.callers.keys import Pepper
from gateway.callers.records import KeyRecords
from gateway.callers.roles import Role
from gateway.chat import parse_chat
from gateway.ledger.holds import worst_case
from gateway.ledger.limits import Headroom, Terms
from gateway.ledger.records import booking, encode, line, usage_numbers
from gateway.ledger.sums import add_up
from gateway.ledger.wal import Record, Wal
from gateway.types import Capability, Deployment, Model, Provider, mask_of

ROUNDS = 1_000
_AUTHORIZATION = b"Bearer benchmark-app-key-0123456789"
_STAMP = Stamp("req_1", 1_790_000_000)


def main() -> None:
    """Prints a table of the figures."""
    asyncio.run(_print())


async def _print() -> None:
    with cases(await _callers()) as works:
        for name, work in works.items():
            best_s = min(repeat(work, number=ROUNDS, repeat=5))
            print(f"{name:<58} {best_s / ROUNDS * 1e6:9.2f} us")


@contextmanager
def cases(callers: Callers) -> Iterator[dict[str, Callable[[], object]]]:
    """What is measured, by name; to be run within an event loop."""
    works: dict[str, Callable[[], object]] = {}
    for name, answer, stream in (
        ("anthropic", _anthropic_answer(), anthropic()),
        ("gemini", _gemini_answer(), gemini()),
    ):
        works |= _translation(name, answer, stream)
    events = anthropic()
    works["SSE split, 50 events at once"] = lambda: SseSplitter().feed(events)
    works["auth, a key in use"] = lambda: callers.cached(name_of(_AUTHORIZATION))
    works["worst case of a hard budget"] = lambda: worst_case(sealed, LIMITS)
    sealed = attempt()
    brief = sealed.seal()
    ending = encode(("P", 812_000, usage_numbers(USAGE), "provider", "complete", 900, 200, None, 200, False, None))
    works["limits as headers"] = lambda: limit_lines(_HEADROOM)
    works["envelope, ending and item for the store"] = lambda: booking(
        sealed, "P", 812_000, usage_numbers(USAGE), line(sealed.seal(), ending), may_be_held=False
    )
    endings = [
        booking(a, "P", 812_000, usage_numbers(USAGE), line(a.seal(), ending), may_be_held=False)
        for a in (attempt() for _ in range(256))
    ]
    works["settle batch: 256 endings added up"] = lambda: add_up(endings)
    with tempfile.TemporaryDirectory() as folder:
        wal = Wal(Path(folder) / "wal", monotonic=time.monotonic, keep_s=0.0)

        def append() -> None:
            receipt = wal.begin(Record.BEGUN, brief, sealed.account, sealed.price)
            wal.end(receipt[0], ending)
            wal.settled([receipt])

        works["WAL append: begun, ending, settled"] = append
        yield works


async def _callers() -> Callers:
    """Knows one key, which was used before."""
    pepper = Pepper(secrets.token_bytes(32))
    caller = Caller("main", "k1", "benchmark", Role.APP)
    known = {pepper.digest(_AUTHORIZATION.split()[1]): caller}
    records = KeyRecords(None, pepper)  # type: ignore[arg-type]  # nothing is asked of the store
    callers = Callers(records, pepper, known, clock=time.time, monotonic=time.monotonic)
    await callers.identify(_AUTHORIZATION, None)
    return callers


def _translation(name: str, answer: bytes, stream: bytes) -> dict[str, Callable[[], object]]:
    adapter = ADAPTERS[name]
    mask = mask_of((Capability.STREAMING,))
    provider = Provider(name, name, "https://api.example.com/v1")
    model = Model("m", "m", "enabled", mask, 200_000, 64_000)
    deployment = Deployment(f"{name}/m", provider, model, "m", (), capabilities=mask)
    chat, streamed = parse_chat(_request(False)), parse_chat(_request(True))

    def relay() -> None:
        state = adapter.stream(streamed, _STAMP)
        state.feed(stream)
        state.end()

    return {
        f"{name}: request, 2 KB": lambda: adapter.request(chat, deployment),
        f"{name}: answer, 1 KB": lambda: adapter.completion(answer, chat, _STAMP),
        f"{name}: stream of 50 events at once": relay,
    }


def _request(stream: bool) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "word " * 400}]
    return msgspec.json.encode({"model": "fast", "messages": messages, "max_tokens": 200, "stream": stream})


def _anthropic_answer() -> bytes:
    """As https://docs.anthropic.com/en/api/messages documents it."""
    return msgspec.json.encode(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": "x" * 600}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 412, "output_tokens": 50},
        }
    )


def _gemini_answer() -> bytes:
    """As https://ai.google.dev/api/generate-content documents it."""
    candidate: dict[str, Any] = {
        "content": {"parts": [{"text": "x" * 600}], "role": "model"},
        "finishReason": "STOP",
        "index": 0,
    }
    usage = {"promptTokenCount": 412, "candidatesTokenCount": 50, "totalTokenCount": 462}
    return msgspec.json.encode({"candidates": [candidate], "usageMetadata": usage, "responseId": "r1"})


_HEADROOM = Headroom(
    Terms(
        limit_requests=10_000,
        reset_requests_s=0.006,
        limit_tokens=1_000_000,
        reset_tokens_s=0.12,
        budget=LIMITS.budgets[0],
    ),
    hold_nano=1_000_000,
    output_cap_tokens=512,
    remaining_requests=9_999,
    remaining_tokens=998_000,
    budget_left_nano=8_999_999_123_456_789,
)


if __name__ == "__main__":
    main()
