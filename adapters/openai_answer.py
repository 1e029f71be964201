"""The buffered answer of an OpenAI-like provider: untouched where OpenAI's clients can read it, else put right."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from adapters.base import NOT_JSON, Completion, Stamp
from adapters.events import unreadable
from adapters.failures import failure, read_problem
from adapters.openai_stream import is_forced
from adapters.repair import SERVICE_TIERS, decode, finish_reason, repair_calls, repair_logprobs, repair_text
from adapters.usage import Told, judged, read_usage, repaired_usage
from gateway.chat import Chat
from gateway.types import Usage

_Name = Annotated[str, Meta(min_length=1)]


class _Function(Struct):
    name: _Name
    arguments: Annotated[str, Meta(pattern=r"^\s*\{")]


class _Call(Struct):
    id: _Name
    type: Literal["function"]
    function: _Function
    index: UnsetType = UNSET


class _Message(Struct):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: Annotated[list[_Call], Meta(min_length=1)] | None = None
    reasoning: UnsetType = UNSET
    reasoning_content: str | None = None


class _Token(Struct):
    token: str
    logprob: float
    top_logprobs: list[msgspec.Raw]


class _Logprobs(Struct):
    content: list[_Token] | None = None
    refusal: list[_Token] | None = None


class _Choice(Struct):
    index: int
    message: _Message
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
    logprobs: _Logprobs | None = None


class _Answer(Struct):
    """As much of a `chat.completion` as clients stumble over; what does not fit is put right by `_repaired`."""

    id: _Name
    object: Literal["chat.completion"]
    created: Annotated[int, Meta(ge=0)]
    model: _Name
    choices: Annotated[list[_Choice], Meta(min_length=1)]
    usage: Told
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    error: None = None


_answer = msgspec.json.Decoder(_Answer)


def read_completion(body: bytes, chat: Chat, stamp: Stamp) -> Completion:
    """The answer in OpenAI's form.

    Raises:
        UpstreamError: it is an error under status 200, or no chat completion at all.
    """
    try:
        answer = _answer.decode(body)
    except NOT_JSON:
        return _repaired(body, chat, stamp)
    usage, right = judged(answer.usage)
    if not right or not _finishes_right(answer, chat):
        return _repaired(body, chat, stamp)
    return Completion(body, usage, answer.model, answer.service_tier)


def _finishes_right(answer: _Answer, chat: Chat) -> bool:
    for at, choice in enumerate(answer.choices):
        if choice.index != at:
            return False
        called, told = choice.message.tool_calls is not None, choice.finish_reason
        # Only of tool calls can a reason say what is not so.
        if (called or told == "tool_calls") and told != finish_reason(told, called=called, forced=is_forced(chat)):
            return False
    return True


def _repaired(body: bytes, chat: Chat, stamp: Stamp) -> Completion:
    try:
        answer = decode(body)
    except msgspec.DecodeError:
        raise unreadable() from None
    if not isinstance(answer, dict):
        raise unreadable()
    choices = answer.get("choices")
    if answer.get("error") or not isinstance(choices, list):
        raise failure(200, {}, read_problem(answer)) if answer.get("error") else unreadable()
    if not choices:
        raise unreadable("The provider sent an answer without content.")
    told_model, told_tier = answer.get("model"), answer.get("service_tier")
    model = told_model if isinstance(told_model, str) and told_model else None
    for key, good, default in (
        ("id", isinstance(answer.get("id"), str) and answer["id"], stamp.id),
        ("object", answer.get("object") == "chat.completion", "chat.completion"),
        ("created", type(answer.get("created")) is int and answer["created"] > 0, stamp.created),
        ("model", model, chat.model),
    ):
        if not good:
            answer[key] = default
    if told_tier not in (None, *SERVICE_TIERS):
        del answer["service_tier"]
    choices = answer["choices"] = _joined(choices)
    for at, choice in enumerate(choices):
        _repair_choice(choice, at, answer["id"], is_forced(chat))
    usage = _repair_usage(answer)
    tier = told_tier if isinstance(told_tier, str) and told_tier else None
    return Completion(msgspec.json.encode(answer), usage, model, tier)


def _joined(choices: list[Any]) -> list[Any]:
    """The choices, those of the same index made one: Copilot gives text and tool calls of one choice apart."""
    by_index: dict[object, dict[str, Any]] = {}
    joined: list[Any] = []
    for choice in choices:
        index = choice.get("index") if isinstance(choice, dict) else None
        first = by_index.get(index) if type(index) is int else None
        message = choice.get("message") if isinstance(choice, dict) else None
        if first is None or not isinstance(message, dict) or not isinstance(first.get("message"), dict):
            joined.append(choice)
            if type(index) is int:
                by_index[index] = choice
            continue
        whole = first["message"]
        texts, calls = ((whole.get(key), message.get(key)) for key in ("content", "tool_calls"))
        whole["content"] = "".join(text for text in texts if isinstance(text, str)) or None
        whole["tool_calls"] = [call for some in calls if isinstance(some, list) for call in some]
    return joined


def _repair_choice(choice: Any, at: int, answer_id: str, forced: bool) -> None:
    if not isinstance(choice, dict):
        raise unreadable()
    if choice.get("error"):
        raise failure(200, {}, read_problem({"error": choice["error"]}))
    choice["index"] = at
    if not isinstance(message := choice.get("message"), dict):  # Azure leaves it out where its filter took all
        message = choice["message"] = {}
    choice.pop("delta", None)
    message["role"] = "assistant"
    message.setdefault("content", None)
    repair_text(message)
    repair_logprobs(choice)
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        repair_calls(calls, answer_id)
        for call in calls:
            if (function := call.get("function")) and function.get("arguments") == "":
                function["arguments"] = "{}"  # a tool without parameters
    else:
        message.pop("tool_calls", None)
    told = finish_reason(choice.get("finish_reason"), called=bool(calls), forced=forced)
    choice["finish_reason"] = told or ("tool_calls" if calls else "stop")


def _repair_usage(answer: dict[str, Any]) -> Usage | None:
    raw = answer.get("usage")
    told = read_usage(raw)
    if told is None or not isinstance(raw, dict):
        answer.pop("usage", None)
        return None
    usage, right = judged(told)
    if not right:
        answer["usage"] = repaired_usage(raw, usage)
    return usage
