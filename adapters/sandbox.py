"""The built-in provider `sandbox`: offline, deterministic, steerable.

It speaks OpenAI's dialect, so its adapter is a row of the dialect table. Here is what its far side answers, as a pure
function of the request; `gateway/upstream/sandbox.py` serves it.

Models: `sandbox-small` echoes in a sentence, `sandbox-large` in a paragraph, `sandbox-reasoning` thinks first. An id it
does not know is answered as `sandbox-small`.

What an answer holds follows from the request: a tool is called where `tool_choice` demands it or the last user message
says "call" (every tool where it says "call all"), `response_format` gives a valid instance, and `n`, `stop`, token
limits, `logprobs` and `reasoning_effort` do what they do elsewhere. Streamed or buffered, one request has one answer.

Steering, by `metadata: {"sandbox": "error=429,retry_after=2"}` or `sandbox(error=429)` in the last user message:
| directive | effect |
|---|---|
| `error=429`, `error=insufficient_quota` | that status, or the error of that code |
| `retry_after=2` | Retry-After of the error, seconds |
| `latency_ms=300` | before the answer begins |
| `gap_ms=20` | between the events of a stream |
| `cut_after=5` | the connection drops after so many events of a stream (or bytes of a buffered answer) |
| `cached_tokens=100` | so much of the prompt counts as read from the cache |
| `tokens=200` | the answer is that long |
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from adapters.events import openai_usage
from adapters.sandbox_choice import (
    DIRECTIVES,
    last_user_text,
    make_choice,
    message_choice,
    plot_of,
    stream_events,
    usage_of,
)
from gateway.chat import Chat, parse_chat
from gateway.errors import CallerError, bad_request

SANDBOX_HOST = "sandbox.invalid"
"""The host that the dialect row names; never resolved."""
MODELS = ("sandbox-small", "sandbox-large", "sandbox-reasoning")

_CREATED = 1_767_225_600
_NUMBERS = frozenset({"retry_after", "latency_ms", "gap_ms", "cut_after", "cached_tokens", "tokens"})
_ERRORS: Mapping[str, tuple[int, str, str | None]] = {
    "400": (400, "invalid_request_error", None),
    "401": (401, "invalid_request_error", "invalid_api_key"),
    "402": (402, "billing_error", "insufficient_balance"),
    "404": (404, "invalid_request_error", "model_not_found"),
    "429": (429, "requests", "rate_limit_exceeded"),
    "insufficient_quota": (429, "insufficient_quota", "insufficient_quota"),
    "context_length_exceeded": (400, "invalid_request_error", "context_length_exceeded"),
    "content_filter": (400, "invalid_request_error", "content_filter"),
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What the sandbox answers, and how it comes."""

    status: int
    pieces: tuple[bytes, ...]
    """The body: one piece, or one for each event of a stream."""
    headers: Mapping[str, str] = field(default_factory=dict)
    latency_s: float = 0.0
    gap_s: float = 0.0
    cut: bool = False
    """Whether the connection drops after the last piece."""


def answer(body: bytes) -> Reply:
    """The reply to the body of a chat request."""
    try:
        chat = parse_chat(body)
        steer = _steering(chat)
    except CallerError as error:
        return _json_reply(error.status, error.envelope("sandbox"))
    latency_s = steer.get("latency_ms", 0.0) / 1000
    if (failing := steer.get("error")) is not None:
        return _error_reply(str(failing), steer, latency_s)
    made = hashlib.blake2b(chat.encode({"stream": None, "stream_options": None}), digest_size=8).hexdigest()
    answer_id = f"chatcmpl-sandbox{made}"
    try:
        plot = plot_of(chat, steer)
    except CallerError as error:
        return _json_reply(error.status, error.envelope("sandbox"))
    choices = [make_choice(chat, plot, at, made) for at in range(chat.head.n or 1)]
    usage = usage_of(chat, choices, steer)
    head = {"id": answer_id, "created": _CREATED, "model": chat.model, "service_tier": "default"}
    if chat.stream:
        pieces = tuple(stream_events(head, chat, choices, usage))
        cut = "cut_after" in steer and steer["cut_after"] < len(pieces)
        kept = pieces[: int(steer["cut_after"])] if cut else pieces
        headers = {"content-type": "text/event-stream"}
        return Reply(200, kept, headers, latency_s, steer.get("gap_ms", 0.0) / 1000, cut)
    whole = {
        **head,
        "object": "chat.completion",
        "choices": [message_choice(choice, at, chat) for at, choice in enumerate(choices)],
        "usage": openai_usage(usage),
    }
    data = msgspec.json.encode(whole)
    if "cut_after" in steer:
        return Reply(200, (data[: int(steer["cut_after"])],), _JSON_HEADERS, latency_s, cut=True)
    return Reply(200, (data,), _JSON_HEADERS, latency_s)


def listing() -> Reply:
    """The reply to a request for the model list."""
    rows = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "sandbox"} for name in MODELS]
    return _json_reply(200, {"object": "list", "data": rows})


# ------------------------------------------------------------------------------------------------------------ steering


def _steering(chat: Chat) -> dict[str, Any]:
    """The directives of the request: numbers, but for `error`.

    Raises:
        CallerError: a directive is unknown, or its value is no number or no error.
    """
    texts = [(chat.head.metadata or {}).get("sandbox", ""), *DIRECTIVES.findall(last_user_text(chat))]
    steer: dict[str, Any] = {}
    for item in filter(None, (item.strip() for text in texts for item in text.split(","))):
        name, _, value = (part.strip() for part in item.partition("="))
        name = "error" if name == "status" else name
        try:
            if name == "error":
                steer[name] = _failure(value)
            elif name in _NUMBERS and math.isfinite(number := float(value)):
                steer[name] = max(number, 0.0)
            else:
                raise ValueError
        except ValueError:
            known = ", ".join(sorted({*_NUMBERS, "error"}))
            message = f"The sandbox does not know '{item[:100]}'; it knows {known}, each as name=number."
            raise bad_request(message, "metadata.sandbox") from None
    return steer


def _failure(value: str) -> str:
    """An error to answer with: one of our names, or a status that says so.

    Raises:
        ValueError: it is neither.
    """
    if value not in _ERRORS and not re.fullmatch("[45][0-9][0-9]", value):
        raise ValueError
    return value


def _error_reply(failing: str, steer: Mapping[str, Any], latency_s: float) -> Reply:
    status, kind, code = _ERRORS.get(failing) or (int(failing), "server_error", None)
    headers = {**_JSON_HEADERS, "retry-after": f"{steer['retry_after']:g}"} if "retry_after" in steer else _JSON_HEADERS
    error = {"message": f"The sandbox was told to fail with {failing}.", "type": kind, "param": None, "code": code}
    return Reply(status, (msgspec.json.encode({"error": error}),), headers, latency_s)


_JSON_HEADERS: Mapping[str, str] = {"content-type": "application/json"}


def _json_reply(status: int, value: object) -> Reply:
    return Reply(status, (msgspec.json.encode(value),), _JSON_HEADERS)
