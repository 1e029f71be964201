"""CPU time of reading a request and an answer, in microseconds. Run: `python -m benchmarks.micro_chat`."""

from __future__ import annotations

from collections.abc import Callable
from timeit import repeat

import msgspec

from adapters import ADAPTERS
from adapters.base import Stamp
from gateway.chat import parse_chat
from gateway.types import Capability, Deployment, Model, Provider, mask_of

ROUNDS = 1_000
_STAMP = Stamp("req_1", 1_790_000_000)
_IDENTITY = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_790_000_000, "model": "m"}
_USAGE = {"prompt_tokens": 412, "completion_tokens": 50, "total_tokens": 462}


def main() -> None:
    """Prints a table of the figures."""
    for name, work in cases().items():
        best_s = min(repeat(work, number=ROUNDS, repeat=5))
        print(f"{name:<58} {best_s / ROUNDS * 1e6:9.2f} us")


def cases() -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    adapter = ADAPTERS["openai"]
    mask = mask_of((Capability.STREAMING,))
    provider = Provider("openai", "openai", "https://api.openai.com/v1")
    deployment = Deployment(
        "openai/m", provider, Model("m", "m", "enabled", mask, 200_000, 64_000), "m", (), capabilities=mask
    )
    small, long = _request(2_000), _request(100_000)
    chat, long_chat, streamed = parse_chat(small), parse_chat(long), parse_chat(_request(2_000, stream=True))
    answer, stream = _answer(), _stream()

    def relay() -> None:
        state = adapter.stream(streamed, _STAMP)
        state.feed(stream)
        state.end()

    return {
        "parse, 2 KB": lambda: parse_chat(small),
        "parse, 100 KB": lambda: parse_chat(long),
        "upstream body, 2 KB": lambda: adapter.request(chat, deployment),
        "upstream body, 100 KB": lambda: adapter.request(long_chat, deployment),
        "answer, 1 KB": lambda: adapter.completion(answer, chat, _STAMP),
        "stream of 50 events at once": relay,
    }


def _request(size: int, *, stream: bool = False) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "word " * (size // 5)}]
    return msgspec.json.encode({"model": "fast", "messages": messages, "max_tokens": 200, "stream": stream})


def _answer() -> bytes:
    message = {"role": "assistant", "content": "x" * 600, "refusal": None}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return msgspec.json.encode({**_IDENTITY, "object": "chat.completion", "choices": choices, "usage": _USAGE})


def _stream() -> bytes:
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}, *({"content": " word"} for _ in range(50))]
    events: list[object] = [_chunk(delta, None) for delta in deltas]
    events += [_chunk({}, "stop"), {**_IDENTITY, "choices": [], "usage": _USAGE}]
    return b"".join(b"data: " + msgspec.json.encode(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def _chunk(delta: dict[str, str], finish_reason: str | None) -> dict[str, object]:
    return {**_IDENTITY, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


if __name__ == "__main__":
    main()
